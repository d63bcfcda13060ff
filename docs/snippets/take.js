// SPDX-License-Identifier: LGPL-2.1-or-later
import Gaio from 'gi://Gaio?version=1.0';
import GLib from 'gi://GLib';

const context = Gaio.Context.new();
const readySet = Gaio.ReadySet.new(context);
const notifiers = [];

for (let token = 0; token < 100; token++) {
    notifiers.push(Gaio.Notifier.new());
    readySet.add_fd(notifiers[token].get_fd(), GLib.IOCondition.IN, token);
}

for (const number of [30, 60, 90])
    notifiers[number].set();
context.iterate(-1);
for (const [token, fd, condition] of readySet)
    print(token, fd === notifiers[token].get_fd(), condition === GLib.IOCondition.IN);
