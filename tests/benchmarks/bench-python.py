#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an event costs in Python: an echo over socket pairs, K at a time, among N fds that are idle.

A round visits every N and K, and there every contender, in an order that is new each time. What is
compared was thus measured within the same second or so, and in CPU time, of which each contender
takes all there is: a noisy machine asks for it."""

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import re
import resource
import socket
import statistics
import sys
import time

import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio, Gio, GLib

IDLE = (10, 1000, 10000)
ACTIVE = (1, 16, 256)
SPARE_FDS = 100
BATCH_ACTIVE = 256
BATCH = f'batch K={BATCH_ACTIVE}'
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


def open_idle():
    """As many fds as the limit allows, at most the most that are asked for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = max(IDLE)
    if hard != resource.RLIM_INFINITY:
        n = min(n, hard - 2 * max(ACTIVE) - SPARE_FDS)
    if n < max(IDLE):
        print(f'{n} idle fds, not {max(IDLE)}: the limit is {hard}', file=sys.stderr)
    return [os.eventfd(0) for _ in range(n)]


def measure(rounds, seconds, chosen, contenders):
    """The results by row and contender, one for each round."""
    idle = open_idle()
    cells = {f'N={n} K={k}': (min(n, len(idle)), k) for n in IDLE for k in ACTIVE}
    rows = {row: {name: [] for name in contenders} for row in cells if chosen(row)}
    rows[BATCH] = {'gaio-ready-set': []}
    for _ in range(rounds):
        rows[BATCH]['gaio-ready-set'].append(run_batch(BATCH_ACTIVE, seconds))
        for row in list(rows)[:-1]:
            n, k = cells[row]
            for name in random.sample(contenders, len(contenders)):
                gc.collect()
                rows[row][name].append(CONTENDERS[name](idle[:n], k, seconds))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='fewer and shorter rounds')
    parser.add_argument('--rounds', type=int, help='how many rounds')
    parser.add_argument('--only', default='', help='only the lines of the table that match')
    parser.add_argument('--contender', default='', help='only the contenders that match')
    parser.add_argument('--json', type=argparse.FileType('w'), default=sys.stdout,
                        help='write the results there, not to stdout')
    arguments = parser.parse_args()
    rows = measure(arguments.rounds or (3 if arguments.quick else 11),
                   0.02 if arguments.quick else 0.05,
                   lambda row: re.search(arguments.only, row),
                   [name for name in CONTENDERS if re.search(arguments.contender, name)])
    json.dump({
        'benchmark': 'python',
        'summary': 'What an echo costs in Python, in CPU time',
        'unit': 'ns',
        'versions': {'asyncio': platform.python_version(), 'glib': '.'.join(map(str, (
            GLib.MAJOR_VERSION, GLib.MINOR_VERSION, GLib.MICRO_VERSION)))},
        'rows': [{'name': row, 'values': values} for row, values in rows.items()],
    }, arguments.json, indent=1)


if __name__ == '__main__':
    main()
