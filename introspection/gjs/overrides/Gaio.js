// SPDX-License-Identifier: LGPL-2.1-or-later
// What GJS adds to the library when it is imported.
/* exported _init */

const RECORD_SIZE = 16;
// The byte order of the machine is that of the records.
const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

// Yields [token, fd, condition] for each record, as numbers: tokens are exact below 2^53.
function* decode(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const low = LITTLE_ENDIAN ? 0 : 4;

    for (let at = 0; at < bytes.byteLength; at += RECORD_SIZE) {
        // getBigUint64() makes an object of each token, which takes twice the time.
        const token = view.getUint32(at + low, LITTLE_ENDIAN) +
            view.getUint32(at + 4 - low, LITTLE_ENDIAN) * 2 ** 32;
        yield [token, view.getInt32(at + 8, LITTLE_ENDIAN),
            view.getUint32(at + 12, LITTLE_ENDIAN)];
    }
}

// GJS calls nothing on a thread that is not its own, and crashes when it frees a function there.
function refuse() {
    throw new Error('GJS cannot call functions in the thread of a Gaio.Thread');
}

function _init() {
    // `for (const [token, fd, condition] of readySet)` takes the batch.
    this.ReadySet.prototype[Symbol.iterator] = function () {
        return decode(this.take());
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
