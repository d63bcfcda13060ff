# SPDX-License-Identifier: LGPL-2.1-or-later
"""A selector that runs the GLib main loop while it waits."""

import collections.abc
import errno
import itertools
import math
import os
import selectors
import stat
import struct
import sys
import threading
import time

import gi

gi.require_version('Gaio', '1.0')

from gi.module import get_introspection_module  # noqa: E402
from gi.repository import Gaio, GLib  # noqa: E402

from ._main_context import find_main_context  # noqa: E402
from ._signals import CtrlC  # noqa: E402

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_IN, _OUT = int(GLib.IOCondition.IN), int(GLib.IOCondition.OUT)
# Creating a GLib.IOCondition takes longer than using it.
_CONDITIONS = {
    READ: GLib.IOCondition.IN,
    WRITE: GLib.IOCondition.OUT,
    READ | WRITE: GLib.IOCondition.IN | GLib.IOCondition.OUT,
}
# Errors and hang-ups count for both: the next read or write reports them.
_EVENTS = tuple((condition & ~_OUT and READ) | (condition & ~_IN and WRITE)
                for condition in range(32))

# Bypass the override's handling of arguments and exceptions, which is rarely needed.
_raw = get_introspection_module('Gaio')
_add_fd = _raw.ReadySet.add_fd
_wait = _raw.ReadySet.wait
_take = _raw.ReadySet.take
# Those of others are dropped after an exception.
set_raw_func = _raw.ReadySet.set_func
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
    """Refuse a regular file, as epoll does: it has no readiness, and whoever waits for it would
    spin."""
    if stat.S_IFMT(os.fstat(fd).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), f'fd {fd}')


def _end(handler):
    """When the interpreter exits, the modules that PyGObject would import for this are gone, and
    the kernel ends every watch."""
    if not sys.is_finalizing():
        _remove(handler)


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class _Map(collections.abc.Mapping):
    """Maps files to their keys."""

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
    """A selector whose select() runs one iteration of a GMainContext, with everything that GLib,
    GTK and D-Bus have to do in it, and returns everything that is ready in one call.

    select() returns, possibly with nothing, as soon as anything has been called in that iteration,
    so that the event loop above can handle what it requested.

    The default is the thread-default GMainContext. In a thread that has none, it is the global
    default in the main thread, and a new one in other threads, and in a forked child whose parent
    has used GLib. The thread is the one that calls select(): the main context is chosen on the
    first call, and again when another thread calls.

    Ctrl-C ends select() with a KeyboardInterrupt. If a GLib callback is running, it returns first.
    """

    # Until __init__() has got somewhere: __del__() reads this.
    _is_closed = True

    def __init__(self, main_context=None):
        self._keys = {}
        # By token, which is the fd if it is registered: how to end the watch, and what to report.
        self._handlers = {}
        self._by_token = {}
        self._waiter_tokens = itertools.count(_FIRST_WAITER)
        self._map = _Map(self)
        self._is_closed = False
        self._chooses = main_context is None
        self._new_main_context = None
        self._thread = None
        self._ctrl_c = CtrlC()
        self._move_to(self._choose() if main_context is None else main_context)

    def _choose(self):
        main_context = find_main_context()
        if main_context is not None:
            return main_context
        if self._new_main_context is None:
            self._new_main_context = GLib.MainContext.new()
        return self._new_main_context

    def _move_to(self, main_context):
        """Move everything that is watched. After an exception, nothing has changed."""
        context = Gaio.Context.ref_for_main_context(main_context)
        ready_set = Gaio.ReadySet(context)
        handlers = {}
        try:
            for token, key in self._by_token.items():
                # Closed fds stay behind, and are silent.
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
        self._ctrl_c.context = context

    def bind(self):
        """Move to the main context of this thread, which is about to run it."""
        thread = threading.get_ident()
        if thread == self._thread:
            return
        if self._chooses and (main_context := self._choose()) != self.main_context:
            self._move_to(main_context)
        self._thread = thread

    def _find(self, file):
        """Find the key of a file, which may have been closed, or None. asyncio may look for -1 if
        the garbage collector has freed its socket first."""
        try:
            return self._keys.get(_to_fd(file))
        except ValueError:
            for key in self._keys.values():
                if key.fileobj is file:
                    return key
            if isinstance(file, int):
                return None
            raise

    @staticmethod
    def _add(ready_set, fd, events, token):
        try:
            return _add_fd(ready_set, fd, _CONDITIONS[events], token)
        except GLib.Error as error:
            raise _to_os_error(error) from None

    def _check_open(self):
        if self._is_closed:
            raise ValueError('I/O operation on a closed selector')

    def register(self, fileobj, events, data=None):
        self._check_open()
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
        # Remove it at once: by the next select(), the number may refer to another file, and a copy
        # of the fd, as in a forked child, would keep this file in the epoll set.
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
        """Watch a file in addition to those that are registered, even if it is one of them. Return
        a function that ends the watch, unless close() has already done so."""
        self._check_open()
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
            # A GLib callback may have just unregistered it.
            key = by_token.get(token)
            if key is not None and (events := _EVENTS[condition] & key.events):
                ready.append((key, events))
        return ready

    def take(self):
        """Return what is already ready, without running anything."""
        return self._to_ready(_take(self.set))

    def interruptible(self):
        """A block in which select() handles Ctrl-C, for callers that call it often."""
        return self._ctrl_c.guard()

    def sigint_has_changed(self):
        """Call this after setting a handler in the block; otherwise only the next select() notices
        it."""
        self._ctrl_c.look_again()

    def select(self, timeout=None):
        if self._ctrl_c.is_guarded:
            return self._select(timeout)
        self.bind()
        with self.interruptible():
            return self._select(timeout)

    def _select(self, timeout):
        self._check_open()
        self._ctrl_c.begin_select()
        try:
            if timeout is None:
                batch = self._wait(-1, math.inf)
            elif timeout <= 0:
                batch, _ = _wait(self.set, 0)
            else:
                timeout = min(timeout, _LONGEST_WAIT_S)
                batch = self._wait(math.ceil(timeout * 1e6), time.monotonic() + timeout)
            return self._to_ready(batch)
        except GLib.Error as error:
            raise _to_os_error(error) from None
        finally:
            self._ctrl_c.end_select()

    def _wait(self, timeout_us, deadline):
        batch, interrupted = _wait(self.set, timeout_us)
        if interrupted and not batch and not self._ctrl_c.has_come:
            batch = self._wait_until(deadline)
        return batch

    def _wait_until(self, deadline):
        """Continue after a signal, whose handler Python has called by then."""
        while True:
            left = min(deadline - time.monotonic(), _LONGEST_WAIT_S)
            batch, interrupted = _wait(self.set, math.ceil(max(left, 0) * 1e6))
            if batch or not interrupted or left <= 0 or self._ctrl_c.has_come:
                return batch

    def close(self):
        for handler in self._handlers.values():
            _end(handler)
        self._handlers.clear()
        self._keys.clear()
        self._by_token.clear()
        self._is_closed = True

    def __del__(self):
        """A selector that is not closed would watch its files forever."""
        if not self._is_closed:
            self.close()

    def get_key(self, fileobj):
        if self._is_closed:
            raise RuntimeError('Selector is closed')
        return self._map[fileobj]

    def get_map(self):
        return None if self._is_closed else self._map
