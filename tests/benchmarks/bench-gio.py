#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a message costs a server made with GIO, of whose many connections few are active: where all
are in one main context, and where Gaio serves one for each. And what it costs one that is made with
asyncio's streams, or with aiohttp, in the loops that there are.

All servers have their clients, which are other processes, all the time. They are measured in turn,
in CPU time of the server: what is compared was measured within a few seconds."""

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile

from measuring import parse_options, progress, talk

LOOPS = 'asyncio', 'uvloop', 'gaio-run', 'gaio-installed'
WORKLOADS = {
    'echo': ('glib', 'gaio-served', 'gaio-nested', 'asyncio'),
    'soup': ('glib', 'gaio-served'),
    'soup-tls': ('glib', 'gaio-served'),
    'streams': LOOPS,
    'aiohttp': LOOPS,
}
IDLE = (10, 1000, 9000)
ACTIVE = (1, 16)
SPARE_FDS = 100
BACKLOG = 4096
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '1000000', 'MALLOC_TRIM_THRESHOLD_': '10000000'}
NOT_HERE = 77


async def echo(reader, writer):
    while message := await reader.read(256):
        writer.write(message)
        await writer.drain()
    writer.close()


async def serve_streams():
    server = await asyncio.start_server(echo, '127.0.0.1', 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def serve_aiohttp():
    from aiohttp import web

    async def answer(_request):
        return web.Response(text='an answer that ends with$')

    app = web.Application()
    app.router.add_get('/', answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0, backlog=BACKLOG).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def serve_with(contender, workload):
    """What a server made with asyncio does."""
    raise_fd_limit()
    serve = serve_aiohttp if workload == 'aiohttp' else serve_streams
    if contender == 'gaio-installed':
        import gaio
        from gi.repository import GLib

        task = gaio.install().create_task(serve())
        GLib.MainLoop().run()
        task.result()
    elif contender == 'gaio-run':
        import gaio

        gaio.run(serve())
    elif contender == 'uvloop':
        import uvloop

        uvloop.install()
        asyncio.run(serve())
    else:
        asyncio.run(serve())


class NotHere(Exception):
    pass


class Server:
    """With its clients. Each of them has had an answer."""

    def __init__(self, folder, files, workload, contender, n):
        command = [folder / 'bench-gio-server', workload, contender, *files]
        if contender in LOOPS:
            command = [sys.executable, __file__, '--serve-with', contender, workload]
        # For asyncio's buffers, see the guide about it.
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True, env=os.environ | MALLOC)
        port = self.server.stdout.readline().strip()
        if not port:
            self.fail()
        self.client = subprocess.Popen(
            [folder / 'bench-gio-client', 'echo' if workload == 'streams' else workload, port,
             str(n), *files[:1]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.client.stdout.readline()
        assert ready == 'ready\n', f'no connections: {workload}, {contender}'

    def fail(self):
        _, reason = self.server.communicate()
        if self.server.returncode == NOT_HERE:
            raise NotHere(reason.strip())
        sys.exit(f'bench-gio-server has failed: {reason}')

    def talk(self, n_active, seconds):
        """The CPU time for each message, in nanoseconds."""
        return talk(self.server, self.client, n_active, seconds)

    def stop(self):
        """GLib takes long to close thousands."""
        self.server.kill()
        self.client.kill()
        for process in (self.server, self.client):
            process.communicate()


def make_certificate(folder):
    if shutil.which('openssl') is None:
        raise NotHere('openssl is not installed')
    files = [folder / 'certificate.pem', folder / 'key.pem']
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1',
                    '-subj', '/CN=localhost', '-out', files[0], '-keyout', files[1]],
                   check=True, stderr=subprocess.DEVNULL)
    return files


def raise_fd_limit():
    """How many connections can be idle: one that is served takes two fds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return max(IDLE)
    n = (hard - SPARE_FDS) // 2 - max(ACTIVE)
    if n < max(IDLE):
        print(f'{n} idle connections, not {max(IDLE)}: the limit is {hard}', file=sys.stderr)
    return n


def is_installed(module):
    return importlib.util.find_spec(module) is not None


def connect(workload, files, n, most, options, stack):
    """The servers with so many idle connections, by contender."""
    servers = {}
    for contender in filter(re.compile(options.contender).search, WORKLOADS[workload]):
        if contender == 'uvloop' and not is_installed('uvloop'):
            continue
        progress(f'gio: {workload} N={n}: {contender} connects')
        servers[contender] = Server(options.programs, files, workload, contender,
                                    min(n, most) + max(ACTIVE))
        stack.callback(servers[contender].stop)
        servers[contender].talk(max(ACTIVE), options.seconds / 5)
    return servers


def measure(servers, cells, name, options):
    """By cell, one value for each round. In each round the cells take turns."""
    values = {cell: [] for cell in cells}
    for number in range(options.rounds):
        progress(f'gio: round {number + 1} of {options.rounds}: {name}')
        for n, k, contender in random.sample(cells, len(cells)):
            values[n, k, contender].append(servers[n][contender].talk(k, options.seconds))
    return values


def measure_workload(workload, options):
    """Its rows. All servers are there all the time: those of different rows are compared too."""
    most = raise_fd_limit()
    rows = {(n, k): f'{workload} N={n} K={k}' for n in IDLE for k in ACTIVE
            if re.search(options.only, f'{workload} N={n} K={k}')}
    try:
        if workload == 'aiohttp' and not is_installed('aiohttp'):
            raise NotHere('aiohttp is not installed')
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            files = make_certificate(pathlib.Path(folder)) if workload == 'soup-tls' else []
            servers = {n: connect(workload, files, n, most, options, stack)
                       for n in sorted({n for n, _ in rows})}
            cells = [(n, k, contender) for n, k in rows for contender in servers[n]]
            values = measure(servers, cells, workload, options)
    except NotHere as reason:
        print(f'{workload} is left out: {reason}', file=sys.stderr)
        return []
    return [{'name': name, 'values': {cell[2]: values[cell] for cell in cells if cell[:2] == row}}
            for row, name in rows.items()]


def main():
    options = parse_options(__doc__, ('programs', 'where bench-gio-server is'), 3, 0.1, 0.3)
    rows = [row for workload in WORKLOADS for row in measure_workload(workload, options)]
    progress('')
    json.dump({
        'benchmark': 'gio',
        'summary': 'What a message costs a server made with GIO or asyncio, in CPU time',
        'unit': 'ns',
        'versions': {'asyncio': platform.python_version()},
        'rows': rows,
    }, options.json, indent=1)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--serve-with']:
        serve_with(*sys.argv[2:])
    else:
        main()
