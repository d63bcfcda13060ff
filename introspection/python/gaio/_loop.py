# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio's own event loop, on our selector."""

import asyncio
import contextlib
import selectors
import signal

from gi._ossighelper import wakeup_on_signal

from ._child_watcher import announce_loop, use_pidfds
from ._main_context import thread_default
from ._main_loops import get_installed
from ._selector import Selector
from ._signals import LoopWakeupFd, MainLoopHandler, leaving_wakeup_fd


@contextlib.contextmanager
def outside_of_other_loops():
    """Another event loop may be running the main context, as gaio.run() in a GLib callback does, or
    one of its tasks may be running a main loop: the other loop waits meanwhile."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    # Since Python 3.14, a thread has only one current task.
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


class EventLoop(asyncio.SelectorEventLoop):
    """An asyncio.SelectorEventLoop that runs a GMainContext while it waits, see gaio.Selector.

    What a GLib callback schedules with call_soon() runs as soon as the callback has returned. While
    the callback runs a nested main loop, such as Gtk.Dialog.run(), GLib continues and asyncio
    waits.

    If no GMainContext is given, it runs that of the thread that runs it, see gaio.Selector.
    """

    # Until asyncio's __init__() has run: __del__() reads this, even if getting the main context
    # failed.
    _closed = True
    # That of the current run_forever(), unless somebody else runs the main loop.
    _wakeup_fd = None
    # The handler before add_signal_handler(SIGINT).
    _outer_handler = None

    def __init__(self, main_context=None, *, selector=None):
        if isinstance(main_context, selectors.BaseSelector):
            # As the loops of asyncio take it.
            main_context, selector = None, main_context
        if not isinstance(selector, (Selector, type(None))):
            raise TypeError('gaio.EventLoop() takes a GLib.MainContext or a gaio.Selector, not '
                            f'{selector!r}, which would not run GLib')
        self.gaio_selector = selector if selector is not None else Selector(main_context)
        super().__init__(self.gaio_selector)

    @property
    def _context(self):
        """PyGObject makes its asynchronous methods awaitable in a loop that has this property."""
        return self.gaio_selector.main_context

    def running(self, _quit):
        """PyGObject 3.50 takes this loop for one of gi.events, and calls this when a nested main
        loop is run: GLib continues and asyncio waits. The same goes for paused()."""
        return wakeup_on_signal()

    def paused(self):
        return contextlib.nullcontext()

    # Whether run_forever() has been called and has not returned.
    is_in_run = asyncio.SelectorEventLoop.is_running

    def _run_once(self):
        """An iteration of asyncio, and what its callbacks have scheduled: what one has read,
        another handles. To look for events in between means to iterate GLib, which takes longer."""
        super()._run_once()
        self._run_followers()

    def _run_followers(self):
        if self._ready and not (self._debug or self._stopping or self._is_timer_due(self.time())):
            self._run_ready()

    def _run_ready(self):
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _is_timer_due(self, now):
        # As asyncio has it, NaN is due.
        return self._scheduled and not self._scheduled[0]._when > now

    def run_forever(self):
        if self.is_in_run() or self.is_closed():
            return super().run_forever()  # This raises the error.
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
        """Use Python's own signal handler. asyncio would learn of the signal by the wake-up fd, but
        a nested PyGObject main loop takes that; it does make sure that the Python handler is
        called."""
        outer_handler = MainLoopHandler()
        with leaving_wakeup_fd():
            super().add_signal_handler(sig, callback, *args)
        signal.signal(sig, self._on_signal)
        signal.siginterrupt(sig, False)
        if sig == signal.SIGINT and self._outer_handler is None:
            self._outer_handler = outer_handler
        if self._wakeup_fd is not None:
            # Once a nested main loop has ended.
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
        """Ignore the signal numbers, which only wake us: _on_signal() has handled the signals."""


def get_running_gaio_loop():
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise TypeError(f'{type(loop).__name__} is no gaio.EventLoop: begin with gaio.run() or '
                        'gaio.install(); asyncio.run() makes a loop of its own')
    return loop


def _make_loop():
    loop = EventLoop()
    announce_loop(loop)
    return loop


def run(main, *, debug=None):
    """Like asyncio.run(), with the GLib main loop inside: it runs the default main context or that
    of the thread; in a forked child whose parent has used GLib, it runs a new one, see
    gaio.Selector. May also be called in a GLib callback; meanwhile, an installed loop continues to
    run."""
    running = asyncio._get_running_loop()
    if running is not None and (running is not get_installed() or running.is_in_run()):
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError('gaio.run() is called where an event loop is running: write '
                           '`await coroutine` in a coroutine, and '
                           '`asyncio.create_task(coroutine)` in a callback')
    use_pidfds()
    try:
        with outside_of_other_loops(), \
                asyncio.Runner(debug=debug, loop_factory=_make_loop) as runner:
            return runner.run(main)
    finally:
        announce_loop(get_installed())


def new_event_loop():
    """Create a loop, for asyncio.Runner(loop_factory=gaio.new_event_loop) and the like."""
    return EventLoop()
