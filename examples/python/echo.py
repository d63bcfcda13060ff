# SPDX-License-Identifier: LGPL-2.1-or-later
"""An echo server: a handler for each connection, in an ordinary main loop. Ctrl-C ends it."""
import socket

import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio, GLib

context = Gaio.Context.get_default()


def on_readable(fd, condition, connection):
    if data := connection.recv(4096):
        connection.sendall(data)
        return GLib.SOURCE_CONTINUE
    connection.close()
    return GLib.SOURCE_REMOVE


def on_connection(fd, condition, listener):
    connection, _ = listener.accept()
    context.add_fd(connection, 'r', on_readable, connection)
    return GLib.SOURCE_CONTINUE


with socket.create_server(('127.0.0.1', 0)) as server:
    print('port', server.getsockname()[1], flush=True)
    with context.add_fd(server, 'r', on_connection, server):
        GLib.MainLoop().run()
