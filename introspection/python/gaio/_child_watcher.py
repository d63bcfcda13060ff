# SPDX-License-Identifier: LGPL-2.1-or-later
"""Child processes without a thread for each one. Since Python 3.12, asyncio does this by itself."""

import asyncio
import os
import sys
import warnings


def _wait_for(pid):
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        warnings.warn(f'somebody else has reaped child process {pid}', RuntimeWarning)
        return 255
    return os.waitstatus_to_exitcode(status)


class _Pidfd:
    """A pidfd that is also closed when it is garbage-collected, for example because its loop was
    closed."""

    _fd = -1

    def __init__(self, pid):
        self._fd = os.pidfd_open(pid)

    def fileno(self):
        return self._fd

    def close(self):
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


# Newer versions of asyncio have no child watchers, and some versions that have them warn about
# them.
_HAS_WATCHERS = sys.version_info < (3, 12) and hasattr(asyncio, 'AbstractChildWatcher')


class PidfdChildWatcher(asyncio.AbstractChildWatcher if _HAS_WATCHERS else object):
    """Watches a child in the loop that started it: asyncio's own watcher knows only one loop."""

    def add_child_handler(self, pid, callback, *args):
        loop = asyncio.get_running_loop()
        pidfd = _Pidfd(pid)
        loop.add_reader(pidfd, self._exited, loop, pid, pidfd, callback, args)

    def remove_child_handler(self, pid):
        """asyncio never calls this if there are pidfds."""
        return False

    @staticmethod
    def _exited(loop, pid, pidfd, callback, args):
        loop.remove_reader(pidfd)
        pidfd.close()
        callback(pid, _wait_for(pid), *args)

    def attach_loop(self, loop):
        pass

    def is_active(self):
        return True

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def _is_of_pygobject(policy):
    """The policy of gi.events accepts only its own loops and watchers, and replacing its loop would
    also take away its main context."""
    return hasattr(policy, 'get_event_loop_for_context')


def use_pidfds(policy=None):
    """Watch children by pidfds, unless somebody has chosen a watcher other than the default, or the
    kernel has no pidfds. @policy defaults to the current policy."""
    if not _HAS_WATCHERS:
        return
    if policy is None:
        policy = asyncio.get_event_loop_policy()
    if _is_of_pygobject(policy):
        return
    try:
        watcher = policy.get_child_watcher()
    except NotImplementedError:
        # A policy need not have a watcher; that of uvloop does not.
        return
    if not isinstance(watcher, asyncio.ThreadedChildWatcher):
        return
    try:
        _Pidfd(os.getpid()).close()
    except OSError:
        return
    policy.set_child_watcher(PidfdChildWatcher())


def announce_loop(loop):
    """Tell a child watcher that the program has chosen about the loop, which asyncio.Runner forgets
    to do. Only policies, which Python 3.14 warns about, have child watchers."""
    if sys.version_info >= (3, 14) or not hasattr(asyncio, 'get_event_loop_policy'):
        return
    if not _is_of_pygobject(asyncio.get_event_loop_policy()):
        asyncio.set_event_loop(loop)
