# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which GMainContext belongs to a thread."""

import contextlib
import os
import threading

from gi.repository import GLib


def is_in_main_thread():
    return threading.current_thread() is threading.main_thread()


class _Inherited:
    """The main contexts that a forked child must not wait in. It would take the wake-ups of its
    parent, because the two share the eventfd of each GMainContext that existed before the fork."""

    has_default = False
    thread_default = None

    @classmethod
    def look(cls):
        cls.thread_default = GLib.MainContext.get_thread_default()
        cls.has_default = cls.has_default or cls._has_eventfd()

    @staticmethod
    def _has_eventfd():
        """There is no eventfd until somebody has used GLib; then the global default is the child's
        own."""
        try:
            with os.scandir('/proc/self/fd') as fds:
                return any('[eventfd]' in os.readlink(fd.path) for fd in fds)
        except OSError:
            return True


os.register_at_fork(after_in_child=_Inherited.look)


def find_main_context():
    """The thread-default main context, or the global default in the main thread, which it belongs
    to. None if there is neither, or if a forked child would share it with its parent."""
    main_context = GLib.MainContext.get_thread_default()
    if main_context is not None and main_context != _Inherited.thread_default:
        return main_context
    if is_in_main_thread() and not _Inherited.has_default:
        return GLib.MainContext.default()
    return None


def get_main_context():
    """The main context that GLib main loops run in this thread, or a new one."""
    main_context = GLib.MainContext.get_thread_default()
    if main_context is not None:
        return main_context
    return GLib.MainContext.default() if is_in_main_thread() else GLib.MainContext.new()


@contextlib.contextmanager
def thread_default(main_context):
    """GIO operations that are started in this block complete in @main_context."""
    if main_context == (GLib.MainContext.get_thread_default() or GLib.MainContext.default()) or \
            not main_context.acquire():
        # Another thread owns it: select() reports that.
        yield
        return
    main_context.push_thread_default()
    main_context.release()
    try:
        yield
    finally:
        main_context.pop_thread_default()
