# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C, and other signals, while Python waits in a loop of ours."""

import asyncio
import contextlib
import os
import signal
import threading

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from gi.repository import Gaio, Gio, GLib


@contextlib.contextmanager
def ctrl_c_when(context, signal_number=signal.SIGINT):
    """In the block, once the loop of the context runs and waits, a signal comes."""
    inside = threading.Event()

    def kill():
        inside.wait()
        tap.wait_until_main_sleeps()
        os.kill(os.getpid(), signal_number)

    thread = threading.Thread(target=kill)
    thread.start()
    context.defer(inside.set)
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def interrupted():
    """The block ends with a KeyboardInterrupt, and leaves all as it was."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    else:
        assert False, 'no KeyboardInterrupt'
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


@contextlib.contextmanager
def watched_pipe(context):
    """Checks at the end of the block that the handler is still there, and is called."""
    reader, writer = os.pipe()
    calls = []

    def on_readable(fd, condition):
        calls.append(os.read(fd, 8))
        return GLib.SOURCE_CONTINUE

    with context.add_fd(reader, 'r', on_readable) as handler:
        yield
        assert not handler.is_removed()
        os.write(writer, b'x')
        while not calls:
            context.iterate(0)
    os.close(reader)
    os.close(writer)


def iterate_for_ever(context):
    while True:
        context.iterate(-1)


def test_iterate():
    """With and without a limit to how long it waits."""
    for timeout_us in (-1, 3600 * 1000000):
        context = Gaio.Context()
        with watched_pipe(context), interrupted(), ctrl_c_when(context):
            while True:
                context.iterate(timeout_us)


def test_every_monitor():
    """Whatever the kernel is asked with."""
    for monitor in (Gaio.MonitorType.EPOLL, Gaio.MonitorType.POLL):
        context = Gaio.Context(monitor=monitor)
        with watched_pipe(context), interrupted(), ctrl_c_when(context):
            iterate_for_ever(context)


def test_run():
    """In the default main context and in another; the caller's cancellable is not cancelled."""
    for main_context in (None, GLib.MainContext()):
        for cancellable in (None, Gio.Cancellable()):
            context = Gaio.Context()
            with watched_pipe(context), interrupted(), ctrl_c_when(context):
                context.run(main_context, cancellable)
            assert cancellable is None or not cancellable.is_cancelled()


def test_iterate_in_a_main_loop():
    """Leaves both."""
    context = Gaio.Context()
    GLib.idle_add(lambda: context.iterate(-1) and context.iterate(-1) and False)
    with watched_pipe(context), interrupted(), ctrl_c_when(context):
        GLib.MainLoop().run()


def test_main_loop_in_iterate():
    """Leaves both."""
    context = Gaio.Context()
    shared = Gaio.Context.get_default()
    context.defer(lambda: GLib.MainLoop().run())
    with watched_pipe(context), interrupted(), ctrl_c_when(shared):
        iterate_for_ever(context)


def test_main_loop_in_iterate_in_a_main_loop():
    """Leaves all three."""
    context = Gaio.Context()
    shared = Gaio.Context.get_default()
    context.defer(lambda: GLib.MainLoop().run())
    GLib.idle_add(lambda: context.iterate(-1) and False)
    with watched_pipe(context), interrupted(), ctrl_c_when(shared):
        GLib.MainLoop().run()


def test_main_loop_in_run():
    """Leaves both."""
    context = Gaio.Context()
    context.defer(lambda: GLib.MainLoop().run())
    context.attach()
    with watched_pipe(context), interrupted(), ctrl_c_when(context):
        context.run()


def test_iterate_in_iterate():
    """Of the same context and of another."""
    outer = Gaio.Context()
    for inner in (outer, Gaio.Context()):
        outer.defer(lambda inner=inner: inner.iterate(-1) and inner.iterate(-1))
        with watched_pipe(outer), interrupted(), ctrl_c_when(inner):
            iterate_for_ever(outer)


def test_iterate_that_returns_in_run():
    """The run further out still hears of it."""
    context = Gaio.Context()
    context.defer(lambda: context.iterate(1))
    with watched_pipe(context), interrupted(), ctrl_c_when(context):
        context.run()


def test_signal_wakes_only_who_waits_in_the_main_thread():
    """Not a context that did so before, and has moved to another thread."""
    moved, context = Gaio.Context(), Gaio.Context()
    moved.iterate(1)
    results, calls = [], []
    thread = threading.Thread(target=lambda: results.append(moved.iterate(-1)))
    thread.start()
    old = signal.signal(signal.SIGUSR1, lambda *_: calls.append('signal'))
    for n in range(1, 21):
        with ctrl_c_when(context, signal.SIGUSR1):
            while len(calls) < n:
                context.iterate(-1)
    signal.signal(signal.SIGUSR1, old)
    moved.wakeup()
    thread.join()
    assert results == [False], results


def test_callback_is_not_interrupted():
    """One that runs is run to its end, and its handler stays."""
    for loop in (iterate_for_ever, Gaio.Context.run):
        context = Gaio.Context()
        calls = []

        def on_tick(calls=calls):
            calls.append('begin')
            if len(calls) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            calls.append('end')
            return GLib.SOURCE_CONTINUE

        with context.add_timeout(1000, on_tick) as timer, interrupted():
            loop(context)
        assert calls[:2] == ['begin', 'end'], calls


def select_for_ever():
    with gaio.Selector() as selector:
        while True:
            selector.select(3600)


def run_for_ever():
    loop = gaio.EventLoop()
    try:
        loop.run_forever()
    finally:
        assert not loop.is_running()
        loop.close()


def run_until_never():
    loop = gaio.EventLoop()
    never = loop.create_future()
    try:
        loop.run_until_complete(never)
    finally:
        loop.close()


def run_for_ever_by_the_policy():
    old = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(gaio.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    try:
        loop.run_forever()
    finally:
        loop.close()
        asyncio.set_event_loop_policy(old)


def run_deaf():
    """A main task that is not to be cancelled: asyncio.Runner raises what the second Ctrl-C is."""
    interruptions = []

    async def main():
        while not interruptions:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    with asyncio.Runner(loop_factory=gaio.EventLoop) as runner:
        try:
            runner.run(main())
        finally:
            interruptions.append(True)


ASYNCIO_LOOPS = (select_for_ever, run_for_ever, run_until_never, run_for_ever_by_the_policy)


def kill():
    os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def glib_callback_that_hears_ctrl_c(times=1):
    """A source that Ctrl-C comes in. It is called to its end, and stays."""
    calls = []

    def on_idle():
        calls.append('begin')
        if len(calls) < 2 * times:
            kill()
        calls.append('end')
        return GLib.SOURCE_CONTINUE

    source = GLib.idle_add(on_idle)
    yield
    assert calls[::2] == ['begin'] * (len(calls) // 2) and set(calls[1::2]) == {'end'}, calls
    assert GLib.MainContext.default().find_source_by_id(source) is not None
    GLib.source_remove(source)


def test_asyncio_hears_ctrl_c_while_it_waits():
    """With nothing else to do."""
    for loop in ASYNCIO_LOOPS:
        with interrupted(), ctrl_c_when(Gaio.Context.get_default()):
            loop()


def test_asyncio_hears_ctrl_c_in_a_callback_of_glib():
    """The callback is not what hears it."""
    for loop in ASYNCIO_LOOPS:
        with glib_callback_that_hears_ctrl_c(), interrupted():
            loop()


def test_asyncio_hears_ctrl_c_twice_in_one_callback_of_glib():
    """Who is impatient does not end the callback, either."""
    def on_idle(calls):
        for _ in range(3):
            kill()
            # Python calls its handler.
            calls.append(threading.get_ident())
        return GLib.SOURCE_CONTINUE

    for loop in (*ASYNCIO_LOOPS, run_deaf):
        calls = []
        source = GLib.idle_add(on_idle, calls)
        with interrupted():
            loop()
        assert len(calls) % 3 == 0, calls
        assert GLib.MainContext.default().find_source_by_id(source) is not None
        GLib.source_remove(source)


def test_asyncio_runner_hears_the_second_ctrl_c_in_a_callback_of_glib():
    """The first cancels the task."""
    with glib_callback_that_hears_ctrl_c(times=2), interrupted():
        run_deaf()


def test_asyncio_hears_ctrl_c_in_a_main_loop_in_a_callback_of_glib():
    """Leaves both."""
    for loop in ASYNCIO_LOOPS:
        left = []

        def nest(left=left):
            GLib.idle_add(lambda: kill() and False)
            GLib.MainLoop().run()
            left.append(True)
            return False

        GLib.idle_add(nest)
        with interrupted():
            loop()
        assert left == [True]


def test_asyncio_in_a_main_loop_hears_ctrl_c():
    """Leaves both."""
    left = []

    def run(loop):
        GLib.idle_add(kill)
        try:
            loop()
        except KeyboardInterrupt:
            left.append(loop)

    for loop in ASYNCIO_LOOPS:
        GLib.idle_add(run, loop)
        with interrupted():
            GLib.MainLoop().run()
    assert left == list(ASYNCIO_LOOPS), left


def test_ctrl_c_before_the_wait_ends_it():
    """A handler that Python calls just before it enters C."""
    class Selector(gaio.Selector):
        def _wait(self, *args):
            kill()
            return super()._wait(*args)

    with interrupted(), Selector() as selector:
        selector.select()


def test_ctrl_c_in_a_callback_of_asyncio_is_raised_there():
    """As asyncio does, at once; who catches it goes on, and hears the next."""
    loop = gaio.EventLoop()
    calls = []

    def on_soon():
        try:
            kill()
            calls.append('not interrupted')
        except KeyboardInterrupt:
            calls.append('caught')
        loop.call_soon(on_soon if len(calls) < 3 else kill)

    loop.call_soon(on_soon)
    with interrupted():
        loop.run_forever()
    loop.close()
    assert calls == ['caught'] * 3, calls


def test_ctrl_c_in_a_main_loop_in_a_task():
    """Is raised by the main loop, and the task can go on."""
    async def main():
        GLib.idle_add(lambda: kill() and False)
        try:
            GLib.MainLoop().run()
        except KeyboardInterrupt:
            return 'caught'

    loop = gaio.EventLoop()
    assert loop.run_until_complete(main()) == 'caught'
    with interrupted():
        loop.call_soon(kill)
        loop.run_forever()
    loop.close()


def test_handler_of_the_program_is_called_at_once_by_asyncio():
    """Also in a callback of GLib, and is left alone."""
    for run in (lambda loop: loop.gaio_selector.select(0), lambda loop: loop.run_forever()):
        loop = gaio.EventLoop()
        calls = []

        def on_idle(loop=loop, calls=calls):
            kill()
            calls.append('end')
            loop.call_soon(loop.stop)
            return False

        def handler(*_, calls=calls):
            calls.append('signal')

        old = signal.signal(signal.SIGINT, handler)
        GLib.idle_add(on_idle)
        while not calls:
            run(loop)
        assert signal.getsignal(signal.SIGINT) is handler
        signal.signal(signal.SIGINT, old)
        loop.close()
        assert calls == ['signal', 'end'], calls


def test_other_signals_are_handled():
    """A handler of Python's runs at once, and the loop goes on."""
    context = Gaio.Context()
    calls = []
    old = signal.signal(signal.SIGUSR1, lambda *_: calls.append('signal'))
    with watched_pipe(context), ctrl_c_when(context, signal.SIGUSR1):
        while not calls:
            context.iterate(-1)
    signal.signal(signal.SIGUSR1, old)


def test_handler_of_the_program_is_left_alone():
    """Who has a SIGINT handler gets no KeyboardInterrupt."""
    context = Gaio.Context()
    calls = []
    old = signal.signal(signal.SIGINT, lambda *_: calls.append('signal'))
    with watched_pipe(context), ctrl_c_when(context):
        while not calls:
            context.iterate(-1)
    signal.signal(signal.SIGINT, old)


def test_other_threads_wait_undisturbed():
    """Signals are for the main thread alone."""
    context = Gaio.Context()
    results = []
    context.defer(lambda: results.append(threading.get_ident()))

    def wait():
        while not results:
            context.iterate(-1)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert results == [thread.ident], results


def test_child_process_has_a_pipe_of_its_own():
    """After fork() the two do not take each other's signals."""
    context = Gaio.Context()
    with watched_pipe(context), interrupted(), ctrl_c_when(context):
        iterate_for_ever(context)
    pid = os.fork()
    if pid == 0:
        # No thread survives fork(): the child sends the signal with an alarm.
        child = Gaio.Context()
        signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        iterate_for_ever(child)
    with watched_pipe(context), interrupted(), ctrl_c_when(context):
        iterate_for_ever(context)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_wakeup_fd_set_in_a_callback_stays():
    """As with GLib.MainLoop: who has begun to listen in there hears of signals afterwards."""
    outer_fd = signal.set_wakeup_fd(-1)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    context, cancellable = Gaio.Context(), Gio.Cancellable()

    def listen():
        signal.set_wakeup_fd(writer)
        cancellable.cancel()

    try:
        context.defer(listen)
        context.run(None, cancellable)
        assert signal.set_wakeup_fd(-1) == writer
    finally:
        signal.set_wakeup_fd(outer_fd)
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def signal_ends(main_loop, signal_number, ready):
    """In the block, once @ready is set and the main loop waits, a signal comes whose handler ends
    it, at once."""
    def kill():
        ready.wait()
        tap.wait_until_main_sleeps()
        os.kill(os.getpid(), signal_number)

    def on_late():
        late.append(True)
        main_loop.quit()
        return GLib.SOURCE_CONTINUE

    late = []
    old = signal.signal(signal_number, lambda *_: main_loop.quit())
    source = GLib.timeout_add_seconds(20, on_late)
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        GLib.source_remove(source)
        signal.signal(signal_number, old)
    assert not late


async def hear_usr1(leave=False):
    """By a signal handler of asyncio."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await heard.wait()
    if not leave:
        loop.remove_signal_handler(signal.SIGUSR1)


def run_in_a_loop_that_is_not_closed():
    loop = gaio.EventLoop()
    loop.run_until_complete(hear_usr1(leave=True))
    return loop


def run_a_loop_that_heard_before():
    loop = gaio.EventLoop()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.close()


def test_main_loop_hears_signals_after_asyncio_in_a_callback():
    """asyncio has had signal handlers in there, and has left none, or not."""
    for inner in (lambda: gaio.run(hear_usr1()), lambda: gaio.run(hear_usr1(leave=True)),
                  run_in_a_loop_that_is_not_closed, run_a_loop_that_heard_before):
        main_loop, ready = GLib.MainLoop(), threading.Event()
        kept = []

        def on_idle(inner=inner, kept=kept, ready=ready):
            kept.append(inner())
            ready.set()
            return GLib.SOURCE_REMOVE

        GLib.idle_add(on_idle)
        with signal_ends(main_loop, signal.SIGUSR2, ready):
            main_loop.run()
        if kept[0] is not None:
            kept[0].close()
        assert signal.set_wakeup_fd(-1) == -1


def test_main_loop_in_a_task_hears_signals():
    """When asyncio has got a signal handler in there, or before, in a main loop or not."""
    async def main(hears_before):
        loop = asyncio.get_running_loop()
        main_loop, ready = GLib.MainLoop(), threading.Event()

        def on_idle():
            loop.add_signal_handler(signal.SIGUSR1, int)
            ready.set()
            return GLib.SOURCE_REMOVE

        if hears_before:
            loop.add_signal_handler(signal.SIGHUP, int)
            await asyncio.sleep(0)
        GLib.idle_add(on_idle)
        with signal_ends(main_loop, signal.SIGUSR2, ready):
            main_loop.run()
        # It is asyncio's turn again.
        await hear_usr1()

    def run_in_a_main_loop(hears_before):
        outer = GLib.MainLoop()
        GLib.idle_add(lambda: gaio.run(main(hears_before)) or outer.quit())
        outer.run()

    for hears_before in (False, True):
        gaio.run(main(hears_before))
        run_in_a_main_loop(hears_before)
        assert signal.set_wakeup_fd(-1) == -1


def test_wakeup_fd_of_the_program_is_left_by_asyncio():
    """As long as asyncio has no signal handler; and it is there again afterwards."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    outer_fd = signal.set_wakeup_fd(writer)
    try:
        gaio.run(asyncio.sleep(0))
        assert signal.set_wakeup_fd(writer) == writer
        gaio.run(hear_usr1())
        assert signal.set_wakeup_fd(writer) == writer
    finally:
        signal.set_wakeup_fd(outer_fd)
        os.close(reader)
        os.close(writer)


def have_a_handler_of_asyncio_removed(loop):
    loop.add_signal_handler(signal.SIGINT, int)
    loop.remove_signal_handler(signal.SIGINT)


def raise_keyboard_interrupt(*_):
    raise KeyboardInterrupt


NEW_SIGINT_HANDLERS = (
    have_a_handler_of_asyncio_removed,
    lambda _loop: signal.signal(signal.SIGINT, signal.default_int_handler),
    lambda _loop: signal.signal(signal.SIGINT, raise_keyboard_interrupt),
)


def run_without_runner(main):
    loop = gaio.EventLoop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def test_ctrl_c_in_a_callback_of_glib_after_another_handler_was_set():
    """While the loop ran, by a task of it. The callback is not what hears it."""
    async def main(change, stack):
        change(asyncio.get_running_loop())
        stack.enter_context(glib_callback_that_hears_ctrl_c())
        await asyncio.sleep(3600)

    for run in (gaio.run, run_without_runner):
        for change in NEW_SIGINT_HANDLERS:
            is_interrupted = False
            try:
                with contextlib.ExitStack() as stack:
                    try:
                        run(main(change, stack))
                    except KeyboardInterrupt:
                        is_interrupted = True
                    assert is_interrupted
            finally:
                handler = signal.signal(signal.SIGINT, signal.default_int_handler)
            assert handler in (signal.default_int_handler, raise_keyboard_interrupt), handler


def test_ctrl_c_in_the_turn_in_which_asyncio_has_removed_its_handler():
    """Also when a callback of GLib has asked for that."""
    def on_idle(loop):
        have_a_handler_of_asyncio_removed(loop)
        kill()
        called.append(True)
        return GLib.SOURCE_REMOVE

    async def main():
        GLib.idle_add(on_idle, asyncio.get_running_loop())
        await asyncio.sleep(3600)

    for run in (gaio.run, run_without_runner):
        called = []
        with interrupted():
            run(main())
        assert called


def test_main_loop_hears_ctrl_c_after_asyncio_has_removed_its_handler():
    """In a callback of GLib, be it that close() has."""
    async def add(remove):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, int)
        if remove:
            loop.remove_signal_handler(signal.SIGINT)

    def on_idle(run, remove):
        if not called:
            run(add(remove))
        called.append(True)
        kill()
        return GLib.SOURCE_REMOVE

    for run in (gaio.run, run_without_runner):
        for remove in (True, False):
            called = []
            GLib.idle_add(on_idle, run, remove)
            with interrupted():
                GLib.MainLoop().run()
            assert called


def test_main_loop_hears_ctrl_c_after_the_installed_loop_has_removed_its_handler():
    """While the main loop ran."""
    loop = gaio.install()

    def on_soon():
        have_a_handler_of_asyncio_removed(loop)
        GLib.idle_add(kill)

    loop.call_soon(on_soon)
    with interrupted():
        GLib.MainLoop().run()
    loop.close()


def run_main_loop():
    GLib.MainLoop().run()


def run_shared_context():
    Gaio.Context.get_default().run()


def test_second_ctrl_c_ends_a_main_loop_in_run():
    """In a task and in a callback of GLib: the first has cancelled the task, which waits for it."""
    async def in_task(nested):
        GLib.idle_add(lambda: kill() or kill())
        nested()

    async def in_callback(nested):
        def on_idle():
            GLib.idle_add(lambda: kill() or kill())
            nested()

        GLib.idle_add(on_idle)
        await asyncio.sleep(3600)

    for nested in (run_main_loop, run_shared_context):
        for main in (in_task, in_callback):
            with interrupted():
                gaio.run(main(nested))


def test_ctrl_c_handler_of_glib_is_left_alone_by_the_loop():
    """GLib.unix_signal_add() sets it behind Python's back."""
    loop = gaio.EventLoop()
    source = GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT,
                                  lambda: loop.stop() or GLib.SOURCE_CONTINUE)
    loop.call_soon(kill)
    loop.run_forever()
    loop.close()
    GLib.source_remove(source)


if __name__ == '__main__':
    tap.run(globals())
