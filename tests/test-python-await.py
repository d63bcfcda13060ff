# SPDX-License-Identifier: LGPL-2.1-or-later
"""What PyGObject lets be awaited, it lets be awaited in our loops, beside gi.events."""

import asyncio
import concurrent.futures
import contextlib
import os
import tempfile
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from gi import _gi
from gi.repository import Gio, GLib

HAS_ASYNC = hasattr(_gi, 'Async')
# Before, its cancel() does not take the argument that asyncio passes, whatever the loop.
CAN_CANCEL = gi.version_info >= (3, 56, 3)
# Only what is lost takes so long.
LOST_MS = 30000
SEVERAL = 20


def in_thread(function, *args):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


def in_event_loop(main, main_context=None):
    with asyncio.Runner(loop_factory=lambda: gaio.EventLoop(main_context)) as runner:
        return runner.run(main())


def in_installed_loop(main, main_context=None):
    loop = gaio.install(main_context)
    main_context = loop.gaio_selector.main_context
    main_loop = GLib.MainLoop(main_context)
    try:
        task = loop.create_task(main())
        task.add_done_callback(lambda _: main_loop.quit())
        guard = GLib.timeout_source_new(LOST_MS)
        guard.set_callback(lambda *_: main_loop.quit())
        guard.attach(main_context)
        main_loop.run()
        guard.destroy()
        return task.result()
    finally:
        loop.close()


# The ways to run a coroutine function.
WAYS = {
    'gaio.run()': lambda main: gaio.run(main()),
    'gaio.EventLoop': in_event_loop,
    'gaio.install()': in_installed_loop,
    'gaio.EventLoop with its own context': lambda main: in_event_loop(main, GLib.MainContext()),
    'gaio.install() with its own context': lambda main: in_installed_loop(main, GLib.MainContext()),
    'gaio.run() in a thread': lambda main: in_thread(gaio.run, main()),
}


def in_each_loop(main):
    if not HAS_ASYNC:
        raise tap.Skip('needs PyGObject 3.50')
    for name, run in WAYS.items():
        print(f'# {name}', flush=True)
        run(main)


@contextlib.contextmanager
def gi_events_policy():
    """What a program that uses gi.events sets. Yields what runs a coroutine function in its loop."""
    if not hasattr(asyncio, 'set_event_loop_policy'):
        raise tap.Skip('Python has no policies')
    if not HAS_ASYNC:
        raise tap.Skip('needs PyGObject 3.50')
    from gi.events import GLibEventLoopPolicy
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        policy = GLibEventLoopPolicy()
        asyncio.set_event_loop_policy(policy)
        loop = policy.get_event_loop()
        try:
            yield lambda main: loop.run_until_complete(main())
        finally:
            loop.close()
            asyncio.set_event_loop_policy(None)


async def load():
    _, contents, _ = await Gio.File.new_for_path(__file__).load_contents_async()
    assert len(contents) == os.path.getsize(__file__)


@contextlib.contextmanager
def pipe():
    """A stream of GIO, and an fd to write to."""
    reader, writer = os.pipe()
    try:
        yield Gio.DataInputStream.new(Gio.UnixInputStream.new(reader, True)), writer
    finally:
        os.close(writer)


async def read_line(stream):
    line, _ = await stream.read_line_async(GLib.PRIORITY_DEFAULT)
    return line


async def begun(coroutine):
    """A task that waits."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def get_main_context():
    return GLib.MainContext.get_thread_default() or GLib.MainContext.default()


def test_what_finish_returns():
    in_each_loop(load)


def test_glib_error():
    async def main():
        with tempfile.TemporaryDirectory() as folder:
            missing = Gio.File.new_for_path(os.path.join(folder, 'missing'))
            try:
                await missing.load_contents_async()
            except GLib.Error as error:
                assert error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.NOT_FOUND), error
            else:
                assert False, 'no GLib.Error'

    in_each_loop(main)


def test_several_at_once():
    """Beside what gaio.wrap() calls, and asyncio's own."""
    async def main():
        file = Gio.File.new_for_path(__file__)
        async with asyncio.TaskGroup() as group:
            for _ in range(SEVERAL):
                group.create_task(load())
                group.create_task(gaio.wrap(file.load_contents_async))
                group.create_task(asyncio.sleep(0.001))

    in_each_loop(main)


def test_operation_that_waits_is_served():
    """Also after what else there was to do was done: its end wakes the loop."""
    async def main():
        with pipe() as (stream, writer):
            task = await begun(read_line(stream))
            await asyncio.sleep(0.01)
            os.write(writer, b'hello\n')
            assert await task == b'hello'

    in_each_loop(main)


def test_cancelled_task():
    """It cancels the operation, and another can be begun."""
    async def main():
        with pipe() as (stream, writer):
            for _ in range(3):
                task = await begun(read_line(stream))
                assert task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    assert not stream.has_pending()
                else:
                    assert False, 'not cancelled'
            os.write(writer, b'hello\n')
            assert await read_line(stream) == b'hello'

    if HAS_ASYNC and not CAN_CANCEL:
        raise tap.Skip('needs PyGObject 3.56.3')
    in_each_loop(main)


def test_cancellable_of_ones_own():
    async def main():
        with pipe() as (stream, _):
            cancellable = Gio.Cancellable()
            operation = stream.read_line_async(GLib.PRIORITY_DEFAULT, cancellable)
            asyncio.get_running_loop().call_soon(cancellable.cancel)
            try:
                await operation
            except GLib.Error as error:
                assert error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED), error
            else:
                assert False, 'not cancelled'

    in_each_loop(main)


def test_nested_main_loop_in_a_task():
    """What was begun before it, and what a callback of GLib begins in it, ends in it; who waits
    goes on afterwards. To iterate the main context is no different."""
    async def main():
        with pipe() as (stream, writer):
            task = await begun(read_line(stream))
            main_context = get_main_context()
            nested = GLib.MainLoop(main_context)
            begun_inside = []

            def on_idle(*_):
                os.write(writer, b'hello\n')
                begun_inside.append(Gio.File.new_for_path(__file__).load_contents_async())
                return False

            def on_timeout(*_):
                if begun_inside and begun_inside[0].done() and not stream.has_pending():
                    nested.quit()
                return True

            sources = [GLib.idle_source_new(), GLib.timeout_source_new(1)]
            for source, callback in zip(sources, (on_idle, on_timeout)):
                source.set_callback(callback)
                source.attach(main_context)
            nested.run()
            main_context.iteration(False)
            sources[1].destroy()
            assert not task.done()
            assert await task == b'hello'
            assert len((await begun_inside[0])[1]) == os.path.getsize(__file__)

    in_each_loop(main)


def test_application_in_a_task():
    """It runs the global default context."""
    async def main():
        application = Gio.Application(flags=Gio.ApplicationFlags.NON_UNIQUE)
        application.connect('activate', lambda *_: None)
        assert application.run([]) == 0
        await load()

    if not HAS_ASYNC:
        raise tap.Skip('needs PyGObject 3.50')
    for run in (gaio.run, lambda coroutine: in_installed_loop(lambda: coroutine)):
        run(main())


def test_wrap_in_a_loop_of_gi_events():
    """It needs no loop of ours."""
    async def main():
        await gaio.wrap(Gio.File.new_for_path(__file__).load_contents_async)

    with gi_events_policy() as run_in_gi_events:
        run_in_gi_events(main)


def test_after_gi_events_and_before():
    """Its policy is set all the while."""
    with gi_events_policy() as run_in_gi_events:
        for _ in range(2):
            run_in_gi_events(load)
            in_each_loop(load)


def test_beside_gi_events_in_another_thread():
    """Each runs while the other waits."""
    def ping(stream, writer):
        """Answers each line."""
        async def main():
            for _ in range(SEVERAL):
                assert await read_line(stream) == b'ping'
                os.write(writer, b'pong\n')

        return main

    def pong(stream, writer):
        async def main():
            for _ in range(SEVERAL):
                os.write(writer, b'ping\n')
                assert await read_line(stream) == b'pong'

        return main

    def beside(main):
        # When one fails, the other reads the end of its pipe.
        with concurrent.futures.ThreadPoolExecutor(1) as pool, \
                pipe() as (one, to_one), pipe() as (other, to_other):
            answers = pool.submit(lambda: asyncio.run(ping(one, to_other)()))
            main(pong(other, to_one))
            answers.result()

    with gi_events_policy():
        for run in WAYS.values():
            beside(run)


def test_policy_of_gi_events_keeps_its_loop():
    """And with it the thread its main context."""
    def run():
        policy = asyncio.get_event_loop_policy()
        loop = policy.new_event_loop()
        policy.set_event_loop(loop)
        main_context = GLib.MainContext.get_thread_default()
        for name in ('gaio.run()', 'gaio.install()'):
            WAYS[name](load)
            assert GLib.MainContext.get_thread_default() == main_context
            assert policy.get_event_loop() is loop
        loop.run_until_complete(load())
        policy.set_event_loop(None)
        loop.close()

    with gi_events_policy():
        in_thread(run)


tap.run(globals())
