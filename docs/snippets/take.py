# SPDX-License-Identifier: LGPL-2.1-or-later
import socket

from gi.repository import Gaio

context = Gaio.Context()
ready_set = Gaio.ReadySet(context)
pairs = [socket.socketpair() for _ in range(100)]
for token, (server, client) in enumerate(pairs):
    ready_set.add_fd(server, 'r', token)

for number in 30, 60, 90:
    pairs[number][1].send(b'x')
context.iterate(-1)
for token, fd, condition in ready_set:
    print(token, pairs[token][0].recv(1))
