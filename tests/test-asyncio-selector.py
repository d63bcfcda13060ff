# SPDX-License-Identifier: LGPL-2.1-or-later
"""gaio.Selector: what selectors of Python do, in a main context of GLib."""

import asyncio
import contextlib
import errno
import gc
import os
import selectors
import socket
import sys
import tempfile
import time
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from asyncio_support import (
    busy_main_context, future, in_thread, left_as_it_was, open_fds, pair, raises, watched)
from gi.repository import Gaio, GLib


def epoll_sizes():
    """How many fds are in each epoll set of this process."""
    sizes = []
    for fd in open_fds():
        with contextlib.suppress(OSError), open(f'/proc/self/fdinfo/{fd}', encoding='ascii') as file:
            lines = file.read().splitlines()
            if os.readlink(f'/proc/self/fd/{fd}') == 'anon_inode:[eventpoll]':
                sizes.append(sum(line.startswith('tfd:') for line in lines))
    return sizes


# The selector.

def test_selector_tells_what_is_ready():
    """As (key, events), with the file object and the data that it was registered with."""
    with pair() as (one, other), gaio.Selector() as selector:
        key = selector.register(one, selectors.EVENT_READ, 'data')
        assert selector.select(0) == []
        other.send(b'x')
        assert selector.select() == [(key, selectors.EVENT_READ)]
        assert selector.select(0) == [(key, selectors.EVENT_READ)]
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        key = selector.modify(one, both, 'more')
        assert selector.select() == [(key, both)]
        one.recv(8)
        assert selector.select() == [(key, selectors.EVENT_WRITE)]
        selector.unregister(one)
        assert selector.select(0) == []


def test_selector_that_was_refused_is_quiet():
    """When it is collected."""
    unraisable = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        for wrong in ((1, 2), (1,)):
            with raises(TypeError):
                gaio.Selector(*wrong)
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not unraisable, unraisable


def test_selector_takes_what_epoll_takes():
    """A closed fd is EBADF, a regular file EPERM, and neither stays."""
    with tempfile.TemporaryFile() as file, gaio.Selector() as selector:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with raises(OSError, errno.EBADF):
            selector.register(reader, selectors.EVENT_READ)
        with raises(PermissionError, errno.EPERM):
            selector.register(file, selectors.EVENT_READ)
        assert len(selector.get_map()) == 0


def test_selector_forgets_what_it_could_not_modify():
    """As the other selectors do."""
    with gaio.Selector() as selector:
        reader, writer = os.pipe()
        selector.register(reader, selectors.EVENT_READ)
        os.close(reader)
        os.close(writer)
        with raises(OSError):
            selector.modify(reader, selectors.EVENT_READ | selectors.EVENT_WRITE)
        assert len(selector.get_map()) == 0


def test_unregistered_by_a_callback_of_glib_is_not_told():
    """Which the turn calls when it has seen already that the file is ready."""
    main_context = GLib.MainContext()
    with pair() as (one, other), gaio.Selector(main_context) as selector:
        selector.register(one, selectors.EVENT_READ)
        other.send(b'x')
        timer = Gaio.Context.ref_for_main_context(main_context).add_timer(
            lambda: selector.unregister(one))
        timer.arm(0)
        while selector.get_map():
            assert selector.select() == []
        assert selector.select(0) == []
        timer.remove()


def test_registered_again_is_told_of_the_file_that_it_is_now():
    """Whether it is the same file as before or another."""
    with gaio.Selector() as selector:
        for events in (selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE):
            with pair() as (one, other):
                number = one.fileno()
                selector.register(one, selectors.EVENT_READ)
                selector.unregister(one)
                selector.register(one, events)
                other.send(b'x')
                assert selector.select() == [(selector.get_key(one), events)]
                selector.unregister(one)
            with pair() as (one, other):
                assert one.fileno() == number
                other.send(b'x')
                key = selector.register(one, selectors.EVENT_READ)
                assert selector.select() == [(key, selectors.EVENT_READ)]
                selector.unregister(one)


def test_unregistered_is_not_in_the_epoll_set():
    """At once: where a copy of the fd lives on, nothing of what was closed stays behind."""
    with contextlib.ExitStack() as stack, gaio.Selector() as selector:
        for _ in range(10):
            one, other = stack.enter_context(pair())
            stack.enter_context(one.dup())
            selector.register(one, selectors.EVENT_READ)
            before = epoll_sizes()
            selector.unregister(one)
            assert sum(epoll_sizes()) == sum(before) - 1
            one.close()
            other.close()
            assert selector.select(0) == []


def test_number_of_the_same_fifo_is_watched_anew():
    """It is opened again, with device, inode and number as before."""
    with tempfile.TemporaryDirectory() as folder, gaio.Selector() as selector:
        path = os.path.join(folder, 'fifo')
        os.mkfifo(path)
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        for _ in range(3):
            selector.register(number, selectors.EVENT_READ)
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.write(writer, b'x')
            assert [key.fd for key, _ in selector.select(30)] == [number]
            os.close(writer)
            selector.unregister(number)
            os.close(number)
            assert os.open(path, os.O_RDONLY | os.O_NONBLOCK) == number
        os.close(number)


def test_selector_has_no_cap():
    """One call tells all that is ready."""
    n = 1000
    with tap.need_fds(2 * n), gaio.Selector() as selector, contextlib.ExitStack() as stack:
        keys = set()
        for number in range(n):
            one, other = stack.enter_context(pair())
            keys.add(selector.register(one, selectors.EVENT_READ, number))
            other.send(b'x')
        assert {key for key, _ in selector.select()} == keys


def test_select_is_not_early():
    """It may be late."""
    with gaio.Selector(GLib.MainContext()) as selector:
        for timeout in (0.0001, 0.0015, 0.02):
            started = time.monotonic()
            assert selector.select(timeout) == []
            assert time.monotonic() - started >= timeout


def test_select_runs_the_sources_of_its_main_context():
    """Those, and no others."""
    mine = GLib.MainContext()
    calls = []
    source = GLib.idle_source_new()
    source.set_callback(lambda *_: calls.append('mine') and False)
    source.attach(mine)
    other = GLib.idle_add(calls.append, 'other')
    with gaio.Selector(mine) as selector:
        for _ in range(10):
            selector.select(0)
    GLib.source_remove(other)
    assert calls == ['mine'], calls


def test_closed_selector_leaves_nothing():
    """Also if fds are registered."""
    with left_as_it_was():
        with pair() as (one, _):
            selector = gaio.Selector()
            selector.register(one, selectors.EVENT_READ)
            selector.close()
            with raises(RuntimeError):
                selector.get_key(one)


def test_closed_selector_refuses_everything():
    """As that of asyncio does, with the same exceptions."""
    for class_ in (selectors.EpollSelector, gaio.Selector):
        with pair() as (one, _):
            selector = class_()
            selector.close()
            read = selectors.EVENT_READ
            for call, exception in ((lambda: selector.register(one, read), ValueError),
                                    (lambda: selector.modify(one, read), KeyError),
                                    (lambda: selector.unregister(one), KeyError),
                                    (lambda: selector.select(0), ValueError),
                                    (lambda: selector.get_key(one), RuntimeError)):
                with raises(exception):
                    call()
            assert selector.get_map() is None
            selector.close()


@contextlib.contextmanager
def nothing_unraisable():
    """No exception that Python can only print."""
    unraisable = []
    old = sys.unraisablehook
    sys.unraisablehook = lambda args: unraisable.append(str(args.exc_value))
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = old
    assert not unraisable, unraisable


def test_loop_that_was_refused_its_main_context_is_no_loop():
    """There is one exception, and nothing to close."""
    for make in (gaio.EventLoop, gaio.install, gaio.Selector):
        for wrong in (5, 'x', object()):
            with nothing_unraisable():
                with raises(TypeError):
                    make(wrong)


def test_loop_may_be_closed_after_what_it_owns():
    """The garbage collector takes them in any order."""
    for make in (gaio.EventLoop, gaio.install):
        with left_as_it_was(), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            loop = make(GLib.MainContext())
            loop._ssock.close()
            source = getattr(loop, '_signal_source', None)
            if source is not None:
                source.__del__()
            loop.close()
            assert not told, told[0].message
            # PyGObject is not made for a second one.
            warnings.simplefilter('ignore')
            asyncio.set_event_loop(None)
            del loop, source


def test_selector_goes_with_the_thread():
    """Made, and used, in one thread, then in another: what it watches goes with it."""
    with pair() as (one, other), pair() as (closed, _), gaio.Selector() as selector:
        key = selector.register(one, selectors.EVENT_READ)
        selector.register(closed, selectors.EVENT_READ)
        assert selector.select(0) == []
        closed.close()
        other.send(b'x')
        expected = [(key, selectors.EVENT_READ)]
        for _ in range(2):
            with busy_main_context():
                assert in_thread(selector.select) == expected
            assert selector.select() == expected
        assert selector.main_context == GLib.MainContext.default()


def test_given_main_context_stays():
    """Whoever runs the selector."""
    main_context = GLib.MainContext()
    with gaio.Selector(main_context) as selector:
        in_thread(lambda: selector.select(0))
        assert selector.main_context == main_context


# Files that come and go.

def test_reused_number_is_the_new_file():
    """A watch does not come back to life on another file."""
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(100):
            calls = []
            one, other = socket.socketpair()
            number = one.fileno()
            loop.add_reader(number, calls.append, 'old')
            loop.remove_reader(number)
            one.close()
            other.close()
            with pair() as (one, other):
                assert number in (one.fileno(), other.fileno())
                watched, peer = (one, other) if one.fileno() == number else (other, one)
                loop.add_reader(watched, calls.append, 'new')
                peer.send(b'x')
                while not calls:
                    await asyncio.sleep(0)
                assert set(calls) == {'new'}, calls
                loop.remove_reader(watched)

    gaio.run(main())


def test_closed_without_removal_is_silent():
    """The fd is gone: no callback, and the loop sleeps. To remove it later is right."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(number, calls.append, 'closed')
        one.close()
        other.close()
        turns = loop.time()
        while loop.time() < turns + 0.005:
            await asyncio.sleep(0.001)
        assert not calls, calls
        assert loop.remove_reader(number)
        with pair() as (one, other):
            loop.add_reader(one, calls.append, 'open')
            other.send(b'x')
            while not calls:
                await asyncio.sleep(0)
            assert set(calls) == {'open'}, calls
            loop.remove_reader(one)

    gaio.run(main())


def test_peer_that_closes_is_readable():
    """The end of a file is an event; for a writer, an error is."""
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (one, other):
            other.close()
            assert await loop.sock_recv(one, 8) == b''
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        done = future()
        loop.add_writer(writer, lambda: done.done() or done.set_result(True))
        os.close(reader)
        assert await done
        loop.remove_writer(writer)
        os.close(writer)

    gaio.run(main())


tap.run(globals())
