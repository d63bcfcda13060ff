#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an answer costs a client of whose many connections few are active: with libraries that leave
the waiting to Gaio, and to what their users have for GLib.

The clients of a library have their servers, which are other processes, all the time. They are
measured in turn, in CPU time: what is compared was measured within the same second or so."""

import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

from measuring import parse_options, progress, talk

SERVER = pathlib.Path(__file__).parent.parent / 'neighbour-server.py'
# What stands in for the server of each. D-Bus has its own.
NEIGHBOURS = {'redis': 'redis', 'curl': 'http', 'postgres': 'postgres', 'dbus': None}
CONTENDERS = ('glib', 'gaio-nested', 'gaio-host')
CONNECTIONS = (10, 2000)
ACTIVE = (1, 8)


def bus_command(folder):
    config = pathlib.Path(folder, 'config')
    limits = ''.join(f'<limit name="max_{name}">{2 * max(CONNECTIONS)}</limit>' for name in (
        'completed_connections', 'incomplete_connections', 'connections_per_user'))
    config.write_text(
        f'<busconfig><type>session</type><listen>unix:path={folder}/socket</listen>'
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/>'
        f'<allow eavesdrop="true"/></policy>{limits}</busconfig>', encoding='utf-8')
    return ['dbus-daemon', '--nofork', '--print-address', f'--config-file={config}']


class Server:
    def __init__(self, kind):
        self.folder = tempfile.TemporaryDirectory()
        command = [sys.executable, SERVER, kind] if kind else bus_command(self.folder.name)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        self.address = self.process.stdout.readline().strip()

    def stop(self):
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


class Client:
    """With its servers: that of the idle connections, which may be slow with so many of them, and
    that of the active ones."""

    def __init__(self, program, kind, contender, n):
        self.servers = [Server(kind), Server(kind)]
        self.client = subprocess.Popen(
            [program, contender, *(server.address for server in self.servers), str(n),
             str(max(ACTIVE))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self.client.stdout.readline().strip()
        ready = self.client.stdout.readline()
        assert ready == 'ready\n', f'no connections: {program}, {contender}'

    def talk(self, n_active, seconds):
        """The CPU time for each answer, in nanoseconds."""
        return talk(self.client, self.client, n_active, seconds)

    def stop(self):
        """GLib takes long to close thousands."""
        self.client.kill()
        self.client.communicate()
        for server in self.servers:
            server.stop()


def measure_with(clients, names, options):
    """By row and client, one value for each round. In each round all of them take turns."""
    for client in clients.values():
        client.talk(max(ACTIVE), options.seconds / 5)
    costs = {(*key, k): [] for key in clients for k in ACTIVE}
    for number in range(options.rounds):
        progress(f'neighbours: round {number + 1} of {options.rounds}: {names}')
        for k in ACTIVE:
            for key in random.sample(list(clients), len(clients)):
                costs[(*key, k)].append(clients[key].talk(k, options.seconds))
    return costs


def measure(name, options, versions):
    """The rows of a library: few and many connections are compared, too."""
    program = options.programs / f'bench-neighbour-{name}'
    if not program.exists():
        print(f'{name} is left out: its library was not found', file=sys.stderr)
        return []
    sizes = [n for n in CONNECTIONS
             if any(re.search(options.only, f'{name} N={n} K={k}') for k in ACTIVE)]
    contenders = [contender for contender in CONTENDERS if re.search(options.contender, contender)]
    clients = {}
    try:
        for n in sizes:
            for contender in contenders:
                progress(f'neighbours: {name} N={n}: {contender} connects')
                clients[n, contender] = Client(program, NEIGHBOURS[name], contender, n)
                library, _, versions[library] = clients[n, contender].version.partition(' ')
        costs = measure_with(clients, name, options)
    finally:
        for client in clients.values():
            client.stop()
    return [{'name': f'{name} N={n} K={k}',
             'values': {contender: costs[n, contender, k] for contender in contenders}}
            for n in sizes for k in ACTIVE if re.search(options.only, f'{name} N={n} K={k}')]


def main():
    options = parse_options(__doc__, ('programs', 'where bench-neighbour-redis is'), 5, 0.1, 0.3)
    versions = {}
    rows = [row for name in NEIGHBOURS for row in measure(name, options, versions)]
    progress('')
    json.dump({
        'benchmark': 'neighbours',
        'summary': 'What an answer costs a client, in CPU time',
        'unit': 'ns',
        'versions': versions,
        'rows': rows,
    }, options.json, indent=1)


if __name__ == '__main__':
    main()
