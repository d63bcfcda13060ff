# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio on Gaio: it is asyncio, it is GLib, and neither gets into the other's way."""

import asyncio
import contextlib
import contextvars
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from asyncio_support import future, idle, output_of, pair, raises, run_nested, tcp_echo, TURNS
from gi.repository import GLib

MANY_CONNECTIONS = 5000


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


def test_run_in_run_says_what_to_write():
    """And nothing of a coroutine that was never awaited."""
    async def main():
        with raises(RuntimeError) as raised:
            gaio.run(tcp_echo())
        for words in ('`await coroutine`', '`asyncio.create_task(coroutine)`'):
            assert words in str(raised[0]), raised

    with warnings.catch_warnings():
        warnings.simplefilter('error')
        gaio.run(main())


def test_new_event_loop():
    """Makes one for whoever asks for a factory."""
    with asyncio.Runner(loop_factory=gaio.new_event_loop) as runner:
        assert isinstance(runner.get_loop(), gaio.EventLoop)
        assert runner.run(tcp_echo()) == b'hello\n'


def test_loop_takes_a_selector():
    """One of ours: another would not run GLib, and is refused."""
    selector = gaio.Selector()
    loop = gaio.EventLoop(selector)
    assert loop.gaio_selector is selector
    assert loop.run_until_complete(tcp_echo()) == b'hello\n'
    loop.close()
    for make in (gaio.EventLoop, lambda selector: gaio.EventLoop(selector=selector)):
        with selectors.EpollSelector() as other, raises(TypeError) as raised:
            make(other)
        assert 'a GLib.MainContext or a gaio.Selector' in str(raised[0]), raised


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

    with tap.caught_by_hook() as caught:
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

    with tap.need_fds(2 * MANY_CONNECTIONS), contextlib.ExitStack() as stack:
        gaio.run(main([stack.enter_context(pair()) for _ in range(MANY_CONNECTIONS)]))


def test_hot_asyncio_does_not_starve_glib():
    """A callback that schedules itself again and again: GLib has its turn after two of them."""
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
    assert all(TURNS / 5 <= n <= 10 * TURNS for n in calls.values()), calls


def test_callbacks_that_follow_let_a_timer_pass():
    """They come in the order that asyncio has."""
    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        order = []

        def follow(n):
            order.append(n)
            if n < 3:
                loop.call_soon(follow, n + 1)
            else:
                done.set_result(order)

        loop.call_later(0, order.append, 'timer')
        loop.call_at(math.nan, order.append, 'not a number')
        follow(0)
        return await done

    assert gaio.run(main()) == asyncio.run(main()), gaio.run(main())


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

        # Two iterations of asyncio follow one of GLib, in which its source is called once.
        per_turn = gaio.run(main())
        assert 0.4 <= per_turn <= 2, per_turn


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


tap.run(globals())
