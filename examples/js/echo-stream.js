// SPDX-License-Identifier: LGPL-2.1-or-later
// An echo server of GIO streams: each connection has a main context of its own. It uses callbacks,
// because what comes after `await` runs in the default main context. Run it with `gjs -m`.
import Gaio from 'gi://Gaio?version=1.0';
import GLib from 'gi://GLib';

function read(connection) {
    connection.get_input_stream().read_bytes_async(4096, 0, null, (stream, result) => {
        try {
            const bytes = stream.read_bytes_finish(result);
            if (bytes.get_size() > 0)
                write(connection, bytes);
            else
                connection.close(null);
        } catch {
            connection.close(null);
        }
    });
}

function write(connection, bytes) {
    connection.get_output_stream().write_bytes_async(bytes, 0, null, (stream, result) => {
        try {
            const written = stream.write_bytes_finish(result);
            if (written < bytes.get_size())
                write(connection, bytes.new_from_bytes(written, bytes.get_size() - written));
            else
                read(connection);
        } catch {
            connection.close(null);
        }
    });
}

const service = new Gaio.SocketService();
service.connect('connection', (_, connection) => read(connection));
print(`port ${service.add_any_inet_port(null)}`);
GLib.MainLoop.new(null, false).run();
