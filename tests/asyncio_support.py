# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of asyncio have in common."""

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import socket

import gi

gi.require_version('Gaio', '1.0')
import gaio
from gi.repository import Gaio, Gio, GLib

TURNS = 1000
# Only what is lost takes so long.
LOST_MS = 30000


def open_fds():
    return sorted(os.listdir('/proc/self/fd'), key=int)


def watched():
    """How much is in the context that all share."""
    stats = Gaio.Context.get_default().dup_stats().unpack()
    return stats['handlers'], stats['timers']


@contextlib.contextmanager
def left_as_it_was():
    """The block leaves no fd, no handler and no timer behind."""
    # The first use opens what stays.
    gaio.run(size_of(__file__))
    gc.collect()
    before = open_fds(), watched()
    yield
    gc.collect()
    assert (open_fds(), watched()) == before, (open_fds(), watched(), before)


@contextlib.contextmanager
def busy_main_context():
    """The main thread runs the global default one all the while, and another thread the block."""
    main_context = GLib.MainContext.default()
    assert main_context.acquire()
    try:
        yield
    finally:
        main_context.release()


def in_thread(function):
    """What it returns, or raises, in another thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@contextlib.contextmanager
def pair():
    """Two sockets that do not block, as asyncio wants them."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


@contextlib.contextmanager
def raises(class_, number=None):
    raised = []
    try:
        yield raised
    except class_ as error:
        assert number is None or error.errno == number, repr(error)
        raised.append(error)
    else:
        assert False, f'no {class_.__name__}'


def future():
    return asyncio.get_running_loop().create_future()


def idle(function, *args):
    """A GLib callback, once."""
    GLib.idle_add(lambda: function(*args) and False)


async def tcp_echo():
    """What a server of ours answers. Nothing of it is left then."""
    served = future()

    async def serve(reader, writer):
        writer.write(await reader.readline())
        assert await reader.read() == b''
        writer.close()
        await writer.wait_closed()
        served.set_result(True)

    async with await asyncio.start_server(serve, '127.0.0.1', 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b'hello\n')
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        await served
    return line


async def size_of(path):
    info = await gaio.wrap(Gio.File.new_for_path(path).query_info_async, 'standard::size',
                           Gio.FileQueryInfoFlags.NONE, GLib.PRIORITY_DEFAULT)
    return info.get_size()


async def output_of(*command):
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output, process.returncode


def run_nested(calls):
    """A GLib loop that runs so long that what was ready has been seen, and until it is idle."""
    nested = GLib.MainLoop()
    # In case it never is.
    guard = GLib.timeout_add(30000, nested.quit)
    GLib.timeout_add(5, lambda: idle(calls.append, 'glib') or idle(nested.quit))
    nested.run()
    GLib.source_remove(guard)


@contextlib.contextmanager
def installed(main_context=None):
    loop = gaio.install(main_context)
    try:
        yield loop
    finally:
        loop.close()


def run_in_main_loop(loop, coroutine):
    """Run GLib's main loop until the task that a callback of it makes is done, or something is
    lost."""
    main_loop = GLib.MainLoop()
    tasks = []

    def start():
        task = loop.create_task(coroutine)
        task.add_done_callback(lambda _: main_loop.quit())
        tasks.append(task)

    idle(start)
    guard = GLib.timeout_add(LOST_MS, main_loop.quit)
    main_loop.run()
    assert tasks[0].done(), tasks
    GLib.source_remove(guard)
    return tasks[0].result()
