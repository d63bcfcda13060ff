// SPDX-License-Identifier: LGPL-2.1-or-later
// The library as GJS sees it through GObject introspection.
imports.gi.versions.Gaio = '1.0';
const {Gaio, GLib} = imports.gi;

function assertEqual(actual, expected) {
    if (`${actual}` !== `${expected}`)
        throw new Error(`${actual} instead of ${expected}`);
}

// An fd that hangs up soon, and then stays so.
function openHangUp() {
    const [, , stdin, stdout, stderr] = GLib.spawn_async_with_pipes(
        null, ['true'], null, GLib.SpawnFlags.SEARCH_PATH, null);
    GLib.close(stdin);
    GLib.close(stderr);
    return stdout;
}

const tests = {
    'fd callback gets fd and condition'() {
        const hungUp = openHangUp();
        const calls = [];
        const handler = Gaio.Context.get_default().add_fd(
            hungUp, GLib.IOCondition.IN, (fd, condition) => {
                calls.push([fd, condition]);
                return GLib.SOURCE_REMOVE;
            });
        while (calls.length === 0)
            GLib.MainContext.default().iteration(true);
        assertEqual(calls, [[hungUp, GLib.IOCondition.HUP]]);
        assertEqual(handler.is_removed(), true);
        GLib.close(hungUp);
    },

    'error is thrown'() {
        let code = null;
        try {
            Gaio.Context.new().add_fd(-1, GLib.IOCondition.IN, () => true);
        } catch (error) {
            code = error.code;
        }
        assertEqual(code, Gaio.Error.BAD_FD);
    },

    'ready set gives bytes'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        const hungUp = openHangUp();
        const handler = set.add_fd(hungUp, GLib.IOCondition.IN, 2 ** 40);
        let batch = null;
        set.set_func(ready => {
            batch = ready.take();
        });
        while (batch === null)
            context.iterate(-1);
        assertEqual(batch.constructor.name, 'Uint8Array');
        assertEqual(batch.length, 16);
        const {buffer} = batch.slice();
        assertEqual(new BigUint64Array(buffer, 0, 1), 2 ** 40);
        assertEqual(new Int32Array(buffer, 8, 2), [hungUp, GLib.IOCondition.HUP]);
        handler.remove();
        GLib.close(hungUp);
    },

    'timer runs'() {
        const context = Gaio.Context.new();
        let calls = 0;
        const timer = context.add_timer(() => {
            calls++;
        });
        timer.arm(1000);
        while (calls === 0)
            context.iterate(-1);
        assertEqual(timer.get_deadline(), -1);
    },

    'notifier calls'() {
        const context = Gaio.Context.new();
        const notifier = Gaio.Notifier.new();
        let calls = 0;
        const handler = context.add_notifier(notifier, () => {
            calls++;
        });
        notifier.set();
        context.iterate(-1);
        assertEqual(calls, 1);
        handler.remove();
    },

    'child callback gets pid and status'() {
        const context = Gaio.Context.new();
        const [, pid] = GLib.spawn_async(null, ['false'], null,
            GLib.SpawnFlags.SEARCH_PATH | GLib.SpawnFlags.DO_NOT_REAP_CHILD, null);
        let ended = null;
        const handler = context.add_child(pid, (...args) => {
            ended = args;
        });
        while (!handler.is_removed())
            context.iterate(-1);
        assertEqual(ended, [pid, 256]);
    },

    'thread starts and stops'() {
        const thread = Gaio.Thread.new('gjs');
        const context = thread.get_context();
        assertEqual(context.is_closed(), false);
        thread.stop();
        assertEqual(context.is_closed(), true);
    },
};

print(`1..${Object.keys(tests).length}`);
let number = 0;
for (const [name, test] of Object.entries(tests)) {
    number++;
    try {
        test();
        print(`ok ${number} - ${name}`);
    } catch (error) {
        print(`not ok ${number} - ${name}: ${error}`);
    }
}
