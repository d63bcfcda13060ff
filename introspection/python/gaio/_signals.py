# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals in a main loop: Ctrl-C while it runs GLib callbacks, and what wakes it."""

import contextlib
import os
import signal
import sys
# Bypass the enum that the module converts it to, which takes longer.
from _signal import getsignal as _getsignal

from gi import _ossighelper
from gi.repository import Gaio, GLib

from ._main_context import is_in_main_thread


def do_nothing():
    pass


class _GuardedHandler:
    """A SIGINT handler that is called at once; only its KeyboardInterrupt may have to wait."""

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
    """Tell the innermost main loop, as PyGObject's own handler does; when it ends, it tells the
    next outer one."""
    if not _ossighelper._sigint_called:
        _ossighelper._sigint_called = True
        _ossighelper._callback_stack.pop()()


def _is_set_by_python():
    """Whether Python set the handler, and not GLib.unix_signal_add() behind its back."""
    return _ossighelper.startup_sigint_ptr in (-1, _ossighelper.PyOS_getsig(signal.SIGINT))


class CtrlC:
    """What Ctrl-C does during the select() of a gaio.Selector."""

    def __init__(self):
        # The context that select() runs.
        self.context = None
        # How many calls of select() are in progress: a GLib callback may make one.
        self._depth = 0
        self.is_guarded = self.has_come = False
        self._is_outermost = False
        # The handler that we found or set last, if we are in charge of it, and that of an outer
        # main loop, which is called first.
        self._handler = self._outer_handler = None
        self._hears = False

    @contextlib.contextmanager
    def guard(self):
        """In this block, Ctrl-C during select() raises a KeyboardInterrupt at the end of select(),
        not in a GLib callback, where it would become a FALSE and remove the source. Outside of
        select(), it works as usual. A nested PyGObject main loop ends first."""
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
        """The program may have set another handler, or asyncio may have set the default one."""
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
        """Whether to raise at once, because nobody waits in a main loop."""
        if self.has_come:
            # Once more, before select() could raise.
            return False
        stack = _ossighelper._callback_stack
        return self._on_ctrl_c not in stack or (self._depth == 0 and stack[-1] == self._on_ctrl_c)

    def _on_ctrl_c(self):
        """Called by the handler, or when a nested loop has ended."""
        if self._depth > 0:
            self._put_off()
        else:
            self._interrupt()

    def _put_off(self):
        self.has_come = True
        # In case select() is just about to wait.
        Gaio.Context.defer(self.context, do_nothing)

    def begin_select(self):
        self.look_again()
        self._depth += 1

    def end_select(self):
        self._depth -= 1
        if self.has_come:
            # A select() in a GLib callback also leaves it to the outer one.
            self.has_come = self._depth > 0
            self._interrupt()

    def _interrupt(self):
        if self._is_outermost and _ossighelper._sigint_called:
            # Forget that it came: somebody may catch the exception and continue.
            _ossighelper._sigint_called = False
            _ossighelper._callback_stack.append(self._on_ctrl_c)
        raise KeyboardInterrupt


class MainLoopHandler:
    """The SIGINT handler of an outer PyGObject main loop, if there is one. When asyncio removes its
    own handler, it sets the default one, and Ctrl-C would not end the main loop."""

    def __init__(self):
        handler = _getsignal(signal.SIGINT)
        self._is_its_own = getattr(handler, '__module__', None) == _ossighelper.__name__
        self._handler = handler
        self._outermost = _ossighelper._callback_stack[:1]

    def restore(self):
        """Restore the handler, unless that main loop has ended."""
        if self._is_its_own and self._outermost and \
                self._outermost == _ossighelper._callback_stack[:1]:
            signal.signal(signal.SIGINT, self._handler)


class LoopWakeupFd:
    """The wake-up fd that asyncio needs for its signal handlers while its loop runs. Afterwards,
    that of an outer main loop is restored."""

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
            # A nested main loop must not rely on an outer one, which sleeps.
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
    """Leave the wake-up fd to whoever runs the main loop, who learns of signals by it."""
    try:
        fd = signal.set_wakeup_fd(-1)
    except ValueError:
        # Not the main thread: asyncio reports that.
        yield
        return
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


class SignalSource(GLib.Source):
    """Wakes a GMainContext for signals, whose handlers Python calls when it runs next. PyGObject
    main loops do this only for the default main context. Borrows the wake-up fd while GLib
    polls."""

    _is_closed = True

    def __init__(self):
        super().__init__()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._outer_fd = -1
        self._is_closed = False
        # GLib keeps only its address.
        self._poll_fd = GLib.PollFD(self._reader, GLib.IOCondition.IN)
        self.add_poll(self._poll_fd)
        # The highest priority, so that GLib never skips check().
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
        """The garbage collector may collect this before the loop, which also closes it."""
        if not sys.is_finalizing():
            self.close()
        super().__del__()
