// SPDX-License-Identifier: LGPL-2.1-or-later
import Gaio from 'gi://Gaio?version=1.0';
import Gio from 'gi://Gio';
import GLib from 'gi://GLib';

const context = Gaio.Context.get_default();
const loop = GLib.MainLoop.new(null, false);
const notifier = Gaio.Notifier.new();

async function work() {
    for (const number of [1, 2]) {
        await context.sleep(10);
        notifier.set();
        await context.readable(notifier.get_fd());
        notifier.test_and_clear();
        print('got', number);
    }
}

async function workWithSet() {
    const readySet = Gaio.ReadySet.new(context);
    readySet.add_fd(notifier.get_fd(), 'r', 7);
    notifier.set();
    for await (const [token, fd, condition] of readySet) {
        print('set:', token);
        notifier.test_and_clear();
        break;
    }
}

async function main() {
    await work();
    await workWithSet();
    const cancellable = new Gio.Cancellable();
    context.sleep(10).then(() => cancellable.cancel());
    await context.readable(notifier.get_fd(), cancellable);
}

main().catch(error => print(error.message)).finally(() => loop.quit());
loop.run();
