// SPDX-License-Identifier: LGPL-2.1-or-later
// Watches a hundred files, and gets all that are ready in one call. Run it with `gjs -m`.
import Gaio from 'gi://Gaio?version=1.0';
import GLib from 'gi://GLib';

const loop = GLib.MainLoop.new(null, false);
const readySet = Gaio.ReadySet.new(Gaio.Context.get_default());
const notifiers = [];

for (let token = 0; token < 100; token++) {
    const notifier = Gaio.Notifier.new();
    readySet.add_fd(notifier.get_fd(), GLib.IOCondition.IN, token);
    notifiers.push(notifier);
}

readySet.set_func((ready, nReady) => {
    print(`${nReady} are ready`);
    for (const [token] of ready) {
        notifiers[token].test_and_clear();
        print(`token ${token}`);
    }
    loop.quit();
});

for (const token of [30, 60, 90])
    notifiers[token].set();
loop.run();
