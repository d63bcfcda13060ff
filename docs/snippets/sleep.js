// SPDX-License-Identifier: LGPL-2.1-or-later
import Gaio from 'gi://Gaio?version=1.0';
import GLib from 'gi://GLib';

const context = Gaio.Context.get_default();
const loop = GLib.MainLoop.new(null, false);

function sleep(us) {
    return new Promise(resolve => {
        context.add_timeout(us, () => {
            resolve();
            return GLib.SOURCE_REMOVE;
        });
    });
}

async function main() {
    for (const number of [3, 2, 1]) {
        print(number);
        await sleep(10000);
    }
}

main().catch(logError).finally(() => loop.quit());
loop.run();
