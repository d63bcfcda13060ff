# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library as Python sees it through GObject introspection."""

import os
import struct

import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio, GLib


def run_until(condition):
    """Iterate the default main context until condition() holds."""
    timed_out = []
    guard = GLib.timeout_add_seconds(30, lambda: timed_out.append(True) or GLib.SOURCE_CONTINUE)
    while not condition() and not timed_out:
        GLib.MainContext.default().iteration(True)
    GLib.source_remove(guard)
    assert condition(), 'nothing came within 30 s'


def test_fd_callback_gets_fd_condition_and_data():
    """A watch on the shared context is served by the ordinary main loop."""
    calls = []

    def on_readable(fd, condition, data):
        calls.append((fd, condition, data, os.read(fd, 8)))
        return GLib.SOURCE_REMOVE

    reader, writer = os.pipe()
    handler = Gaio.Context.get_default().add_fd(reader, GLib.IOCondition.IN, on_readable, 'data')
    os.write(writer, b'hello')
    run_until(lambda: calls)
    assert calls == [(reader, GLib.IOCondition.IN, 'data', b'hello')], calls
    assert handler.is_removed()
    os.close(reader)
    os.close(writer)


def test_exception_in_a_callback_removes_the_handler():
    """As in GLib: PyGObject turns an exception into FALSE."""
    import sys

    seen = []
    hook, sys.excepthook = sys.excepthook, lambda *arguments: seen.append(arguments[0])

    def on_readable(fd, condition):
        raise KeyError(fd)

    reader, writer = os.pipe()
    handler = Gaio.Context.get_default().add_fd(reader, GLib.IOCondition.IN, on_readable)
    os.write(writer, b'x')
    run_until(handler.is_removed)
    sys.excepthook = hook
    assert seen == [KeyError], seen
    os.close(reader)
    os.close(writer)


def test_error_is_raised():
    """A closed fd raises, and the exception matches the domain and the code."""
    never_open = 999
    try:
        Gaio.Context.new().add_fd(never_open, GLib.IOCondition.IN, lambda fd, condition: True)
    except GLib.Error as error:
        assert error.matches(Gaio.error_quark(), Gaio.Error.BAD_FD), error
        assert str(never_open) in error.message, error
    else:
        assert False, 'no exception'


def test_ready_set_gives_bytes():
    """A batch comes as bytes of 16-byte records."""
    context = Gaio.Context.new()
    ready = Gaio.ReadySet.new(context)
    pipes = [os.pipe() for _ in range(200)]
    handlers = [ready.add_fd(reader, GLib.IOCondition.IN, token)
                for token, (reader, _) in enumerate(pipes)]
    counts = []
    ready.set_func(lambda ready, n_ready: counts.append(n_ready))
    for _, writer in pipes:
        os.write(writer, b'x')
    assert context.iterate(-1)
    assert counts == [200], counts
    records = ready.take()
    assert isinstance(records, bytes), records
    expected = {(token, reader, GLib.IOCondition.IN)
                for token, (reader, _) in enumerate(pipes)}
    assert set(struct.iter_unpack('=Qii', records)) == expected
    assert not ready.take()
    for handler in handlers:
        handler.remove()
    for fd in sum(pipes, ()):
        os.close(fd)


def test_timers_bottom_halves_and_deferred_calls():
    """Bottom halves and deferred calls run in the order of scheduling, timers after them."""
    context = Gaio.Context.new()
    calls = []
    timer = context.add_timer(calls.append, 'timer')
    timer.arm(0)
    bottom_half = context.add_bottom_half(calls.append, 'bottom half')
    bottom_half.schedule()
    context.defer(calls.append, 'deferred')
    while len(calls) < 3:
        context.iterate(-1)
    assert calls == ['bottom half', 'deferred', 'timer'], calls
    assert timer.get_deadline() == -1


def test_timeout_repeats():
    """A timeout comes again until it returns False."""
    context = Gaio.Context.new()
    ticks = []

    def on_tick():
        ticks.append(GLib.get_monotonic_time())
        return len(ticks) < 3

    start = GLib.get_monotonic_time()
    timer = context.add_timeout(1000, on_tick)
    while len(ticks) < 3:
        context.iterate(-1)
    assert ticks[2] - start >= 3000, ticks
    assert timer.get_deadline() == -1


def test_notifier_calls_with_data():
    """A notifier that was set twice calls once; an exception does not remove its handler."""
    import sys

    context = Gaio.Context.new()
    notifier = Gaio.Notifier.new()
    calls = []
    hook, sys.excepthook = sys.excepthook, lambda *arguments: calls.append(arguments[0])

    def on_set(data):
        calls.append(data)
        if len(calls) == 1:
            raise KeyError(data)

    handler = context.add_notifier(notifier, on_set, 'data')
    notifier.set()
    notifier.set()
    context.iterate(-1)
    notifier.set()
    context.iterate(-1)
    sys.excepthook = hook
    assert calls == ['data', KeyError, 'data'], calls
    try:
        context.add_notifier(notifier, on_set)
    except GLib.Error as error:
        assert f'fd {notifier.get_fd()}' in error.message, error
    else:
        assert False, 'no exception'
    handler.remove()
    notifier.set()
    assert notifier.test_and_clear()


def test_child_gets_pid_status_and_data():
    """An exception in the callback changes nothing: it is called once."""
    import sys

    context = Gaio.Context.new()
    calls = []
    hook, sys.excepthook = sys.excepthook, lambda *arguments: calls.append(arguments[0])

    def on_ended(pid, wait_status, data):
        calls.append((pid, os.waitstatus_to_exitcode(wait_status), data))
        raise KeyError(pid)

    pid = os.posix_spawnp('sh', ['sh', '-c', 'exit 5'], os.environ)
    handler = context.add_child(pid, on_ended, 'data')
    while not handler.is_removed():
        context.iterate(-1)
    sys.excepthook = hook
    assert calls == [(pid, 5, 'data'), KeyError], calls
    try:
        context.add_child(os.getpid(), on_ended)
    except GLib.Error as error:
        assert error.matches(Gaio.error_quark(), Gaio.Error.FAILED), error
    else:
        assert False, 'no exception'


def test_thread_runs_callbacks():
    """Its callbacks run in it; stopping it waits for it without the GIL, dropping it does not."""
    import threading

    calls = []

    def on_call(data):
        calls.append((data, threading.get_ident()))

    thread = Gaio.Thread.new('python')
    thread.get_context().defer(on_call, 'deferred')
    thread.get_main_context().invoke_full(GLib.PRIORITY_DEFAULT, on_call, 'invoked')
    thread.stop()
    assert sorted(data for data, _ in calls) == ['deferred', 'invoked'], calls
    assert threading.get_ident() not in [ident for _, ident in calls], calls
    assert thread.get_context().is_closed()

    thread = Gaio.Thread.new()
    context = thread.get_context()
    ended = threading.Event()
    context.defer(lambda: on_call('last') or ended.set())
    del thread
    assert ended.wait(30)
    assert calls[-1][0] == 'last', calls


def main():
    """Run every test_ function, in TAP."""
    tests = [(name, test) for name, test in globals().items() if name.startswith('test_')]
    print(f'1..{len(tests)}')
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
        except Exception as error:
            print(f'not ok {number} - {name}: {error!r}', flush=True)
        else:
            print(f'ok {number} - {name}', flush=True)


if __name__ == '__main__':
    main()
