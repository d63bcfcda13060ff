#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an event costs in asyncio: an echo over socket pairs, K at a time, among N connections that
are idle, in the loops that there are.

A round visits every N and K, and there every contender, in an order that is new each time. What is
compared was thus measured within the same second or so, and in CPU time, of which each contender
takes all there is: a noisy machine asks for it. Each measurement is a process of its own, for some
of the loops change what others do."""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import platform
import random
import re
import resource
import socket
import subprocess
import sys
import time

IDLE = (10, 1000, 9000)
ACTIVE = (1, 10)
WAYS = ('callback', 'coroutine')
BASE, OURS, SLOW = 'asyncio', 'gaio', 'gbulb'
CONTENDERS = (BASE, 'uvloop', SLOW, 'gi.events', 'glib', OURS)
SPARE_FDS = 100
NS = 1e9


class Echo:
    """K clients that send, wait for all answers, and send again, until the time is over."""

    def __init__(self, active, seconds, stop):
        self.pairs = [socket.socketpair() for _ in range(active)]
        for one, other in self.pairs:
            one.setblocking(False)
            other.setblocking(False)
        self.servers = [server for _, server in self.pairs]
        self.clients = [(client.recv, client.send) for client, _ in self.pairs]
        self.active = self.pending = active
        self.rounds = 0
        self.seconds = seconds
        self.stop = stop

    def start(self):
        # The first rounds are not like the others.
        self.warm_rounds = 3
        self.send()

    def send(self):
        self.pending = self.active
        for _, send in self.clients:
            send(b'x')

    def serve(self, server):
        """What a server does when a connection is readable."""
        server.send(server.recv(64))
        if self.answered():
            self.next_round()

    def answered(self):
        """True for the last of a round."""
        self.pending -= 1
        return self.pending == 0

    def next_round(self):
        self.rounds += 1
        for recv, _ in self.clients:
            recv(64)
        if self.rounds == self.warm_rounds:
            self.started = time.thread_time()
            self.deadline = time.perf_counter() + self.seconds
        elif self.rounds > self.warm_rounds and time.perf_counter() >= self.deadline:
            self.ended = time.thread_time()
            self.stop()
            return
        self.send()

    def ns_per_event(self):
        return (self.ended - self.started) * NS / ((self.rounds - self.warm_rounds) * self.active)


def run_glib(idle, active, seconds, way):
    """Without asyncio: a GLib source for each fd."""
    from gi.repository import GLib

    loop = GLib.MainLoop()
    echo = Echo(active, seconds, loop.quit)

    def on_readable(fd, condition, server):
        echo.serve(server)
        return True

    for server in echo.servers + idle:
        GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, server.fileno(), GLib.IOCondition.IN,
                              on_readable, server)
    echo.start()
    loop.run()
    return echo


def new_loop(name):
    if name == 'uvloop':
        import uvloop

        return uvloop.new_event_loop()
    if name == SLOW:
        import gbulb

        policy = gbulb.GLibEventLoopPolicy()
        return policy.new_event_loop()
    if name == 'gi.events':
        from gi.events import GLibEventLoop
        from gi.repository import GLib

        return GLibEventLoop(GLib.MainContext.default())
    if name == OURS:
        import gaio

        return gaio.EventLoop()
    return asyncio.new_event_loop()


def run_loop(name, idle, active, seconds, way):
    """add_reader() for the idle; for the active that as well, or a task that awaits."""
    loop = new_loop(name)
    echo = Echo(active, seconds, loop.stop)

    async def serve(server):
        while True:
            await loop.sock_sendall(server, await loop.sock_recv(server, 64))
            if echo.answered():
                # Once all wait: what is there already is read without the loop.
                loop.call_soon(echo.next_round)

    tasks = []
    for server in idle if way == 'coroutine' else echo.servers + idle:
        loop.add_reader(server.fileno(), echo.serve, server)
    if way == 'coroutine':
        tasks = [loop.create_task(serve(server)) for server in echo.servers]
    loop.call_soon(echo.start)
    loop.run_forever()
    for task in tasks:
        task.cancel()
    return echo


def measure_here(name, idle, active, seconds, way):
    """In this process, of which nothing is of use afterwards."""
    run = run_glib if name == 'glib' else lambda *args: run_loop(name, *args)
    pairs = [socket.socketpair() for _ in range((idle + 1) // 2)]
    echo = run([end for pair in pairs for end in pair][:idle], active, seconds, way)
    print(echo.ns_per_event(), flush=True)
    # To take thousands of sources out of GLib takes long.
    os._exit(0)


def run_measurement(name, idle, active, seconds, way, **options):
    command = [sys.executable, __file__, '--measure', name, str(idle), str(active), str(seconds),
               way]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, **options)


@functools.cache
def is_here(name):
    """Not all systems have all, and gbulb does not work with PyGObject 3.50."""
    if name in (BASE, 'glib', OURS):
        return True
    here = run_measurement(name, 2, 1, 0.001, 'callback', stderr=subprocess.DEVNULL).returncode == 0
    if not here:
        print(f'{name} is not here, or does not work', file=sys.stderr)
    return here


def measure(name, idle, active, seconds, way):
    result = run_measurement(name, idle, active, seconds, way)
    if result.returncode != 0:
        sys.exit(f'{name} failed with N={idle} K={active}')
    return float(result.stdout)


def raise_limit():
    """How many fds can be idle."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = max(IDLE)
    if hard != resource.RLIM_INFINITY:
        n = min(n, hard - 2 * max(ACTIVE) - SPARE_FDS)
    if n < max(IDLE):
        print(f'{n} idle connections, not {max(IDLE)}: the limit is {hard}', file=sys.stderr)
    return n


def contenders(way, chosen):
    """GLib alone has no coroutines."""
    return [name for name in CONTENDERS
            if re.search(chosen, name) and (name != 'glib' or way == 'callback') and is_here(name)]


def measure_all(rounds, seconds, only, chosen):
    """The results by row and contender, one for each round."""
    most = raise_limit()
    cells = {f'{way} N={n} K={k}': (way, min(n, most), k)
             for way in WAYS for n in IDLE for k in ACTIVE}
    rows = {row: {name: [] for name in contenders(cells[row][0], chosen)}
            for row in cells if re.search(only, row)}
    for _ in range(rounds):
        for row, results in rows.items():
            way, n, k = cells[row]
            for name in random.sample(list(results), len(results)):
                results[name].append(measure(name, n, k, seconds, way))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='fewer and shorter rounds')
    parser.add_argument('--rounds', type=int, help='how many rounds')
    parser.add_argument('--only', default='', help='only the lines of the table that match')
    parser.add_argument('--contender', default='', help='only the contenders that match')
    parser.add_argument('--json', type=argparse.FileType('w'), default=sys.stdout,
                        help='write the results there, not to stdout')
    parser.add_argument('--measure', nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, idle, active, seconds, way = arguments.measure
        measure_here(name, int(idle), int(active), float(seconds), way)
    rows = measure_all(arguments.rounds or (1 if arguments.quick else 7),
                       0.03 if arguments.quick else 0.1, arguments.only, arguments.contender)
    json.dump({
        'benchmark': 'asyncio',
        'summary': 'What an echo costs in asyncio, in CPU time',
        'unit': 'ns',
        'versions': {BASE: platform.python_version()},
        'rows': [{'name': row, 'values': values} for row, values in rows.items()],
    }, arguments.json, indent=1)


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        main()
