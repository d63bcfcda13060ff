// SPDX-License-Identifier: LGPL-2.1-or-later
// What GJS adds to the library on import.
/* exported _init */

const {Gio, GLib} = imports.gi;
const System = imports.system;

const RECORD_SIZE = 16;
// The records have the byte order of the machine.
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

// Yields [token, fd, condition] for each record, as numbers: tokens are exact below 2^53.
function* decode(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const low = LITTLE_ENDIAN ? 0 : 4;

    for (let at = 0; at < bytes.byteLength; at += RECORD_SIZE) {
        // getBigUint64() creates an object for each token, which takes twice as long.
        const token = view.getUint32(at + low, LITTLE_ENDIAN) +
            view.getUint32(at + 4 - low, LITTLE_ENDIAN) * 2 ** 32;
        yield [token, view.getInt32(at + 8, LITTLE_ENDIAN),
            view.getUint32(at + 12, LITTLE_ENDIAN)];
    }
}

// GJS calls no function on another thread than its own, and crashes when it frees one there.
function refuse() {
    throw new Error('GJS cannot call functions in the thread of a Gaio.Thread');
}

const AsyncFunction = (async () => {}).constructor;

const CONDITIONS = {r: 1, w: 4, rw: 5};
// The conditions that poll(2) knows: IN, PRI, OUT, ERR and HUP.
const ALL_CONDITIONS = 0x1f;

// Whoever asks for less wants seconds: calling a function takes longer.
const SHORTEST_US = 100;

// GJS turns anything that is not a number into 0, and cuts off decimals.
function refuseType(rule, value) {
    let shown = `a value of type ${typeof value}`;
    if (value === null || ['bigint', 'boolean', 'number', 'undefined'].includes(typeof value))
        shown = `${value}`;
    else if (typeof value === 'string')
        shown = `'${value}'`;
    throw new TypeError(`${rule}, not ${shown}`);
}

function isInteger(value, low, high) {
    return Number.isInteger(value) && value >= low && value <= high;
}

function toFd(file) {
    let fd = file;
    if (typeof file?.get_fd === 'function')
        fd = file.get_fd();
    else if (typeof file === 'object')
        fd = file?.fd;
    if (!isInteger(fd, GLib.MININT32, GLib.MAXINT32))
        refuseType('an fd is an integer, or an object with get_fd() or fd', file);
    return fd;
}

function toCondition(condition) {
    if (typeof condition === 'string' && Object.hasOwn(CONDITIONS, condition))
        return CONDITIONS[condition];
    if (!isInteger(condition, 0, ALL_CONDITIONS))
        refuseType("a condition is 'r', 'w', 'rw' or a GLib.IOCondition", condition);
    return condition;
}

function toPointInTime(time) {
    if (typeof time !== 'bigint' && !Number.isInteger(time)) {
        refuseType('a point in time is an integer in microseconds, ' +
            'such as GLib.get_monotonic_time() + 1000', time);
    }
    return time;
}

const TIME = 'time is an integer in microseconds (for seconds, write {seconds: 0.5})';
const TIME_TO_SLEEP = 'the time to sleep is a number of milliseconds (for seconds, write ' +
    '{seconds: 0.5})';

// The seconds of a time that is an object with nothing else.
function getSeconds(rule, time) {
    if (typeof time !== 'object' || time === null)
        return undefined;
    const unknown = Object.keys(time).find(key => key !== 'seconds');
    if (unknown !== undefined)
        throw new TypeError(`${rule}, not an object with ${unknown}`);
    return time.seconds;
}

function toTime(time) {
    const seconds = getSeconds(TIME, time);
    if (typeof seconds === 'number') {
        if (!(seconds >= 0 && seconds < Infinity))
            throw new RangeError(`the time is 0 or above, not ${seconds} seconds`);
        return Math.round(seconds * 1e6);
    }
    if (typeof time !== 'bigint' && !Number.isInteger(time))
        refuseType(TIME, time);
    return time;
}

function toTimeFrom(lowest, time) {
    const us = toTime(time);
    if (us < lowest)
        throw new RangeError(`the time is ${lowest} or above, not ${us}`);
    return us;
}

function toDuration(time) {
    return toTimeFrom(0, time);
}

function toTimeout(time) {
    return toTimeFrom(-1, time);
}

function toWindow(time) {
    const us = toDuration(time);
    if (us > GLib.USEC_PER_SEC)
        throw new RangeError(`the time is ${GLib.USEC_PER_SEC} at most, not ${us}`);
    return us;
}

// toTime() has checked it.
function warnOfShort(us, call) {
    if (us > 0 && us < SHORTEST_US)
        console.warn(`${us} is in microseconds: for seconds, write ${call(us)}`);
}

function toDelay(delay) {
    const us = toTime(delay);
    if (typeof delay !== 'object')
        warnOfShort(us, n => `arm({seconds: ${n}})`);
    return us;
}

function toInterval(interval) {
    if (typeof interval === 'function')
        throw new TypeError(`${TIME}, and comes first: add_timeout(time, func)`);
    const us = toTime(interval);
    if (us <= 0)
        throw new RangeError(`an interval is above 0, not ${us}`);
    warnOfShort(us, n => `add_timeout({seconds: ${n}}, func)`);
    return us;
}

// It goes on as long as its function returns what is true.
function toFunction(func) {
    if (func instanceof AsyncFunction) {
        throw new TypeError('an async function returns a promise, which is true, so that it ' +
            'would be called for ever: give a function that calls it and returns ' +
            'GLib.SOURCE_CONTINUE or GLib.SOURCE_REMOVE');
    }
    return func;
}

function toPid(pid) {
    if (!isInteger(pid, 1, GLib.MAXINT32))
        refuseType('a pid is an integer above 0', pid);
    return pid;
}

// A greater number may have been rounded from another one.
function toToken(token) {
    if (typeof token !== 'bigint' && !isInteger(token, 0, Number.MAX_SAFE_INTEGER))
        refuseType('a token is an integer from 0 to 2 ** 53 - 1', token);
    return token;
}

function toCount(count) {
    if (!isInteger(count, 0, GLib.MAXUINT32))
        refuseType('a count is an integer from 0 to 2 ** 32 - 1', count);
    return count;
}

function toOffset(offset) {
    if (typeof offset !== 'bigint' && !Number.isSafeInteger(offset))
        refuseType('an offset is an integer', offset);
    if (offset < 0)
        throw new RangeError(`an offset is 0 or above, not ${offset}`);
    return offset;
}

function toBytes(data) {
    if (data instanceof GLib.Bytes)
        return data;
    if (!(data instanceof Uint8Array))
        refuseType('data is a Uint8Array or a GLib.Bytes', data);
    return GLib.Bytes.new(data);
}

function toMainContext(mainContext) {
    if (mainContext instanceof GLib.MainLoop) {
        throw new TypeError('run() takes a GLib.MainContext: pass mainLoop.get_context(), and a ' +
            'Gio.Cancellable to end it');
    }
    return mainContext;
}

function toMonitor(monitor) {
    if (!isInteger(monitor, 0, GLib.MAXINT32))
        refuseType('a monitor is a Gaio.MonitorType', monitor);
    return monitor;
}

// The conversions of the first arguments.
const CONVERSIONS = {
    Context: {
        add_child: [toPid],
        add_fd: [toFd, toCondition],
        add_timeout: [toInterval, toFunction],
        fsync_async: [toFd],
        iterate: [toTimeout],
        pread_async: [toFd, toCount, toOffset],
        pwrite_async: [toFd, toBytes, toOffset],
        run: [toMainContext],
        set_dispatch_limits: [toCount, toDuration],
        set_poll_params: [toWindow, toCount, toCount],
        sleep_async: [toTimeout],
        wait_fd_async: [toFd, toCondition],
    },
    Handler: {set_condition: [toCondition]},
    ReadySet: {add_fd: [toFd, toCondition, toToken], wait: [toTimeout]},
    Timer: {arm: [toDelay], arm_at: [toPointInTime]},
};

function convertArguments(object, name, conversions) {
    const method = object[name];
    object[name] = function (...args) {
        for (let i = 0; i < conversions.length; i++)
            args[i] = conversions[i](args[i]);
        return method.apply(this, args);
    };
}

// File operations as promises.
function addFileOperations(prototype) {
    for (const name of ['pread', 'pwrite', 'fsync'])
        Gio._promisify(prototype, `${name}_async`, `${name}_finish`);

    prototype.pread = async function (fd, count, offset, cancellable = null) {
        return (await this.pread_async(fd, count, offset, cancellable)).toArray();
    };
    prototype.pwrite = async function (fd, data, offset, cancellable = null) {
        return await this.pwrite_async(fd, data, offset, cancellable);
    };
    prototype.fsync = async function (fd, cancellable = null) {
        await this.fsync_async(fd, cancellable);
    };
}

// A function of a ready set that drops itself when it throws, unless it has set another: it would be
// called again and again.
function dropWhenItThrows(func, number) {
    return (readySet, nReady) => {
        try {
            func(readySet, nReady);
        } catch (error) {
            if (readySet._nFunctions === number)
                readySet.set_func(null);
            throw error;
        }
    };
}

// A handler keeps its file: a Gio.Socket that nobody keeps is closed when it is collected.
function keepFiles(context) {
    const addFd = context.add_fd;
    context.add_fd = function (file, condition, func) {
        toFunction(func);
        const kept = typeof func === 'function' ? (...args) => func(...args) : func;
        if (kept)
            kept.file = file;
        return addFd.call(this, file, condition, kept);
    };
}

// An eighth as many connections as there are, or so many, are made between two collections.
const LEAST_CONNECTIONS = 50;

// The main context of a connection takes an fd until the collector takes the connection, and a few
// small objects do not call for a collection: it would run out of fds.
function collectConnections(service) {
    let left = LEAST_CONNECTIONS;

    service.connect('connection', ({context}) => {
        if (--left === 0) {
            System.gc();
            const n = context.dup_stats().lookup_value('main-contexts', null).get_uint32();
            left = Math.max(LEAST_CONNECTIONS, n >> 3);
        }
        return false;
    });
    return service;
}

// Time, fds and ready sets as promises.
function addWaiting(context, set) {
    Gio._promisify(context, 'sleep_async', 'sleep_finish');
    Gio._promisify(context, 'wait_fd_async', 'wait_fd_finish');
    Gio._promisify(set, 'wait_async', 'wait_finish');

    context.sleep = async function (time, cancellable = null) {
        const seconds = typeof time === 'number' ? time / 1000 : getSeconds(TIME_TO_SLEEP, time);
        if (typeof seconds !== 'number')
            refuseType(TIME_TO_SLEEP, time);
        await this.sleep_async({seconds}, cancellable);
    };
    context.readable = async function (fd, cancellable = null) {
        return await this.wait_fd_async(fd, 'r', cancellable);
    };
    context.writable = async function (fd, cancellable = null) {
        return await this.wait_fd_async(fd, 'w', cancellable);
    };

    const setFunc = set.set_func;
    set.set_func = function (func) {
        this._nFunctions = (this._nFunctions ?? 0) + 1;
        setFunc.call(this,
            typeof func === 'function' ? dropWhenItThrows(func, this._nFunctions) : func);
        this._hasFunction = func !== null;
    };

    // `for await (const [token, fd, condition] of readySet)` waits for one batch after another.
    set.records = async function* (cancellable = null) {
        for (;;) {
            if (this._hasFunction) {
                throw new Error('for await would replace the function of the set: ' +
                    'call set_func(null) before');
            }
            // `yield* set` would wait for the next batch.
            yield* decode(await this.wait_async(cancellable));
        }
    };
    set[Symbol.asyncIterator] = function () {
        return this.records();
    };
}

function _init() {
    addFileOperations(this.Context.prototype);
    addWaiting(this.Context.prototype, this.ReadySet.prototype);
    for (const [type, methods] of Object.entries(CONVERSIONS)) {
        for (const [name, conversions] of Object.entries(methods))
            convertArguments(this[type].prototype, name, conversions);
    }
    convertArguments(this.Context, 'new_with_monitor', [toMonitor]);
    keepFiles(this.Context.prototype);

    // `for (const [token, fd, condition] of readySet)` takes the batch.
    this.ReadySet.prototype[Symbol.iterator] = function () {
        return decode(this.take());
    };

    // GObject would make one that belongs to no context.
    this.ReadySet.prototype._init = function () {
        throw new TypeError('write Gaio.ReadySet.new(context)');
    };
    // GObject would take the context for its properties, and find none.
    const {Context} = this;
    const {_init} = this.SocketService.prototype;
    this.SocketService.prototype._init = function (...args) {
        if (args[0] instanceof Context)
            throw new TypeError('write Gaio.SocketService.new(context)');
        _init.apply(this, args);
        collectConnections(this);
    };
    const newService = this.SocketService.new;
    this.SocketService.new = function (context) {
        return collectConnections(newService.call(this, context));
    };

    const getContext = this.Thread.prototype.get_context;
    this.Thread.prototype.get_context = function () {
        const context = getContext.call(this);
        for (const name of Object.getOwnPropertyNames(context.constructor.prototype)) {
            if (name.startsWith('add_') || name === 'defer')
                context[name] = refuse;
        }
        return context;
    };
}
