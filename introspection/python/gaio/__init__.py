# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio and the GLib main loop on one thread, with the fds of asyncio in an epoll set.

    import gaio

    async def main():
        contents = await gaio.wrap(file.load_contents_async)
        ...  # From PyGObject 3.50 on also: contents = await file.load_contents_async()

    gaio.run(main())

GLib sources, GTK callbacks and D-Bus signals run while asyncio waits, and asyncio tasks run when
those do not: both wait in the same epoll_wait(2). In a program that runs GLib.MainLoop or
Gtk.Application, asyncio runs inside it after gaio.install().

Requires Python 3.11 and Gaio 1.0.
"""

from ._awaitables import create_task, dbus_method, readable, wait_signal, wrap, writable
from ._files import fsync, pread, pwrite
from ._hosted import install
from ._loop import EventLoop, new_event_loop, run
from ._selector import Selector

__all__ = [
    'EventLoop',
    'Selector',
    'create_task',
    'dbus_method',
    'fsync',
    'install',
    'new_event_loop',
    'pread',
    'pwrite',
    'readable',
    'run',
    'wait_signal',
    'wrap',
    'writable',
]


def __getattr__(name):
    """Python 3.14 warns about policies, and 3.16 has none. Those who do not use ours must not see
    the warning, so `from gaio import *` does not import it, either."""
    if name == 'EventLoopPolicy':
        from ._policy import EventLoopPolicy
        return EventLoopPolicy
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
