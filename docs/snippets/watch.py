# SPDX-License-Identifier: LGPL-2.1-or-later
import socket

from gi.repository import Gaio, GLib

context = Gaio.Context.get_default()
loop = GLib.MainLoop()
server, client = socket.socketpair()


def on_input(fd, condition):
    data = server.recv(4096)
    if not data:
        loop.quit()
        return GLib.SOURCE_REMOVE
    print('got', data.decode())
    return GLib.SOURCE_CONTINUE


def on_tick():
    client.close()
    return GLib.SOURCE_REMOVE


client.send(b'hello')
context.add_timeout(on_tick, seconds=0.01)
with context.add_fd(server, 'r', on_input) as handler:
    loop.run()
print('removed' if handler.is_removed() else 'there')
