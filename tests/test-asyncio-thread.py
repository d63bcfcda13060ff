# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loops of asyncio on Gaio in threads and children, and how they end."""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from asyncio_support import (
    TURNS, busy_main_context, future, idle, in_thread, left_as_it_was, pair, run_nested,
    size_of, tcp_echo, watched)
from gi.repository import Gio, GLib

MANY_RUNS = 10000


# Loops and threads.

def test_two_threads_have_a_loop_each():
    """With a GMainContext of their own, whose sources they run; and they talk."""
    failures = []

    def run(main_context, barrier):
        async def main():
            loop = asyncio.get_running_loop()
            done = future()

            def on_idle(*_):
                done.set_result(threading.get_ident())
                return False

            source = GLib.idle_source_new()
            source.set_callback(on_idle)
            source.attach(main_context)
            assert await done == threading.get_ident()
            assert await tcp_echo() == b'hello\n'
            await size_of('/proc/self/status')
            await loop.run_in_executor(None, barrier.wait)
            for _ in range(TURNS):
                await asyncio.sleep(0)

        loop = gaio.EventLoop(main_context)
        try:
            loop.run_until_complete(main())
            loop.run_until_complete(loop.shutdown_default_executor())
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            loop.close()

    with left_as_it_was():
        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=run, args=(GLib.MainContext(), barrier))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del threads, thread
    assert not failures, failures


def test_run_in_threads_without_a_main_context():
    """Each has one of its own, for a GMainContext belongs to one thread at a time."""
    results = []

    async def main(barrier):
        await asyncio.to_thread(barrier.wait)
        results.append((await tcp_echo(), await size_of(__file__)))

    with left_as_it_was():
        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=lambda: gaio.run(main(barrier))) for _ in range(2)]
        for thread in threads:
            thread.start()
        gaio.run(main(barrier))
        for thread in threads:
            thread.join()
        del threads, thread
    assert results == [(b'hello\n', os.path.getsize(__file__))] * 3, results


async def echo_and_glib():
    """What needs the main context of the thread to be run, and GIO to complete in it."""
    assert await tcp_echo() == b'hello\n'
    return await size_of(__file__)


def run_loop_in_thread(loop):
    """Whether all works."""
    return in_thread(lambda: loop.run_until_complete(echo_and_glib())) == os.path.getsize(__file__)


def test_loop_made_in_one_thread_is_run_in_another():
    """The first does not give up the main context that is its own."""
    with left_as_it_was():
        loop = gaio.EventLoop()
        with busy_main_context():
            assert run_loop_in_thread(loop)
            loop.close()
        del loop


def test_loop_run_in_one_thread_is_run_in_another():
    """To and fro, with what is registered."""
    with left_as_it_was(), pair() as (one, other):
        loop = gaio.EventLoop()
        calls = []
        loop.add_reader(one, lambda: calls.append(one.recv(8)))
        for n in range(1, 3):
            loop.run_until_complete(tcp_echo())
            other.send(b'x')
            with busy_main_context():
                assert run_loop_in_thread(loop)
            assert len(calls) == n
        loop.remove_reader(one)
        loop.close()
        del loop


def test_two_loops_made_in_one_thread_are_run_by_two():
    """At the same time, and this thread runs a third."""
    with left_as_it_was():
        barrier = threading.Barrier(3)

        async def main():
            await asyncio.get_running_loop().run_in_executor(pool, barrier.wait)
            return await echo_and_glib()

        loops = [gaio.EventLoop() for _ in range(3)]
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            others = [pool.submit(loop.run_until_complete, main()) for loop in loops[1:]]
            sizes = [loops[0].run_until_complete(main())]
            sizes += [other.result() for other in others]
        assert sizes == [os.path.getsize(__file__)] * 3
        for loop in loops:
            loop.close()
        del loops, loop, others


def run_program(text):
    """What it prints, with what is wrong."""
    preamble = "import gi; gi.require_version('Gaio', '1.0'); import asyncio, gaio, os\n"
    program = subprocess.run([sys.executable, '-c', preamble + text], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, check=True, text=True)
    return program.stdout


def test_main_context_of_another_thread_is_an_error():
    """Where it was given; not a warning of GLib."""
    assert run_program('''
import threading
from gi.repository import Gaio, GLib
main_context = GLib.MainContext()
assert main_context.acquire()
loop = gaio.EventLoop(main_context)
def run():
    try:
        loop.run_until_complete(loop.create_future())
    except Gaio.LoopError as error:
        print(error.message)
thread = threading.Thread(target=run)
thread.start()
thread.join()
loop.close()
''') == 'Another thread owns the main context\n'


@contextlib.contextmanager
def forked(function):
    """A child that runs it, and is ended with the block if it has not ended by then."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        # In case nobody does.
        signal.alarm(tap.DEADLINE)
        try:
            function(lambda: os.write(writer, b'x'))
            os._exit(7)
        finally:
            os._exit(1)
    os.close(writer)
    # Until it says that it has begun.
    assert os.read(reader, 1) == b'x'
    os.close(reader)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def sleep_for_ever(begun):
    async def main():
        asyncio.get_running_loop().call_later(0.01, begun)
        await future()

    gaio.run(main())


def test_forked_child_does_not_take_wakeups_of_its_parent():
    """Forked while GLib has been used before; while a loop runs; in a thread-default context."""
    async def many():
        for _ in range(100):
            assert await asyncio.wait_for(size_of(__file__), 30) == os.path.getsize(__file__)

    async def fork_inside():
        with forked(sleep_for_ever):
            await many()

    GLib.MainContext.default()
    with forked(sleep_for_ever):
        gaio.run(many())
    gaio.run(fork_inside())
    loop = gaio.EventLoop(GLib.MainContext())
    loop.run_until_complete(fork_inside())
    loop.close()


def test_forked_child_runs_a_loop_with_gio():
    """Of its own, also one after the other."""
    def run(begun):
        for _ in range(2):
            assert gaio.run(tcp_echo()) == b'hello\n'
        loop = gaio.EventLoop()
        main_context = loop.gaio_selector.main_context
        assert main_context != GLib.MainContext.default()
        done = loop.create_future()
        source = GLib.idle_source_new()
        source.set_callback(lambda *_: done.set_result(True))
        source.attach(main_context)
        assert loop.run_until_complete(done)
        begun()

    with forked(run) as pid:
        assert os.waitstatus_to_exitcode(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                                         .si_status << 8) == 7


def test_child_that_was_forked_before_glib_was_used_has_the_default_main_context():
    """As a daemon that goes into the background has: nobody else uses it."""
    assert run_program('''
from gi.repository import GLib
if os.fork():
    os.wait()
    os._exit(0)
async def main():
    done = asyncio.get_running_loop().create_future()
    GLib.idle_add(done.set_result, True)
    print(await done)
gaio.run(main())
''') == 'True\n'


def test_what_is_open_at_exit_is_quiet():
    """A loop, a selector, one that an object has, and with coroutines that wait."""
    assert run_program('''
import sys
class Owner: pass
owner = Owner()
owner.me = owner
owner.loop, owner.selector = gaio.EventLoop(), gaio.Selector()
owner.selector.register(os.pipe()[0], 1)
loop, selector = gaio.EventLoop(), gaio.Selector()
selector.register(os.pipe()[0], 1)
loop.add_reader(os.pipe()[0], print)
sys.loop = gaio.EventLoop()
loop.run_until_complete(asyncio.sleep(0))
installed = gaio.install()
''') == ''


def test_installed_loops_open_at_exit_are_quiet():
    """Also one that is not that of the thread, and those whose main contexts hear of signals."""
    assert run_program('''
first, second = gaio.install(), gaio.install()
''') == ''
    assert run_program('''
from gi.repository import GLib
for _ in range(2):
    gaio.install(GLib.MainContext())
''') == ''


def test_installed_loop_of_a_thread_that_has_ended_is_quiet_at_exit():
    """It has a task that holds it, and is asked whether it runs when the interpreter exits."""
    said = run_program('''
import threading
def leave():
    gaio.install()
    gaio.create_task(asyncio.sleep(0))
thread = threading.Thread(target=leave)
thread.start()
thread.join()
''')
    assert 'is_running' not in said and 'ImportError' not in said, said


def test_closed_loop_lets_go_of_what_waits():
    """Nothing is watched, and what waited is quiet when it is collected."""
    async def wait(one):
        await gaio.readable(one)

    unraisable = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        with left_as_it_was(), pair() as (one, _):
            for new_loop in (gaio.EventLoop, gaio.install):
                loop = new_loop()
                before = watched()
                tasks = [loop.create_task(wait(one)) for _ in range(2)]
                # It says so when it is collected.
                for task in tasks:
                    task._log_destroy_pending = False
                loop.run_until_complete(asyncio.sleep(0))
                assert watched() != before
                loop.close()
                del loop, task, tasks
                gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not unraisable, unraisable


def test_closed_loop_lets_go_of_children():
    """One that lives on leaves no fd behind."""
    if sys.version_info >= (3, 12):
        raise tap.Skip("Python's own watcher leaves its pidfd open")

    async def main():
        await asyncio.create_subprocess_exec('sleep', '3600')

    # asyncio warns of the transport, and kills the child with it.
    with left_as_it_was(), warnings.catch_warnings(record=True):
        gaio.run(main())
        gc.collect()


def test_closed_loop_is_not_told_what_gio_has_done():
    """The operation ends when the main context is run by somebody else."""
    async def wait():
        await gaio.wrap(Gio.File.new_for_path(__file__).query_info_async, 'standard::size',
                        Gio.FileQueryInfoFlags.NONE, GLib.PRIORITY_DEFAULT)

    loop = gaio.EventLoop()
    task = loop.create_task(wait())
    task._log_destroy_pending = False
    # One turn: it begins, and no more.
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    with tap.caught_by_hook() as caught:
        # Most likely it has completed when the next has.
        gaio.run(size_of(__file__))
        run_nested([])
    assert not caught, caught


def test_loops_of_one_thread_take_turns():
    """Two in the same GMainContext: what one of them watches does not disturb the other."""
    async def work():
        assert await tcp_echo() == b'hello\n'
        await asyncio.sleep(0.001)

    with left_as_it_was(), pair() as (one, other):
        first, second = gaio.EventLoop(), gaio.EventLoop()
        calls = []
        other.send(b'x')
        first.add_reader(one, lambda: calls.append(one.recv(8)))
        for _ in range(3):
            second.run_until_complete(work())
        assert not calls, calls
        first.run_until_complete(work())
        assert calls == [b'x'], calls
        second.run_until_complete(work())
        first.remove_reader(one)
        first.close()
        second.run_until_complete(work())
        second.close()


def test_run_leaves_nothing():
    """No fd, no handler, and a main context in which nothing is ready."""
    async def main():
        loop = asyncio.get_running_loop()
        idle(loop.call_soon, loop.time)
        assert await tcp_echo() == b'hello\n'
        with pair() as (one, other):
            loop.add_reader(one, loop.time)
            other.send(b'x')
            await asyncio.sleep(0.001)

    with left_as_it_was():
        gaio.run(main())
    while GLib.MainContext.default().iteration(False):
        pass
    assert not GLib.MainContext.default().pending()


def test_run_closes_what_main_left():
    """Tasks are cancelled, asynchronous generators closed, as asyncio.run() does."""
    ended = []

    async def forever():
        try:
            await future()
        finally:
            ended.append('task')

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            ended.append('generator')

    async def main():
        task = asyncio.create_task(forever())
        generator = numbers()
        await anext(generator)
        await asyncio.sleep(0)
        return task, generator

    task, _ = gaio.run(main())
    assert task.cancelled()
    assert sorted(ended) == ['generator', 'task'], ended


def test_run_in_debug_mode():
    """It has asyncio's own checks."""
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert gaio.run(main(), debug=True) is True
    assert gaio.run(main(), debug=False) is False


# What Python 3.16 does not have.
NO_POLICIES = '''
import asyncio

def missing(name):
    raise AttributeError(name)

for name in dir(asyncio):
    if name.endswith(('Policy', 'policy', 'ChildWatcher', 'child_watcher')):
        delattr(asyncio, name)
asyncio.__getattr__ = missing
'''


USE = '''
import asyncio
import gi
gi.require_version('Gaio', '1.0')
import gaio

assert gaio.run(asyncio.sleep(0.001, 'slept')) == 'slept'
'''


# This needs asyncio's policy, where there is one.
USE_ALL = USE + '''
async def main():
    process = await asyncio.create_subprocess_exec('true')
    return await process.wait()

assert gaio.run(main()) == 0
loop = gaio.install()
assert asyncio.get_event_loop() is loop
loop.close()
'''


def test_no_warning_where_policies_are_deprecated():
    """Warnings are errors here, but for one that PyGObject 3.42 alone is worth."""
    arguments = ['-W', 'error', '-W', 'ignore::ImportWarning', '-c', USE_ALL]
    subprocess.run([sys.executable, *arguments], check=True)


def test_no_policies():
    """Nothing needs them, but for gaio.EventLoopPolicy."""
    code = f'''{NO_POLICIES}{USE}
try:
    gaio.EventLoopPolicy
except AttributeError:
    print('no policy')
'''
    assert subprocess.check_output([sys.executable, '-c', code]) == b'no policy\n'


def test_policy_makes_our_loops():
    """For programs that call asyncio.run()."""
    async def main():
        done = future()
        idle(done.set_result, True)
        assert await done
        return asyncio.get_running_loop()

    old = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(gaio.EventLoopPolicy())
    try:
        assert isinstance(asyncio.run(main()), gaio.EventLoop)
    finally:
        asyncio.set_event_loop_policy(old)


class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        'arena', 'ordblks', 'smblks', 'hblks', 'hblkhd', 'usmblks', 'fsmblks', 'uordblks',
        'fordblks', 'keepcost')]


def allocated():
    """The bytes that C has, and the blocks that Python has."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
    gc.collect()
    return mallinfo2().uordblks, sys.getallocatedblocks()


def test_ten_thousand_runs_leak_nothing():
    """Less than a pointer for each, and no fd. Without GLib.idle_add(), which leaks by itself."""
    async def main(one):
        await gaio.writable(one)
        await asyncio.sleep(0)

    with left_as_it_was(), pair() as (one, _):
        for _ in range(MANY_RUNS // 10):
            gaio.run(main(one))
        before = allocated()
        for _ in range(MANY_RUNS):
            gaio.run(main(one))
        after = allocated()
    assert after[0] - before[0] < 8 * MANY_RUNS, (before, after)
    assert after[1] - before[1] < MANY_RUNS // 10, (before, after)


tap.run(globals())
