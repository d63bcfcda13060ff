# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio inside a main loop that somebody else runs."""

import asyncio
import atexit
import contextlib
import heapq
import itertools
import math
import sys
import threading
import weakref

from gi.repository import Gaio, GLib

from ._child_watcher import use_pidfds
from ._loop import EventLoop, outside_of_other_loops
from ._main_context import get_main_context, is_in_main_thread, thread_default
from ._main_loops import find_quits, get_installed, is_run, is_running_loop, set_installed, \
    set_running, set_running_loop
from ._selector import Selector, set_raw_func
from ._signals import SignalSource


# This many iterations in a row take precedence over anything else that GLib has to do.
_MOST_URGENT_TURNS = 16
# To look it up in PyGObject's module takes longer than to call it.
_get_thread_default = GLib.MainContext.get_thread_default
# Anything later than this is never: a timer counts microseconds in 64 bits.
_NEVER_S = 9e12


def _hide_us(handle):
    """Debug mode shows who scheduled a callback: the innermost call that is not asyncio's."""
    traceback = getattr(handle, '_source_traceback', None)
    while traceback and traceback[-1].filename == __file__:
        del traceback[-1]
    return handle


class _HostedSelector(Selector):
    """A selector that does not wait while hosted: whoever runs the main loop has already waited."""

    hosted = False

    def select(self, timeout=None):
        return self.take() if self.hosted else super().select(timeout)

    def interruptible(self):
        """The main loop that hosts it handles Ctrl-C."""
        return contextlib.nullcontext() if self.hosted else super().interruptible()


class _Deadlines:
    """The deadlines of call_at() callbacks that were not yet due when call_at() was called."""

    def __init__(self):
        self._heap = []
        self._order = itertools.count()
        self._purge_at = 100

    def add(self, handle):
        heapq.heappush(self._heap, (handle.when(), next(self._order), handle))
        if len(self._heap) > self._purge_at:
            self._heap = [entry for entry in self._heap if not entry[2].cancelled()]
            heapq.heapify(self._heap)
            self._purge_at = 2 * len(self._heap) + 100

    def __bool__(self):
        return bool(self._heap)

    def clear(self):
        self._heap.clear()

    def first_after(self, now):
        """The first deadline after @now, or None."""
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].cancelled()):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


class HostedEventLoop(EventLoop):
    """An event loop that is run by whoever runs its GMainContext, one iteration whenever there is
    something to do. It is running while a main loop runs that GMainContext. Created by
    gaio.install()."""

    _is_in_main_context = False

    def __init__(self, main_context=None):
        self._deadlines = _Deadlines()
        self._has_more = self._is_muted = False
        self._n_urgent_turns = 0
        self._idle = None
        self._signal_source = None
        self._thread = threading.get_ident()
        selector = _HostedSelector(get_main_context() if main_context is None else main_context)
        context = selector.context
        self._turn_soon = Gaio.Context.add_bottom_half(context, self._weakly('_turn'))
        self._turn_later = Gaio.Context.add_timer(context, self._weakly('_on_deadline'))
        self._armed_for = None
        self._is_default = selector.main_context == GLib.MainContext.default()
        super().__init__(selector=selector)
        self._is_in_main_context = True
        self._listen()
        if is_in_main_thread():
            self._hear_signals()

    def _weakly(self, name):
        """A callback that does not keep its loop alive. The context releases what was removed when
        it runs next, which may be never. An exception, such as that of a signal handler, leaves the
        rest to another turn."""
        weak, function = weakref.ref(self), getattr(type(self), name)

        def callback(*_):
            loop = weak()
            if loop is None:
                return None
            try:
                return function(loop)
            except BaseException:
                if not loop._closed:
                    loop._turn_soon.schedule()
                raise

        return callback

    def is_running(self):
        if self.is_in_run() or not self._is_in_main_context:
            return self.is_in_run()
        # BaseEventLoop.__del__() asks, too late for what PyGObject would import.
        if sys.is_finalizing():
            return False
        main_context = self.gaio_selector.main_context
        return main_context.is_owner() or is_run(main_context)

    def _check_running(self):
        """In a main loop, a GLib callback may run it until something is done."""
        if self.is_in_run() or asyncio._get_running_loop() not in (None, self):
            super()._check_running()

    def stop(self):
        """End the main loops, or else run_until_complete() or run_forever()."""
        main_context = self.gaio_selector.main_context
        if self.is_in_run() or not main_context.is_owner():
            super().stop()
        if self.is_in_run() and not self.gaio_selector.hosted:
            return
        quits = find_quits(main_context)
        if not quits and main_context.is_owner():
            raise RuntimeError('stop() cannot end a main loop that Python does not run: call the '
                               'function that ends it')
        for quit_ in quits:
            quit_()

    def _check_caller(self):
        """Of debug mode. asyncio itself checks this only in run_forever()."""
        if (not self.is_in_run() and threading.get_ident() != self._thread
                and not self.gaio_selector.main_context.is_owner()):
            raise RuntimeError('Non-thread-safe operation invoked on an event loop other than the '
                               'current one')

    def call_soon(self, callback, *args, context=None):
        if self._closed or self._debug:
            return self._call_soon_carefully(callback, *args, context=context)
        # What asyncio itself does, in half of the time.
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if self._thread_id is None:
            self._turn_soon.schedule()
        return handle

    def _call_soon_carefully(self, callback, *args, context=None):
        self._check_caller()
        handle = super().call_soon(callback, *args, context=context)
        if not self.is_in_run():
            self._turn_soon.schedule()
        return _hide_us(handle)

    def _write_to_self(self):
        super()._write_to_self()
        # The current iteration may consume asyncio's own wake-up after it has already looked at
        # what to call.
        self._turn_soon.schedule()

    def call_at(self, when, callback, *args, context=None):
        if self.get_debug():
            self._check_caller()
        handle = super().call_at(when, callback, *args, context=context)
        if when > self.time():
            self._deadlines.add(handle)
            if not self.is_in_run():
                self._set_timer(-math.inf)
        else:
            # This includes NaN: asyncio calls such a callback at once.
            self._has_more = True
            if not self.is_in_run():
                self._turn_soon.schedule()
        return _hide_us(handle)

    def _set_timer(self, done_until):
        when = self._deadlines.first_after(done_until)
        if when != self._armed_for:
            self._armed_for = when
            self._turn_later.arm_at(-1 if when is None else int(min(when, _NEVER_S) * 1e6) + 1)

    def _on_deadline(self):
        self._armed_for = None
        self._turn()

    def _turn(self):
        """Do everything there is to do now: what is due, what is ready, and what was scheduled."""
        if self._closed:
            return
        if self._thread_id is not None:
            self._wait_for_callback()
            return
        self.gaio_selector.hosted = True
        try:
            if is_running_loop(self) and not self._debug:
                self._iterate()
                return
            with outside_of_other_loops():
                # According to asyncio's documentation, this runs exactly one iteration.
                super().stop()
                self.run_forever()
        finally:
            self.gaio_selector.hosted = False

    def _listen(self):
        set_raw_func(self.gaio_selector.set, self._weakly('_turn'))

    def _wait_for_callback(self):
        """One of our callbacks runs a main loop, which must not be woken by events that only we can
        take. What woke us is not lost: we look afterwards."""
        self._has_more = True
        if not self._is_muted:
            self._is_muted = True
            set_raw_func(self.gaio_selector.set, None)

    def _iterate(self):
        """What run_forever() does, in a third of the time: we are the running loop already."""
        began = self.time()
        try:
            self._thread_id = threading.get_ident()
            self._has_more = False
            if self._is_default and _get_thread_default() is None:
                self._take_turn(began)
            else:
                with thread_default(self.gaio_selector.main_context):
                    self._take_turn(began)
        except BaseException:
            self._has_more = True
            raise
        finally:
            self._thread_id = None
            self._stopping = False
            self._be_hosted(began)

    def _has_timers_to_drop(self):
        """Those that were cancelled, as asyncio drops them."""
        timers = self._scheduled
        return timers and (timers[0]._cancelled or
                           len(timers) > 100 and 2 * self._timer_cancelled_count > len(timers))

    def _take_turn(self, began):
        if self._is_timer_due(began) or self._has_timers_to_drop():
            self._run_once()
        else:
            self._process_events(self.gaio_selector.take())
            self._run_ready()
            self._run_followers()

    def run_forever(self):
        if self.is_in_run() or self.is_closed():
            # This raises an exception, which does not end the iteration that is running.
            return super().run_forever()
        outer = asyncio._get_running_loop()
        began = self.time()
        self._has_more = False
        try:
            super().run_forever()
        except BaseException:
            # asyncio has left the rest of this iteration for the next one.
            self._has_more = True
            raise
        finally:
            asyncio._set_running_loop(outer)
            self._be_hosted(began)

    def _be_hosted(self, done_until):
        if self._is_muted:
            self._is_muted = False
            self._listen()
        if self._ready or self._has_more:
            self._go_on()
        else:
            self._n_urgent_turns = 0
        if self._deadlines or self._armed_for is not None:
            self._set_timer(done_until)

    def _go_on(self):
        """Follow a chain of callbacks at once. If it does not end, continue when GLib has nothing
        more urgent to do, such as drawing, or after 10 ms."""
        self._n_urgent_turns += 1
        if self._n_urgent_turns <= _MOST_URGENT_TURNS:
            self._turn_soon.schedule()
            return
        self._turn_soon.schedule_idle()
        if self._idle is None:
            self._idle = GLib.Idle()
            self._idle.set_callback(self._weakly('_idle_turn'))
            self._idle.attach(self.gaio_selector.main_context)

    def _idle_turn(self):
        again = False
        try:
            self._turn()
            # It would spin in a main loop that one of our callbacks runs.
            again = ((self._ready or self._has_more) and not self.is_in_run()
                     and not self.is_closed())
        finally:
            if not again:
                self._idle = None
        return again

    def add_signal_handler(self, sig, callback, *args):
        super().add_signal_handler(sig, callback, *args)
        self._hear_signals()

    def _hearing_signals(self):
        return contextlib.nullcontext() if self.gaio_selector.hosted else super()._hearing_signals()

    def _hear_signals(self):
        main_context = self.gaio_selector.main_context
        if self._signal_source is None and main_context != GLib.MainContext.default():
            self._signal_source = SignalSource()
            self._signal_source.attach(main_context)
            _hearing.add(self)

    def hear_no_longer(self):
        if self._signal_source is not None:
            self._signal_source.close()
            self._signal_source = None
            _hearing.discard(self)

    def close(self):
        if self.is_in_run():
            raise RuntimeError('Cannot close a running event loop')
        if not self.is_closed():
            self._is_in_main_context = False
            self.hear_no_longer()
            # When the interpreter exits, the modules that PyGObject would import for this are gone.
            if not sys.is_finalizing():
                self._leave_main_context()
            if get_installed() is self:
                set_installed(None)
            if asyncio._get_running_loop() is self:
                set_running_loop(None)
        super().close()

    def _leave_main_context(self):
        if self._idle is not None:
            self._idle.destroy()
        self._turn_soon.remove()
        self._turn_later.remove()
        set_raw_func(self.gaio_selector.set, None)
        # What these would have called keeps tasks alive.
        self._deadlines.clear()


# The loops that have a source for signals.
_hearing = weakref.WeakSet()


@atexit.register
def _hear_no_longer():
    """PyGObject may crash on a Python source that still exists when the interpreter exits."""
    for loop in tuple(_hearing):
        loop.hear_no_longer()


def install(main_context=None):
    """Create an event loop that is run by whoever runs @main_context in this thread, such as
    GLib.MainLoop.run() or Gtk.Application.run(). The default is the thread-default GMainContext; in
    a thread that has none, it is the global default in the main thread, and a new one in other
    threads.

    While a main loop runs, it is the running loop: GLib callbacks start tasks with
    asyncio.create_task(). It is also set as the thread's event loop with asyncio.set_event_loop(),
    unless the policy is that of gi.events. close() takes it out of the main loop. Until then, a
    second call for this GMainContext returns the same loop.

    While the loop of gaio.run() or another one that is not installed runs in this thread, it raises
    a RuntimeError.
    """
    loop = get_installed()
    if loop is not None and loop.gaio_selector.main_context == (main_context or get_main_context()):
        return loop
    if not isinstance(asyncio._get_running_loop(), (HostedEventLoop, type(None))):
        raise RuntimeError('gaio.install() is called where an event loop is running, as in '
                           'gaio.run(): use that one, which `asyncio.get_running_loop()` returns. '
                           'gaio.install() is for programs whose outermost loop is '
                           'GLib.MainLoop.run() or the like')
    use_pidfds()
    loop = HostedEventLoop(main_context)
    # The policy of gi.events accepts only its own loops; with python -O, it does not assert this.
    with contextlib.suppress(AssertionError, RuntimeError):
        asyncio.set_event_loop(loop)
    set_installed(loop)
    set_running()
    return loop
