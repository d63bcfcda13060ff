# SPDX-License-Identifier: LGPL-2.1-or-later
import errno

from gi.repository import Gaio, GLib

context = Gaio.Context()
try:
    context.add_fd(-1, 'r', print)
except OSError as error:
    print(error.strerror, error.errno == errno.EBADF)
    print(isinstance(error, Gaio.LoopError), isinstance(error, GLib.Error))
    print(error.code == Gaio.Error.BAD_FD)
