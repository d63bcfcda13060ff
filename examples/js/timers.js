// SPDX-License-Identifier: LGPL-2.1-or-later
// Three ticks, 10 ms apart, and then one call. Run it with `gjs -m`.
import Gaio from 'gi://Gaio?version=1.0';
import GLib from 'gi://GLib';

const context = Gaio.Context.get_default();
const loop = GLib.MainLoop.new(null, false);
let ticks = 0;

const timer = context.add_timer(() => {
    print('done');
    loop.quit();
});

// Without a `return` it would be called only once.
context.add_timeout(10000, () => {
    print(`tick ${++ticks}`);
    if (ticks < 3)
        return GLib.SOURCE_CONTINUE;
    timer.arm(5000);
    return GLib.SOURCE_REMOVE;
});

loop.run();
