// SPDX-License-Identifier: LGPL-2.1-or-later
// What GJS programs do with the library and its override, and what may go wrong. Run by `gjs -m`.
import Gaio from 'gi://Gaio?version=1.0';
import Gio from 'gi://Gio';
import GLib from 'gi://GLib';
import GObject from 'gi://GObject';
import System from 'system';

const {IN} = GLib.IOCondition;

class Skipped extends Error {}

function assertEqual(actual, expected) {
    if (JSON.stringify(actual) !== JSON.stringify(expected))
        throw new Error(`${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
}

function assertThrows(call) {
    try {
        call();
    } catch (error) {
        return error;
    }
    throw new Error('no error');
}

// An fd that is ready until it is cleared.
function readyNotifier() {
    const notifier = Gaio.Notifier.new();
    notifier.set();
    return notifier;
}

// Has `add` add a function that returns `result` and holds an open file. Gives the path of that.
function addHolder(add, result) {
    const notifier = Gaio.Notifier.new();
    add(() => {
        notifier.set();
        return result;
    });
    return `/proc/self/fd/${notifier.get_fd()}`;
}

// Gives a function that tells whether the one that `add` has added is there: when the garbage
// collector has taken it, the file that it holds is closed.
function watchFunction(add, result) {
    const path = addHolder(add, result);
    return () => {
        System.gc();
        return GLib.file_test(path, GLib.FileTest.EXISTS);
    };
}

// What takes a number: for each place of one, a call with it and what is said of others.
function callsWithNumbers(context, fd) {
    const set = Gaio.ReadySet.new(context);
    const handler = context.add_fd(fd, IN, () => true);
    const timer = context.add_timer(() => {});
    const anFd = 'an fd is', aCondition = 'a condition is', aCount = 'a count is';
    const time = 'time is an integer in microseconds';
    return [
        [x => context.add_fd(x, IN, () => true), anFd],
        [x => context.add_fd(fd, x, () => true), aCondition],
        [x => context.add_child(x, () => {}), 'a pid is'],
        [x => context.add_timeout(x, () => true), time],
        [x => context.iterate(x), time],
        [x => context.pread_async(x, 1, 0, null, null), anFd],
        [x => context.pread_async(fd, x, 0, null, null), aCount],
        [x => context.pread_async(fd, 1, x, null, null), 'an offset is'],
        [x => context.pwrite_async(x, new Uint8Array(), 0, null, null), anFd],
        [x => context.pwrite_async(fd, x, 0, null, null), 'data is'],
        [x => context.pwrite_async(fd, new Uint8Array(), x, null, null), 'an offset is'],
        [x => context.fsync_async(x, null, null), anFd],
        [x => context.set_dispatch_limits(x, 0), aCount],
        [x => context.set_dispatch_limits(0, x), time],
        [x => context.set_poll_params(x, 0, 0), time],
        [x => context.set_poll_params(0, x, 0), aCount],
        [x => context.set_poll_params(0, 0, x), aCount],
        [x => Gaio.Context.new_with_monitor(x), 'a monitor is'],
        [x => handler.set_condition(x), aCondition],
        [x => set.add_fd(x, IN, 0), anFd],
        [x => set.add_fd(fd, x, 0), aCondition],
        [x => set.add_fd(fd, IN, x), 'a token is'],
        [x => set.wait(x), time],
        [x => timer.arm(x), time],
        [x => timer.arm_at(x), 'a point in time is an integer in microseconds'],
    ];
}

function assertTypeError(call, words) {
    const error = assertThrows(call);
    if (!(error instanceof TypeError && error.message.includes(words)))
        throw new Error(`${error} instead of a TypeError with '${words}'`);
}

function residentPages() {
    const [, text] = GLib.file_get_contents('/proc/self/statm');
    return Number(new TextDecoder().decode(text).split(' ')[1]);
}

function handlersOf(context) {
    return context.dup_stats().recursiveUnpack().handlers;
}

function timersOf(context) {
    return context.dup_stats().recursiveUnpack().timers;
}

// Runs a main loop until the promise is settled, and gives or throws what it was settled with.
function wait(promise) {
    const loop = GLib.MainLoop.new(null, false);
    let result, error;
    promise.then(value => (result = value), reason => (error = reason)).finally(() => loop.quit());
    loop.run();
    if (error !== undefined)
        throw error;
    return result;
}

function assertRejects(promise, type) {
    const error = assertThrows(() => wait(promise));
    if (!(error instanceof type))
        throw new Error(`${error} instead of a ${type.name}`);
    return error;
}

// Runs `use` with the default context and the fd of an empty file.
function withFile(use) {
    const [file, stream] = Gio.File.new_tmp(null);
    file.delete(null);
    const result = wait(use(Gaio.Context.get_default(), stream.get_output_stream().get_fd()));
    stream.close(null);
    return result;
}

const text = bytes => new TextDecoder().decode(bytes);

function testBatch(count) {
    const context = Gaio.Context.new();
    const set = Gaio.ReadySet.new(context);
    const notifiers = [];
    try {
        while (notifiers.length < count)
            notifiers.push(readyNotifier());
    } catch (error) {
        if (error.matches(Gaio.Error, Gaio.Error.PROCESS_LIMIT))
            throw new Skipped(`no ${count} fds`);
        throw error;
    }
    const expected = notifiers.map((notifier, i) => [2 ** 53 - 1 - i, notifier.get_fd(), IN]);
    const batches = [];
    for (const [token, fd] of expected)
        set.add_fd(fd, IN, token);
    set.set_func((ready, nReady) => batches.push([nReady, [...ready]]));
    context.iterate(-1);
    assertEqual(batches, [[count, expected]]);
    assertEqual([...set], []);
    context.close();
}

const tests = {
    // What a callback may do.

    'callback-removes-itself'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        let calls = 0;
        const handler = context.add_fd(ready.get_fd(), IN, () => {
            handler.remove();
            System.gc();
            return ++calls > 0;
        });
        assertEqual(context.iterate(-1), true);
        assertEqual(context.iterate(0), false);
        assertEqual(calls, 1);
    },

    'callback-removes-another-that-is-ready'() {
        const context = Gaio.Context.new();
        const fd = readyNotifier();
        const calls = [];
        const handlers = ['first', 'second'].map((name, i) => context.add_fd(
            fd.get_fd(), IN, () => {
                calls.push(name);
                handlers[1 - i].remove();
                System.gc();
                return GLib.SOURCE_CONTINUE;
            }));
        context.iterate(-1);
        context.iterate(0);
        assertEqual(calls.length, 2);
        assertEqual(calls[0], calls[1]);
    },

    'exception-removes'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        const handler = context.add_fd(ready.get_fd(), IN, () => {
            throw new Error('on purpose');
        });
        context.iterate(-1);
        assertEqual(handler.is_removed(), true);
        assertEqual(context.iterate(0), false);
    },

    'forgotten-return-removes'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        const handler = context.add_fd(ready.get_fd(), IN, () => {});
        context.iterate(-1);
        assertEqual(handler.is_removed(), true);
    },

    // Its promise is true: it would be called for ever.
    'async-function-is-refused-where-the-result-counts'() {
        const context = Gaio.Context.get_default();
        const ready = readyNotifier();
        const before = handlersOf(context);
        const work = {async method() {}};
        for (const func of [async () => {}, async function () {}, work.method]) {
            for (const call of [
                () => context.add_fd(ready, 'r', func),
                () => context.add_timeout(1000, func),
                () => context.add_timeout({seconds: 1}, func),
            ])
                assertTypeError(call, 'returns GLib.SOURCE_CONTINUE');
        }
        assertEqual([handlersOf(context), timersOf(context)], [before, 0]);
    },

    'async-function-is-called-where-it-does-not'() {
        const context = Gaio.Context.get_default();
        assertEqual(wait(new Promise(resolve => {
            context.defer(async () => {
                await context.sleep(1);
                const timer = context.add_timer(async () => {
                    timer.remove();
                    resolve('called');
                });
                timer.arm(0);
            });
        })), 'called');
    },

    'callback-runs-a-nested-main-loop'() {
        const context = Gaio.Context.get_default();
        const ready = readyNotifier();
        const calls = [];
        const handler = context.add_fd(ready.get_fd(), IN, () => {
            const nested = GLib.MainLoop.new(null, false);
            const timer = context.add_timer(() => {
                calls.push('timer');
                nested.quit();
            });
            timer.arm(1000);
            nested.run();
            timer.remove();
            calls.push('fd');
            return GLib.SOURCE_REMOVE;
        });
        while (!handler.is_removed())
            GLib.MainContext.default().iteration(true);
        assertEqual(calls, ['timer', 'fd']);
    },

    'callback-drops-the-context'() {
        const ready = readyNotifier();
        let context = Gaio.Context.new();
        let calls = 0;
        context.attach(null);
        const handler = context.add_fd(ready.get_fd(), IN, () => {
            context.detach();
            context = null;
            System.gc();
            return ++calls > 0;
        });
        while (calls === 0)
            GLib.MainContext.default().iteration(true);
        System.gc();
        assertEqual(calls, 1);
        assertEqual(handler.is_removed(), true);
    },

    'callback-closes-the-context'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        let calls = 0;
        const handler = context.add_fd(ready.get_fd(), IN, () => {
            context.close();
            return ++calls > 0;
        });
        context.iterate(-1);
        assertEqual(calls, 1);
        assertEqual(handler.is_removed(), true);
    },

    // What the garbage collector may do.

    'collected-handle-keeps-the-watch'() {
        const context = Gaio.Context.new();
        const notifier = Gaio.Notifier.new();
        const calls = [];
        context.add_fd(notifier.get_fd(), IN, fd => calls.push(fd) > 0);
        System.gc();
        context.iterate(0);
        assertEqual(calls, []);
        notifier.set();
        System.gc();
        context.iterate(-1);
        assertEqual(calls, [notifier.get_fd()]);
    },

    'removed-functions-are-freed'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        const set = Gaio.ReadySet.new(context);
        const watches = [
            f => context.add_fd(ready.get_fd(), IN, f).remove(),
            f => context.add_notifier(ready, f).remove(),
            f => context.add_timer(f).remove(),
            f => context.add_timeout(1000, f).remove(),
            f => context.add_bottom_half(f).remove(),
            f => {
                set.set_func(f);
                set.set_func(null);
            },
        ].map(add => watchFunction(add, false));
        context.iterate(0);
        assertEqual(watches.map(isThere => isThere()), watches.map(() => false));
    },

    'function-that-is-refused-is-freed'() {
        const context = Gaio.Context.new();
        const isThere = watchFunction(f => assertThrows(() => context.add_fd(-1, IN, f)));
        assertEqual(isThere(), false);
    },

    'ready-function-is-not-freed-before-its-removal'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        let handler;
        const isThere = watchFunction(f => {
            handler = context.add_fd(ready.get_fd(), IN, f);
        }, true);
        context.iterate(-1);
        assertEqual(isThere(), true);
        handler.remove();
        context.iterate(0);
        assertEqual(isThere(), false);
    },

    'main-contexts-are-served'() {
        const context = Gaio.Context.new();
        const served = context.create_main_context(null);
        let calls = 0;
        context.call_in(served, () => {
            const source = GLib.idle_source_new();
            source.set_callback(() => ++calls < 3);
            source.attach(served);
        });
        while (calls < 3)
            context.iterate(-1);
        context.stop_serving(served);
    },

    'socket-service'() {
        const context = Gaio.Context.new();
        const service = Gaio.SocketService.new(context);
        const places = [];
        service.connect('connection', () => {
            places.push(GLib.MainContext.get_thread_default());
        });
        const port = service.add_any_inet_port(null);
        const client = new Gio.SocketClient().connect_to_host('127.0.0.1', port, null);
        while (places.length === 0)
            context.iterate(-1);
        assertEqual(places[0] instanceof GLib.MainContext, true);
        service.stop();
        for (let i = 0; i < 10; i++)
            context.iterate(0);
        client.close(null);
    },

    'connections-that-are-closed-take-no-fds'() {
        const context = Gaio.Context.new();
        const Derived = GObject.registerClass(class extends Gaio.SocketService {});
        const services = [Gaio.SocketService.new(context), new Gaio.SocketService({context}),
            new Derived({context})];
        const count = () => context.dup_stats().deepUnpack()['main-contexts'].deepUnpack();
        for (const service of services) {
            const port = service.add_any_inet_port(null);
            let closed = 0, most = 0;
            service.connect('connection', (_, connection) => {
                connection.close(null);
                closed++;
            });
            for (let i = 1; i <= 500; i++) {
                const client = new Gio.SocketClient().connect_to_host('127.0.0.1', port, null);
                while (closed < i)
                    context.iterate(-1);
                client.close(null);
                most = Math.max(most, count());
            }
            assertEqual(most < 200, true);
            service.stop();
        }
    },

    'deferred-function-is-freed-on-the-thread-of-the-loop'() {
        const context = Gaio.Context.new();
        const isThere = watchFunction(f => context.defer(f));
        assertEqual(isThere(), true);
        context.iterate(-1);
        assertEqual(isThere(), false);
    },

    'ten-thousand-handlers-come-and-go'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        const before = handlersOf(context);
        let calls = 0;
        const handlers = [];
        for (let i = 0; i < 10000; i++)
            handlers.push(context.add_fd(ready.get_fd(), IN, () => ++calls > 0));
        assertEqual(handlersOf(context), before + 10000);
        for (const handler of handlers)
            handler.remove();
        context.iterate(0);
        assertEqual(handlersOf(context), before);
        assertEqual(calls, 0);
    },

    // A closure that leaks takes some 500 bytes.
    'hundred-thousand-cycles-leak-nothing'() {
        const context = Gaio.Context.new();
        const ready = readyNotifier();
        const cycle = count => {
            for (let i = 0; i < count; i++) {
                context.add_fd(ready.get_fd(), IN, () => false);
                context.iterate(-1);
                if (i % 1000 === 0)
                    System.gc();
            }
            System.gc();
            return residentPages();
        };
        const before = cycle(10000);
        const grown = cycle(100000) - before;
        if (grown > 2000)
            throw new Error(`${grown} pages more`);
    },

    // The batch.

    'batch-of-1'() {
        testBatch(1);
    },

    'batch-of-16'() {
        testBatch(16);
    },

    'batch-of-1024'() {
        testBatch(1024);
    },

    'override-is-there-for-scripts-and-modules'() {
        assertEqual(imports.gi.Gaio === Gaio, true);
    },

    // Promises.

    'sleep-is-in-milliseconds'() {
        const context = Gaio.Context.get_default();
        const before = GLib.get_monotonic_time();
        wait(context.sleep(5));
        if (GLib.get_monotonic_time() - before < 5000)
            throw new Error('too early');
        for (const wrong of [-1, NaN])
            assertRejects(context.sleep(wrong), RangeError);
        for (const wrong of ['5', null])
            assertRejects(context.sleep(wrong), TypeError);
        assertEqual(timersOf(context), 0);
    },

    'sleep-takes-seconds'() {
        const context = Gaio.Context.get_default();
        const before = GLib.get_monotonic_time();
        wait(context.sleep({seconds: 0.005}));
        if (GLib.get_monotonic_time() - before < 5000)
            throw new Error('too early');
        for (const wrong of [-1, NaN])
            assertRejects(context.sleep({seconds: wrong}), RangeError);
        for (const wrong of [{seconds: '1'}, {minutes: 1}, 10n]) {
            const error = assertRejects(context.sleep(wrong), TypeError);
            assertEqual(error.message.includes('write {seconds: 0.5}'), true);
        }
        assertEqual(timersOf(context), 0);
    },

    'run-takes-no-main-loop'() {
        const context = Gaio.Context.new();
        assertTypeError(() => context.run(GLib.MainLoop.new(null, false), null),
            'mainLoop.get_context(), and a Gio.Cancellable');
    },

    'run-ends-with-its-cancellable'() {
        const context = Gaio.Context.new();
        const cancellable = new Gio.Cancellable();
        context.defer(() => cancellable.cancel());
        assertEqual(context.run(GLib.MainContext.new(), cancellable), true);
    },

    'ready-set-is-made-by-its-function'() {
        const context = Gaio.Context.get_default();
        assertEqual(assertThrows(() => new Gaio.ReadySet(context)).message,
            'write Gaio.ReadySet.new(context)');
    },

    'socket-service-takes-its-context-by-name'() {
        const context = Gaio.Context.new();
        assertTypeError(() => new Gaio.SocketService(context),
            'write Gaio.SocketService.new(context)');
        const Derived = GObject.registerClass(class extends Gaio.SocketService {});
        for (const Class of [Gaio.SocketService, Derived]) {
            assertTypeError(() => new Class(context), 'Gaio.SocketService.new(context)');
            assertEqual(new Class({context}).get_context() === context, true);
        }
    },

    'readable-and-writable-resolve-with-the-condition'() {
        const context = Gaio.Context.get_default();
        const before = handlersOf(context);
        const notifier = Gaio.Notifier.new();
        const order = [];
        wait(Promise.all([
            context.readable(notifier.get_fd()).then(condition => order.push(condition)),
            context.writable(notifier.get_fd()).then(condition => order.push(condition))
                .then(() => notifier.set()),
        ]));
        assertEqual(order, [GLib.IOCondition.OUT, IN]);
        assertEqual(handlersOf(context), before);
        assertRejects(context.readable(-1), Gaio.Error);
    },

    'cancelled-promise-is-rejected'() {
        const context = Gaio.Context.get_default();
        const before = handlersOf(context);
        const notifier = Gaio.Notifier.new();
        const set = Gaio.ReadySet.new(context);
        const member = set.add_fd(notifier.get_fd(), 'r', 0);
        const starts = [
            c => context.sleep(1e6, c),
            c => context.readable(notifier.get_fd(), c),
            c => set.records(c).next(),
        ];
        for (const start of starts) {
            for (const isLate of [false, true]) {
                const cancellable = new Gio.Cancellable();
                if (!isLate)
                    cancellable.cancel();
                const promise = start(cancellable);
                context.sleep(1).then(() => cancellable.cancel());
                const error = assertRejects(promise, GLib.Error);
                assertEqual(error.matches(Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED), true);
            }
        }
        member.remove();
        assertEqual(handlersOf(context), before);
        assertEqual(timersOf(context), 0);
    },

    'for-await-takes-one-batch-after-another'() {
        const context = Gaio.Context.get_default();
        const set = Gaio.ReadySet.new(context);
        const notifiers = [Gaio.Notifier.new(), Gaio.Notifier.new()];
        const members = notifiers.map((notifier, i) => set.add_fd(notifier.get_fd(), 'r', i));
        const tokens = [];
        wait((async () => {
            notifiers[1].set();
            for await (const [token, fd] of set) {
                assertEqual(fd, notifiers[token].get_fd());
                notifiers[token].test_and_clear();
                tokens.push(token);
                if (tokens.length === 4)
                    break;
                await context.sleep(1);
                notifiers[tokens.length % 2].set();
            }
        })());
        assertEqual(tokens, [1, 1, 0, 1]);
        // Nobody takes what comes now.
        notifiers[0].set();
        wait(context.sleep(1));
        members.forEach(member => member.remove());
    },

    'function-of-a-ready-set-that-throws-is-dropped'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        const notifier = readyNotifier();
        set.add_fd(notifier, 'r', 7);
        let calls = 0;
        set.set_func((ready, nReady) => {
            calls++;
            throw new Error(`${ready === set} ${nReady}`);
        });
        GLib.test_expect_message('Gjs-Console', GLib.LogLevelFlags.LEVEL_ERROR, '*');
        for (let i = 0; i < 4; i++)
            context.iterate(0);
        assertEqual(calls, 1);
        set.set_func(() => {
            set.set_func(ready => {
                calls++;
                [...ready];
                ready.set_func(null);
            });
            throw new Error('not the other');
        });
        for (let i = 0; i < 4; i++)
            context.iterate(0);
        assertEqual(calls, 2);
    },

    'handler-keeps-its-file'() {
        const context = Gaio.Context.new();
        const address = Gio.InetSocketAddress.new_from_string('127.0.0.1', 0);
        let calls = 0;
        const watch = () => {
            const socket = Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM, 0);
            socket.bind(address, false);
            context.add_fd(socket, 'r', () => {
                calls++;
                return false;
            });
            return socket.get_local_address();
        };
        const to = watch();
        System.gc();
        const sender = Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM, 0);
        sender.send_to(to, [120], null);
        context.iterate(-1);
        assertEqual(calls, 1);
    },

    'for-await-does-not-replace-a-function'() {
        const context = Gaio.Context.get_default();
        const set = Gaio.ReadySet.new(context);
        const notifier = readyNotifier();
        const member = set.add_fd(notifier, 'r', 7);
        let calls = 0;
        set.set_func(() => {
            notifier.test_and_clear();
            calls++;
        });
        const error = assertRejects(set[Symbol.asyncIterator]().next(), Error);
        assertEqual(error.message.includes('set_func(null)'), true);
        while (calls === 0)
            GLib.MainContext.default().iteration(true);
        set.set_func(null);
        notifier.set();
        // The first batch has been taken by nobody.
        [...set];
        const records = set.records();
        assertEqual(wait(records.next()).value[0], 7);
        notifier.test_and_clear();
        set.set_func(() => {});
        assertRejects(records.next(), Error);
        set.set_func(null);
        const waiting = set.records().next();
        set.set_func(() => {});
        assertEqual(assertRejects(waiting, Gaio.Error).code, Gaio.Error.REMOVED);
        member.remove();
    },

    // What is taken for an fd, for a condition and for a number.

    'what-is-no-integer-is-a-type-error'() {
        const context = Gaio.Context.new();
        const notifier = Gaio.Notifier.new();
        const wrongs = [0.5, NaN, Infinity, true, null, undefined, '1', '', {}, [1], () => 1];
        for (const [call, words] of callsWithNumbers(context, notifier.get_fd())) {
            for (const wrong of wrongs)
                assertTypeError(() => call(wrong), words);
        }
        assertEqual(handlersOf(context), 1);
    },

    'what-does-not-fit-is-an-error'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        const fd = readyNotifier().get_fd();
        for (const wrong of [2 ** 32 + fd, -(2 ** 32)])
            assertTypeError(() => context.add_fd(wrong, IN, () => true), 'an fd is');
        for (const wrong of [-1, 0x20, 2 ** 32 + 1, 1n])
            assertTypeError(() => context.add_fd(fd, wrong, () => true), 'a condition is');
        for (const wrong of [-1, 2 ** 53])
            assertTypeError(() => set.add_fd(fd, IN, wrong), 'a token is');
        for (const wrong of [0, -1, 2 ** 32 + 1])
            assertTypeError(() => context.add_child(wrong, () => {}), 'a pid is');
        for (const wrong of [-1, 2 ** 32])
            assertTypeError(() => context.set_dispatch_limits(wrong, 0), 'a count is');
        for (const wrong of [-1, 2 ** 64])
            assertTypeError(() => Gaio.Context.new_with_monitor(wrong), 'a monitor is');
        for (const wrong of [0, -1])
            assertThrows(() => context.add_timeout(wrong, () => true));
        assertEqual(handlersOf(context), 0);
    },

    'times-are-in-their-range'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        for (const call of [
            () => context.set_dispatch_limits(0, -1),
            () => context.set_poll_params(-1, 0, 0),
            () => context.set_poll_params(GLib.USEC_PER_SEC + 1, 0, 0),
            () => context.iterate(-2),
            () => set.wait(-2n),
        ]) {
            const error = assertThrows(call);
            if (!(error instanceof RangeError))
                throw new Error(`${error} instead of a RangeError`);
        }
    },

    'times-are-integers-or-seconds'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        const timer = context.add_timer(() => {});
        const timeout = context.add_timeout({seconds: 60}, () => true);
        const left = timeout.get_deadline() - GLib.get_monotonic_time();
        if (!(left > 30e6 && left <= 60e6))
            throw new Error(`${left} us instead of 60 s`);
        timeout.remove();
        const before = GLib.get_monotonic_time();
        timer.arm({seconds: 60.5});
        if (timer.get_deadline() < before + 60500000)
            throw new Error('armed too early');
        assertEqual(context.iterate({seconds: 0}), false);
        assertTypeError(() => timer.arm(0.5), 'write {seconds: 0.5}');
        for (const wrong of [{milliseconds: 5}, {seconds: 1, milliseconds: 5}]) {
            assertTypeError(() => timer.arm(wrong), 'not an object with milliseconds');
            assertTypeError(() => context.add_timeout(wrong, () => true), 'with milliseconds');
            assertEqual(assertRejects(context.sleep(wrong), TypeError).message
                .endsWith('not an object with milliseconds'), true);
        }
        assertTypeError(() => context.add_timeout(() => true, {seconds: 1}),
            'and comes first: add_timeout(time, func)');
        for (const seconds of [-1, NaN, Infinity]) {
            for (const call of [time => timer.arm(time), time => context.iterate(time),
                time => set.wait(time), time => context.add_timeout(time, () => true)]) {
                if (!(assertThrows(() => call({seconds})) instanceof RangeError))
                    throw new Error(`${seconds} is not a time`);
            }
        }
    },

    'time-that-was-meant-in-seconds-is-warned-of'() {
        const cases = [
            ['add_timeout(1, () => true)', 'add_timeout({seconds: 1}, func)'],
            ['add_timeout(100, () => true)', null],
            ['add_timeout({seconds: 1}, () => true)', null],
            ['add_timer(() => {}).arm(1)', 'arm({seconds: 1})'],
            ['add_timer(() => {}).arm(99n)', 'arm({seconds: 99})'],
            ['add_timer(() => {}).arm(0)', null],
            ['add_timer(() => {}).arm(100)', null],
            ['add_timer(() => {}).arm({seconds: 1e-6})', null],
        ];
        for (const [call, advice] of cases) {
            const program = `imports.gi.Gaio.Context.new().${call}`;
            const gjs = new Gio.Subprocess({
                argv: ['gjs', '-c', program],
                flags: Gio.SubprocessFlags.STDERR_PIPE,
            });
            gjs.init(null);
            const [, , said] = gjs.communicate_utf8(null, null);
            assertEqual(said.includes(': for seconds, write '), advice !== null);
            assertEqual(said.includes(`write ${advice}`), advice !== null);
            assertEqual(gjs.get_successful(), true);
        }
    },

    'integers-are-numbers-or-bigints'() {
        const context = Gaio.Context.new();
        const timer = context.add_timer(() => {});
        for (const time of [5000, 5000.0, 5000n]) {
            timer.arm_at(time);
            assertEqual(timer.get_deadline(), 5000);
        }
        const notifier = readyNotifier();
        const set = Gaio.ReadySet.new(context);
        set.set_func(() => {});
        set.add_fd(notifier, IN, 7n);
        context.iterate(-1n);
        assertEqual([...set], [[7, notifier.get_fd(), IN]]);
    },

    'objects-with-an-fd-are-fds'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        const socket = Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM,
            Gio.SocketProtocol.UDP);
        const notifier = readyNotifier();
        for (const [object, fd] of [
            [socket, socket.fd],
            [notifier, notifier.get_fd()],
            [{fd: notifier.get_fd()}, notifier.get_fd()],
        ]) {
            assertEqual(context.add_fd(object, IN, () => true).get_fd(), fd);
            assertEqual(set.add_fd(object, IN, 0).get_fd(), fd);
        }
        const error = assertThrows(() => context.add_fd({fd: -1}, IN, () => true));
        assertEqual(error.message, 'fd -1 is not open');
    },

    'conditions-are-numbers-or-letters'() {
        const context = Gaio.Context.new();
        const set = Gaio.ReadySet.new(context);
        const {OUT} = GLib.IOCondition;
        const notifier = Gaio.Notifier.new();
        for (const [spelling, condition] of [
            ['r', IN], ['w', OUT], ['rw', IN | OUT], [IN, IN], [IN | OUT, IN | OUT], [0, 0],
        ]) {
            const handler = context.add_fd(notifier, spelling, () => true);
            assertEqual(handler.get_condition(), condition);
            handler.set_condition(0);
            handler.set_condition(spelling);
            assertEqual(handler.get_condition(), condition);
            assertEqual(set.add_fd(notifier, spelling, 0).get_condition(), condition);
            handler.remove();
        }
        for (const wrong of ['x', 'wr', 'toString'])
            assertTypeError(() => context.add_fd(notifier, wrong, () => true), 'a condition is');
    },

    // Files.

    'files-are-read-and-written'() {
        withFile(async (context, fd) => {
            assertEqual(await context.pwrite(fd, new TextEncoder().encode('hello'), 3), 5);
            assertEqual(await context.pwrite({fd}, new GLib.Bytes('J'), 3n), 1);
            assertEqual(await context.fsync(fd), undefined);
            assertEqual(text(await context.pread(fd, 100, 3)), 'Jello');
            assertEqual((await context.pread(fd, 100, 8)) instanceof Uint8Array, true);
            assertEqual((await context.pread(fd, 100, 8)).length, 0);
            assertEqual(await context.pwrite(fd, new Uint8Array(), 0), 0);
            assertEqual(text((await context.pread_async(fd, 2, 3, null)).toArray()), 'Je');
        });
    },

    'offsets-are-beyond-32-bits'() {
        withFile(async (context, fd) => {
            const far = 5 * 2 ** 30;
            await context.pwrite(fd, new TextEncoder().encode('far'), far);
            assertEqual(text(await context.pread(fd, 100, BigInt(far) + 1n)), 'ar');
        });
    },

    'many-reads-at-once'() {
        withFile(async (context, fd) => {
            const numbers = Array.from({length: 1000}, (_, i) => 1000 + i);
            await Promise.all(numbers.map((number, i) => context.pwrite(
                fd, new TextEncoder().encode(`${number}`), 4 * i)));
            const blocks = await Promise.all(numbers.map((_, i) => context.pread(fd, 4, 4 * i)));
            assertEqual(blocks.map(block => Number(text(block))), numbers);
        });
    },

    'failed-file-operation-rejects'() {
        for (const [call, domain, code] of [
            [context => context.pread(-1, 1, 0), Gaio.Error, Gaio.Error.BAD_FD],
            [context => context.pread(readyNotifier(), 1, 0),
                Gio.IOErrorEnum, Gio.IOErrorEnum.NOT_SUPPORTED],
        ]) {
            const error = assertThrows(() => withFile(call));
            assertEqual(error.matches(domain, code), true);
        }
    },

    'cancelled-file-operation-rejects'() {
        const cancellable = new Gio.Cancellable();
        const error = assertThrows(() => withFile((context, fd) => {
            const promise = context.pread(fd, 1, 0, cancellable);
            cancellable.cancel();
            return promise;
        }));
        assertEqual(error.matches(Gio.IOErrorEnum, Gio.IOErrorEnum.CANCELLED), true);
    },

    'wrong-argument-of-a-file-operation-rejects'() {
        for (const [call, type] of [
            [(context, fd) => context.pread(fd, -1, 0), TypeError],
            [(context, fd) => context.pread(fd, 1, -1), RangeError],
            [(context, fd) => context.pwrite(fd, 'text', 0), TypeError],
            [(context, fd) => context.pwrite(fd, new Uint8Array(), 2 ** 53), TypeError],
            [context => context.fsync(null), TypeError],
        ])
            assertEqual(assertThrows(() => withFile(call)) instanceof type, true);
    },

    // Other things.

    'error-is-caught-by-class-and-code'() {
        const error = assertThrows(() => Gaio.Context.new().add_fd(-1, IN, () => true));
        assertEqual(error instanceof Gaio.Error, true);
        assertEqual(error.code, Gaio.Error.BAD_FD);
        assertEqual(error.matches(Gaio.Error, Gaio.Error.BAD_FD), true);
        assertEqual(error.matches(Gaio.Error, Gaio.Error.CLOSED), false);
        assertEqual(error.message, 'fd -1 is not open');
    },

    'socket-is-watched'() {
        const context = Gaio.Context.new();
        const listener = new Gio.SocketListener();
        const port = listener.add_any_inet_port(null);
        const client = new Gio.SocketClient().connect_to_host('127.0.0.1', port, null);
        const [server] = listener.accept(null);
        const {fd} = server.get_socket();
        const calls = [];
        context.add_fd(fd, IN, (...args) => calls.push(args) === 0);
        client.get_output_stream().write_all('x', null);
        context.iterate(-1);
        assertEqual(calls, [[fd, IN]]);
        client.close(null);
        server.close(null);
    },

    'thread-takes-no-function'() {
        const thread = Gaio.Thread.new('gjs');
        const context = thread.get_context();
        for (const call of [
            () => context.defer(() => {}),
            () => context.add_fd(0, IN, () => false),
            () => context.add_child(1, () => {}),
            () => context.add_bottom_half(() => {}),
            () => context.add_notifier(readyNotifier(), () => {}),
            () => context.add_timeout(1000, () => false),
            () => context.add_timer(() => {}),
        ])
            assertEqual(`${assertThrows(call)}`.includes('Gaio.Thread'), true);
        thread.stop();
    },
};

print(`1..${Object.keys(tests).length}`);
let number = 0;
for (const [name, test] of Object.entries(tests)) {
    const line = `${++number} - /gjs/${name}`;
    try {
        test();
        print(`ok ${line}`);
    } catch (error) {
        if (error instanceof Skipped)
            print(`ok ${line} # SKIP ${error.message}`);
        else
            print(`not ok ${line}: ${error}`);
    }
}
