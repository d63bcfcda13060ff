# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals in a main loop: Ctrl-C while it runs callbacks of GLib, and who wakes it."""

import contextlib
import os
import signal
import sys
# Without the enum that the module makes of it, which takes longer.
from _signal import getsignal as _getsignal

from gi import _ossighelper
from gi.repository import Gaio, GLib

from ._main_context import is_in_main_thread


def do_nothing():
    pass


class _GuardedHandler:
    """A SIGINT handler that is called at once: only its KeyboardInterrupt may have to wait."""

    def __init__(self, ctrl_c, handler):
        self.ctrl_c, self.handler = ctrl_c, handler

    def __call__(self, *args):
        try:
            self.handler(*args)
        except KeyboardInterrupt:
            if self.ctrl_c.is_to_raise():
                raise
            _tell_innermost()


def _tell_innermost():
    """As PyGObject's own handler does: a main loop that is left tells the next one further out."""
    if not _ossighelper._sigint_called:
        _ossighelper._sigint_called = True
        _ossighelper._callback_stack.pop()()


def _is_set_by_python():
    """Not by GLib.unix_signal_add(), behind its back."""
    return _ossighelper.startup_sigint_ptr in (-1, _ossighelper.PyOS_getsig(signal.SIGINT))


class CtrlC:
    """What Ctrl-C does during the select() of a gaio.Selector."""

    def __init__(self):
        # The one that select() runs.
        self.context = None
        # How many select() are under way: a callback of GLib may call one.
        self._depth = 0
        self.is_guarded = self.has_come = False
        self._is_outermost = False
        # What was found or set last, if it is us who look after it, and that of a main loop further
        # out, which hears first.
        self._handler = self._outer_handler = None
        self._hears = False

    @contextlib.contextmanager
    def guard(self):
        """In the block Ctrl-C that comes during select() is a KeyboardInterrupt at its end, not in
        a callback of GLib, where it would end as FALSE and remove the source. Outside of select() it
        is what it is else. A main loop of PyGObject that is run in here ends before."""
        self.is_guarded = True
        self._hears = is_in_main_thread()
        try:
            if not self._hears:
                yield
            elif _ossighelper._callback_stack:
                with self._inside():
                    yield
            else:
                with self._outermost():
                    yield
        finally:
            self.is_guarded = self._hears = False

    @contextlib.contextmanager
    def _inside(self):
        self._is_outermost = False
        with _ossighelper.register_sigint_fallback(self._on_ctrl_c):
            self._handler = self._outer_handler = _getsignal(signal.SIGINT)
            try:
                yield
            finally:
                self._unguard_handler()
                self._outer_handler = None

    @contextlib.contextmanager
    def _outermost(self):
        self._is_outermost = True
        _ossighelper._sigint_called = False
        _ossighelper._callback_stack.append(self._on_ctrl_c)
        try:
            self._guard_handler()
            yield
        finally:
            try:
                self._unguard_handler()
            finally:
                _ossighelper._callback_stack.pop()

    def look_again(self):
        """The program may have set another handler, or asyncio the default one."""
        if self._hears and _getsignal(signal.SIGINT) is not self._handler:
            self._guard_handler()

    def _guard_handler(self):
        handler = _getsignal(signal.SIGINT)
        if handler is signal.default_int_handler and self._outer_handler is not None:
            handler = self._outer_handler
            signal.signal(signal.SIGINT, handler)
        elif self._may_raise(handler) and _is_set_by_python():
            handler = _GuardedHandler(self, handler)
            signal.signal(signal.SIGINT, handler)
        self._handler = handler

    def _may_raise(self, handler):
        return (callable(handler) and not isinstance(handler, _GuardedHandler) and
                handler is not self._outer_handler and not hasattr(handler, 'never_raises'))

    def _unguard_handler(self):
        handler = _getsignal(signal.SIGINT)
        if isinstance(handler, _GuardedHandler) and handler.ctrl_c is self:
            signal.signal(signal.SIGINT, handler.handler)
        self._handler = None

    def is_to_raise(self):
        """At once: nobody waits in a main loop."""
        stack = _ossighelper._callback_stack
        return self._on_ctrl_c not in stack or (self._depth == 0 and stack[-1] == self._on_ctrl_c)

    def _on_ctrl_c(self):
        """Called by the handler, or when a loop that was run in here has ended."""
        if self._depth > 0:
            self._put_off()
        else:
            self._interrupt()

    def _put_off(self):
        self.has_come = True
        # For a select() that is just about to wait.
        Gaio.Context.defer(self.context, do_nothing)

    def begin_select(self):
        self.look_again()
        self._depth += 1

    def end_select(self):
        self._depth -= 1
        if self.has_come:
            # One in a callback of GLib leaves it to the one further out, too.
            self.has_come = self._depth > 0
            self._interrupt()

    def _interrupt(self):
        if self._is_outermost and _ossighelper._sigint_called:
            # As if it had not come: somebody may catch the exception, and go on.
            _ossighelper._sigint_called = False
            _ossighelper._callback_stack.append(self._on_ctrl_c)
        raise KeyboardInterrupt


class MainLoopHandler:
    """The SIGINT handler of PyGObject's main loop that is run further out, if there is one: asyncio
    sets the default one when it removes its own, and Ctrl-C would not end the main loop."""

    def __init__(self):
        handler = _getsignal(signal.SIGINT)
        self._is_its_own = getattr(handler, '__module__', None) == _ossighelper.__name__
        self._handler = handler
        self._outermost = _ossighelper._callback_stack[:1]

    def restore(self):
        """Unless that main loop has ended."""
        if self._is_its_own and self._outermost and \
                self._outermost == _ossighelper._callback_stack[:1]:
            signal.signal(signal.SIGINT, self._handler)


class LoopWakeupFd:
    """Of asyncio, for its signal handlers, while its loop runs. Afterwards that of a main loop
    further out is in place again."""

    def __init__(self, fd):
        self._fd = fd
        self._outer_fd = None
        self._outer_flag = False

    def take(self):
        try:
            fd = signal.set_wakeup_fd(self._fd, warn_on_full_buffer=False)
        except ValueError:
            # Not the main thread.
            return
        if self._outer_fd is None:
            self._outer_fd = fd
            # A main loop that is run in here must not count on one further out, which sleeps.
            self._outer_flag = _ossighelper._wakeup_fd_is_active
            _ossighelper._wakeup_fd_is_active = False

    def give_back(self):
        if self._outer_fd is None:
            return
        _ossighelper._wakeup_fd_is_active = self._outer_flag
        fd = signal.set_wakeup_fd(-1)
        if fd != self._fd:
            # Somebody has set another one in the meantime.
            self._outer_fd = fd
        # It may have been closed.
        with contextlib.suppress(OSError, ValueError):
            signal.set_wakeup_fd(self._outer_fd, warn_on_full_buffer=False)
        self._outer_fd = None


@contextlib.contextmanager
def leaving_wakeup_fd():
    """Who runs the main loop hears of signals by it."""
    try:
        fd = signal.set_wakeup_fd(-1)
    except ValueError:
        # Not the main thread: asyncio says so.
        yield
        return
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


class SignalSource(GLib.Source):
    """Wakes a GMainContext for signals, whose handlers Python calls when it runs next. The main
    loops of PyGObject do so for the default one alone. Borrows the wake-up fd while GLib polls."""

    _is_closed = True

    def __init__(self):
        super().__init__()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._outer_fd = -1
        self._is_closed = False
        # GLib holds no more than its address.
        self._poll_fd = GLib.PollFD(self._reader, GLib.IOCondition.IN)
        self.add_poll(self._poll_fd)
        # The first, so that GLib never leaves check() out.
        self.set_priority(GLib.MININT)

    def prepare(self):
        # A context may have been handed to another thread, which hears no signals.
        with contextlib.suppress(ValueError):
            fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            if fd != self._writer:
                self._outer_fd = fd
        return False, -1

    def check(self):
        self._give_back(self._outer_fd)
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        return False

    def _give_back(self, outer_fd):
        with contextlib.suppress(ValueError):
            fd = signal.set_wakeup_fd(outer_fd)
            if fd != self._writer:
                signal.set_wakeup_fd(fd)

    def close(self):
        if self._is_closed:
            return
        self._is_closed = True
        self.destroy()
        self._give_back(-1)
        os.close(self._reader)
        os.close(self._writer)

    def __del__(self):
        """The garbage collector may come here before it comes to the loop, which closes it, too."""
        if not sys.is_finalizing():
            self.close()
        super().__del__()
