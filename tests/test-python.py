# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Python programs do with the library, and with its override."""

import contextlib
import datetime
import errno
import faulthandler
import gc
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import warnings
import weakref

import gi

import tap

gi.require_version('Gaio', '1.0')
from gi._gi import Direction, EnumInfo
from gi.repository import Gaio, Gio, GLib

IN = GLib.IOCondition.IN


@contextlib.contextmanager
def pipes(n=1):
    """Makes n pipes."""
    with tap.need_fds(2 * n):
        made = [os.pipe() for _ in range(n)]
        try:
            yield made
        finally:
            for fd in sum(made, ()):
                os.close(fd)


@contextlib.contextmanager
def no_more_fds():
    """No fd can be opened in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def raises(class_, code, number):
    """The block raises a LoopError that can be caught as class_."""
    try:
        yield
    except class_ as error:
        assert isinstance(error, Gaio.LoopError), repr(error)
        assert error.matches(Gaio.error_quark(), code), repr(error)
        assert error.errno == number, error.errno
        assert error.strerror == error.message, error.strerror
    else:
        assert False, 'no exception'


@contextlib.contextmanager
def raises_python(class_, words):
    """The block raises an exception that says so."""
    try:
        yield
    except class_ as error:
        assert words in str(error), repr(error)
    else:
        assert False, 'no exception'


class Thing:
    """Something for callbacks to hold, of which one can have a weak reference."""

    def callback(self, *_):
        return GLib.SOURCE_CONTINUE


def run_until(context, condition):
    while not condition():
        context.iterate(-1)


def test_objects_with_fileno_are_fds():
    """They are taken for fds, by a context and by a set, and the callback gets the number."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(context)
    one, other = socket.socketpair()
    calls = []
    with one, other:
        with context.add_fd(one, IN, lambda *call: calls.append(call) or True, 'data') as handler:
            assert handler.get_fd() == one.fileno()
            other.send(b'x')
            run_until(context, lambda: calls)
        assert calls[0] == (one.fileno(), IN, 'data'), calls
        with ready_set.add_fd(one, IN, 7):
            context.iterate(-1)
            assert list(ready_set) == [(7, one.fileno(), int(IN))]


def test_sockets_of_gio_are_fds():
    context = Gaio.Context()
    receiver, sender = (Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM, 0)
                        for _ in range(2))
    receiver.bind(Gio.InetSocketAddress.new_from_string('127.0.0.1', 0), False)
    calls = []
    context.add_fd(receiver, 'r', lambda fd, _: calls.append(fd))
    sender.send_to(receiver.get_local_address(), b'x', None)
    context.iterate(-1)
    assert calls == [receiver.get_fd()], calls


def test_conditions_are_numbers_or_letters():
    """'r', 'w', 'rw', a GLib.IOCondition or an int."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(context)
    out = GLib.IOCondition.OUT
    spellings = {'r': IN, 'w': out, 'rw': IN | out, int(IN): IN, IN | out: IN | out, 0: 0}
    with pipes() as [(reader, _)]:
        for spelling, condition in spellings.items():
            with context.add_fd(reader, spelling, Thing().callback) as handler:
                assert handler.get_condition() == condition, spelling
                handler.set_condition(0)
                handler.set_condition(spelling)
                assert handler.get_condition() == condition, spelling
            with ready_set.add_fd(reader, spelling, 0) as handler:
                assert handler.get_condition() == condition, spelling
        handler = context.add_fd(reader, 0, Thing().callback)
        for wrong in ('', 'x', 'wr', -1, 1 << 5, 1 << 32):
            for call in (lambda: context.add_fd(reader, wrong, Thing().callback),
                         lambda: ready_set.add_fd(reader, wrong, 0),
                         lambda: handler.set_condition(wrong)):
                with raises_python(ValueError, 'the condition'):
                    call()
        handler.remove()


def get_calls_with_numbers(context, fd):
    """What takes a number: by name and place, a call of it and what it says of others."""
    ready_set = Gaio.ReadySet(context)
    callback = Thing().callback
    handler = context.add_fd(fd, 'r', callback)
    timer = context.add_timer(callback)
    an_fd, a_condition, time = 'an fd is', 'a condition is', 'time is an int in microseconds'
    return {
        ('Context.add_fd', 0): (lambda x: context.add_fd(x, 'r', callback), an_fd),
        ('Context.add_fd', 1): (lambda x: context.add_fd(fd, x, callback), a_condition),
        ('Context.add_child', 0): (lambda x: context.add_child(x, callback), 'a pid is'),
        ('Context.add_timeout', 0): (lambda x: context.add_timeout(x, callback), time),
        ('Context.fsync_async', 0): (context.fsync_async, an_fd),
        ('Context.iterate', 0): (context.iterate, time),
        ('Context.new_with_monitor', 0): (Gaio.Context.new_with_monitor, 'Gaio.MonitorType'),
        ('Context.pread_async', 0): (lambda x: context.pread_async(x, 1, 0), an_fd),
        ('Context.pread_async', 1): (lambda x: context.pread_async(fd, x, 0), 'a count is'),
        ('Context.pread_async', 2): (lambda x: context.pread_async(fd, 1, x), 'an offset is'),
        ('Context.pwrite_async', 0): (lambda x: context.pwrite_async(x, b'', 0), an_fd),
        ('Context.pwrite_async', 2): (lambda x: context.pwrite_async(fd, b'', x), 'an offset is'),
        ('Context.set_dispatch_limits', 0): (lambda x: context.set_dispatch_limits(x, 0),
                                             'max_callbacks is'),
        ('Context.set_dispatch_limits', 1): (lambda x: context.set_dispatch_limits(0, x), time),
        ('Context.set_poll_params', 0): (lambda x: context.set_poll_params(x, 0, 0), time),
        ('Context.set_poll_params', 1): (lambda x: context.set_poll_params(0, x, 0), 'grow is'),
        ('Context.set_poll_params', 2): (lambda x: context.set_poll_params(0, 0, x), 'shrink is'),
        ('Context.sleep_async', 0): (context.sleep_async, time),
        ('Context.wait_fd_async', 0): (lambda x: context.wait_fd_async(x, 'r'), an_fd),
        ('Context.wait_fd_async', 1): (lambda x: context.wait_fd_async(fd, x), a_condition),
        ('Handler.set_condition', 0): (handler.set_condition, a_condition),
        ('ReadySet.add_fd', 0): (lambda x: ready_set.add_fd(x, 'r', 0), an_fd),
        ('ReadySet.add_fd', 1): (lambda x: ready_set.add_fd(fd, x, 0), a_condition),
        ('ReadySet.add_fd', 2): (lambda x: ready_set.add_fd(fd, 'r', x), 'a token is'),
        ('ReadySet.wait', 0): (ready_set.wait, time),
        ('Timer.arm', 0): (timer.arm, time),
        ('Timer.arm_at', 0): (timer.arm_at, 'a point in time is an int in microseconds'),
    }


def takes_number(argument):
    type_ = (getattr(argument, 'get_type_info', None) or argument.get_type)()
    return argument.get_direction() == Direction.IN and (
        type_.get_tag_as_string().startswith(('gint', 'guint'))
        or isinstance(type_.get_interface(), EnumInfo))


def test_numbers_are_ints():
    """A float is none, nor is what is no number at all; the exception says what to write. All
    functions that take one are here."""
    context = Gaio.Context()
    with pipes() as [(reader, _)]:
        calls = get_calls_with_numbers(context, reader)
        for call, words in calls.values():
            for wrong in (0.5, 1.0, float('nan'), float('inf'), True, None, b'r', [1], object()):
                with raises_python(TypeError, words):
                    call(wrong)
        assert context.dup_stats().unpack()['handlers'] == 1
    places = {(f'{class_.__name__}.{method.__name__}', place)
              for class_ in (getattr(Gaio, name) for name in dir(Gaio))
              for method in getattr(getattr(class_, '__info__', None), 'get_methods', tuple)()
              for place, argument in enumerate(method.get_arguments()) if takes_number(argument)}
    assert set(calls) == places, set(calls) ^ places


def test_handler_keeps_its_file():
    """Until it is gone: Python closes what nobody keeps."""
    context = Gaio.Context()
    calls = []

    def watch():
        ours, theirs = socket.socketpair()
        context.add_fd(ours, 'r', lambda fd, condition, *data: calls.append((fd, data)), 7)
        return theirs, ours.fileno()

    peer, fd = watch()
    with peer:
        gc.collect()
        peer.send(b'x')
        context.iterate(-1)
        # It has returned None. What it leaves behind goes in the next round.
        context.iterate(0)
        assert calls == [(fd, (7,))], calls
        with raises_python(BrokenPipeError, 'Broken pipe'):
            peer.send(b'x')


def test_function_of_a_ready_set_is_dropped_after_an_exception():
    """It has taken nothing, and would be called for ever."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(context)
    calls, told = [], []

    def on_ready(*args):
        calls.append(args)
        raise ZeroDivisionError

    with pipes() as [(reader, writer)]:
        ready_set.add_fd(reader, 'r', 7)
        os.write(writer, b'x')
        ready_set.set_func(on_ready, 'data')
        sys.excepthook = lambda type_, *_: told.append(type_)
        try:
            while not calls:
                context.iterate(-1)
            for _ in range(3):
                context.iterate(0)
        finally:
            sys.excepthook = sys.__excepthook__
        assert (calls, told) == ([(ready_set, 1, 'data')], [ZeroDivisionError]), (calls, told)
        assert [token for token, _, _ in ready_set] == [7]


def test_function_of_a_ready_set_sets_another_and_fails():
    """It does not take the other one along."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(context)
    taken = []

    def on_ready(*_):
        ready_set.set_func(lambda ready, _: taken.extend(token for token, *_ in ready))
        raise ZeroDivisionError

    with pipes() as [(reader, writer)]:
        ready_set.add_fd(reader, 'r', 7)
        os.write(writer, b'x')
        ready_set.set_func(on_ready)
        sys.excepthook = lambda *_: None
        try:
            for _ in range(4):
                context.iterate(0)
        finally:
            sys.excepthook = sys.__excepthook__
        assert taken and set(taken) == {7}, taken
        ready_set.set_func(None)


def test_coroutine_functions_are_refused():
    """Nobody would run the coroutine. Where the result counts, it is true: they would be called
    for ever."""
    async def step(*_):
        pass

    context = Gaio.Context()
    with pipes() as [(reader, _)]:
        for call in (lambda: context.add_fd(reader, 'r', step),
                     lambda: context.add_timeout(1000, step),
                     lambda: context.add_timeout(step, seconds=1),
                     lambda: context.add_timer(step),
                     lambda: context.add_bottom_half(step),
                     lambda: context.add_notifier(Gaio.Notifier(), step),
                     lambda: context.add_child(os.getpid(), step),
                     lambda: context.defer(step),
                     lambda: context.call_in(GLib.MainContext(), step),
                     lambda: Gaio.ReadySet(context).set_func(step)):
            with raises_python(TypeError, 'gaio.create_task'):
                call()
    stats = context.dup_stats().unpack()
    assert (stats['handlers'], stats['timers']) == (0, 0), stats
    assert not context.iterate(0)


def test_errors_name_what_was_called():
    """And not what is behind it, with too few arguments, too many, and wrong ones."""
    context = Gaio.Context()
    for call, words in (
            (context.add_timeout, 'Context.add_timeout() missing'),
            (lambda: context.add_timeout(seconds=1), 'Context.add_timeout() missing'),
            (lambda: context.add_timeout(1000, print, other=1), 'Context.add_timeout() got'),
            (lambda: context.add_timeout(1000, None), 'func is a function, not None'),
            (lambda: context.add_timeout(print, datetime.timedelta(seconds=1)),
             'the time comes first: add_timeout(time, func)'),
            (lambda: context.add_fd(0, 'r', 7), 'func is a function, not 7'),
            (lambda: Gaio.Context(None), 'Context.__init__() takes')):
        with raises_python(TypeError, words):
            call()
    assert Gaio.Context(monitor=Gaio.MonitorType.POLL) != context


def test_numbers_may_be_what_python_takes_for_an_int():
    """As those of other libraries."""
    class Number:
        def __index__(self):
            return 5000

    context = Gaio.Context()
    with context.add_timer(print) as timer:
        timer.arm_at(Number())
        assert timer.get_deadline() == 5000


def test_interval_and_pid_are_above_0():
    """ValueError, not None."""
    context = Gaio.Context()
    for call in (context.add_timeout, context.add_child):
        for wrong in (0, -1):
            with raises_python(ValueError, 'above 0'):
                call(wrong, Thing().callback)


def test_times_are_in_their_range():
    """ValueError, where the library would warn and do nothing."""
    context = Gaio.Context()
    for call, wrong in ((lambda x: context.set_dispatch_limits(0, x), -1),
                        (lambda x: context.set_poll_params(x, 0, 0), -1),
                        (lambda x: context.set_poll_params(x, 0, 0), GLib.USEC_PER_SEC + 1),
                        (context.iterate, -2),
                        (Gaio.ReadySet(context).wait, -2)):
        with raises_python(ValueError, 'the time is'):
            call(wrong)


def test_times_are_timedeltas_or_seconds():
    """Of which a float is one. What is meant is exact, and is given once."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(Gaio.Context.get_default())
    half = datetime.timedelta(seconds=0.5)
    with context.add_timer(print) as timer:
        for arm in (lambda: timer.arm(half), lambda: timer.arm(seconds=0.5),
                    lambda: timer.arm(500000)):
            before = GLib.get_monotonic_time()
            arm()
            assert before + 500000 <= timer.get_deadline() <= GLib.get_monotonic_time() + 500000
        with raises_python(TypeError, 'either 1 or seconds=2'):
            timer.arm(1, seconds=2)
        with raises_python(TypeError, 'a point in time is'):
            timer.arm_at(half)
    minute = datetime.timedelta(minutes=1)
    for timeout in (context.add_timeout(minute, print, 1), context.add_timeout(print, seconds=60),
                    context.add_timeout(print, 1, seconds=60.0),
                    context.add_timeout(func=print, seconds=60),
                    context.add_timeout(interval_us=minute, func=print)):
        with timeout:
            assert 0 <= GLib.get_monotonic_time() + 60e6 - timeout.get_deadline() < 30e6
    assert not context.iterate(seconds=0) and not context.iterate(datetime.timedelta())
    assert ready_set.wait(seconds=0.001) == ready_set.wait(10 * datetime.timedelta.resolution)
    for call in (timer.arm, context.iterate, ready_set.wait,
                 lambda *args, **kwargs: context.add_timeout(*args, print, **kwargs)):
        with raises_python(TypeError, 'write seconds=0.5'):
            call(1.5)
        with raises_python(ValueError, 'the time is 0 or above'):
            call(-half)
        with raises_python(ValueError, 'the time is 0 or above'):
            call(seconds=-1)


def test_timeout_has_one_interval():
    """Two are refused, and nothing is added."""
    context = Gaio.Context()
    for call in (lambda: context.add_timeout(500000, print, seconds=1),
                 lambda: context.add_timeout(500000, func=print, seconds=1),
                 lambda: context.add_timeout(interval_us=500000, func=print, seconds=1)):
        with raises_python(TypeError, 'the time is either 500000 or seconds=1'):
            call()
    assert context.dup_stats().unpack()['timers'] == 0


def test_interval_that_was_meant_in_seconds():
    """A warning tells what to write."""
    context = Gaio.Context()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for interval_us in (1, 99, 100):
            context.add_timeout(interval_us, print).remove()
        context.add_timeout(print, seconds=1).remove()
    assert ['add_timeout(func, seconds=1)' in str(warning.message) for warning in caught] \
        == [True, False], caught
    assert {warning.filename for warning in caught} == {__file__}, caught


def test_delay_that_was_meant_in_seconds():
    """A warning tells what to write; 0, and what cannot be meant otherwise, is silent."""
    timer = Gaio.Context().add_timer(print)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for delay_us in (0, 1, 99, 100, datetime.timedelta(microseconds=1)):
            timer.arm(delay_us)
        timer.arm(seconds=1e-6)
    assert [str(warning.message).split(': ')[1] for warning in caught] == [
        f'for seconds, write arm(seconds={n})' for n in (1, 99)], caught
    assert {warning.filename for warning in caught} == {__file__}, caught


def test_import_without_require_version():
    """Nothing is said about it: there is one version."""
    fail = 'import gi, warnings; warnings.simplefilter("error", gi.PyGIWarning); '
    for program in ('import gaio', 'from gi.repository import Gaio; import gaio'):
        subprocess.run([sys.executable, '-c', fail + program], check=True)


def test_errors_are_glib_errors_and_os_errors():
    """They have a code, and the errno that belongs to it."""
    context = Gaio.Context()
    never_open = 999
    for class_ in (GLib.Error, OSError, Gaio.LoopError):
        with raises(class_, Gaio.Error.BAD_FD, errno.EBADF):
            context.add_fd(never_open, 'r', Thing().callback)
    with pipes() as [(reader, _)]:
        with context.add_fd(reader, 'r', Thing().callback) as handler:
            pass
        with raises(OSError, Gaio.Error.REMOVED, None):
            handler.set_condition('w')
    codes = {Gaio.Error.PROCESS_LIMIT: errno.EMFILE, Gaio.Error.SYSTEM_LIMIT: errno.ENFILE,
             Gaio.Error.WATCH_LIMIT: errno.ENOSPC, Gaio.Error.NO_MEMORY: errno.ENOMEM,
             Gaio.Error.NOT_SUPPORTED: errno.ENOTSUP, Gaio.Error.FAILED: None}
    for code, number in codes.items():
        with raises(OSError, code, number):
            raise Gaio.LoopError('made here', code=code)


def test_whatever_fails_raises_a_loop_error():
    """Each function with a GError."""
    closed = Gaio.Context()
    ready_set = Gaio.ReadySet(closed)
    notifier = Gaio.Notifier()
    closed.close()
    assert closed.is_closed()
    callback = Thing().callback
    for call in (lambda: closed.add_fd(0, 'r', callback), lambda: ready_set.add_fd(0, 'r', 0),
                 lambda: closed.add_child(os.getpid(), callback),
                 lambda: closed.add_notifier(notifier, callback),
                 closed.attach, closed.create_source, closed.run):
        with raises(OSError, Gaio.Error.CLOSED, None):
            call()
    for make in (Gaio.Notifier, Gaio.Notifier.new, Gaio.Thread, Gaio.Thread.new):
        with no_more_fds(), raises(OSError, Gaio.Error.PROCESS_LIMIT, errno.EMFILE):
            make()


def test_end_of_with_removes():
    """Handlers, timers and bottom halves, also when the block is left by an exception."""
    context = Gaio.Context()
    calls = []
    with pipes() as [(reader, _)], contextlib.suppress(KeyError):
        with context.add_fd(reader, 'r', Thing().callback) as handler, \
                context.add_timer(calls.append, 'timer') as timer, \
                context.add_bottom_half(calls.append, 'bottom half') as bottom_half:
            assert not handler.is_removed()
            timer.arm(0)
            bottom_half.schedule()
            raise KeyError
    assert handler.is_removed()
    context.iterate(0)
    assert not calls, calls


def test_references_are_left_to_python():
    """Nothing is there to count them by hand."""
    for class_ in (Gaio.Handler, Gaio.Timer, Gaio.BottomHalf, Gaio.Notifier):
        assert not hasattr(class_, 'ref') and not hasattr(class_, 'unref'), class_


def test_callback_removes_itself():
    """In whatever way: what it held is let go once, after it has returned."""
    context = Gaio.Context()
    for ways in ({'remove'}, {'return'}, {'remove', 'return'}):
        thing = Thing()
        gone = weakref.ref(thing)
        handlers = []

        def on_readable(fd, condition, held, ways=ways, handlers=handlers):
            if 'remove' in ways:
                handlers.pop().remove()
            return 'return' not in ways

        with pipes() as [(reader, writer)]:
            handlers.append(context.add_fd(reader, 'r', on_readable, thing))
            del thing
            os.write(writer, b'x')
            context.iterate(-1)
            context.iterate(0)
            gc.collect()
            assert gone() is None, ways
            assert not context.iterate(0), ways


def test_callback_removes_itself_and_runs_a_round():
    """The closure that is running is not let go inside."""
    context = Gaio.Context()
    handlers, counts = [], []

    def on_readable(fd, condition, held):
        counts.append(sys.getrefcount(held))
        handlers.pop().remove()
        context.iterate(0)
        counts.append(sys.getrefcount(held))
        return GLib.SOURCE_CONTINUE

    with pipes() as [(reader, writer)]:
        handlers.append(context.add_fd(reader, 'r', on_readable, Thing()))
        os.write(writer, b'x')
        context.iterate(-1)
        assert len(counts) == 2 and counts[0] == counts[1], counts


def test_callback_removes_another_that_is_ready():
    """The other is not called."""
    context = Gaio.Context()
    handlers, calls = {}, []

    def on_readable(fd, condition):
        calls.append(fd)
        for other, handler in handlers.items():
            if other != fd:
                handler.remove()
        return GLib.SOURCE_REMOVE

    with pipes(50) as made:
        for reader, writer in made:
            handlers[reader] = context.add_fd(reader, 'r', on_readable)
            os.write(writer, b'x')
        context.iterate(-1)
        assert not context.iterate(0)
        assert len(calls) == 1, calls


def test_exception_removes_the_handler():
    """It is shown, the handler is gone, and the others are served."""
    context = Gaio.Context()
    calls = []

    def on_readable(fd, condition):
        calls.append(fd)
        raise KeyError(fd)

    with pipes(2) as made, tap.caught_by_hook() as caught:
        handlers = [context.add_fd(reader, 'r', on_readable) for reader, _ in made]
        for _, writer in made:
            os.write(writer, b'x')
        context.iterate(-1)
        context.iterate(0)
        assert all(handler.is_removed() for handler in handlers)
        assert caught == [KeyError, KeyError], caught
        assert len(calls) == 2, calls


def test_callback_runs_a_main_loop():
    """Meanwhile it is not called again, the others are."""
    context = Gaio.Context.get_default()
    calls = []

    def on_first(fd, condition):
        calls.append('first')
        loop = GLib.MainLoop()
        os.write(second_writer, b'x')
        with context.add_fd(second, 'r', on_second, loop):
            loop.run()
        calls.append('first is back')
        return GLib.SOURCE_REMOVE

    def on_second(fd, condition, loop):
        calls.append('second')
        loop.quit()
        return GLib.SOURCE_REMOVE

    with pipes(2) as [(first, first_writer), (second, second_writer)]:
        handler = context.add_fd(first, 'r', on_first)
        os.write(first_writer, b'x')
        while not handler.is_removed():
            GLib.MainContext.default().iteration(True)
    assert calls == ['first', 'second', 'first is back'], calls


def test_nobody_needs_to_hold_the_handler():
    """The garbage collector takes the wrapper, while registered and while ready; not the watch."""
    context = Gaio.Context()
    calls = []

    def on_readable(fd, condition, thing):
        gc.collect()
        calls.append(thing)
        return GLib.SOURCE_REMOVE

    with pipes(20) as made:
        things = [Thing() for _ in made]
        for (reader, _), thing in zip(made, things):
            thing.handler = context.add_fd(reader, 'r', on_readable, thing)
        gone = [weakref.ref(thing) for thing in things]
        del things, thing
        gc.collect()
        for _, writer in made:
            os.write(writer, b'x')
        gc.collect()
        run_until(context, lambda: len(calls) == len(made))
        assert {weakref.ref(thing) for thing in calls} == set(gone)
        calls.clear()
        context.iterate(0)
        gc.collect()
        assert not any(reference() for reference in gone)


def test_main_contexts_are_served():
    """Each goes with its owner; what GIO begins in one completes there."""
    context = Gaio.Context()
    owner = Gaio.Context()
    served = context.create_main_context(owner)
    seen = []

    def notice(*_args):
        seen.append(served.is_owner())
        return GLib.SOURCE_REMOVE

    def begin(number):
        seen.append(number)
        source = GLib.Idle()
        source.set_callback(notice)
        source.attach(served)

    context.call_in(served, begin, 42)
    run_until(context, lambda: len(seen) == 2)
    assert seen == [42, True], seen
    try:
        context.serve_main_context(GLib.MainContext())
        assert False, 'it polls without an owner'
    except GLib.Error as error:
        assert error.matches(Gaio.Error.quark(), Gaio.Error.NOT_SUPPORTED), error
    context.stop_serving(served)
    del owner


class Echo(Gaio.SocketService):
    """As the C class: each connection in a main context of its own."""

    def do_connection(self, connection, source_object):
        self.places.append(GLib.MainContext.get_thread_default())
        self.read(connection)

    def read(self, connection):
        connection.get_input_stream().read_bytes_async(
            100, GLib.PRIORITY_DEFAULT, None, self.have_read, connection)

    def have_read(self, stream, result, connection):
        data = stream.read_bytes_finish(result).get_data()
        if data:
            connection.get_output_stream().write_all(data, None)
            self.read(connection)


def test_socket_service():
    """It can be derived from, and what GIO begins completes in the connection's main context."""
    context = Gaio.Context()
    service = Echo(context)
    service.places = []
    port = service.add_any_inet_port(None)
    with socket.create_connection(('127.0.0.1', port)) as client:
        client.send(b'hello')
        client.setblocking(False)
        answer = bytearray()

        def is_answered():
            with contextlib.suppress(BlockingIOError):
                answer.extend(client.recv(100))
            return len(answer) == 5

        run_until(context, is_answered)
        assert answer == b'hello'
    assert len(service.places) == 1
    assert service.get_context() == context
    service.stop()
    for _ in range(10):
        context.iterate(0)


def test_socket_service_takes_its_context_like_the_other_classes():
    """By place or by name, besides the properties of the base class."""
    context = Gaio.Context()
    default = Gaio.Context.ref_thread_default()
    for service, expected in (
            (Gaio.SocketService(context), context), (Gaio.SocketService(context=context), context),
            (Gaio.SocketService(), default), (Gaio.SocketService(None, active=False), default)):
        assert type(service) is Gaio.SocketService
        assert service.get_context() == expected
    assert not service.is_active()


def test_deferred_call_of_another_thread():
    """It runs on the thread of the loop, and what it holds is let go there."""
    context = Gaio.Context()
    threads = []

    def defer():
        thing = Thing()
        weakref.finalize(thing, lambda: threads.append(threading.get_ident()))
        context.defer(lambda held: threads.append(threading.get_ident()), thing)

    others = [threading.Thread(target=defer) for _ in range(10)]
    for other in others:
        other.start()
    # Until it has come back from defer(), a thread holds what it has given.
    for other in others:
        other.join()
    run_until(context, lambda: len(threads) == 2 * len(others))
    assert set(threads) == {threading.get_ident()}, threads


def test_callback_drops_the_context():
    """The round goes on to its end, then all is let go."""
    contexts = [Gaio.Context()]
    thing = Thing()
    gone = [weakref.ref(thing), weakref.ref(contexts[0])]
    calls = []

    def on_readable(fd, condition, held):
        contexts.clear()
        gc.collect()
        calls.append(fd)
        return GLib.SOURCE_CONTINUE

    with pipes() as [(reader, writer)]:
        handler = contexts[0].add_fd(reader, 'r', on_readable, thing)
        del thing
        os.write(writer, b'x')
        contexts[0].iterate(0)
        gc.collect()
        assert calls == [reader], calls
        assert handler.is_removed()
        assert [reference() for reference in gone] == [None, None]


def test_ten_thousand_handlers():
    """Added, served one by one, removed."""
    context = Gaio.Context()
    n = 10000
    calls = []

    def on_readable(fd, condition, index):
        calls.append((index, os.read(fd, 8)))
        return GLib.SOURCE_CONTINUE

    with pipes(1) as [(reader, writer)]:
        handlers = [context.add_fd(reader, 'r', on_readable, index) for index in range(n)]
        assert context.dup_stats().unpack()['handlers'] == n
        for handler in handlers[1:]:
            handler.remove()
        os.write(writer, b'x')
        assert context.iterate(0)
        assert calls == [(0, b'x')], calls
        handlers[0].remove()
        context.iterate(0)
        assert context.dup_stats().unpack()['handlers'] == 0


def test_ten_thousand_fds():
    """One is ready, one is called."""
    context = Gaio.Context()
    n = 9500
    calls = []
    with pipes() as [(reader, writer)], tap.need_fds(n):
        copies = [os.dup(reader) for _ in range(n)]
        handlers = [context.add_fd(copy, 'w', lambda fd, condition: calls.append(fd) or True)
                    for copy in copies]
        os.write(writer, b'x')
        assert not context.iterate(0)
        handlers[n // 2].set_condition('r')
        context.iterate(-1)
        assert calls == [copies[n // 2]], calls
        for handler, copy in zip(handlers, copies):
            handler.remove()
            os.close(copy)


def test_batch():
    """What is ready, each once, as tuples of int; nothing twice."""
    for n in (1, 16, 1024):
        context = Gaio.Context()
        ready_set = Gaio.ReadySet(context)
        batches = []
        ready_set.set_func(lambda ready, n_ready: batches.append((n_ready, list(ready))))
        with pipes(n) as made, contextlib.ExitStack() as stack:
            # More than 32 bits.
            expected = [(token << 40, reader, int(IN)) for token, (reader, _) in enumerate(made)]
            for token, reader, _ in expected:
                stack.enter_context(ready_set.add_fd(reader, 'r', token))
            for _, writer in made:
                os.write(writer, b'x')
            context.iterate(-1)
            assert [n_ready for n_ready, _ in batches] == [n], batches
            assert sorted(batches[0][1]) == expected, batches
            assert {type(field) for record in batches[0][1] for field in record} == {int}
            assert not list(ready_set)


def test_threads_add_remove_and_schedule():
    """While a loop runs, without a deadlock between its locks and Python's."""
    context = Gaio.Context.get_default()
    loop = GLib.MainLoop()
    cycles, n_threads = 500, 4
    calls = []

    def work(reader):
        for cycle in range(cycles):
            with context.add_fd(reader, 'r', Thing().callback), \
                    context.add_timer(Thing().callback) as timer, \
                    context.add_bottom_half(Thing().callback) as bottom_half:
                timer.arm(0)
                bottom_half.schedule()
                context.defer(calls.append, cycle)
        context.defer(on_done)

    def on_done():
        calls.append('done')
        if calls.count('done') == n_threads:
            loop.quit()

    with pipes(n_threads) as made:
        for _, writer in made:
            os.write(writer, b'x')
        threads = [threading.Thread(target=work, args=[reader]) for reader, _ in made]
        for thread in threads:
            thread.start()
        loop.run()
        for thread in threads:
            thread.join()
    assert len(calls) == n_threads * (cycles + 1), len(calls)


def test_timer():
    """Fires once for each time it is armed; a timeout comes until it returns False."""
    context = Gaio.Context()
    calls = []
    with context.add_timer(calls.append, 'timer') as timer:
        for n in range(1, 4):
            timer.arm(0)
            run_until(context, lambda n=n: len(calls) == n)
        assert timer.get_deadline() == -1
        timer.arm_at(GLib.get_monotonic_time())
        timer.disarm()
        assert not context.iterate(0)
    ticks = []
    context.add_timeout(100, lambda: ticks.append(None) or len(ticks) < 3)
    run_until(context, lambda: len(ticks) == 3)
    assert not context.iterate(0)


def test_notifier():
    """Set in another thread, it calls here."""
    context = Gaio.Context()
    notifier = Gaio.Notifier()
    calls = []
    with context.add_notifier(notifier, lambda: calls.append(threading.get_ident())):
        thread = threading.Thread(target=notifier.set)
        thread.start()
        run_until(context, lambda: calls)
        thread.join()
    assert calls == [threading.get_ident()], calls


def test_child():
    """The callback gets what waitpid(2) says."""
    context = Gaio.Context()
    calls = []
    pid = os.posix_spawnp('sh', ['sh', '-c', 'exit 3'], os.environ)
    handler = context.add_child(pid, lambda *call: calls.append(call))
    run_until(context, handler.is_removed)
    assert [(call[0], os.waitstatus_to_exitcode(call[1])) for call in calls] == [(pid, 3)], calls


def test_thread():
    """Made with or without a name; its callbacks run in it."""
    for thread in (Gaio.Thread(), Gaio.Thread('python'), Gaio.Thread.new('python')):
        calls = []
        thread.get_context().defer(lambda: calls.append(threading.get_ident()))
        thread.stop()
        assert len(calls) == 1 and calls[0] != threading.get_ident(), calls


def with_attribute(thread):
    thread.label = 'kept by the object'


def with_signal_handler(thread):
    thread.connect('notify', print)


def with_reference_to_itself(thread):
    thread.me = thread


def test_thread_is_collected_while_its_callbacks_need_the_interpreter():
    """With the interpreter locked; what was scheduled before still runs, and it ends."""
    for decorate in (with_attribute, with_signal_handler, with_reference_to_itself):
        for _ in range(20):
            thread = Gaio.Thread()
            decorate(thread)
            called, last = threading.Event(), threading.Event()
            context = thread.get_context()
            context.add_timeout(100, lambda: called.set() or True)
            assert called.wait(30)
            context.defer(last.set)
            faulthandler.dump_traceback_later(30, exit=True)
            del thread
            gc.collect()
            faulthandler.cancel_dump_traceback_later()
            assert last.wait(30)
            while not context.is_closed():
                os.sched_yield()


def test_thread_stops_while_its_callbacks_need_the_interpreter():
    for _ in range(20):
        thread = Gaio.Thread()
        called = threading.Event()
        thread.get_context().add_timeout(100, lambda: called.set() or True)
        assert called.wait(30)
        faulthandler.dump_traceback_later(30, exit=True)
        thread.stop()
        faulthandler.cancel_dump_traceback_later()
        assert thread.get_context().is_closed()


@contextlib.contextmanager
def private_bus():
    """A connection to a message bus of its own."""
    if shutil.which('dbus-daemon') is None:
        raise tap.Skip('dbus-daemon is not installed')
    bus = Gio.TestDBus.new(Gio.TestDBusFlags.NONE)
    bus.up()
    flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
             | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
    connection = Gio.DBusConnection.new_for_address_sync(bus.get_bus_address(), flags, None, None)
    try:
        yield connection
    finally:
        connection.close_sync(None)
        bus.stop()


def call(connection, path, method, parameters=None):
    """What our own object at this path answers."""
    answers = []
    connection.call(connection.get_unique_name(), path, 'org.gaio.Stats1', method, parameters, None,
                    Gio.DBusCallFlags.NONE, -1, None,
                    lambda _, result: answers.append(result))
    while not answers:
        GLib.MainContext.default().iteration(True)
    return connection.call_finish(answers[0]).unpack()[0]


def test_stats_exporter():
    """As from another program, but for the loop that all of it shares."""
    context = Gaio.Context()
    with private_bus() as connection:
        exporter = Gaio.StatsExporter(context, connection)
        path = exporter.get_object_path()
        assert path == '/org/gaio/Stats/0', path
        assert exporter.props.context is context
        stats = call(connection, path, 'GetStats')
        assert stats.items() >= context.dup_stats().unpack().items(), stats
        assert stats['pid'] == os.getpid(), stats
        context.defer(list)
        context.iterate(0)
        rows = call(connection, path, 'GetSlowest', GLib.Variant('(u)', (9,)))
        assert [row[:4] for row in rows] == [('bottom half', '', -1, 1)], rows
        context.close()
        try:
            Gaio.StatsExporter(context, connection)
        except Gaio.LoopError as error:
            assert error.code == Gaio.Error.CLOSED, error
        else:
            raise AssertionError('a closed context was exported')
        exporter.stop()


def test_run_ends_with_the_cancellable():
    """Cancelled before, in a callback and in another thread; the context may be closed, too."""
    context = Gaio.Context()
    main_context = GLib.MainContext()
    before, inside, elsewhere = Gio.Cancellable(), Gio.Cancellable(), Gio.Cancellable()
    before.cancel()
    assert context.run(main_context, before)
    context.defer(inside.cancel)
    assert context.run(main_context, inside)
    thread = threading.Thread(target=elsewhere.cancel)
    context.defer(thread.start)
    assert context.run(main_context, elsewhere)
    thread.join()
    context.defer(context.close)
    assert context.run(main_context)


def test_run_of_a_main_loop_is_refused():
    """It says what to pass, and what ends it."""
    context = Gaio.Context()
    for words in ('main_loop.get_context()', 'Gio.Cancellable'):
        with raises_python(TypeError, words):
            context.run(GLib.MainLoop())


def grown_by(cycle, n=100000):
    """How many bytes the process grows by in n cycles."""
    def run(n):
        for _ in range(n):
            cycle()
        with open('/proc/self/statm', encoding='ascii') as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    return -run(n // 10) + run(n)


def test_hundred_thousand_closures_are_let_go():
    """PyGObject 3.42 loses a hundred bytes with each callback, also with GLib's: more is ours."""
    context = Gaio.Context()
    ready_set = Gaio.ReadySet(context)
    n = 100000
    slack = 10 * n
    made, let_go = [], []

    def counted():
        thing = Thing()
        made.append(None)
        weakref.finalize(thing, let_go.append, None)
        return thing

    def cycle_of_gaio():
        thing = Thing() if len(made) >= n else counted()
        context.add_fd(reader, 'r', thing.callback, thing).remove()
        context.iterate(0)

    def cycle_of_members():
        ready_set.add_fd(reader, 'r', 0).remove()
        context.iterate(0)

    def cycle_of_glib():
        thing = Thing()
        GLib.source_remove(
            GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, reader, IN, thing.callback, thing))

    with pipes() as [(reader, _)]:
        grown_by(cycle_of_gaio, n)
        assert len(made) == len(let_go) == n
        glib, gaio = grown_by(cycle_of_glib, n), grown_by(cycle_of_gaio, n)
        assert gaio <= glib + slack, (gaio, glib)
        members = grown_by(cycle_of_members, n)
        assert members <= slack, members


if __name__ == '__main__':
    tap.run(globals())
