# SPDX-License-Identifier: LGPL-2.1-or-later
"""File operations in coroutines, in each of the loops that a program may have."""

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import resource
import sys
import tempfile
import unittest.mock

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from asyncio_support import installed, left_as_it_was, pair, raises, run_in_main_loop
from gi.repository import Gaio, Gio, GLib


def in_event_loop(main, main_context=None):
    with asyncio.Runner(loop_factory=lambda: gaio.EventLoop(main_context)) as runner:
        return runner.run(main)


def in_installed_loop(main):
    with installed() as loop:
        return run_in_main_loop(loop, main)


def in_thread(main):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(gaio.run, main).result()


WAYS = {
    'gaio.run()': gaio.run,
    'gaio.run() in a thread': in_thread,
    'gaio.EventLoop': in_event_loop,
    'gaio.EventLoop with its own context': lambda main: in_event_loop(main, GLib.MainContext()),
    'gaio.install()': in_installed_loop,
}


def in_each_loop(main):
    for name, run in WAYS.items():
        print(f'# {name}', flush=True)
        run(asyncio.wait_for(main(), 30))


class SlowContext:
    """Stands in for the context of the running loop: what is started begins with @give()."""

    def __init__(self):
        self.context = asyncio.get_running_loop().gaio_selector.context
        self.started = []
        self.cancellables = []

    def pread_async(self, *args):
        self.started.append(args)
        self.cancellables.append(args[-2])

    def give(self):
        for *args, _cancellable, callback in self.started:
            self.context.pread_async(*args, None, callback)
        self.started.clear()


async def read_slowly(file):
    """A task that has begun to read, and the context that keeps it waiting."""
    slow = SlowContext()
    with unittest.mock.patch.object(asyncio.get_running_loop().gaio_selector, 'context', slow):
        reading = asyncio.create_task(gaio.pread(file, 8, 0))
        while not slow.started:
            await asyncio.sleep(0)
    return reading, slow


def test_read_write_and_sync():
    """At offsets, for numbers and for what has a fileno()."""
    async def main():
        with tempfile.TemporaryFile(buffering=0) as file:
            assert await gaio.pwrite(file, b'hello', 3) == 5
            assert await gaio.fsync(file) is None
            assert await gaio.pread(file.fileno(), 100, 0) == b'\0\0\0hello'
            assert await gaio.pread(file, 2, 4) == b'el'
            assert await gaio.pread(file, 2, 8) == b''
            assert await gaio.pread(file, 0, 0) == b''
            assert os.fstat(file.fileno()).st_size == 8

    # The first use opens the ring, which stays.
    gaio.run(main())
    with left_as_it_was():
        in_each_loop(main)


def test_offset_beyond_32_bits():
    """Where a file of 2 GiB ends."""
    async def main():
        with tempfile.TemporaryFile() as file:
            assert await gaio.pwrite(file, b'far', 5 << 30) == 3
            assert await gaio.pread(file, 8, (5 << 30) + 1) == b'ar'

    gaio.run(main())


def test_anything_like_bytes_is_written():
    """Text and numbers are not."""
    async def main():
        with tempfile.TemporaryFile() as file:
            for data in (b'data', bytearray(b'data'), memoryview(b'_data')[1:],
                         memoryview(b'd_a_t_a_')[::2], GLib.Bytes.new(b'data')):
                os.ftruncate(file.fileno(), 0)
                assert await gaio.pwrite(file, data, 0) == 4
                assert await gaio.pread(file, 8, 0) == b'data'
            assert await gaio.pwrite(file, b'', 0) == 0
            for data in ('text', 4, None, [1]):
                with raises(TypeError):
                    await gaio.pwrite(file, data, 0)

    gaio.run(main())


def test_many_at_once():
    """More than a ring has room for, each with its own result."""
    async def main():
        with tempfile.TemporaryFile() as file:
            await asyncio.gather(*(gaio.pwrite(file, b'%04d' % number, 4 * number)
                                   for number in range(2000)))
            blocks = await asyncio.gather(*(gaio.pread(file, 4, 4 * number)
                                            for number in range(2000)))
            assert blocks == [b'%04d' % number for number in range(2000)]

    in_each_loop(main)


def test_glib_and_tasks_go_on_meanwhile():
    """A task that reads without end keeps nobody else from running."""
    async def main():
        calls = []
        source = GLib.timeout_add(1, lambda: calls.append('glib') or GLib.SOURCE_CONTINUE)
        asyncio.get_running_loop().call_later(0.001, calls.append, 'asyncio')
        with tempfile.TemporaryFile() as file:
            while calls.count('glib') < 3 or 'asyncio' not in calls:
                await gaio.pread(file, 8, 0)
        GLib.source_remove(source)

    gaio.run(main())
    in_installed_loop(main())


def test_failed_calls_are_os_errors():
    """With the errno of the system call, and a text that says what was tried."""
    async def main():
        with tempfile.TemporaryDirectory() as folder, pair() as (socket, _):
            directory = os.open(folder, os.O_RDONLY)
            full = os.open('/dev/full', os.O_RDWR)
            unreadable = os.open(f'{folder}/file', os.O_WRONLY | os.O_CREAT)
            for operation, number, words in (
                    (gaio.pread(directory, 1, 0), errno.EISDIR, 'Cannot read 1 byte at offset 0'),
                    (gaio.pread(socket, 1, 0), errno.ESPIPE, 'without offsets'),
                    (gaio.pwrite(full, b'12', 3), errno.ENOSPC, 'Cannot write 2 bytes at offset 3'),
                    (gaio.fsync(full), errno.EINVAL, 'Cannot sync'),
                    (gaio.pwrite(directory, b'1', 0), errno.EBADF, 'not open for writing'),
                    (gaio.pread(unreadable, 1, 0), errno.EBADF, 'not open for reading'),
                    (gaio.pread(12345, 1, 0), errno.EBADF, 'fd 12345 is not open'),
                    (gaio.pread(-1, 1, 0), errno.EBADF, 'fd -1 is not open')):
                try:
                    await operation
                except OSError as error:
                    assert error.errno == number, repr(error)
                    assert words in error.strerror and 'fd ' in error.strerror, error.strerror
                else:
                    assert False, words
            with raises(IsADirectoryError):
                await gaio.pread(directory, 1, 0)
            for fd in (directory, full, unreadable):
                os.close(fd)

    gaio.run(main())


def test_errno_that_gio_has_no_code_for():
    """EFBIG, of which GIO says only that it failed."""
    async def main():
        with tempfile.TemporaryFile() as file:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
            try:
                with raises(OSError, errno.EFBIG):
                    await gaio.pwrite(file, b'1', 1 << 20)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    gaio.run(main())


def test_arguments_are_checked():
    """Before anything is started."""
    async def main():
        with tempfile.TemporaryFile() as file:
            for class_, call in ((TypeError, lambda: gaio.pread('file', 1, 0)),
                                 (TypeError, lambda: gaio.pread(file, 1.0, 0)),
                                 (TypeError, lambda: gaio.pread(file, 1, None)),
                                 (ValueError, lambda: gaio.pread(file, -1, 0)),
                                 (ValueError, lambda: gaio.pread(file, 1, -1)),
                                 (ValueError, lambda: gaio.pwrite(file, b'', -1)),
                                 (TypeError, lambda: gaio.fsync(None))):
                with raises(class_):
                    await call()

    gaio.run(main())


def test_other_loops_are_refused():
    """In which they would wait forever."""
    async def main():
        for call in (lambda: gaio.pread(0, 1, 0), lambda: gaio.pwrite(0, b'', 0),
                     lambda: gaio.fsync(0)):
            try:
                await call()
            except TypeError as error:
                assert 'gaio.run()' in str(error), error
            else:
                assert False, 'no TypeError'

    asyncio.run(main())


def test_cancelled_task_ends_with_its_operation():
    """Before, somebody would close a file that is still being read. No cancellation is lost, and
    none ends it sooner."""
    async def main():
        with tempfile.TemporaryFile() as file:
            reading, slow = await read_slowly(file)
            try:
                assert not slow.cancellables[0].is_cancelled()
                for _ in range(3):
                    reading.cancel('enough')
                    for _ in range(10):
                        await asyncio.sleep(0)
                    assert not reading.done()
                    assert slow.cancellables[0].is_cancelled()
            finally:
                slow.give()
            try:
                await reading
            except asyncio.CancelledError as error:
                assert error.args == ('enough',), error.args
            else:
                assert False, 'not cancelled'

    in_each_loop(main)


def test_cancelled_before_it_has_begun():
    """As asyncio.timeout() does, and asyncio.gather() when another fails. The loop is as before."""
    async def main():
        with tempfile.TemporaryFile() as file:
            for call in (lambda: gaio.pread(file, 8, 0), lambda: gaio.pwrite(file, b'1', 0),
                         lambda: gaio.fsync(file)):
                task = asyncio.create_task(call())
                await asyncio.sleep(0)
                task.cancel()
                with raises(asyncio.CancelledError):
                    await task
            with raises(TimeoutError):
                async with asyncio.timeout(0):
                    while True:
                        await gaio.pread(file, 8, 0)
            assert await gaio.pwrite(file, b'12', 0) == 2
            assert await gaio.pread(file, 8, 0) == b'12'

    with left_as_it_was():
        in_each_loop(main)


def test_loop_that_is_closed_is_left_alone():
    """By what ends later."""
    exceptions = []
    with tempfile.TemporaryFile() as file, \
            unittest.mock.patch.object(sys, 'excepthook', lambda *error: exceptions.append(error)):
        with installed() as loop:
            reading, slow = run_in_main_loop(loop, read_slowly(file))
        slow.give()
        while slow.context.dup_stats().unpack()['pending-file-operations'] > 0:
            GLib.MainContext.default().iteration(True)
        while GLib.MainContext.default().iteration(False):
            pass
    assert not exceptions, exceptions
    assert not reading.done()
    reading._log_destroy_pending = False


# The methods.

def test_wrap_calls_the_methods():
    """With a context of one's own, too."""
    async def main():
        context = Gaio.Context()
        context.attach(asyncio.get_running_loop().gaio_selector.main_context)
        with tempfile.TemporaryFile() as file:
            assert await gaio.wrap(context.pwrite_async, file, b'hello', 0) == 5
            assert await gaio.wrap(context.fsync_async, file) is True
            data = await gaio.wrap(context.pread_async, file, 8, 1)
            assert data.get_data() == b'ello'
            with raises(Gaio.LoopError, errno.EBADF):
                await gaio.wrap(context.pread_async, -1, 8, 0)
            with raises(ValueError):
                await gaio.wrap(context.pread_async, file, 8, -1)
            with raises(TypeError):
                await gaio.wrap(context.pread_async, file, 8)
            assert await gaio.wrap(context.sleep_async, 1000) is True
            with raises(TypeError):
                await gaio.wrap(context.sleep_async, 0.001)
            assert await gaio.wrap(context.wait_fd_async, file, 'r') == GLib.IOCondition.IN
        context.close()

    in_each_loop(main)


def test_methods_call_back():
    """Without asyncio."""
    context = Gaio.Context.get_default()
    results = []

    def on_end(source, result, finish, *data):
        results.append((finish(source, result), *data))

    def call(method, *args):
        method(*args)
        while not results:
            GLib.MainContext.default().iteration(True)
        return results.pop()

    with tempfile.TemporaryFile() as file:
        assert call(context.pwrite_async, file, bytearray(b'hello'), 0, None, on_end,
                    Gaio.Context.pwrite_finish, 'data') == (5, 'data')
        assert call(context.fsync_async, file, None, on_end, Gaio.Context.fsync_finish) == (True,)
        data, = call(context.pread_async, file, 8, 1, None, on_end, Gaio.Context.pread_finish)
        assert data.get_data() == b'ello'


def test_methods_raise_what_they_are_told():
    """A cancelled one raises GIO's error."""
    context = Gaio.Context.get_default()
    cancellable = Gio.Cancellable()
    cancellable.cancel()
    results = []
    with tempfile.TemporaryFile() as file:
        context.pread_async(file, 8, 0, cancellable, lambda _, result: results.append(result))
        while not results:
            GLib.MainContext.default().iteration(True)
        try:
            context.pread_finish(results[0])
        except GLib.Error as error:
            assert error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED), repr(error)
        else:
            assert False, 'not cancelled'


tap.run(globals())
