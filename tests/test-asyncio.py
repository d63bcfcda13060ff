# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio on Gaio: it is asyncio, it is GLib, and neither gets into the other's way."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import ctypes
import errno
import gc
import math
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from gi.repository import Gaio, Gio, GLib

# For Python, and for what a loop needs itself.
SPARE_FDS = 100
MANY_CONNECTIONS = 5000
MANY_RUNS = 10000
TURNS = 1000
# Only what is lost takes so long.
LOST_MS = 30000

SERVICE = '''<node><interface name='org.gaio.Test'>
  <method name='Double'><arg type='i' direction='in'/><arg type='i' direction='out'/></method>
  <signal name='Doubled'><arg type='i'/></signal>
</interface></node>'''


def open_fds():
    return sorted(os.listdir('/proc/self/fd'), key=int)


def watched():
    """How much is in the context that all share."""
    stats = Gaio.Context.get_default().dup_stats().unpack()
    return stats['handlers'], stats['timers']


def epoll_sizes():
    """How many fds are in each epoll set of this process."""
    sizes = []
    for fd in open_fds():
        with contextlib.suppress(OSError), open(f'/proc/self/fdinfo/{fd}', encoding='ascii') as file:
            lines = file.read().splitlines()
            if os.readlink(f'/proc/self/fd/{fd}') == 'anon_inode:[eventpoll]':
                sizes.append(sum(line.startswith('tfd:') for line in lines))
    return sizes


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
def need_fds(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = n + SPARE_FDS
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise tap.Skip(f'needs {needed} fds, the limit is {hard}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def caught_by_hook():
    """The exceptions that end in C."""
    caught = []
    hook, sys.excepthook = sys.excepthook, lambda *exception: caught.append(exception[0])
    try:
        yield caught
    finally:
        sys.excepthook = hook


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
    try:
        yield
    except class_ as error:
        assert number is None or error.errno == number, repr(error)
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


async def wrap(*args):
    """What hangs fails."""
    return await asyncio.wait_for(gaio.wrap(*args), 20)


async def size_of(path):
    info = await gaio.wrap(Gio.File.new_for_path(path).query_info_async, 'standard::size',
                           Gio.FileQueryInfoFlags.NONE, GLib.PRIORITY_DEFAULT)
    return info.get_size()


async def output_of(*command):
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output, process.returncode


# The selector.

def test_selector_tells_what_is_ready():
    """As (key, events), with the file object and the data that it was registered with."""
    with pair() as (one, other), gaio.Selector() as selector:
        key = selector.register(one, selectors.EVENT_READ, 'data')
        assert selector.select(0) == []
        other.send(b'x')
        assert selector.select() == [(key, selectors.EVENT_READ)]
        assert selector.select(0) == [(key, selectors.EVENT_READ)]
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        key = selector.modify(one, both, 'more')
        assert selector.select() == [(key, both)]
        one.recv(8)
        assert selector.select() == [(key, selectors.EVENT_WRITE)]
        selector.unregister(one)
        assert selector.select(0) == []


def test_selector_takes_what_epoll_takes():
    """A closed fd is EBADF, a regular file EPERM, and neither stays."""
    with tempfile.TemporaryFile() as file, gaio.Selector() as selector:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with raises(OSError, errno.EBADF):
            selector.register(reader, selectors.EVENT_READ)
        with raises(PermissionError, errno.EPERM):
            selector.register(file, selectors.EVENT_READ)
        assert len(selector.get_map()) == 0


def test_selector_forgets_what_it_could_not_modify():
    """As the other selectors do."""
    with gaio.Selector() as selector:
        reader, writer = os.pipe()
        selector.register(reader, selectors.EVENT_READ)
        os.close(reader)
        os.close(writer)
        with raises(OSError):
            selector.modify(reader, selectors.EVENT_READ | selectors.EVENT_WRITE)
        assert len(selector.get_map()) == 0


def test_unregistered_by_a_callback_of_glib_is_not_told():
    """Which the turn calls when it has seen already that the file is ready."""
    main_context = GLib.MainContext()
    with pair() as (one, other), gaio.Selector(main_context) as selector:
        selector.register(one, selectors.EVENT_READ)
        other.send(b'x')
        timer = Gaio.Context.ref_for_main_context(main_context).add_timer(
            lambda: selector.unregister(one))
        timer.arm(0)
        while selector.get_map():
            assert selector.select() == []
        assert selector.select(0) == []
        timer.remove()


def test_registered_again_is_told_of_the_file_that_it_is_now():
    """Whether it is the same file as before or another."""
    with gaio.Selector() as selector:
        for events in (selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE):
            with pair() as (one, other):
                number = one.fileno()
                selector.register(one, selectors.EVENT_READ)
                selector.unregister(one)
                selector.register(one, events)
                other.send(b'x')
                assert selector.select() == [(selector.get_key(one), events)]
                selector.unregister(one)
            with pair() as (one, other):
                assert one.fileno() == number
                other.send(b'x')
                key = selector.register(one, selectors.EVENT_READ)
                assert selector.select() == [(key, selectors.EVENT_READ)]
                selector.unregister(one)


def test_unregistered_is_not_in_the_epoll_set():
    """At once: where a copy of the fd lives on, nothing of what was closed stays behind."""
    with contextlib.ExitStack() as stack, gaio.Selector() as selector:
        for _ in range(10):
            one, other = stack.enter_context(pair())
            stack.enter_context(one.dup())
            selector.register(one, selectors.EVENT_READ)
            before = epoll_sizes()
            selector.unregister(one)
            assert sum(epoll_sizes()) == sum(before) - 1
            one.close()
            other.close()
            assert selector.select(0) == []


def test_number_of_the_same_fifo_is_watched_anew():
    """It is opened again, with device, inode and number as before."""
    with tempfile.TemporaryDirectory() as folder, gaio.Selector() as selector:
        path = os.path.join(folder, 'fifo')
        os.mkfifo(path)
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        for _ in range(3):
            selector.register(number, selectors.EVENT_READ)
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.write(writer, b'x')
            assert [key.fd for key, _ in selector.select(30)] == [number]
            os.close(writer)
            selector.unregister(number)
            os.close(number)
            assert os.open(path, os.O_RDONLY | os.O_NONBLOCK) == number
        os.close(number)


def test_selector_has_no_cap():
    """One call tells all that is ready."""
    n = 1000
    with need_fds(2 * n), gaio.Selector() as selector, contextlib.ExitStack() as stack:
        keys = set()
        for number in range(n):
            one, other = stack.enter_context(pair())
            keys.add(selector.register(one, selectors.EVENT_READ, number))
            other.send(b'x')
        assert {key for key, _ in selector.select()} == keys


def test_select_is_not_early():
    """It may be late."""
    with gaio.Selector(GLib.MainContext()) as selector:
        for timeout in (0.0001, 0.0015, 0.02):
            started = time.monotonic()
            assert selector.select(timeout) == []
            assert time.monotonic() - started >= timeout


def test_select_runs_the_sources_of_its_main_context():
    """Those, and no others."""
    mine = GLib.MainContext()
    calls = []
    source = GLib.idle_source_new()
    source.set_callback(lambda *_: calls.append('mine') and False)
    source.attach(mine)
    other = GLib.idle_add(calls.append, 'other')
    with gaio.Selector(mine) as selector:
        for _ in range(10):
            selector.select(0)
    GLib.source_remove(other)
    assert calls == ['mine'], calls


def test_closed_selector_leaves_nothing():
    """Also if fds are registered."""
    with left_as_it_was():
        with pair() as (one, _):
            selector = gaio.Selector()
            selector.register(one, selectors.EVENT_READ)
            selector.close()
            with raises(RuntimeError):
                selector.get_key(one)


def test_closed_selector_refuses_everything():
    """As that of asyncio does, with the same exceptions."""
    for class_ in (selectors.EpollSelector, gaio.Selector):
        with pair() as (one, _):
            selector = class_()
            selector.close()
            read = selectors.EVENT_READ
            for call, exception in ((lambda: selector.register(one, read), ValueError),
                                    (lambda: selector.modify(one, read), KeyError),
                                    (lambda: selector.unregister(one), KeyError),
                                    (lambda: selector.select(0), ValueError),
                                    (lambda: selector.get_key(one), RuntimeError)):
                with raises(exception):
                    call()
            assert selector.get_map() is None
            selector.close()


@contextlib.contextmanager
def nothing_unraisable():
    """No exception that Python can only print."""
    unraisable = []
    old = sys.unraisablehook
    sys.unraisablehook = lambda args: unraisable.append(str(args.exc_value))
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = old
    assert not unraisable, unraisable


def test_loop_that_was_refused_its_main_context_is_no_loop():
    """There is one exception, and nothing to close."""
    for make in (gaio.EventLoop, gaio.install, gaio.Selector):
        for wrong in (5, 'x', object()):
            with nothing_unraisable():
                with raises(TypeError):
                    make(wrong)


def test_loop_may_be_closed_after_what_it_owns():
    """The garbage collector takes them in any order."""
    for make in (gaio.EventLoop, gaio.install):
        with left_as_it_was(), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            loop = make(GLib.MainContext())
            loop._ssock.close()
            source = getattr(loop, '_signal_source', None)
            if source is not None:
                source.__del__()
            loop.close()
            assert not told, told[0].message
            # PyGObject is not made for a second one.
            warnings.simplefilter('ignore')
            asyncio.set_event_loop(None)
            del loop, source


def test_selector_goes_with_the_thread():
    """Made, and used, in one thread, then in another: what it watches goes with it."""
    with pair() as (one, other), pair() as (closed, _), gaio.Selector() as selector:
        key = selector.register(one, selectors.EVENT_READ)
        selector.register(closed, selectors.EVENT_READ)
        assert selector.select(0) == []
        closed.close()
        other.send(b'x')
        expected = [(key, selectors.EVENT_READ)]
        for _ in range(2):
            with busy_main_context():
                assert in_thread(selector.select) == expected
            assert selector.select() == expected
        assert selector.main_context == GLib.MainContext.default()


def test_given_main_context_stays():
    """Whoever runs the selector."""
    main_context = GLib.MainContext()
    with gaio.Selector(main_context) as selector:
        in_thread(lambda: selector.select(0))
        assert selector.main_context == main_context


# GLib, while asyncio waits.

def test_glib_sources_run_while_asyncio_waits():
    """Idle callbacks, timeouts and fds."""
    async def main():
        results = [future() for _ in range(3)]
        with pair() as (one, other):
            idle(results[0].set_result, 'idle')
            GLib.timeout_add(1, lambda: results[1].set_result('timeout'))
            GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, one.fileno(), GLib.IOCondition.IN,
                                  lambda *_: results[2].set_result(one.recv(8)))
            other.send(b'fd')
            return await asyncio.gather(*results)

    assert gaio.run(main()) == ['idle', 'timeout', b'fd']


def test_asyncio_timers_are_not_early():
    """And fire with nothing to do in GLib."""
    async def main():
        started = time.monotonic()
        await asyncio.sleep(0.002)
        return time.monotonic() - started

    assert gaio.run(main()) >= 0.002


def test_call_soon_from_glib_is_served_at_once():
    """Nothing else would end the wait."""
    async def main():
        loop = asyncio.get_running_loop()
        for schedule in (idle, lambda function: GLib.timeout_add(1, lambda: function() and False)):
            served = future()
            schedule(lambda: loop.call_soon(served.set_result, True))
            assert await served

    gaio.run(main())


def test_task_from_glib_is_served_at_once():
    """Of its steps each."""
    async def steps():
        for _ in range(10):
            await asyncio.sleep(0)

    async def main():
        loop = asyncio.get_running_loop()
        done = future()

        def start():
            loop.create_task(steps()).add_done_callback(lambda _: done.set_result(True))

        idle(start)
        assert await done

    gaio.run(main())


def test_call_later_from_glib_shortens_the_wait():
    """The loop already waits for something later."""
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(3600, loop.stop)
        done = future()
        idle(lambda: loop.call_later(0.001, done.set_result, True))
        assert await done

    gaio.run(main())


def test_cancel_from_glib_is_served_at_once():
    """A task that waits for nothing else."""
    async def main():
        loop = asyncio.get_running_loop()
        idle(asyncio.current_task().cancel)
        with raises(asyncio.CancelledError):
            await loop.create_future()

    gaio.run(main())


def test_call_soon_threadsafe_wakes_the_loop():
    """From another thread, again and again."""
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(100):
            done = future()
            thread = threading.Thread(target=loop.call_soon_threadsafe,
                                      args=(done.set_result, True))
            thread.start()
            assert await done
            thread.join()

    gaio.run(main())


def test_executors_answer():
    """run_in_executor() and to_thread()."""
    async def main():
        return await asyncio.gather(*(asyncio.to_thread(pow, n, 2) for n in range(20)))

    assert gaio.run(main()) == [n * n for n in range(20)]


def test_glib_callbacks_see_the_running_loop():
    """They are called inside it, so another cannot be run in there."""
    async def main():
        seen = future()

        def look():
            loop = gaio.EventLoop()
            with raises(RuntimeError):
                loop.run_forever()
            loop.close()
            seen.set_result(asyncio.get_running_loop())

        idle(look)
        assert await seen is asyncio.get_running_loop()

    gaio.run(main())


# Signals and children.

def test_signal_handlers_are_called():
    """The signal comes from a callback, from GLib and from another thread."""
    async def main():
        loop = asyncio.get_running_loop()

        def kill():
            os.kill(os.getpid(), signal.SIGUSR1)

        def kill_in_thread():
            threading.Thread(target=kill).start()

        for send in (kill, lambda: idle(kill), kill_in_thread, lambda: idle(kill_in_thread)):
            came = future()
            loop.add_signal_handler(signal.SIGUSR1, came.set_result, True)
            send()
            assert await came
        assert loop.remove_signal_handler(signal.SIGUSR1)

    gaio.run(main())
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_signal_in_a_nested_main_loop_is_handled():
    """When it has been left, for asyncio waits. In a task, and in a callback of GLib."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, 'signal')

        def nest():
            nested = GLib.MainLoop()
            GLib.idle_add(lambda: os.kill(os.getpid(), signal.SIGUSR1) or idle(nested.quit))
            nested.run()

        for n, how in enumerate((nest, lambda: idle(nest)), 1):
            how()
            while len(calls) < n:
                await asyncio.sleep(0.001)
        # As often as it came, and no more than that.
        await asyncio.sleep(0.001)
        assert calls == ['signal'] * 2, calls

    gaio.run(main())


def test_signal_handler_is_no_coroutine_function():
    """Nobody would run it."""
    async def main():
        with raises(TypeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, main)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    gaio.run(main())


def test_signal_handler_has_the_context_of_who_adds_it():
    """As asyncio's own has."""
    variable = contextvars.ContextVar('variable')

    async def main():
        loop = asyncio.get_running_loop()
        came = future()
        variable.set('mine')
        loop.add_signal_handler(signal.SIGUSR1, lambda: came.set_result(variable.get()))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await came == 'mine'

    gaio.run(main())


def test_ctrl_c_cancels_main():
    """And becomes a KeyboardInterrupt when that has ended, as in asyncio.run()."""
    def kill():
        os.kill(os.getpid(), signal.SIGINT)

    def kill_in_thread():
        threading.Thread(target=kill).start()

    for send in (kill, lambda: idle(kill), kill_in_thread, lambda: idle(kill_in_thread)):
        ended = []

        async def main():
            asyncio.get_running_loop().call_soon(send)
            try:
                await future()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                ended.append('cancelled')
                raise

        with raises(KeyboardInterrupt):
            gaio.run(main())
        assert ended == ['cancelled'], ended
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1


def test_children_are_waited_for():
    """And what they write comes through."""
    async def main():
        return await asyncio.gather(*(output_of('sh', '-c', f'echo {n}; exit {n}')
                                      for n in range(8)))

    assert gaio.run(main()) == [(b'%d\n' % n, n) for n in range(8)]


def test_child_watcher_of_ones_own_is_used():
    """asyncio.run() makes its loop known to it."""
    if not hasattr(asyncio, 'PidfdChildWatcher'):
        raise tap.Skip('Python 3.14 has no child watchers')
    policy = asyncio.get_event_loop_policy()
    default = policy.get_child_watcher()
    policy.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        assert gaio.run(output_of('echo', 'child')) == (b'child\n', 0)
    finally:
        policy.set_child_watcher(default)


def test_policy_without_child_watchers():
    """As that of uvloop."""
    if sys.version_info >= (3, 14):
        raise tap.Skip('there are no child watchers')

    class Policy(asyncio.DefaultEventLoopPolicy):
        def get_child_watcher(self):
            raise NotImplementedError

    old = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        assert gaio.run(tcp_echo()) == b'hello\n'
        gaio.install().close()
    finally:
        asyncio.set_event_loop_policy(old)


# Exceptions.

def test_exception_in_glib_goes_to_the_hook():
    """And the loop goes on."""
    def fail():
        raise ZeroDivisionError

    async def main():
        idle(fail)
        done = future()
        GLib.idle_add(lambda: done.set_result(True), priority=GLib.PRIORITY_LOW)
        assert await done

    with caught_by_hook() as caught:
        gaio.run(main())
    assert caught == [ZeroDivisionError], caught


def test_system_exit_in_glib_ends_the_program():
    """With its status, as in any callback of PyGObject."""
    program = '''
import asyncio, sys, gaio
from gi.repository import GLib

async def main():
    GLib.idle_add(sys.exit, 7)
    GLib.idle_add(asyncio.current_task().cancel, priority=GLib.PRIORITY_LOW)
    await asyncio.get_running_loop().create_future()

gaio.run(main())
'''
    assert subprocess.run([sys.executable, '-c', program], check=False).returncode == 7


def test_exceptions_in_tasks_are_those_of_asyncio():
    """They reach whoever awaits, run(), and else the exception handler of the loop."""
    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def main():
        loop = asyncio.get_running_loop()
        with raises(ZeroDivisionError):
            await asyncio.create_task(fail())
        told = future()
        loop.set_exception_handler(lambda _, details: told.set_result(details['exception']))
        loop.call_soon(lambda: 1 / 0)
        assert isinstance(await told, ZeroDivisionError)
        await fail()

    with raises(ZeroDivisionError):
        gaio.run(main())


# Loops in loops.

def run_nested(calls):
    """A GLib loop that runs so long that what was ready has been seen, and until it is idle."""
    nested = GLib.MainLoop()
    # In case it never is.
    guard = GLib.timeout_add(30000, nested.quit)
    GLib.timeout_add(5, lambda: idle(calls.append, 'glib') or idle(nested.quit))
    nested.run()
    GLib.source_remove(guard)


def test_nested_main_loop_in_a_task():
    """GLib's sources run, asyncio's callbacks wait until it is left. Nothing is lost."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        with pair() as (one, other):
            loop.call_soon(calls.append, 'soon')
            loop.call_later(0, calls.append, 'later')
            loop.add_reader(one, lambda: calls.append(one.recv(8)))
            other.send(b'x')
            run_nested(calls)
            assert calls == ['glib'], list(calls)
            while len(calls) < 4:
                await asyncio.sleep(0)
            assert set(calls) == {'glib', 'soon', 'later', b'x'}, calls
            other.send(b'y')
            while b'y' not in calls:
                await asyncio.sleep(0.001)
            loop.remove_reader(one)

    gaio.run(main())


def test_nested_main_loop_in_a_reader():
    """An fd that stays ready does not call it again, and does not wake the loop for ever."""
    async def main():
        loop = asyncio.get_running_loop()
        done = future()
        depth = []

        def on_readable():
            assert not depth
            depth.append(1)
            run_nested(depth)
            depth.clear()
            one.recv(8)
            done.set_result(True)

        with pair() as (one, other):
            loop.add_reader(one, on_readable)
            other.send(b'x')
            assert await done
            loop.remove_reader(one)

    gaio.run(main())


def test_nested_main_loop_in_a_glib_callback():
    """asyncio waits all the while, and then goes on."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        done = future()

        def nest():
            loop.call_soon(calls.append, 'asyncio')
            run_nested(calls)
            done.set_result(list(calls))

        with pair() as (one, other):
            loop.add_reader(one, lambda: calls.append(one.recv(8)))
            idle(lambda: other.send(b'x') and nest())
            assert await done == ['glib']
            while len(calls) < 3:
                await asyncio.sleep(0)
            loop.remove_reader(one)
        assert set(calls) == {'glib', 'asyncio', b'x'}, calls

    gaio.run(main())


# Many, and hot.

def test_five_thousand_connections():
    """Each answers, several times."""
    async def main(pairs):
        loop = asyncio.get_running_loop()
        left = len(pairs)
        done = future()

        def serve(one):
            one.send(one.recv(8))

        def on_answer(other, rounds):
            nonlocal left
            other.recv(8)
            if rounds[other] > 0:
                rounds[other] -= 1
                other.send(b'x')
                return
            left -= 1
            if left == 0:
                done.set_result(True)

        rounds = {other: 2 for _, other in pairs}
        for one, other in pairs:
            loop.add_reader(one, serve, one)
            loop.add_reader(other, on_answer, other, rounds)
            other.send(b'x')
        assert await done
        for one, other in pairs:
            loop.remove_reader(one)
            loop.remove_reader(other)

    with need_fds(2 * MANY_CONNECTIONS), contextlib.ExitStack() as stack:
        gaio.run(main([stack.enter_context(pair()) for _ in range(MANY_CONNECTIONS)]))


def test_hot_asyncio_does_not_starve_glib():
    """A callback that schedules itself again and again: GLib has its turn in between."""
    async def main():
        calls = {'idle': 0, 'timeout': 0, 'fd': 0}

        def count(name):
            calls[name] += 1
            return True

        with pair() as (one, other):
            other.send(b'x')
            sources = [GLib.idle_add(count, 'idle'), GLib.timeout_add(0, count, 'timeout'),
                       GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT_IDLE, one.fileno(),
                                             GLib.IOCondition.IN, lambda *_: count('fd'))]
            for _ in range(TURNS):
                await asyncio.sleep(0)
            GLib.source_remove(sources[1])
            for _ in range(TURNS):
                await asyncio.sleep(0)
            GLib.source_remove(sources[0])
            GLib.source_remove(sources[2])
        return calls

    calls = gaio.run(main())
    assert all(TURNS / 2 <= n <= 10 * TURNS for n in calls.values()), calls


def test_hot_glib_does_not_starve_asyncio():
    """Sources that are always ready: asyncio's callbacks, timers and fds have their turn."""
    for priority in (GLib.PRIORITY_DEFAULT, GLib.PRIORITY_DEFAULT_IDLE):
        async def main():
            calls = 0

            def count():
                nonlocal calls
                calls += 1
                return True

            source = GLib.idle_add(count, priority=priority)
            with pair() as (one, other):
                loop = asyncio.get_running_loop()
                for _ in range(TURNS):
                    await loop.sock_sendall(other, b'x')
                    await loop.sock_recv(one, 8)
                    await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            reached = calls
            for _ in range(TURNS):
                await asyncio.sleep(0)
            per_turn = (calls - reached) / TURNS
            GLib.source_remove(source)
            return per_turn

        # A turn of asyncio is one of GLib, in which its source is called once.
        per_turn = gaio.run(main())
        assert 0.5 <= per_turn <= 2, per_turn


def test_hot_fd_does_not_starve_glib():
    """A reader that does not read."""
    async def main():
        loop = asyncio.get_running_loop()
        done = future()
        with pair() as (one, other):
            calls = []
            loop.add_reader(one, calls.append, 1)
            other.send(b'x')
            # With a lower priority it would have to wait in GLib, too.
            GLib.timeout_add(0, lambda: done.set_result(True))
            assert await done
            loop.remove_reader(one)

    gaio.run(main())


# Files that come and go.

def test_reused_number_is_the_new_file():
    """A watch does not come back to life on another file."""
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(100):
            calls = []
            one, other = socket.socketpair()
            number = one.fileno()
            loop.add_reader(number, calls.append, 'old')
            loop.remove_reader(number)
            one.close()
            other.close()
            with pair() as (one, other):
                assert number in (one.fileno(), other.fileno())
                watched, peer = (one, other) if one.fileno() == number else (other, one)
                loop.add_reader(watched, calls.append, 'new')
                peer.send(b'x')
                while not calls:
                    await asyncio.sleep(0)
                assert set(calls) == {'new'}, calls
                loop.remove_reader(watched)

    gaio.run(main())


def test_closed_without_removal_is_silent():
    """The fd is gone: no callback, and the loop sleeps. To remove it later is right."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(number, calls.append, 'closed')
        one.close()
        other.close()
        turns = loop.time()
        while loop.time() < turns + 0.005:
            await asyncio.sleep(0.001)
        assert not calls, calls
        assert loop.remove_reader(number)
        with pair() as (one, other):
            loop.add_reader(one, calls.append, 'open')
            other.send(b'x')
            while not calls:
                await asyncio.sleep(0)
            assert set(calls) == {'open'}, calls
            loop.remove_reader(one)

    gaio.run(main())


def test_peer_that_closes_is_readable():
    """The end of a file is an event; for a writer, an error is."""
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (one, other):
            other.close()
            assert await loop.sock_recv(one, 8) == b''
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        done = future()
        loop.add_writer(writer, lambda: done.done() or done.set_result(True))
        os.close(reader)
        assert await done
        loop.remove_writer(writer)
        os.close(writer)

    gaio.run(main())


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
    with caught_by_hook() as caught:
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


# In a program that runs GLib's main loop.

@contextlib.contextmanager
def installed(main_context=None):
    loop = gaio.install(main_context)
    try:
        yield loop
    finally:
        loop.close()


def add_timeout(main_context, ms, function):
    source = GLib.timeout_source_new(ms)
    source.set_callback(lambda *_: function() and False)
    source.attach(main_context)
    return source


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


def test_installed_loop_runs_tasks_of_glib_callbacks():
    """All that asyncio has works in there."""
    async def main(loop):
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0.001)
        done = future()
        idle(done.set_result, True)
        assert await done
        assert await tcp_echo() == b'hello\n'
        assert await asyncio.to_thread(pow, 2, 3) == 8
        return await output_of('echo', 'child')

    with installed() as loop:
        for _ in range(3):
            assert run_in_main_loop(loop, main(loop)) == (b'child\n', 0)
        loop.run_in_executor(None, int)


def test_installed_loop_runs_in_an_application():
    """In Gio.Application.run (), which knows nothing of it."""
    results = []

    async def main(application):
        results.append(await tcp_echo())
        application.release()

    def on_activate(application):
        application.hold()
        tasks.append(loop.create_task(main(application)))

    tasks = []
    application = Gio.Application(application_id=None, flags=Gio.ApplicationFlags.NON_UNIQUE)
    application.connect('activate', on_activate)
    with installed() as loop:
        assert application.run([]) == 0
    assert results == [b'hello\n'], results


def test_installed_loop_hears_signals():
    """One that comes while GLib waits."""
    async def main(loop):
        came = future()
        loop.add_signal_handler(signal.SIGUSR1, came.set_result, True)
        # In case it is not heard.
        guard = GLib.timeout_add(30000, lambda: came.set_result(False))
        idle(lambda: threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)).start())
        heard = await came
        GLib.source_remove(guard)
        loop.remove_signal_handler(signal.SIGUSR1)
        return heard

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop))


def test_installed_loop_hears_signals_of_before():
    """The handler is there before GLib's loop is run, which has a wake-up fd of its own."""
    heard = []
    main_loop = GLib.MainLoop()

    def on_signal():
        heard.append(True)
        main_loop.quit()

    with installed() as loop:
        loop.add_signal_handler(signal.SIGUSR1, on_signal)
        guard = GLib.timeout_add(30000, main_loop.quit)
        idle(lambda: threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)).start())
        main_loop.run()
        loop.remove_signal_handler(signal.SIGUSR1)
    assert heard
    GLib.source_remove(guard)


def test_installed_loop_tells_of_exceptions():
    """Those of tasks and of callbacks go to its handler, and it goes on."""
    async def fail():
        raise ZeroDivisionError

    async def main(loop):
        told = future()
        loop.set_exception_handler(lambda _, details: told.set_result(details['exception']))
        loop.call_soon(lambda: 1 / 0)
        assert isinstance(await told, ZeroDivisionError)
        with raises(ZeroDivisionError):
            await asyncio.create_task(fail())
        return True

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop))


def test_installed_loop_that_is_closed_is_gone():
    """It leaves nothing, GLib's loop goes on, and another can be installed."""
    with left_as_it_was():
        for _ in range(3):
            with installed() as loop:
                run_in_main_loop(loop, asyncio.sleep(0))
            assert loop.is_closed()
            with raises(RuntimeError):
                loop.call_soon(int)
            main_loop = GLib.MainLoop()
            idle(main_loop.quit)
            main_loop.run()
            assert asyncio._get_running_loop() is None
            assert gaio.run(asyncio.sleep(0, 'run')) == 'run'


def test_installed_loop_in_another_thread():
    """In the GMainContext of that thread."""
    results = []

    def run():
        main_context = GLib.MainContext()
        main_loop = GLib.MainLoop(main_context)

        async def main(loop):
            assert asyncio.get_running_loop() is loop
            results.append(await tcp_echo())
            main_loop.quit()

        with installed(main_context) as loop:
            task = loop.create_task(main(loop))
            main_loop.run()
            task.result()

    with left_as_it_was():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        del thread
    assert results == [b'hello\n'], results


def test_installed_loop_does_not_starve_glib():
    """A task that never waits, in GLib's main loop."""
    async def main():
        calls = 0

        def count():
            nonlocal calls
            calls += 1
            return True

        source = GLib.idle_add(count)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        GLib.source_remove(source)
        return calls

    with installed() as loop:
        calls = run_in_main_loop(loop, main())
    assert TURNS / 10 <= calls <= TURNS * 10, calls


def test_nested_main_loop_in_an_installed_loop():
    """An fd that is ready waits, and does not keep the nested loop from being idle."""
    async def main(loop):
        calls = []
        with pair() as (one, other):
            loop.add_reader(one, lambda: calls.append(one.recv(8)))
            loop.call_soon(calls.append, 'soon')
            other.send(b'x')
            run_nested(calls)
            assert calls == ['glib'], list(calls)
            while len(calls) < 3:
                await asyncio.sleep(0)
            assert set(calls) == {'glib', 'soon', b'x'}, calls
            other.send(b'y')
            while b'y' not in calls:
                await asyncio.sleep(0.001)
            loop.remove_reader(one)
        return True

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop))


def test_call_soon_threadsafe_in_a_turn_of_an_installed_loop():
    """It is heard, also if the turn has still to read what asyncio wakes itself with. Likewise what
    is made of it: signals, and coroutines from threads."""
    async def main(loop):
        def kill():
            os.kill(os.getpid(), signal.SIGUSR1)

        def run_coroutine():
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).add_done_callback(
                lambda _: done.set_result(True))

        for in_turn in (lambda: loop.call_soon_threadsafe(done.set_result, True), kill,
                        run_coroutine):
            done = future()
            loop.add_signal_handler(signal.SIGUSR1, done.set_result, True)
            loop.call_soon_threadsafe(in_turn)
            assert await done
        return loop.remove_signal_handler(signal.SIGUSR1)

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop))


def test_wake_up_in_a_nested_main_loop_of_an_installed_loop():
    """The nested loop takes it, and the turn that it is in can do nothing yet."""
    async def main(loop):
        def call_from_thread():
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(call,))
            thread.start()
            thread.join()

        def call():
            calls.append('asyncio')
            done.set_result(True)

        def nest():
            idle(wake_up)
            run_nested(calls)
            assert calls == ['glib'], calls

        for wake_up in (lambda: loop.call_soon(call), call_from_thread,
                        lambda: loop.call_later(-1, call), lambda: loop.call_later(0.001, call)):
            calls = []
            done = future()
            loop.call_soon(nest)
            await done
        return True

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop))


def test_installed_loop_calls_at_once_what_is_due():
    """What was so before, in a turn and between turns, and what is not a number."""
    for when in (lambda: loop.time() - 1, lambda: loop.time(), lambda: 0, lambda: -5,
                 lambda: math.nan):
        async def main(loop, when=when):
            done = future()
            loop.call_at(when(), done.set_result, True)
            assert await done
            done = future()
            idle(lambda: loop.call_at(when(), done.set_result, True))
            return await done

        with installed() as loop:
            assert run_in_main_loop(loop, main(loop))


def test_installed_loop_never_calls_what_is_never_due():
    """Neither does it fail, nor is it busy."""
    async def main(loop, delay):
        sleeper = asyncio.create_task(asyncio.sleep(delay))
        calls = []
        idle(loop.call_later, delay, calls.append, 'never')
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert await asyncio.wait_for(asyncio.sleep(0.001, 'slept'), delay) == 'slept'
        assert not sleeper.done() and not calls
        sleeper.cancel()
        return True

    for delay in (math.inf, sys.float_info.max, sys.maxsize, 1e15, 9e12, 1e10):
        with installed() as loop, caught_by_hook() as caught:
            assert run_in_main_loop(loop, main(loop, delay))
            turns = []
            turn, loop.run_forever = loop.run_forever, lambda: turns.append(turn())
            main_loop = GLib.MainLoop()
            GLib.timeout_add(20, main_loop.quit)
            main_loop.run()
            del loop.run_forever
        assert not caught, caught
        assert len(turns) <= 1, len(turns)


def test_exception_that_ends_a_turn_of_an_installed_loop():
    """KeyboardInterrupt alone does. The rest is done in the next one, whichever turn it is."""
    if sys.version_info >= (3, 14):
        raise tap.Skip('Python exits with 130 after one that goes to the hook')

    def interrupt():
        raise KeyboardInterrupt

    async def main(loop, n_turns):
        for _ in range(n_turns):
            await asyncio.sleep(0)
        done = [future() for _ in range(3)]
        for step in done:
            loop.call_soon(interrupt)
            loop.call_soon(step.set_result, True)
        await asyncio.gather(*done)
        for _ in range(50):
            await asyncio.sleep(0)
        return True

    # The first few turns in a row come before what GLib has to do, the others are idle ones.
    for n_turns in (0, 50):
        with installed() as loop, caught_by_hook() as caught:
            assert run_in_main_loop(loop, main(loop, n_turns))
        assert caught == 3 * [KeyboardInterrupt], caught


def test_installed_loop_that_is_run_in_its_turn_says_no():
    """Nothing of the turn is lost by it."""
    async def main(loop):
        done = [future() for _ in range(3)]
        loop.call_soon(done[0].set_result, True)
        loop.call_later(-1, done[1].set_result, True)
        loop.call_later(0.001, done[2].set_result, True)
        time.sleep(0.002)
        with raises(RuntimeError):
            loop.run_forever()
        await asyncio.gather(*done)
        return True

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop))


def test_run_in_a_glib_callback_of_a_program_with_an_installed_loop():
    """Both go on, without a word, and the installed loop is the thread's again afterwards."""
    async def in_run(loop):
        assert asyncio.get_running_loop() is not loop
        done = future()
        told = asyncio.get_running_loop()
        task = loop.create_task(in_installed(loop))
        task.add_done_callback(lambda _: told.call_soon(done.set_result, True))
        assert await done and task.result() == b'hello\n'
        assert asyncio.get_running_loop() is not loop
        return await tcp_echo()

    async def in_installed(loop):
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0.001)
        with raises(RuntimeError):
            coroutine = asyncio.sleep(0)
            try:
                gaio.run(coroutine)
            finally:
                coroutine.close()
        return await tcp_echo()

    async def main(loop):
        done = future()
        idle(lambda: done.set_result(gaio.run(in_run(loop))))
        assert await done == b'hello\n'
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
        return True

    with installed() as loop, caught_by_hook() as caught:
        assert run_in_main_loop(loop, main(loop))
    assert not caught, caught
    with left_as_it_was():
        pass


def test_installed_loop_in_a_loop_that_is_run():
    """And two that are installed, where a callback of the one runs a main loop."""
    async def main():
        with installed() as loop:
            done = future()
            task = loop.create_task(tcp_echo())
            task.add_done_callback(lambda task: done.set_result(task.result()))
            assert await done == b'hello\n'

    async def nest(loop, other):
        main_loop = GLib.MainLoop()
        guard = GLib.timeout_add(LOST_MS, main_loop.quit)
        task = other.create_task(tcp_echo())
        task.add_done_callback(lambda _: main_loop.quit())
        main_loop.run()
        GLib.source_remove(guard)
        assert asyncio.get_running_loop() is loop
        return task.result()

    with caught_by_hook() as caught:
        gaio.run(main())
        with installed() as loop, installed() as other:
            assert run_in_main_loop(loop, nest(loop, other)) == b'hello\n'
    assert not caught, caught


def test_installed_loop_takes_the_signal_handlers_that_asyncio_takes():
    """And is as particular about signals."""
    async def coroutine():
        pass

    with installed() as loop:
        started = coroutine()
        for bad, error in ((coroutine, TypeError), (started, TypeError)):
            with raises(error):
                loop.add_signal_handler(signal.SIGUSR1, bad)
        started.close()
        for number, error in (('USR1', TypeError), (0, ValueError), (1000, ValueError),
                              (signal.SIGKILL, RuntimeError)):
            with raises(error):
                loop.add_signal_handler(number, int)
        for number, error in (('USR1', TypeError), (0, ValueError), (1000, ValueError)):
            with raises(error):
                loop.remove_signal_handler(number)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    with raises(RuntimeError):
        loop.add_signal_handler(signal.SIGUSR1, int)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_signal_handler_of_an_installed_loop_has_the_context_of_who_added_it():
    """The one of contextvars."""
    variable = contextvars.ContextVar('variable', default='none')

    async def main(loop):
        heard = future()
        variable.set('added')
        loop.add_signal_handler(signal.SIGUSR1, lambda: heard.set_result(variable.get()))
        idle(os.kill, os.getpid(), signal.SIGUSR1)
        return await heard

    with installed() as loop:
        assert run_in_main_loop(loop, main(loop)) == 'added'


def by_main_loop(main_context):
    """How to run it, and how to end that."""
    main_loop = GLib.MainLoop(main_context)
    return main_loop.run, main_loop.quit


def by_iterations(main_context):
    over = []

    def run():
        while not over:
            main_context.iteration(True)

    return run, lambda: over.append(True)


def by_gaio(main_context):
    cancellable = Gio.Cancellable()
    context = Gaio.Context.ref_for_main_context(main_context)
    return lambda: context.run(main_context, cancellable), cancellable.cancel


def hear_signal(loop, main_context, how, in_loop):
    """One that comes while the main context waits, whose handler is added before, or in there."""
    run, end = how(main_context)
    heard = []

    def on_signal():
        heard.append(True)
        end()

    def listen():
        loop.add_signal_handler(signal.SIGUSR1, on_signal)

    def kill():
        tap.wait_until_main_sleeps()
        os.kill(os.getpid(), signal.SIGUSR1)

    def start():
        if in_loop:
            listen()
        thread.start()

    def lose():
        end()
        # Python calls its handler now.
        heard.append(False)

    thread = threading.Thread(target=kill)
    if not in_loop:
        listen()
    add_timeout(main_context, 0, start)
    guard = add_timeout(main_context, LOST_MS, lose)
    run()
    thread.join()
    guard.destroy()
    assert heard == [True], heard


def test_installed_loop_hears_signals_in_a_main_context_of_its_own():
    """However that is run, again and again. Nobody listens when it is closed."""
    mine = GLib.MainContext()
    left = []
    for in_loop in (False, True):
        with installed(mine) as loop:
            for how in 2 * (by_main_loop, by_iterations, by_gaio):
                hear_signal(loop, mine, how, in_loop)
        assert signal.set_wakeup_fd(-1) == -1
        left.append(open_fds())
    # The first use opens what stays.
    assert left[0] == left[1], left


def test_ctrl_c_ends_a_main_loop_with_an_installed_loop():
    """Also one in a main context of its own, when nothing else happens."""
    for main_context in (None, GLib.MainContext()):
        with installed(main_context):
            main_loop = GLib.MainLoop(main_context)
            thread = threading.Thread(
                target=lambda: tap.wait_until_main_sleeps() or os.kill(os.getpid(), signal.SIGINT))
            add_timeout(main_context, 0, thread.start)
            lost = []
            guard = add_timeout(main_context, LOST_MS, lambda: lost.append(True))
            with raises(KeyboardInterrupt):
                main_loop.run()
            thread.join()
            guard.destroy()
            assert not lost
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_debug_mode_checks_the_thread_between_turns_of_an_installed_loop():
    """As asyncio does while a loop is running. Whoever runs the main context may call, and any
    thread call_soon_threadsafe()."""
    def call(results):
        for function, args in ((loop.call_soon, ()), (loop.call_later, (0,)),
                               (loop.call_at, (loop.time(),)), (loop.call_soon_threadsafe, ())):
            try:
                function(*args, results.append, 'called')
            except RuntimeError:
                results.append(function.__name__)

    def run(results):
        mine.push_thread_default()
        add_timeout(mine, 0, lambda: call(results))
        while len(results) < 4:
            mine.iteration(True)
        mine.pop_thread_default()

    mine = GLib.MainContext()
    with installed(mine) as loop:
        loop.set_debug(True)
        refused, taken = [], []
        for target in (call, run):
            thread = threading.Thread(target=target, args=(refused if target is call else taken,))
            thread.start()
            thread.join()
        assert sorted(refused) == ['call_at', 'call_later', 'call_soon', 'called'], refused
        assert taken == 4 * ['called'], taken
        call(taken)


# Files and GIO in coroutines.

def test_readable_and_writable():
    """For numbers and for what has a fileno(), and both for one fd at a time."""
    async def main():
        with pair() as (one, other):
            await gaio.writable(one)
            for file in (one, one.fileno()):
                waiting = asyncio.create_task(gaio.readable(file))
                await asyncio.sleep(0)
                await gaio.writable(file)
                assert not waiting.done()
                other.send(b'x')
                await waiting
                assert one.recv(8) == b'x'

    gaio.run(main())


def test_cancelled_wait_is_removed():
    """Nothing watches the fd any more, and it can be waited for again."""
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (one, other):
            before = watched()
            for _ in range(10):
                task = asyncio.create_task(gaio.readable(one))
                await asyncio.sleep(0)
                task.cancel()
                with raises(asyncio.CancelledError):
                    await task
                assert watched() == before
                assert not loop.remove_reader(one)
            with raises(asyncio.TimeoutError):
                await asyncio.wait_for(gaio.readable(one), 0.001)
            other.send(b'x')
            await gaio.readable(one)
            assert one.recv(8) == b'x'

    with left_as_it_was():
        gaio.run(main())


def test_any_number_waits_for_one_fd():
    """Also beside add_reader(). All are told, and each that leaves leaves the others alone."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        with pair() as (one, other):
            loop.add_reader(one, calls.append, 'reader')
            waiting = [asyncio.create_task(gaio.readable(one)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting.pop().cancel()
            await asyncio.sleep(0)
            assert not calls and not any(task.done() for task in waiting)
            other.send(b'x')
            await asyncio.gather(*waiting)
            while not calls:
                await asyncio.sleep(0)
            loop.remove_reader(one)

    gaio.run(main())


def test_wait_for_what_is_not_open_fails():
    """At once, as an OSError."""
    async def main():
        with pair() as (one, _):
            number = one.fileno()
        for wait in (gaio.readable, gaio.writable):
            with raises(OSError, errno.EBADF):
                await wait(number)

    gaio.run(main())


def test_wrap_returns_what_finish_returns():
    """As the method that blocks does."""
    async def main():
        with tempfile.NamedTemporaryFile() as file:
            file.write(b'contents')
            file.flush()
            gfile = Gio.File.new_for_path(file.name)
            assert await gaio.wrap(gfile.load_contents_async) == gfile.load_contents(None)
            assert await size_of(file.name) == len(b'contents')

    gaio.run(main())


def test_wrap_raises_what_finish_raises():
    """A GLib.Error."""
    async def main():
        gfile = Gio.File.new_for_path('/nowhere')
        try:
            await gaio.wrap(gfile.load_contents_async)
        except GLib.Error as error:
            assert error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.NOT_FOUND), repr(error)
        else:
            assert False, 'no exception'

    gaio.run(main())


def test_wrap_that_is_cancelled_cancels_the_operation():
    """It has taken nothing from the stream, and another can be started."""
    async def main():
        reader, writer = os.pipe()
        stream = Gio.UnixInputStream.new(reader, True)
        for _ in range(3):
            task = asyncio.create_task(gaio.wrap(stream.read_bytes_async, 8, GLib.PRIORITY_DEFAULT))
            await asyncio.sleep(0)
            assert stream.has_pending()
            task.cancel()
            with raises(asyncio.CancelledError):
                await task
            while stream.has_pending():
                await asyncio.sleep(0)
        os.write(writer, b'x')
        data = await gaio.wrap(stream.read_bytes_async, 8, GLib.PRIORITY_DEFAULT)
        assert data.get_data() == b'x'
        os.close(writer)
        stream.close()

    with left_as_it_was():
        gaio.run(main())


def test_wrap_with_a_cancellable_of_ones_own():
    """To cancel that, from GLib, cancels what waits for it."""
    async def main():
        reader, writer = os.pipe()
        stream = Gio.UnixInputStream.new(reader, True)
        cancellable = Gio.Cancellable()
        idle(cancellable.cancel)
        with raises(asyncio.CancelledError):
            await gaio.wrap(stream.read_bytes_async, 8, GLib.PRIORITY_DEFAULT,
                            cancellable=cancellable)
        os.close(writer)
        stream.close()

    with left_as_it_was():
        gaio.run(main())


def test_wrap_checks_arguments():
    """One too few and one too many, and then nothing has been started."""
    async def main():
        gfile = Gio.File.new_for_path('/')
        for args in ((), ('standard::*', Gio.FileQueryInfoFlags.NONE, 0, 'too many')):
            with raises(TypeError):
                await gaio.wrap(gfile.query_info_async, *args)

    gaio.run(main())


def test_wrap_works_in_an_installed_loop():
    """As in a loop that is run."""
    with installed() as loop:
        assert run_in_main_loop(loop, size_of(__file__)) == os.path.getsize(__file__)


# All at once, with a real bus.

@contextlib.contextmanager
def bus():
    """Makes connections to a dbus-daemon."""
    address = os.environ.get('DBUS_SESSION_BUS_ADDRESS')
    if not address:
        raise tap.Skip('there is no session bus: use dbus-run-session')
    flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
             | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
    connections = [Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
                   for _ in range(2)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close_sync(None)


def export_doubler(connection):
    """A service with a method and a signal."""
    def on_call(connection, sender, path, interface, method, parameters, invocation):
        result = GLib.Variant('(i)', (2 * parameters[0],))
        connection.emit_signal(None, path, interface, 'Doubled', result)
        invocation.return_value(result)

    interface = Gio.DBusNodeInfo.new_for_xml(SERVICE).interfaces[0]
    connection.register_object('/', interface, on_call, None, None)


async def double(connection, name, number):
    done = future()

    def on_answer(connection, result):
        done.set_result(connection.call_finish(result)[0])

    connection.call(name, '/', 'org.gaio.Test', 'Double', GLib.Variant('(i)', (number,)),
                    GLib.VariantType('(i)'), Gio.DBusCallFlags.NONE, -1, None, on_answer)
    return await done


async def call_and_hear(service, client, number):
    """A call and its answer, and the signal in between."""
    heard = future()

    def on_signal(connection, sender, path, interface, signal_name, parameters):
        if not heard.done():
            heard.set_result(parameters[0])

    subscription = client.signal_subscribe(None, 'org.gaio.Test', 'Doubled', '/', None,
                                           Gio.DBusSignalFlags.NONE, on_signal)
    try:
        return await double(client, service.get_unique_name(), number), await heard
    finally:
        client.signal_unsubscribe(subscription)


def test_dbus_while_asyncio_waits():
    """Both ends in this process: calls, answers and signals go through the bus."""
    async def main(service, client):
        for number in range(20):
            assert await call_and_hear(service, client, number) == (2 * number, 2 * number)

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


def test_wrap_works_for_what_is_not_called_async():
    """Calls, constructors and functions, which have a _finish as well."""
    async def main(service, client):
        number = GLib.Variant('(i)', (3,))
        answer = await gaio.wrap(client.call, service.get_unique_name(), '/', 'org.gaio.Test',
                                 'Double', number, None, Gio.DBusCallFlags.NONE, -1)
        assert answer.unpack() == (6,)
        proxy = await gaio.wrap(Gio.DBusProxy.new, client, Gio.DBusProxyFlags.NONE, None,
                                service.get_unique_name(), '/', 'org.gaio.Test')
        answer = await gaio.wrap(proxy.call, 'Double', number, Gio.DBusCallFlags.NONE, -1)
        assert answer.unpack() == (6,)
        with raises(GLib.Error):
            await gaio.wrap(proxy.call, 'Triple', number, Gio.DBusCallFlags.NONE, -1)
        session = await gaio.wrap(Gio.bus_get, Gio.BusType.SESSION)
        assert session.get_unique_name()
        session.set_exit_on_close(False)

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


def test_wrap_fills_in_what_is_beside_the_callback():
    """Another callback, which gets what C's gets, its notify, and what is only given back."""
    async def main(service, client):
        paths = []

        def get_proxy_type(manager, path, interface):
            paths.append(path)
            return (Gio.DBusProxy if interface else Gio.DBusObjectProxy).__gtype__

        server = Gio.DBusObjectManagerServer.new('/')
        skeleton = Gio.DBusObjectSkeleton.new('/thing')
        server.export(skeleton)
        server.set_connection(service)
        manager = await wrap(Gio.DBusObjectManagerClient.new, client,
                             Gio.DBusObjectManagerClientFlags.NONE, service.get_unique_name(), '/',
                             get_proxy_type)
        assert [thing.get_object_path() for thing in manager.get_objects()] == ['/thing'], paths
        assert '/thing' in paths, paths
        call = Gio.DBusMessage.new_method_call(service.get_unique_name(), '/', 'org.gaio.Test',
                                               'Double')
        call.set_body(GLib.Variant('(i)', (3,)))
        answer = await wrap(client.send_message_with_reply, call,
                            Gio.DBusSendMessageFlags.NONE, -1)
        assert answer.get_body().unpack() == (6,)

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


def test_wrap_refuses_what_pygobject_makes_of_an_unknown_name():
    """For a method of D-Bus it says how to call it."""
    async def main(service, client):
        proxy = await gaio.wrap(Gio.DBusProxy.new, client, Gio.DBusProxyFlags.NONE, None,
                                service.get_unique_name(), '/', 'org.gaio.Test')
        try:
            await wrap(proxy.Double, '(i)', 3)
        except TypeError as error:
            assert "gaio.wrap(proxy.call, 'Double'" in str(error), error
        else:
            assert False, 'no TypeError'

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


async def everything(service, client):
    ticks = 0

    def tick():
        nonlocal ticks
        ticks += 1
        return True

    source = GLib.timeout_add(1, tick)
    for number in range(5):
        results = await asyncio.gather(
            call_and_hear(service, client, number), output_of('echo', 'child'), tcp_echo(),
            asyncio.to_thread(pow, 2, 3), asyncio.sleep(0.002, 'slept'))
        expected = [(2 * number, 2 * number), (b'child\n', 0), b'hello\n', 8, 'slept']
        assert results == expected, results
    while ticks < 3:
        await asyncio.sleep(0.001)
    GLib.source_remove(source)
    return True


def test_everything_at_once():
    """A GLib timeout, D-Bus, children, TCP, threads and timers."""
    with bus() as (service, client):
        export_doubler(service)
        assert gaio.run(everything(service, client))


def test_everything_at_once_in_an_installed_loop():
    """The same, in GLib's main loop."""
    with bus() as (service, client), installed() as loop:
        export_doubler(service)
        assert run_in_main_loop(loop, everything(service, client))


tap.run(globals())
