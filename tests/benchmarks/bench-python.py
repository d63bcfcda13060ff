#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an event costs in Python: an echo over socket pairs, K at a time, among N fds that are idle.

A round visits every N and K, and there every contender, in an order that is new each time. What is
compared was thus measured within the same second or so, and in CPU time, of which each contender
takes all there is: a noisy machine asks for it."""

import argparse
import asyncio
import gc
import os
import random
import resource
import socket
import statistics
import time

import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio, Gio, GLib

IDLE = (10, 1000, 10000)
ACTIVE = (1, 16, 256)
SPARE_FDS = 100
BATCH_ACTIVE = 256
BATCH_LIMIT_NS = 120
GROWTH_LIMIT = 1.1
NS = 1e9


class Echo:
    """K clients that send, wait for all answers, and send again, until the time is over."""

    def __init__(self, active, seconds, stop):
        self.pairs = [socket.socketpair() for _ in range(active)]
        self.fds = [server.fileno() for _, server in self.pairs]
        self.ends = [(server.recv, server.send) for _, server in self.pairs]
        self.clients = [(client.recv, client.send) for client, _ in self.pairs]
        self.active = self.pending = active
        self.rounds = 0
        self.seconds = seconds
        self.stop = stop

    def start(self):
        for _, send in self.clients:
            send(b'x')
        self.deadline = time.perf_counter() + self.seconds
        self.started = time.thread_time()

    def serve(self, index):
        """What a server does when a connection is readable."""
        recv, send = self.ends[index]
        send(recv(64))
        self.pending -= 1
        if self.pending == 0:
            self.next_round()

    def next_round(self):
        self.pending = self.active
        self.rounds += 1
        for recv, _ in self.clients:
            recv(64)
        if time.perf_counter() >= self.deadline:
            self.ended = time.thread_time()
            self.stop()
            return
        for _, send in self.clients:
            send(b'x')

    def ns_per_event(self):
        for client, server in self.pairs:
            client.close()
            server.close()
        return (self.ended - self.started) * NS / (self.rounds * self.active)


def run_glib(idle, active, seconds):
    """A GLib source for each fd."""
    loop = GLib.MainLoop()
    echo = Echo(active, seconds, loop.quit)

    def on_readable(fd, condition, index):
        echo.serve(index)
        return True

    sources = [GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, fd, GLib.IOCondition.IN, on_readable,
                                     index) for index, fd in enumerate(echo.fds + idle)]
    echo.start()
    loop.run()
    for source in sources:
        GLib.source_remove(source)
    return echo.ns_per_event()


def run_asyncio(idle, active, seconds):
    """add_reader() in a loop of the standard library."""
    loop = asyncio.new_event_loop()
    echo = Echo(active, seconds, loop.stop)
    for index, fd in enumerate(echo.fds + idle):
        loop.add_reader(fd, echo.serve, index)
    loop.call_soon(echo.start)
    loop.run_forever()
    loop.close()
    return echo.ns_per_event()


def run_callback(idle, active, seconds):
    """A Gaio handler for each fd, under a GLib loop."""
    loop = GLib.MainLoop()
    context = Gaio.Context()
    echo = Echo(active, seconds, loop.quit)

    def on_readable(fd, condition, index):
        echo.serve(index)
        return True

    for index, fd in enumerate(echo.fds + idle):
        context.add_fd(fd, 'r', on_readable, index)
    context.attach()
    echo.start()
    loop.run()
    context.close()
    return echo.ns_per_event()


def echo_batches(idle, active, seconds, context, stop, run):
    """A Gaio ready set, in a context that run() runs until stop()."""
    ready_set = Gaio.ReadySet(context)
    echo = Echo(active, seconds, stop)
    serve = echo.serve

    def on_ready(ready_set, n_ready):
        for token, _, _ in ready_set:
            serve(token)

    for index, fd in enumerate(echo.fds + idle):
        ready_set.add_fd(fd, 'r', index)
    ready_set.set_func(on_ready)
    echo.start()
    run()
    context.close()
    return echo.ns_per_event()


def run_ready_set(idle, active, seconds):
    """Under a GLib loop."""
    loop = GLib.MainLoop()
    context = Gaio.Context()
    context.attach()
    return echo_batches(idle, active, seconds, context, loop.quit, loop.run)


def run_ready_set_with_run(idle, active, seconds):
    """With Context.run(), which runs the GLib loop with one system call fewer."""
    context = Gaio.Context()
    done = Gio.Cancellable()
    return echo_batches(idle, active, seconds, context, done.cancel,
                        lambda: context.run(None, done))


CONTENDERS = {'glib': run_glib, 'asyncio': run_asyncio, 'gaio-callback': run_callback,
              'gaio-ready-set': run_ready_set, 'gaio-run': run_ready_set_with_run}


def run_batch(active, seconds):
    """Only what lies between C and Python: take(), and a tuple for each event."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(context)
    pairs = [os.pipe() for _ in range(active)]
    for token, (reader, writer) in enumerate(pairs):
        # Python keeps the numbers up to 256 at hand.
        ready_set.add_fd(reader, 'r', 1000 + token)
        os.write(writer, b'x')
    measured, deadline = [], time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        context.iterate(0)
        started = time.perf_counter()
        for _ in ready_set:
            pass
        measured.append((time.perf_counter() - started) * NS / active)
    context.close()
    for fd in sum(pairs, ()):
        os.close(fd)
    return statistics.median(measured)


def spread(values):
    """The median and the quartiles."""
    if len(values) < 2:
        return values * 3
    low, median, high = statistics.quantiles(values, n=4, method='inclusive')
    return median, low, high


def open_idle():
    """As many fds as the limit allows, at most the most that are asked for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = max(IDLE)
    if hard != resource.RLIM_INFINITY:
        n = min(n, hard - 2 * max(ACTIVE) - SPARE_FDS)
    if n < max(IDLE):
        print(f'{n} idle fds, not {max(IDLE)}: the limit is {hard}')
    return [os.eventfd(0) for _ in range(n)]


def measure(rounds, seconds):
    """The results by cell and contender, one for each round, and those of the batch."""
    idle = open_idle()
    cells = {(min(n, len(idle)), k): {name: [] for name in CONTENDERS} for n in IDLE
             for k in ACTIVE}
    batch = []
    for _ in range(rounds):
        batch.append(run_batch(BATCH_ACTIVE, seconds))
        for (n, k), results in cells.items():
            for name in random.sample(list(CONTENDERS), len(CONTENDERS)):
                gc.collect()
                results[name].append(CONTENDERS[name](idle[:n], k, seconds))
    return cells, batch


def ratios(results, numerator, denominator):
    return spread([a / b for a, b in zip(results[numerator], results[denominator])])


def show(cells, batch):
    """The tables."""
    print('\nns per event, median\n' + f'{"N":>6} {"K":>4}', *(f'{name:>15}' for name in CONTENDERS))
    for (n, k), results in cells.items():
        print(f'{n:6} {k:4}', *(f'{statistics.median(results[name]):15.0f}' for name in CONTENDERS))
    others = [name for name in CONTENDERS if name != 'gaio-ready-set']
    print('\nratio to gaio-ready-set within a round, median (quartiles)\n'
          + f'{"N":>6} {"K":>4}', *(f'{name:>26}' for name in others))
    for (n, k), results in cells.items():
        texts = ['{:.2f} ({:.2f}-{:.2f})'.format(*ratios(results, name, 'gaio-ready-set'))
                 for name in others]
        print(f'{n:6} {k:4}', *(f'{text:>26}' for text in texts))
    print('\nbatch of {}, ns per event, median (quartiles): {:.0f} ({:.0f}-{:.0f})\n'.format(
        BATCH_ACTIVE, *spread(batch)))


def check(text, value, limit):
    verdict = 'HOLDS' if value <= limit else 'DOES NOT HOLD'
    print(f'{text}: {value:.2f}: {verdict}')


def check_goals(cells, batch):
    """What Gaio wants to be in Python."""
    check(f'batch of {BATCH_ACTIVE}: at most {BATCH_LIMIT_NS} ns per event',
          statistics.median(batch), BATCH_LIMIT_NS)
    few, many = min(cells)[0], max(cells)[0]
    for name in ('gaio-ready-set', 'gaio-run'):
        for n, k in ((n, k) for n in (few, many) for k in ACTIVE):
            check(f'{name}: not slower than asyncio at N={n} K={k}',
                  ratios(cells[n, k], name, 'asyncio')[0], 1)
    growth = max(spread([b / a for a, b in zip(cells[few, k]['gaio-ready-set'],
                                               cells[many, k]['gaio-ready-set'])])[0]
                 for k in ACTIVE)
    check(f'ready set: at N={many} at most {GROWTH_LIMIT}x of N={few}', growth, GROWTH_LIMIT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='fewer and shorter rounds')
    parser.add_argument('--rounds', type=int, help='how many rounds')
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 11)
    cells, batch = measure(rounds, 0.02 if arguments.quick else 0.05)
    show(cells, batch)
    check_goals(cells, batch)


if __name__ == '__main__':
    main()
