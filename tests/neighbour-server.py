#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""neighbour-server.py HOW: a server on a free port of 127.0.0.1, which it prints, and which stands
in for the real one: where a test needs a server that is bad, or a benchmark thousands of clients.

  redis      answers PONG to whatever is one command
  http       answers what the path says: see answer_http
  postgres   lets everybody in, and answers a query with one row
  silent     reads, and never answers
  garbage    answers what no protocol knows
  gone       closes the connection when it has heard something
"""

import asyncio
import resource
import struct
import sys

BACKLOG = 4096


async def serve_redis(reader, writer):
    """A command is an array, with the number of its words first, or a line."""
    while line := await reader.readline():
        for _ in range(2 * int(line[1:]) if line.startswith(b'*') else 0):
            await reader.readline()
        writer.write(b'+PONG\r\n')


async def answer_http(path, writer, together):
    """/size/N: N bytes. /together/N: one byte, when N requests wait for one. /endless: a byte, and no
    end. /half: the connection ends in the middle. /never: there is no answer."""
    name, _, n = path[1:].partition('/')
    if name == 'together':
        together.append(writer)
        if len(together) == int(n):
            for each in together:
                each.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.')
            together.clear()
    elif name == 'size':
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % int(n) + b'.' * int(n))
    elif name == 'endless':
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n.')
    elif name == 'half':
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf')
        await writer.drain()
        writer.close()
    elif name != 'never':
        writer.write(b'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n')


def http_server():
    together = []

    async def serve(reader, writer):
        while line := await reader.readline():
            while await reader.readline() not in (b'\r\n', b''):
                pass
            await answer_http(line.split()[1].decode(), writer, together)

    return serve


def message(kind, body=b''):
    return kind + struct.pack('>I', 4 + len(body)) + body


POSTGRES_READY = message(b'Z', b'I')
POSTGRES_WELCOME = message(b'R', bytes(4)) + message(b'K', bytes(8)) + POSTGRES_READY
POSTGRES_ROW = (message(b'T', struct.pack('>H', 1) + b'one\0' + struct.pack('>IHIHIH', 0, 0, 25,
                                                                           0xffff, 0, 0)) +
                message(b'D', struct.pack('>HI', 1, 1) + b'1') +
                message(b'C', b'SELECT 1\0') + POSTGRES_READY)


async def serve_postgres(reader, writer):
    """The first message has no kind, and may ask for encryption."""
    while True:
        size, code = struct.unpack('>II', await reader.readexactly(8))
        await reader.readexactly(size - 8)
        if code >> 16 == 3:
            break
        writer.write(b'N')
    writer.write(POSTGRES_WELCOME)
    while kind := await reader.read(1):
        size, = struct.unpack('>I', await reader.readexactly(4))
        await reader.readexactly(size - 4)
        if kind == b'Q':
            writer.write(POSTGRES_ROW)


async def stay_silent(reader, _):
    while await reader.read(4096):
        pass


async def answer_garbage(reader, writer):
    while await reader.read(4096):
        writer.write(b'\x07what?\xff\r\n' * 100)


async def be_gone(reader, writer):
    await reader.read(4096)
    writer.close()


SERVERS = {
    'redis': serve_redis, 'http': http_server(), 'postgres': serve_postgres,
    'silent': stay_silent, 'garbage': answer_garbage, 'gone': be_gone,
}


async def main():
    async def serve(reader, writer):
        try:
            await SERVERS[sys.argv[1]](reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, '127.0.0.1', 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
asyncio.run(main())
