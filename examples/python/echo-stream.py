# SPDX-License-Identifier: LGPL-2.1-or-later
"""An echo server of GIO streams: a main context for each connection. Ctrl-C ends it."""
import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio, GLib


def echo(connection, data=b''):
    if data:
        output, data = connection.get_output_stream(), GLib.Bytes.new(data)
        output.write_bytes_async(data, 0, None, on_written, connection, data.get_data())
    else:
        connection.get_input_stream().read_bytes_async(4096, 0, None, on_read, connection)


def on_read(stream, result, connection):
    if data := stream.read_bytes_finish(result).get_data():
        echo(connection, data)


def on_written(stream, result, connection, data):
    echo(connection, data[stream.write_bytes_finish(result):])


service = Gaio.SocketService()
service.connect('connection', lambda service, connection, source: echo(connection))
print('port', service.add_any_inet_port(None), flush=True)
GLib.MainLoop().run()
