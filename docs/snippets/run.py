# SPDX-License-Identifier: LGPL-2.1-or-later
import asyncio
import socket

import gaio
from gi.repository import Gio, GLib


async def main():
    GLib.timeout_add(20, lambda: print('GLib is served'))
    await asyncio.sleep(0.1)

    contents = await gaio.wrap(Gio.File.new_for_path('run.py').load_contents_async)
    print('Gio:', contents[1].splitlines()[0].decode())

    server, client = socket.socketpair()
    client.send(b'hello')
    await gaio.readable(server)
    print('socket:', server.recv(4096).decode())


gaio.run(main())
