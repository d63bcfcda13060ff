# SPDX-License-Identifier: LGPL-2.1-or-later
"""An echo server: what is ready comes as a batch, without a main loop. Ctrl-C ends it."""
import socket

import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio

context = Gaio.Context()
ready_set = Gaio.ReadySet(context)
connections = {}

with socket.create_server(('127.0.0.1', 0)) as server, ready_set.add_fd(server, 'r', 0):
    print('port', server.getsockname()[1], flush=True)
    while True:
        context.iterate(-1)
        for token, fd, condition in ready_set:
            if token == 0:
                connection, _ = server.accept()
                handler = ready_set.add_fd(connection, 'r', connection.fileno())
                connections[connection.fileno()] = connection, handler
                continue
            connection, handler = connections[token]
            if data := connection.recv(4096):
                connection.sendall(data)
            else:
                handler.remove()
                connections.pop(token)[0].close()
