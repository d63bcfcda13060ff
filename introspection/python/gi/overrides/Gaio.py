# SPDX-License-Identifier: LGPL-2.1-or-later
"""What makes Gaio feel at home in Python: files, exceptions, with, for, and Ctrl-C."""

import contextlib
import datetime
import errno
import functools
import operator
import os
import signal
import struct
import warnings

import gi
from gi import _ossighelper
from gi.module import get_introspection_module
from gi.overrides import override
from gi.repository import Gio, GLib, GObject

Gaio = get_introspection_module('Gaio')
# There is one version. Without this, PyGObject would warn whoever has not asked for it.
gi.require_version('Gaio', '1.0')

__all__ = []

_CONDITIONS = {
    'r': GLib.IOCondition.IN,
    'w': GLib.IOCondition.OUT,
    'rw': GLib.IOCondition.IN | GLib.IOCondition.OUT,
}
_SILENT = GLib.IOCondition(0)
_ALL_CONDITIONS = int(GLib.IOCondition.IN | GLib.IOCondition.PRI | GLib.IOCondition.OUT
                      | GLib.IOCondition.ERR | GLib.IOCondition.HUP)

_AN_OFFSET = 'an offset is an int'

_ERRNOS = {
    Gaio.Error.BAD_FD: errno.EBADF,
    Gaio.Error.PROCESS_LIMIT: errno.EMFILE,
    Gaio.Error.SYSTEM_LIMIT: errno.ENFILE,
    Gaio.Error.WATCH_LIMIT: errno.ENOSPC,
    Gaio.Error.NO_MEMORY: errno.ENOMEM,
    Gaio.Error.NOT_SUPPORTED: errno.ENOTSUP,
}

_DOMAIN = GLib.quark_to_string(Gaio.error_quark())

_CO_COROUTINE = 0x80  # of inspect
_MICROSECOND = datetime.timedelta(microseconds=1)
_TIME = 'time is an int in microseconds or a datetime.timedelta (for seconds, write seconds=0.5)'
# Whoever asks for less wants seconds: calling a Python function takes longer.
_SHORTEST_US = 100

# GaioReadyRecord.
_unpack_records = struct.Struct('QiI').iter_unpack
# Looking them up in the object takes half as long as the call.
_defer = Gaio.Context.defer
_take = Gaio.ReadySet.take
_arm = Gaio.Timer.arm
_arm_at = Gaio.Timer.arm_at


class LoopError(GLib.Error, OSError):
    """An error in the GAIO_ERROR domain. Its errno is None if no system call fails that way.

    It is not called OSError, so that `from gi.repository.Gaio import *` hides no builtin, and not
    Error, which is the enum of the codes.
    """

    def __init__(self, message='unknown error', domain=_DOMAIN, code=int(Gaio.Error.FAILED)):
        super().__init__(message, domain, code)
        self.errno = _ERRNOS.get(code)
        self.strerror = message

    def __repr__(self):
        return f'Gaio.LoopError({self.message!r}, {self.domain!r}, {self.code})'


__all__.append('LoopError')


def _raises_loop_error(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except GLib.Error as error:
            if error.domain != _DOMAIN or isinstance(error, LoopError):
                raise
            raise LoopError(error.message, error.domain, error.code) from None

    return wrapper


def _to_int(value, what):
    """PyGObject would cut off the decimals."""
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise TypeError(f'{what}, not {value!r}')


def _to_function(func):
    """Nobody would run the coroutine. Where the result counts, it is true: the loop would call the
    function again and again."""
    if not callable(func):
        raise TypeError(f'func is a function, not {func!r}')
    if getattr(getattr(func, '__code__', None), 'co_flags', 0) & _CO_COROUTINE:
        raise TypeError(f'{func.__qualname__}() returns a coroutine, which nobody would run: give '
                        'a function that calls gaio.create_task()')
    return func


def _keep(file, func):
    """@func, which keeps @file until the handler is gone, as GLib.io_add_watch() does: Python
    closes a file that nobody keeps."""
    if isinstance(file, int):
        return func
    func = functools.partial(func)
    func.file = file
    return func


def _to_us(time):
    if isinstance(time, datetime.timedelta):
        if time < datetime.timedelta():
            raise ValueError(f'the time is 0 or above, not {time!r}')
        return time // _MICROSECOND
    return _to_int(time, _TIME)


def _choose_time(time, seconds):
    if seconds is None:
        return time
    if time is not None:
        raise TypeError(f'the time is either {time!r} or seconds={seconds!r}')
    return datetime.timedelta(seconds=seconds)


def _to_us_from(lowest, time):
    time = _to_us(time)
    if time < lowest:
        raise ValueError(f'the time is {lowest} or above, not {time}')
    return time


def _to_timeout(time):
    return _to_us_from(-1, time)


def _to_window(time):
    time = _to_us_from(0, time)
    if time > GLib.USEC_PER_SEC:
        raise ValueError(f'the time is {GLib.USEC_PER_SEC} at most, not {time}')
    return time


def _to_positive(value, what):
    value = _to_int(value, what)
    if value <= 0:
        raise ValueError(f'{what} above 0, not {value}')
    return value


def _to_size(value, what):
    value = _to_int(value, what)
    if value < 0:
        raise ValueError(f'{what}, 0 or above, not {value}')
    return value


def _to_bytes(data):
    if isinstance(data, GLib.Bytes):
        return data
    return GLib.Bytes.new(data if isinstance(data, bytes) else memoryview(data).tobytes())


def _to_interval(time):
    if callable(time):
        raise TypeError('the time comes first: add_timeout(time, func)')
    interval_us = _to_positive(_to_us(time), 'an interval is an int')
    if interval_us < _SHORTEST_US:
        warnings.warn(f'{interval_us} is in microseconds: for seconds, write '
                      f'add_timeout(func, seconds={interval_us})', RuntimeWarning, stacklevel=4)
    return interval_us


def _to_delay(time):
    delay_us = _to_us(time)
    if 0 < delay_us < _SHORTEST_US and not isinstance(time, datetime.timedelta):
        warnings.warn(f'{delay_us} is in microseconds: for seconds, write arm(seconds={delay_us})',
                      RuntimeWarning, stacklevel=3)
    return delay_us


def _to_fd(file):
    for name in 'fileno', 'get_fd':
        if hasattr(file, name):
            file = getattr(file, name)()
    return _to_int(file, 'an fd is an int, or what has a fileno()')


def _to_condition(condition):
    if isinstance(condition, str):
        if condition not in _CONDITIONS:
            raise ValueError(f"the condition {condition!r} is not 'r', 'w' or 'rw'")
        return _CONDITIONS[condition]
    bits = _to_int(condition, "a condition is 'r', 'w', 'rw' or a GLib.IOCondition")
    if bits & ~_ALL_CONDITIONS:
        raise ValueError(f'the condition {bits:#x} is not one that poll(2) knows')
    return GLib.IOCondition(bits)


@functools.cache
def _signal_pipe():
    """Where Python reports signals while one of our contexts waits in the main thread."""
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


# Otherwise, parent and child would take each other's signals.
os.register_at_fork(after_in_child=_signal_pipe.cache_clear)


def _on_signal(fd, condition):
    """Python has run its signal handlers before this call. A nested loop may have emptied the
    pipe."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)
    return GLib.SOURCE_CONTINUE


class _SignalWatch:
    """Wakes a context when a signal arrives. It stays in the context, and is silent when nobody
    waits: if it were removed, its destroy notify would keep the next wait from waiting."""

    def __init__(self, context):
        reader, self.writer = _signal_pipe()
        self.handler = Gaio.Context.add_fd(context, reader, _SILENT, _on_signal)
        self.depth = 0

    def listen(self):
        self.handler.set_condition(GLib.IOCondition.IN)
        self.depth += 1

    def leave(self):
        self.depth -= 1
        if self.depth == 0 and not self.handler.is_removed():
            self.handler.set_condition(_SILENT)


@contextlib.contextmanager
def _wakeup_on_signal(context):
    """Do what PyGObject's function of that name does for the default main context."""
    try:
        if context._signal_watch is None:
            context._signal_watch = _SignalWatch(context)
        watch = context._signal_watch
        watch.listen()
    except (GLib.Error, OSError):
        # The context is closed, or there are too many fds: carry on without the watch.
        yield
        return
    outer_fd = signal.set_wakeup_fd(watch.writer, warn_on_full_buffer=False)
    # A nested GLib loop must not rely on an outer loop, which sleeps as we do.
    outer_flag = _ossighelper._wakeup_fd_is_active
    _ossighelper._wakeup_fd_is_active = False
    try:
        yield
    finally:
        _ossighelper._wakeup_fd_is_active = outer_flag
        fd = signal.set_wakeup_fd(outer_fd)
        if fd not in (-1, watch.writer):
            # Somebody has started to listen in this block, as asyncio does for a signal handler.
            signal.set_wakeup_fd(fd)
        watch.leave()


@contextlib.contextmanager
def _interruptible(context, stop):
    """Ctrl-C calls stop(), and raises a KeyboardInterrupt when the outermost loop has ended. It
    does not raise one in a callback, where it would become a FALSE and remove the handler."""
    if not _ossighelper.is_main_thread():
        yield
        return
    with _ossighelper.register_sigint_fallback(stop), _wakeup_on_signal(context):
        yield


class _Removable:
    """Something that a `with` block removes at its end."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


@override
class Context(Gaio.Context):
    _signal_watch = None

    # PyGObject would complain of GObject.__init__().
    def __init__(self, **properties):
        super().__init__(**properties)

    attach = _raises_loop_error(Gaio.Context.attach)
    create_source = _raises_loop_error(Gaio.Context.create_source)

    @staticmethod
    def new_with_monitor(monitor):
        _to_int(monitor, 'a monitor is a Gaio.MonitorType')
        return Gaio.Context.new_with_monitor(monitor)

    @_raises_loop_error
    def add_fd(self, fd, condition, func, *user_data):
        return super().add_fd(_to_fd(fd), _to_condition(condition),
                              _keep(fd, _to_function(func)), *user_data)

    @_raises_loop_error
    def add_child(self, pid, func, *user_data):
        return super().add_child(_to_positive(pid, 'a pid is an int'), _to_function(func),
                                 *user_data)

    @_raises_loop_error
    def add_notifier(self, notifier, func, *user_data):
        return super().add_notifier(notifier, _to_function(func), *user_data)

    def add_timer(self, func, *user_data):
        return super().add_timer(_to_function(func), *user_data)

    def add_bottom_half(self, func, *user_data):
        return super().add_bottom_half(_to_function(func), *user_data)

    def defer(self, func, *user_data):
        _defer(self, _to_function(func), *user_data)

    def call_in(self, main_context, func, *user_data):
        super().call_in(main_context, _to_function(func), *user_data)

    def add_timeout(self, *args, seconds=None, **kwargs):
        """add_timeout(interval_us, func, *user_data) or add_timeout(func, *user_data, seconds=1)"""
        if seconds is not None:
            first = kwargs.get('interval_us', args[0] if args else None)
            args = (_choose_time(None if callable(first) else first, seconds), *args)
        return self._add_timeout(*args, **kwargs)

    def _add_timeout(self, interval_us, func, *user_data):
        return super().add_timeout(_to_interval(interval_us), _to_function(func), *user_data)

    # An error names what was called.
    _add_timeout.__qualname__ = add_timeout.__qualname__

    def set_dispatch_limits(self, max_callbacks, max_time_us):
        max_callbacks = _to_int(max_callbacks, 'max_callbacks is an int')
        super().set_dispatch_limits(max_callbacks, _to_us_from(0, max_time_us))

    def set_poll_params(self, max_us, grow, shrink):
        super().set_poll_params(_to_window(max_us), _to_int(grow, 'grow is an int'),
                                _to_int(shrink, 'shrink is an int'))

    def iterate(self, timeout_us=None, *, seconds=None):
        timeout_us = _to_timeout(_choose_time(timeout_us, seconds))
        if timeout_us == 0:
            return super().iterate(0)
        with _interruptible(self, self.wakeup):
            return super().iterate(timeout_us)

    # gaio.wrap() reads from __wrapped__ what they take.
    @functools.wraps(Gaio.Context.pread_async)
    def pread_async(self, fd, count, offset, *args, **kwargs):
        return super().pread_async(_to_fd(fd), _to_size(count, 'a count is an int'),
                                   _to_size(offset, _AN_OFFSET), *args, **kwargs)

    @functools.wraps(Gaio.Context.pwrite_async)
    def pwrite_async(self, fd, data, offset, *args, **kwargs):
        return super().pwrite_async(_to_fd(fd), _to_bytes(data), _to_size(offset, _AN_OFFSET),
                                    *args, **kwargs)

    @functools.wraps(Gaio.Context.sleep_async)
    def sleep_async(self, delay_us, *args, **kwargs):
        return super().sleep_async(_to_timeout(delay_us), *args, **kwargs)

    @functools.wraps(Gaio.Context.wait_fd_async)
    def wait_fd_async(self, fd, condition, *args, **kwargs):
        return super().wait_fd_async(_to_fd(fd), _to_condition(condition), *args, **kwargs)

    @functools.wraps(Gaio.Context.fsync_async)
    def fsync_async(self, fd, *args, **kwargs):
        return super().fsync_async(_to_fd(fd), *args, **kwargs)

    pread_finish = _raises_loop_error(Gaio.Context.pread_finish)
    pwrite_finish = _raises_loop_error(Gaio.Context.pwrite_finish)
    fsync_finish = _raises_loop_error(Gaio.Context.fsync_finish)
    sleep_finish = _raises_loop_error(Gaio.Context.sleep_finish)
    wait_fd_finish = _raises_loop_error(Gaio.Context.wait_fd_finish)

    @_raises_loop_error
    def run(self, main_context=None, cancellable=None):
        if isinstance(main_context, GLib.MainLoop):
            raise TypeError('run() takes a GLib.MainContext: pass main_loop.get_context(), and a '
                            'Gio.Cancellable to end it')
        # The caller's cancellable is not changed.
        stopper = Gio.Cancellable()
        if cancellable is not None:
            connection = GObject.Object.connect(cancellable, 'cancelled',
                                                lambda _: stopper.cancel())
            if cancellable.is_cancelled():
                stopper.cancel()
        try:
            with _interruptible(self, stopper.cancel):
                return super().run(main_context, stopper)
        finally:
            if cancellable is not None:
                GObject.Object.disconnect(cancellable, connection)


__all__.append('Context')


@override
class Handler(_Removable, Gaio.Handler):
    @_raises_loop_error
    def set_condition(self, condition):
        return super().set_condition(_to_condition(condition))


__all__.append('Handler')


@override
class Timer(_Removable, Gaio.Timer):
    def arm(self, delay_us=None, *, seconds=None):
        _arm(self, _to_delay(_choose_time(delay_us, seconds)))

    def arm_at(self, monotonic_us):
        _arm_at(self, _to_int(monotonic_us, 'a point in time is an int in microseconds, such as '
                                            'GLib.get_monotonic_time() + 1000'))


__all__.append('Timer')


@override
class BottomHalf(_Removable, Gaio.BottomHalf):
    pass


__all__.append('BottomHalf')


@override
class Notifier(Gaio.Notifier):
    new = staticmethod(_raises_loop_error(Gaio.Notifier.new))

    def __new__(cls):
        return cls.new()


__all__.append('Notifier')


def _drop_after_exception(func, number):
    """@func, which is dropped when it ends with an exception, unless it has set another."""
    @functools.wraps(func)
    def wrapper(ready_set, *args):
        try:
            func(ready_set, *args)
        except BaseException:
            if ready_set._n_funcs == number:
                ready_set.set_func(None)
            raise

    return wrapper


@override
class ReadySet(Gaio.ReadySet):
    _has_func = False
    _n_funcs = 0

    def __new__(cls, context):
        return cls.new(context)

    def __init__(self, context):
        pass

    @_raises_loop_error
    def add_fd(self, fd, condition, token):
        return super().add_fd(_to_fd(fd), _to_condition(condition),
                              _to_int(token, 'a token is an int'))

    def set_func(self, func=None, *user_data):
        """Set func(ready_set, n_ready, *user_data), which takes what is ready. One that ends with
        an exception is dropped: it would be called again and again."""
        self._n_funcs += 1
        if func is not None:
            func = _drop_after_exception(_to_function(func), self._n_funcs)
        super().set_func(func, *user_data)
        self._has_func = func is not None

    @_raises_loop_error
    def wait(self, timeout_us=None, *, seconds=None):
        return super().wait(_to_timeout(_choose_time(timeout_us, seconds)))

    def __iter__(self):
        """Take what is ready, as (token, fd, condition). The condition is an int: creating a
        GLib.IOCondition takes ten times as long as all the rest."""
        return _unpack_records(_take(self))

    async def __aiter__(self):
        """Wait for one batch after another, by the function of the set. asyncio has to run GLib."""
        # Those who do not use asyncio do without it.
        import gaio
        while True:
            if self._has_func:
                raise RuntimeError('async for would replace the function of the set: call '
                                   'set_func(None) before')
            records = await gaio.wrap(self.wait_async) or b''
            # Rounds before this task went on have recorded the same again. What is new will be.
            _take(self)
            for record in _unpack_records(records):
                yield record

    wait_finish = _raises_loop_error(Gaio.ReadySet.wait_finish)


__all__.append('ReadySet')


@override
class SocketService(Gaio.SocketService):
    def __init__(self, context=None, **properties):
        super().__init__(context=context, **properties)


__all__.append('SocketService')


@override
class StatsExporter(Gaio.StatsExporter):
    new = staticmethod(_raises_loop_error(Gaio.StatsExporter.new))

    def __new__(cls, context, connection):
        return cls.new(context, connection)

    def __init__(self, context, connection):
        pass


__all__.append('StatsExporter')


@override
class Thread(Gaio.Thread):
    new = staticmethod(_raises_loop_error(Gaio.Thread.new))

    def __new__(cls, name=None):
        return cls.new(name)

    def __init__(self, name=None):
        pass


__all__.append('Thread')

# Python counts its own references.
for _boxed in (Gaio.Handler, Gaio.Timer, Gaio.BottomHalf, Gaio.Notifier):
    for _name in ('ref', 'unref'):
        delattr(_boxed, _name)
