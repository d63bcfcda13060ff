# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio's own event loop on a selector of ours."""

import asyncio
import contextlib
import signal
import threading

from gi._ossighelper import wakeup_on_signal

from ._child_watcher import announce_loop, use_pidfds
from ._main_context import thread_default
from ._selector import Selector
from ._signals import LoopWakeupFd, MainLoopHandler, leaving_wakeup_fd

# The loop that gaio.install() has made in a thread: that of the thread when no other is run.
_installed = threading.local()


def set_installed(loop):
    _installed.loop = loop


def get_installed():
    loop = getattr(_installed, 'loop', None)
    return None if loop is None or loop.is_closed() else loop


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio.SelectorEventLoop that runs a GMainContext while it waits, see gaio.Selector.

    What a callback of GLib asks for with call_soon() is served as soon as it has returned. While it
    runs a loop of its own, such as Gtk.Dialog.run(), GLib goes on and asyncio waits.

    It runs the GMainContext of the thread that runs it, if none is given, see gaio.Selector.
    """

    # Until asyncio has made it: __del__() looks, also when it was refused its main context.
    _closed = True
    # Of the run_forever() that is under way, unless somebody else runs the main loop.
    _wakeup_fd = None
    # That was there before the one of add_signal_handler(SIGINT).
    _outer_handler = None

    def __init__(self, main_context=None, *, selector=None):
        self.gaio_selector = selector if selector is not None else Selector(main_context)
        super().__init__(self.gaio_selector)

    @property
    def _context(self):
        """PyGObject lets its asynchronous methods be awaited in a loop that tells so what it runs."""
        return self.gaio_selector.main_context

    def running(self, _quit):
        """PyGObject 3.50 takes this loop for one of gi.events, and asks for this when a main loop is
        run inside: GLib goes on, asyncio waits. So does paused()."""
        return wakeup_on_signal()

    def paused(self):
        return contextlib.nullcontext()

    def run_forever(self):
        if self.is_running() or self.is_closed():
            return super().run_forever()  # It says that this is an error.
        selector = self.gaio_selector
        selector.bind()
        with self._hearing_signals(), selector.interruptible(), \
                thread_default(selector.main_context):
            return super().run_forever()

    @contextlib.contextmanager
    def _hearing_signals(self):
        wakeup_fd = self._wakeup_fd = LoopWakeupFd(self._csock.fileno())
        self._take_wakeup_fd()
        try:
            yield
        finally:
            self._wakeup_fd = None
            wakeup_fd.give_back()

    def _take_wakeup_fd(self):
        if self._wakeup_fd is not None and self._signal_handlers:
            self._wakeup_fd.take()

    def add_signal_handler(self, sig, callback, *args):
        """By way of Python's own handler: a main loop of PyGObject that is run in here has the
        wake-up fd, by which asyncio would hear of it, but sees to it that this is called."""
        outer_handler = MainLoopHandler()
        with leaving_wakeup_fd():
            super().add_signal_handler(sig, callback, *args)
        signal.signal(sig, self._on_signal)
        signal.siginterrupt(sig, False)
        if sig == signal.SIGINT and self._outer_handler is None:
            self._outer_handler = outer_handler
        if self._wakeup_fd is not None:
            # When a main loop that is run in here has ended.
            self.call_soon_threadsafe(self._take_wakeup_fd)

    def remove_signal_handler(self, sig):
        with leaving_wakeup_fd():
            is_removed = super().remove_signal_handler(sig)
        if is_removed and sig == signal.SIGINT:
            self._outer_handler.restore()
            self._outer_handler = None
            self.gaio_selector.sigint_has_changed()
        return is_removed

    def _on_signal(self, sig, _frame):
        self._handle_signal(sig)

    _on_signal.never_raises = True

    def _process_self_data(self, data):
        """The numbers of signals that _on_signal() has been told of: they only wake us."""


def _make_loop():
    loop = EventLoop()
    announce_loop(loop)
    return loop


def run(main, *, debug=None):
    """As asyncio.run(), with GLib's main loop inside: its default main context, or that of the
    thread; in a forked child whose parent has used GLib one of its own, see gaio.Selector. Also in a
    callback of GLib, where an installed loop goes on meanwhile."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError('gaio.run() cannot be called from a running event loop')
    use_pidfds()
    try:
        with asyncio.Runner(debug=debug, loop_factory=_make_loop) as runner:
            return runner.run(main)
    finally:
        announce_loop(get_installed())
