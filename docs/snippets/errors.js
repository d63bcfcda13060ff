// SPDX-License-Identifier: LGPL-2.1-or-later
import Gaio from 'gi://Gaio?version=1.0';
import GLib from 'gi://GLib';

try {
    Gaio.Context.get_default().add_fd(-1, GLib.IOCondition.IN, () => false);
} catch (error) {
    if (!error.matches(Gaio.Error, Gaio.Error.BAD_FD))
        throw error;
    print(error.message);
}
