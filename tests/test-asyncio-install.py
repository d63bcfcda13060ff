# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio in a program that runs GLib's main loop."""

import asyncio
import contextlib
import contextvars
import gc
import math
import os
import signal
import sys
import threading
import time
import warnings
import weakref

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from asyncio_support import (
    LOST_MS, TURNS, future, idle, in_thread, installed, left_as_it_was, open_fds, output_of, pair,
    raises, run_in_main_loop, run_nested, tcp_echo)
from gaio._hosted import HostedEventLoop
from gi.repository import Gaio, Gio, GLib


def add_timeout(main_context, ms, function):
    source = GLib.timeout_source_new(ms)
    source.set_callback(lambda *_: function() and False)
    source.attach(main_context)
    return source


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


def test_installed_loop_closes_async_generators_that_nobody_finishes():
    """As asyncio does, of tasks and of GLib callbacks; afterwards, others are left alone."""
    ended = []

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append('closed')

    def abandon():
        with contextlib.suppress(StopIteration):
            numbers().__anext__().send(None)

    async def main():
        idle(abandon)
        async for _ in numbers():
            break
        gc.collect()
        while len(ended) < 2:
            await asyncio.sleep(0.001)
        return True

    hooks = sys.get_asyncgen_hooks()
    with installed() as loop:
        assert run_in_main_loop(loop, main())
        assert sys.get_asyncgen_hooks() == hooks
        idle(loop.close)
        run_nested([])
        assert sys.get_asyncgen_hooks() == hooks


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


def test_runner_ends_what_a_main_loop_has_left():
    """Also after Ctrl-C, which raises a KeyboardInterrupt."""
    async def work():
        try:
            await future()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    def run(end):
        with asyncio.Runner(loop_factory=gaio.install):
            gaio.create_task(work())
            main_loop = GLib.MainLoop()
            GLib.idle_add(end, main_loop)
            main_loop.run()

    ended = []
    with left_as_it_was():
        run(lambda main_loop: main_loop.quit())
        with raises(KeyboardInterrupt):
            run(lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert ended == [True, True], ended


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


def test_installed_loop_that_is_closed_lets_go_of_what_sleeps():
    """As a loop of asyncio does."""
    ended = []
    tasks = []

    async def sleep():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async def main(loop):
        tasks.append(loop.create_task(sleep()))
        await asyncio.sleep(0)

    with installed() as loop:
        # Of a task that is destroyed while it is pending.
        loop.set_exception_handler(lambda *_: None)
        run_in_main_loop(loop, main(loop))
    tasks.clear()
    gc.collect()
    assert ended


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


def test_hooks_of_a_task_stay():
    """Those for asynchronous generators, from one turn of an installed loop to the next."""
    async def main():
        mine = []
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=mine.append)
        try:
            for _ in range(3):
                await asyncio.sleep(0.001)
                assert sys.get_asyncgen_hooks().firstiter == mine.append
                assert asyncio.get_running_loop() is not None
        finally:
            sys.set_asyncgen_hooks(*before)
        return True

    with installed() as loop:
        assert run_in_main_loop(loop, main())


def test_loop_that_is_installed_in_a_nested_main_loop_runs_in_the_outer_one():
    """After the one that ran there is closed."""
    outer, nested = GLib.MainLoop(), GLib.MainLoop()
    running = []

    def install_again():
        asyncio.get_running_loop().close()
        running.append(gaio.install())
        nested.quit()

    def run_nested_loop():
        idle(install_again)
        nested.run()
        idle(lambda: (running.append(asyncio.get_running_loop()), outer.quit()))

    gaio.install()
    idle(run_nested_loop)
    outer.run()
    running[0].close()
    assert running[0] is running[1], running
    assert asyncio._get_running_loop() is None


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
        with installed() as loop, tap.caught_by_hook() as caught:
            assert run_in_main_loop(loop, main(loop, delay))
            turns = []
            turn, loop._run_once = loop._run_once, lambda: turns.append(turn())
            main_loop = GLib.MainLoop()
            GLib.timeout_add(20, main_loop.quit)
            main_loop.run()
            del loop._run_once
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
        with installed() as loop, tap.caught_by_hook() as caught:
            assert run_in_main_loop(loop, main(loop, n_turns))
        assert caught == 3 * [KeyboardInterrupt], caught


def test_exception_of_a_signal_handler_in_a_turn_of_an_installed_loop():
    """It may come out of any line, such as those that ask for the time."""
    class Alarm(Exception):
        pass

    async def main(loop, n_calls):
        calls = []

        def time_with_a_signal():
            calls.append('time')
            if len(calls) == n_calls:
                raise Alarm
            return time.monotonic()

        for _ in range(3):
            await asyncio.sleep(0.001)
        loop.time = time_with_a_signal
        while len(calls) < n_calls:
            done = future()
            idle(loop.call_soon, done.set_result, True)
            await done
        del loop.time
        return True

    for n_calls in range(1, 20):
        with installed() as loop, tap.caught_by_hook() as caught:
            assert run_in_main_loop(loop, main(loop, n_calls))
        assert caught == [Alarm], caught


def test_installed_loop_drops_timers_that_were_cancelled():
    """With their contexts, while no timer is due."""
    class Load:
        pass

    variable = contextvars.ContextVar('variable')
    loads = weakref.WeakSet()

    async def request(loop):
        load = Load()
        loads.add(load)
        variable.set(load)
        loop.call_later(3600, print).cancel()

    async def main(loop, first):
        for timer in first:
            loop.call_later(timer, print)
        for _ in range(1000):
            await asyncio.create_task(request(loop))
        await asyncio.sleep(0)
        gc.collect()
        return len(loads)

    for first in ([], [1800]):
        with installed() as loop:
            n_kept = run_in_main_loop(loop, main(loop, first))
        assert n_kept <= 200, n_kept


def test_debug_mode_of_an_installed_loop_shows_who_has_scheduled_a_callback():
    """And not what the loop itself calls for that."""
    with installed() as loop:
        loop.set_debug(True)
        for handle in (loop.call_soon(print), loop.call_later(1, print),
                       loop.call_at(loop.time() + 1, print)):
            handle.cancel()
            assert handle._source_traceback[-1].filename == __file__, handle


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

    with installed() as loop, tap.caught_by_hook() as caught:
        assert run_in_main_loop(loop, main(loop))
    assert not caught, caught
    with left_as_it_was():
        pass


def test_installed_loop_in_a_loop_that_is_run():
    """And two of one main context, where a callback of the one runs a main loop. gaio.install()
    refuses to make them."""
    async def main():
        with contextlib.closing(HostedEventLoop()) as loop:
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

    with tap.caught_by_hook() as caught:
        gaio.run(main())
        with installed() as loop, contextlib.closing(HostedEventLoop()) as other, \
                warnings.catch_warnings():
            warnings.simplefilter('ignore', RuntimeWarning)
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


def is_running(loop):
    """What asyncio and the loop say of it. They agree."""
    running = asyncio._get_running_loop() is loop
    assert loop.is_running() is running
    return running


def run_application(on_activate, on_startup=int):
    application = Gio.Application(application_id=None, flags=Gio.ApplicationFlags.NON_UNIQUE)
    application.connect('startup', lambda _: on_startup())
    application.connect('activate', on_activate)
    assert application.run([]) == 0


def test_create_task_in_a_glib_callback_of_a_program_with_an_installed_loop():
    """It is what a button does: in each kind of main loop, and where the application is activated,
    also if the loop is made there."""
    results = []
    loops = []

    async def main(end):
        results.append(await tcp_echo())
        end()

    def on_activate(application):
        application.hold()
        results.append(asyncio.create_task(main(application.release)))

    with installed():
        for how in (by_main_loop, by_gaio):
            run, end = how(GLib.MainContext.default())
            idle(lambda end=end: results.append(asyncio.create_task(main(end))))
            run()
        run_application(on_activate)
    run_application(on_activate, lambda: loops.append(gaio.install()))
    loops[0].close()
    assert results[1::2] == 4 * [b'hello\n'], results


def test_installed_loop_is_running_while_a_main_loop_is():
    """Before and after, none is: asyncio.run() works. In callbacks, it is between two turns."""
    seen = []
    with installed() as loop:
        main_loop = GLib.MainLoop()

        def look():
            seen.append(is_running(loop))
            nested = GLib.MainLoop()
            idle(lambda: seen.append(is_running(loop)) or nested.quit())
            nested.run()
            seen.append(is_running(loop))
            seen.append(loop.run_until_complete(asyncio.sleep(0, 'done')))
            seen.append(is_running(loop))
            loop.call_soon(lambda: seen.append(is_running(loop)) or main_loop.quit())

        assert not is_running(loop)
        idle(look)
        main_loop.run()
        assert not is_running(loop)
        assert asyncio.run(asyncio.sleep(0, 'run')) == 'run'
        run_application(lambda _: seen.append(is_running(loop)))
        mine = GLib.MainContext()
        other = GLib.MainLoop(mine)
        add_timeout(mine, 0, lambda: seen.append(not is_running(loop)) or other.quit())
        other.run()
    assert seen == [True, True, True, 'done', True, True, True, True], seen


def test_other_threads_see_that_an_installed_loop_is_running():
    """Also while the main loop waits, as they do of a loop of asyncio."""
    seen = []
    with installed() as loop:
        main_loop = GLib.MainLoop()

        def look():
            seen.append(loop.is_running())
            loop.call_soon_threadsafe(main_loop.quit)

        thread = threading.Thread(target=look)
        idle(thread.start)
        main_loop.run()
        thread.join()
        seen.append(in_thread(loop.is_running))
    assert seen == [True, False], seen


def test_installed_loop_that_is_closed_in_a_callback_is_not_running():
    """Another one, which is installed there, is."""
    seen = []
    main_loop = GLib.MainLoop()

    def on_idle():
        loop.close()
        seen.append(is_running(loop) or asyncio._get_running_loop())
        with installed() as other:
            seen.append(is_running(other))
        main_loop.quit()

    loop = gaio.install()
    idle(on_idle)
    main_loop.run()
    assert seen == [None, True], seen
    assert asyncio._get_running_loop() is None


def test_stop_of_an_installed_loop_ends_the_main_loops():
    """All that run its main context, at the end of the iteration."""
    async def main(loop):
        task = asyncio.current_task()
        assert task in asyncio.all_tasks()
        loop.stop()
        loop.call_soon(calls.append, 'later')

    def nest(loop):
        nested = GLib.MainLoop()
        calls.append(loop.create_task(main(loop)))
        nested.run()

    calls = []
    with installed() as loop:
        main_loop = GLib.MainLoop()
        idle(nest, loop)
        main_loop.run()
        assert len(calls) == 1 and calls[0].done(), calls
        assert loop.run_until_complete(tcp_echo()) == b'hello\n'
        run_application(lambda application: application.hold() or loop.stop())
        main_context = GLib.MainContext.default()
        with raises(RuntimeError):
            assert main_context.acquire()
            try:
                loop.stop()
            finally:
                main_context.release()


def test_second_install_gives_the_same_loop():
    """Of a main context, until it is closed."""
    with installed() as loop:
        assert gaio.install() is loop
        assert gaio.install(GLib.MainContext.default()) is loop
        with installed(GLib.MainContext()) as other:
            assert other is not loop
    with installed() as again:
        assert again is not loop


def test_install_where_a_loop_runs_that_is_not_installed_is_refused():
    """In a task and in a GLib callback: the program would have two loops. Other threads have their
    own."""
    def refuse(main_context, done):
        with raises(RuntimeError) as raised:
            gaio.install(main_context)
        assert 'asyncio.get_running_loop()' in str(raised[0]), raised
        done.set_result(True)

    async def main():
        for main_context in (None, GLib.MainContext()):
            for call in (lambda refuse, *args: refuse(*args), idle):
                done = future()
                call(refuse, main_context, done)
                assert await done
        in_thread(lambda: gaio.install().close())
        return True

    with left_as_it_was():
        assert gaio.run(main())

    async def in_asyncio():
        refuse(None, future())

    asyncio.run(in_asyncio())


def test_install_where_an_installed_loop_runs():
    """Gives the same one, also in gaio.run() in a callback, or one for another main context."""
    async def main(loop):
        assert gaio.install() is loop

    async def main_of_callback(loop):
        idle(lambda: gaio.run(main(loop)) or done.set_result(True))
        done = future()
        assert await done
        await main(loop)
        with installed(GLib.MainContext()) as other:
            assert other is not loop

    with installed() as loop:
        run_in_main_loop(loop, main_of_callback(loop))


def test_create_task_before_the_main_loop_runs():
    """It starts when that does; and in a main loop that Python does not run."""
    async def main():
        return asyncio.get_running_loop()

    with installed() as loop:
        early = gaio.create_task(main())
        assert not early.done()
        assert loop.run_until_complete(early) is loop
        tasks = []
        idle(lambda: tasks.append(gaio.create_task(main())))
        while not (tasks and tasks[0].done()):
            GLib.MainContext.default().iteration(True)
        assert tasks[0].result() is loop


def test_create_task_takes_the_keywords_of_asyncio():
    """A name, and a context of contextvars."""
    variable = contextvars.ContextVar('variable')

    async def main():
        return variable.get()

    context = contextvars.copy_context()
    context.run(variable.set, 'set')
    with installed() as loop:
        task = gaio.create_task(main(), name='main', context=context)
        assert task.get_name() == 'main'
        assert loop.run_until_complete(task) == 'set'


def test_create_task_without_a_loop_is_refused():
    """It says what is missing, and there is no warning of the coroutine."""
    def refuse():
        with raises(RuntimeError) as raised:
            gaio.create_task(tcp_echo())
        assert 'gaio.install()' in str(raised[0]), raised

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        refuse()
        with installed():
            in_thread(refuse)
        refuse()
        gc.collect()
    assert not caught, caught


def test_wrong_arguments_of_a_main_loop_are_refused_by_it():
    """Not by what is told of it."""
    for run in (GLib.MainLoop().run, Gaio.Context.get_default().run):
        with raises(TypeError) as raised:
            run(1, 2, 3, 4)
        assert 'run() takes' in str(raised[0]), raised


def test_main_loop_in_a_task_is_warned_of():
    """On the line that runs it. There is nothing wrong with one in a callback."""
    async def main(run):
        run()

    def run_main_loop():
        main_loop = GLib.MainLoop()
        idle(main_loop.quit)
        main_loop.run()

    def run_context():
        cancellable = Gio.Cancellable()
        idle(cancellable.cancel)
        Gaio.Context.get_default().run(None, cancellable)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for run in (run_main_loop, run_context, lambda: run_application(lambda *_: None)):
            gaio.run(main(run))
            with installed() as loop:
                run_in_main_loop(loop, main(run))
        with installed() as loop:
            idle(run_main_loop)
            run_in_main_loop(loop, asyncio.sleep(0.001))
    assert len(caught) == 6, caught
    for warning in caught:
        assert warning.filename == __file__ and 'run() in a task' in str(warning.message), warning


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


tap.run(globals())
