#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a message costs the example of a session daemon, which watches its clients with Gaio or with
GLib: some of many clients talk, each sends an entry when its last one has been acknowledged.

Two daemons have their clients all the time, and are measured in turn, in CPU time: what is compared
was measured within the same second or so. They do not wait for the disk."""

import contextlib
import json
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from measuring import cpu_time, parse_options

WATCHES = ('glib', 'gaio')
SPARE_FDS = 100
CLIENTS, TALKERS = 3000, 50
ROW = f'{TALKERS} of {CLIENTS} clients talk'
GUARD = 60


class Talker:
    def __init__(self, path, number):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.number = number
        self.n = 0

    def say(self):
        self.n += 1
        self.socket.send(b'PUT %d.%d what there is to say\n' % (self.number, self.n))

    def hear(self):
        answer = self.socket.recv(4096)
        assert answer == b'OK %d.%d\n' % (self.number, self.n), answer


class Daemon:
    def __init__(self, binary, watch, n_clients, n_talkers):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        config = self.folder / 'config'
        config.write_text(f'[Logbook]\nSync=false\nLog={self.folder}/log\n'
                          f'Socket={self.folder}/socket\n')
        self.session = subprocess.Popen(
            ['dbus-run-session', '--', 'sh', '-c', 'echo $$; exec "$0" "$@"', binary,
             f'--config={config}', f'--watch={watch}'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.pid = int(self.session.stdout.readline())
        self.wait_until_up()
        self.talkers = [Talker(self.folder / 'socket', number) for number in range(n_clients)]
        self.poll = select.epoll()
        self.by_fd = {}
        # Spread over all that are connected.
        for talker in self.talkers[::n_clients // n_talkers][:n_talkers]:
            self.by_fd[talker.socket.fileno()] = talker
            self.poll.register(talker.socket, select.EPOLLIN)

    def wait_until_up(self):
        deadline = time.monotonic() + GUARD
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                Talker(self.folder / 'socket', 0).socket.close()
                return
            assert self.session.poll() is None, 'the daemon does not start'
            assert time.monotonic() < deadline, 'the daemon does not come up'
            time.sleep(0.01)

    def talk(self, seconds):
        """The CPU time for each message, in seconds."""
        began = cpu_time(self.pid)
        end = time.monotonic() + seconds
        n = n_silent = 0
        for talker in self.by_fd.values():
            talker.say()
        while n_silent < len(self.by_fd):
            over = time.monotonic() >= end
            events = self.poll.poll(GUARD)
            assert events, 'no answer comes'
            for fd, _ in events:
                self.by_fd[fd].hear()
                n += 1
                if over:
                    n_silent += 1
                else:
                    self.by_fd[fd].say()
        return (cpu_time(self.pid) - began) / n

    def stop(self):
        for talker in self.talkers:
            talker.socket.close()
        self.poll.close()
        os.kill(self.pid, signal.SIGTERM)
        self.session.wait()
        self.session.stdout.close()
        shutil.rmtree(self.folder)


def raise_fd_limit(needed):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f'bench-daemon: {needed} fds are needed, the limit is {hard}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def measure(options):
    """Nanoseconds for a message, by watch, one for each round."""
    watches = [watch for watch in WATCHES
               if re.search(options.contender, watch) and re.search(options.only, ROW)]
    daemons = {watch: Daemon(options.daemon, watch, CLIENTS, TALKERS) for watch in watches}
    costs = {watch: [] for watch in watches}
    for watch in watches:
        daemons[watch].talk(options.seconds / 5)
    for number in range(options.rounds):
        for watch in watches if number % 2 == 0 else watches[::-1]:
            costs[watch].append(1e9 * daemons[watch].talk(options.seconds))
    for daemon in daemons.values():
        daemon.stop()
    return costs


def main():
    options = parse_options(__doc__, ('daemon', 'gaio-logbook'), 5, 0.2, 0.5)
    raise_fd_limit(2 * CLIENTS + SPARE_FDS)
    json.dump({
        'benchmark': 'daemon',
        'summary': 'What a message costs a session daemon, in CPU time',
        'unit': 'ns',
        'versions': {},
        'rows': [{'name': ROW, 'values': measure(options)}],
    }, options.json, indent=1)


if __name__ == '__main__':
    main()
