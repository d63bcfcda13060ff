// SPDX-License-Identifier: LGPL-2.1-or-later
import Gaio from 'gi://Gaio?version=1.0';
import Gio from 'gi://Gio';
import GLib from 'gi://GLib';

const context = Gaio.Context.get_default();
const loop = GLib.MainLoop.new(null, false);
const listener = new Gio.SocketListener();
const port = listener.add_any_inet_port(null);
const client = new Gio.SocketClient().connect_to_host('127.0.0.1', port, null);
const [server] = listener.accept(null);

client.get_output_stream().write_all('hello', null);
context.add_fd(server.get_socket().fd, GLib.IOCondition.IN, () => {
    const bytes = server.get_input_stream().read_bytes(4096, null).toArray();
    if (bytes.length > 0) {
        print(`got ${new TextDecoder().decode(bytes)}`);
        return GLib.SOURCE_CONTINUE;
    }
    loop.quit();
    return GLib.SOURCE_REMOVE;
});
context.add_timer(() => client.close(null)).arm({seconds: 0.01});
loop.run();
