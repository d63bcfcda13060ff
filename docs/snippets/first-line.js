// SPDX-License-Identifier: LGPL-2.1-or-later
import Gaio from 'gi://Gaio?version=1.0';
import Gio from 'gi://Gio';
import GLib from 'gi://GLib';

const context = Gaio.Context.get_default();
const loop = GLib.MainLoop.new(null, false);

async function main() {
    const stream = Gio.File.new_for_path('colours').read(null);
    const bytes = await context.pread(stream, 4096, 0);
    print(new TextDecoder().decode(bytes).split('\n')[0]);
    stream.close(null);
}

main().catch(logError).finally(() => loop.quit());
loop.run();
