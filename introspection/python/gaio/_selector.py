# SPDX-License-Identifier: LGPL-2.1-or-later
"""A selector that runs the GLib main loop while it waits."""

import collections.abc
import contextlib
import errno
import itertools
import math
import os
import selectors
import signal
import stat
import struct
import sys
import threading
import time

import gi

gi.require_version('Gaio', '1.0')

from gi import _ossighelper  # noqa: E402
from gi.module import get_introspection_module  # noqa: E402
from gi.repository import Gaio, GLib  # noqa: E402

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_IN, _OUT = int(GLib.IOCondition.IN), int(GLib.IOCondition.OUT)
# To make a GLib.IOCondition takes longer than what is done with it.
_CONDITIONS = {
    READ: GLib.IOCondition.IN,
    WRITE: GLib.IOCondition.OUT,
    READ | WRITE: GLib.IOCondition.IN | GLib.IOCondition.OUT,
}
# Errors and hang-ups are for both: whoever reads or writes next is told.
_EVENTS = tuple((condition & ~_OUT and READ) | (condition & ~_IN and WRITE)
                for condition in range(32))

# Without what the override does to arguments and exceptions, which is needed once in a while.
_raw = get_introspection_module('Gaio')
_add_fd = _raw.ReadySet.add_fd
_wait = _raw.ReadySet.wait
_take = _raw.ReadySet.take
_set_condition = _raw.Handler.set_condition
_remove = _raw.Handler.remove
# GaioReadyRecord.
_unpack_records = struct.Struct('QiI').iter_unpack

_LONGEST_WAIT_S = 10 ** 9
# Tokens above all fds.
_FIRST_WAITER = 2 ** 32


def _to_os_error(error):
    return Gaio.LoopError(error.message, error.domain, error.code)


def _to_fd(file):
    if not isinstance(file, int):
        try:
            file = int(file.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f'Invalid file object: {file!r}') from None
    if file < 0:
        raise ValueError(f'Invalid file descriptor: {file}')
    return file


def _check_events(events):
    if events not in _CONDITIONS:
        raise ValueError(f'Invalid events: {events!r}')


def _check_file(fd):
    """A regular file is refused, as epoll does: it has no readiness, and whoever asks for it would
    spin."""
    if stat.S_IFMT(os.fstat(fd).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), f'fd {fd}')


def _end(handler):
    """When the interpreter ends, what PyGObject would import for it is gone; the kernel ends all."""
    if not sys.is_finalizing():
        _remove(handler)


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def do_nothing():
    pass


def _is_in_main_thread():
    return threading.current_thread() is threading.main_thread()


class _Inherited:
    """What a forked child must not wait in: it would take the wake-ups of its parent, for the two
    share the eventfd of each GMainContext that there was."""

    has_default = False
    thread_default = None

    @classmethod
    def look(cls):
        cls.thread_default = GLib.MainContext.get_thread_default()
        cls.has_default = cls.has_default or cls._has_eventfd()

    @staticmethod
    def _has_eventfd():
        """There is none before somebody has used GLib: then the global default is the child's own."""
        try:
            with os.scandir('/proc/self/fd') as fds:
                return any('[eventfd]' in os.readlink(fd.path) for fd in fds)
        except OSError:
            return True


os.register_at_fork(after_in_child=_Inherited.look)


def _find_main_context():
    """The thread-default one; else the global default in the main thread, which it belongs to. None
    where there is neither, and in a forked child for what it shares with its parent."""
    main_context = GLib.MainContext.get_thread_default()
    if main_context is not None and main_context != _Inherited.thread_default:
        return main_context
    if _is_in_main_thread() and not _Inherited.has_default:
        return GLib.MainContext.default()
    return None


def get_main_context():
    """That which the main loops of GLib run in this thread, or a new one."""
    main_context = GLib.MainContext.get_thread_default()
    if main_context is not None:
        return main_context
    return GLib.MainContext.default() if _is_in_main_thread() else GLib.MainContext.new()


class _Map(collections.abc.Mapping):
    """From files to their keys."""

    def __init__(self, selector):
        self._selector = selector

    def __len__(self):
        return len(self._selector._keys)

    def __iter__(self):
        return iter(self._selector._keys)

    def __getitem__(self, file):
        key = self._selector._find(file)
        if key is None:
            raise KeyError(f'{file!r} is not registered')
        return key


class Selector(selectors.BaseSelector):
    """A selector whose select() runs one turn of a GMainContext, with what GLib, GTK and D-Bus have
    to do in it, and tells what is ready, all of it, in one call.

    select() comes back, maybe with nothing, as soon as something was called in that turn, so that
    what it has asked of the loop above is seen to.

    The default is the thread-default GMainContext; in a thread that has none, the global default in
    the main thread and a new one in the others, and in a forked child whose parent has used GLib. It
    is that of the thread that calls select(): chosen when it does so first, and again when another
    one does.

    Ctrl-C ends select() with a KeyboardInterrupt. A callback of GLib that runs then comes to its end
    before.
    """

    def __init__(self, main_context=None):
        self._keys = {}
        # By token, which is the fd of what is registered: how to end the watch, and what to tell.
        self._handlers = {}
        self._by_token = {}
        self._waiter_tokens = itertools.count(_FIRST_WAITER)
        self._map = _Map(self)
        self._chooses = main_context is None
        self._new_main_context = None
        self._thread = None
        self._is_guarded = self._guards_all = False
        self._depth = 0
        self._is_interrupted = False
        self._move_to(self._choose() if main_context is None else main_context)

    def _choose(self):
        main_context = _find_main_context()
        if main_context is not None:
            return main_context
        if self._new_main_context is None:
            self._new_main_context = GLib.MainContext.new()
        return self._new_main_context

    def _move_to(self, main_context):
        """With all that is watched. After an exception nothing has changed."""
        context = Gaio.Context.ref_for_main_context(main_context)
        ready_set = Gaio.ReadySet(context)
        handlers = {}
        try:
            for token, key in self._by_token.items():
                # What is closed stays behind, and silent.
                if _is_open(key.fd):
                    handlers[token] = self._add(ready_set, key.fd, key.events, token)
        except OSError:
            for handler in handlers.values():
                _remove(handler)
            raise
        for token, handler in handlers.items():
            _remove(self._handlers[token])
            self._handlers[token] = handler
        self.main_context, self.context, self.set = main_context, context, ready_set

    def bind(self):
        """To the main context of this thread, which is to run it."""
        thread = threading.get_ident()
        if thread == self._thread:
            return
        if self._chooses and (main_context := self._choose()) != self.main_context:
            self._move_to(main_context)
        self._thread = thread

    def _find(self, file):
        """The key, or None. Also by a file that has been closed."""
        try:
            return self._keys.get(_to_fd(file))
        except ValueError:
            for key in self._keys.values():
                if key.fileobj is file:
                    return key
            raise

    @staticmethod
    def _add(ready_set, fd, events, token):
        try:
            return _add_fd(ready_set, fd, _CONDITIONS[events], token)
        except GLib.Error as error:
            raise _to_os_error(error) from None

    def register(self, fileobj, events, data=None):
        _check_events(events)
        fd = _to_fd(fileobj)
        if fd in self._keys:
            raise KeyError(f'{fileobj!r} (FD {fd}) is already registered')
        _check_file(fd)
        self._handlers[fd] = self._add(self.set, fd, events, fd)
        key = selectors.SelectorKey(fileobj, fd, events, data)
        self._keys[fd] = self._by_token[fd] = key
        return key

    def unregister(self, fileobj):
        key = self._map[fileobj]
        del self._keys[key.fd], self._by_token[key.fd]
        # At once: the number may be that of another file by the time of the next select(), and a copy
        # of the fd, as in a forked child, would keep this one in the epoll set.
        _end(self._handlers.pop(key.fd))
        return key

    def modify(self, fileobj, events, data=None):
        _check_events(events)
        key = self._map[fileobj]
        if events != key.events:
            try:
                _set_condition(self._handlers[key.fd], _CONDITIONS[events])
            except GLib.Error as error:
                self.unregister(fileobj)
                raise _to_os_error(error) from None
        key = key._replace(events=events, data=data)
        self._keys[key.fd] = self._by_token[key.fd] = key
        return key

    def add_waiter(self, fileobj, events, data):
        """Watches a file beside what is registered, also if it is registered. Returns a function
        that ends it, if close() has not done so before."""
        fd = _to_fd(fileobj)
        token = next(self._waiter_tokens)
        self._handlers[token] = self._add(self.set, fd, events, token)
        self._by_token[token] = selectors.SelectorKey(fileobj, fd, events, data)

        def remove():
            if self._by_token.pop(token, None) is not None:
                _end(self._handlers.pop(token))

        return remove

    def _to_ready(self, batch):
        by_token = self._by_token
        ready = []
        for token, _, condition in _unpack_records(batch):
            # A callback of GLib may have unregistered it just now.
            key = by_token.get(token)
            if key is not None and (events := _EVENTS[condition] & key.events):
                ready.append((key, events))
        return ready

    def take(self):
        """What is ready already, without running anything."""
        return self._to_ready(_take(self.set))

    @contextlib.contextmanager
    def interruptible(self):
        """In the block Ctrl-C that comes during select() is a KeyboardInterrupt at its end, not in
        a callback of GLib, where it would end as FALSE and remove the source. Outside of select() it
        is what it is else. For who calls select() often."""
        self._is_guarded = True
        # Who hears of it first; a main loop further out is told when the block is left.
        self._guards_all = _ossighelper.sigint_handler_is_default()
        try:
            with self._guarded_handler(), \
                    _ossighelper.register_sigint_fallback(self._on_ctrl_c):
                yield
        finally:
            self._is_guarded = False

    @contextlib.contextmanager
    def _guarded_handler(self):
        """One of the program, or of asyncio.Runner, is called at once: only its KeyboardInterrupt
        has to wait."""
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler) or self._guards_all or _ossighelper._callback_stack or \
                not _is_in_main_thread():
            yield
            return

        def guarded(*args):
            try:
                handler(*args)
            except KeyboardInterrupt:
                if self._depth == 0:
                    raise
                self._interrupt()

        signal.signal(signal.SIGINT, guarded)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is guarded:
                signal.signal(signal.SIGINT, handler)

    def _interrupt(self):
        self._is_interrupted = True
        # For a select() that is just about to wait.
        Gaio.Context.defer(self.context, do_nothing)

    def _on_ctrl_c(self):
        """Called by the handler of PyGObject, or when a loop that was run in here has ended."""
        if self._depth > 0:
            self._interrupt()
        else:
            self._raise_interrupt()

    def _raise_interrupt(self):
        if self._guards_all and _ossighelper._sigint_called:
            # As if it had not come: somebody may catch the exception, and go on.
            _ossighelper._sigint_called = False
            _ossighelper._callback_stack.append(self._on_ctrl_c)
        raise KeyboardInterrupt

    def select(self, timeout=None):
        if self._is_guarded:
            return self._select(timeout)
        self.bind()
        with self.interruptible():
            return self._select(timeout)

    def _select(self, timeout):
        self._depth += 1
        try:
            return self._to_ready(self._wait(timeout))
        finally:
            self._depth -= 1
            if self._is_interrupted:
                # One in a callback of GLib leaves it to the one further out, too.
                self._is_interrupted = self._depth > 0
                self._raise_interrupt()

    def _wait(self, timeout):
        deadline = None
        if timeout is None:
            timeout_us = -1
        elif timeout <= 0:
            timeout_us = 0
        else:
            timeout = min(timeout, _LONGEST_WAIT_S)
            timeout_us = math.ceil(timeout * 1e6)
            deadline = time.monotonic() + timeout
        batch, interrupted = self._wait_once(timeout_us)
        if interrupted and not batch and timeout_us != 0 and not self._is_interrupted:
            batch = self._wait_until(math.inf if deadline is None else deadline)
        return batch

    def _wait_once(self, timeout_us):
        try:
            return _wait(self.set, timeout_us)
        except GLib.Error as error:
            raise _to_os_error(error) from None

    def _wait_until(self, deadline):
        """After a signal, whose handler Python has called by then."""
        while True:
            left = min(deadline - time.monotonic(), _LONGEST_WAIT_S)
            batch, interrupted = self._wait_once(math.ceil(max(left, 0) * 1e6))
            if batch or not interrupted or left <= 0 or self._is_interrupted:
                return batch

    def close(self):
        for handler in self._handlers.values():
            _end(handler)
        self._handlers.clear()
        self._keys.clear()
        self._by_token.clear()
        self._map = None

    # What was not closed would be watched for ever.
    __del__ = close

    def get_key(self, fileobj):
        if self._map is None:
            raise RuntimeError('Selector is closed')
        return self._map[fileobj]

    def get_map(self):
        return self._map
