// SPDX-License-Identifier: LGPL-2.1-or-later
// Sends back what clients send, until the first of them hangs up. Run it with `gjs -m`.
import Gaio from 'gi://Gaio?version=1.0';
import Gio from 'gi://Gio';
import GLib from 'gi://GLib';

const context = Gaio.Context.get_default();
const loop = GLib.MainLoop.new(null, false);
const listening = Gio.Socket.new(
    Gio.SocketFamily.IPV4, Gio.SocketType.STREAM, Gio.SocketProtocol.DEFAULT);

listening.bind(Gio.InetSocketAddress.new_from_string('127.0.0.1', 0), true);
listening.listen();
print(`port ${listening.get_local_address().get_port()}`);

context.add_fd(listening.get_fd(), GLib.IOCondition.IN, () => {
    const client = listening.accept(null).connection_factory_create_connection();
    context.add_fd(client.get_socket().get_fd(), GLib.IOCondition.IN, () => {
        const bytes = client.get_input_stream().read_bytes(4096, null);
        client.get_output_stream().write_all(bytes.toArray(), null);
        if (bytes.get_size() > 0)
            return GLib.SOURCE_CONTINUE;
        loop.quit();
        return GLib.SOURCE_REMOVE;
    });
    return GLib.SOURCE_CONTINUE;
});

loop.run();
