# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals in a main loop: Ctrl-C while it runs callbacks of GLib, and who wakes it."""

import contextlib
import os
import signal

from gi import _ossighelper
from gi.repository import Gaio, GLib

from ._main_context import is_in_main_thread


def do_nothing():
    pass


class CtrlC:
    """What Ctrl-C does during the select() of a gaio.Selector."""

    def __init__(self):
        # The one that select() runs.
        self.context = None
        # How many select() are under way: a callback of GLib may call one.
        self._depth = 0
        self.is_guarded = self.has_come = False
        self._guards_all = False

    @contextlib.contextmanager
    def guard(self):
        """In the block Ctrl-C that comes during select() is a KeyboardInterrupt at its end, not in
        a callback of GLib, where it would end as FALSE and remove the source. Outside of select() it
        is what it is else."""
        self.is_guarded = True
        # Who hears of it first; a main loop further out is told when the block is left.
        self._guards_all = _ossighelper.sigint_handler_is_default()
        try:
            with self._guarded_handler(), _ossighelper.register_sigint_fallback(self._on_ctrl_c):
                yield
        finally:
            self.is_guarded = False

    @contextlib.contextmanager
    def _guarded_handler(self):
        """One of the program, or of asyncio.Runner, is called at once: only its KeyboardInterrupt
        has to wait."""
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler) or self._guards_all or _ossighelper._callback_stack or \
                not is_in_main_thread():
            yield
            return

        def guarded(*args):
            try:
                handler(*args)
            except KeyboardInterrupt:
                if self._depth == 0:
                    raise
                self._put_off()

        signal.signal(signal.SIGINT, guarded)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is guarded:
                signal.signal(signal.SIGINT, handler)

    def _on_ctrl_c(self):
        """Called by the handler of PyGObject, or when a loop that was run in here has ended."""
        if self._depth > 0:
            self._put_off()
        else:
            self._interrupt()

    def _put_off(self):
        self.has_come = True
        # For a select() that is just about to wait.
        Gaio.Context.defer(self.context, do_nothing)

    def begin_select(self):
        self._depth += 1

    def end_select(self):
        self._depth -= 1
        if self.has_come:
            # One in a callback of GLib leaves it to the one further out, too.
            self.has_come = self._depth > 0
            self._interrupt()

    def _interrupt(self):
        if self._guards_all and _ossighelper._sigint_called:
            # As if it had not come: somebody may catch the exception, and go on.
            _ossighelper._sigint_called = False
            _ossighelper._callback_stack.append(self._on_ctrl_c)
        raise KeyboardInterrupt


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

    def __init__(self):
        super().__init__()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._outer_fd = -1
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
        self.destroy()
        self._give_back(-1)
        os.close(self._reader)
        os.close(self._writer)
