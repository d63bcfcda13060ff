# SPDX-License-Identifier: LGPL-2.1-or-later
"""File operations that can be awaited."""

import asyncio
import contextlib
import errno
import os

from gi.repository import Gaio, Gio, GLib

from ._loop import get_running_gaio_loop
from ._main_context import thread_default


def _find_errno(error):
    """GIO has one code for many causes, but the message ends with the text of the errno."""
    if error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.NOT_SUPPORTED):
        return errno.ESPIPE
    return next((number for number in errno.errorcode
                 if error.message.endswith(f': {os.strerror(number)}')), errno.EIO)


def _to_os_error(error):
    return error if isinstance(error, OSError) else OSError(_find_errno(error), error.message)


class _Operation:
    """One from its start to its end, which also comes if it is cancelled: until then, the fd must
    stay open, because another file might get its number."""

    def __init__(self, name, *args):
        self._loop = get_running_gaio_loop()
        self._finish = getattr(Gaio.Context, f'{name}_finish')
        self._cancellable = Gio.Cancellable()
        self._result = None
        self._future = self._loop.create_future()
        selector = self._loop.gaio_selector
        with thread_default(selector.main_context):
            getattr(selector.context, f'{name}_async')(*args, self._cancellable, self._on_end)

    def _on_end(self, _context, result):
        self._result = result
        # Nobody waits in a closed loop.
        if not self._loop.is_closed() and not self._future.done():
            self._future.set_result(None)

    async def _wait_for_end(self):
        while self._result is None:
            self._future = self._loop.create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await self._future

    async def run(self):
        try:
            await self._future
        except asyncio.CancelledError:
            self._cancellable.cancel()
            await self._wait_for_end()
            raise
        try:
            return self._finish(self._result.get_source_object(), self._result)
        except GLib.Error as error:
            raise _to_os_error(error) from None


async def pread(fd, count, offset):
    """Read at most @count bytes at @offset from a file or an fd, as os.pread() does, and return
    them. They are fewer at the end of the file.

    Like pwrite() and fsync(), it raises an OSError, and a TypeError in a loop that is not ours. If
    the task is cancelled, it raises the CancelledError when the operation has ended. So once it has
    returned or raised anything, the file may be closed.
    """
    return (await _Operation('pread', fd, count, offset).run()).get_data()


async def pwrite(fd, data, offset):
    """Write @data, which is bytes or anything like it, at @offset to a file or an fd, as
    os.pwrite() does. Return how many bytes have been written, which may be fewer."""
    return await _Operation('pwrite', fd, data, offset).run()


async def fsync(fd):
    """Wait until what has been written to a file or an fd is on the disk, as os.fsync() does. This
    covers what pwrite() had returned for before."""
    await _Operation('fsync', fd).run()
