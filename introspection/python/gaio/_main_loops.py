# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main loops that Python runs: while they do, an installed loop is the running one."""

import asyncio
import functools
import sys
import threading
import warnings

from gi.repository import Gaio, Gio, GLib


class _OfThread(threading.local):
    """What a thread has."""

    # That of gaio.install(): the thread's loop while no other loop runs.
    installed = None

    def __init__(self):
        # The main context of each main loop that runs, innermost last, and what ends it.
        self.main_loops = []


_of_thread = _OfThread()
# The main context of each main loop that runs in any thread.
_main_contexts = []


def set_installed(loop):
    _of_thread.installed = loop


def get_installed():
    loop = _of_thread.installed
    return None if loop is None or loop.is_closed() else loop


def find_quits(main_context):
    """What ends the main loops that run @main_context in this thread, innermost first."""
    return [quit_ for other, quit_ in reversed(_of_thread.main_loops) if other == main_context]


def is_run(main_context):
    """Whether a main loop runs @main_context in any thread."""
    return main_context in tuple(_main_contexts)


def set_running_loop(loop):
    """Of this thread, with its hooks, as run_forever() does."""
    asyncio._set_running_loop(loop)
    if loop is None:
        sys.set_asyncgen_hooks(None, None)
    else:
        sys.set_asyncgen_hooks(loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook)


def is_running_loop(loop):
    """Of this thread. Its hooks tell: up to Python 3.11, asyncio makes a system call to say which
    loop is running, which takes as long as the rest of a turn."""
    return (sys.get_asyncgen_hooks().firstiter == loop._asyncgen_firstiter_hook
            or asyncio._get_running_loop() is loop)


def set_running():
    """Make the installed loop the running one, if its main context is that of a main loop."""
    loop = get_installed()
    if loop is not None and asyncio._get_running_loop() is None and \
            find_quits(loop.gaio_selector.main_context):
        set_running_loop(loop)


def _warn_of_task(name):
    loop = asyncio._get_running_loop()
    # Loops of others have their own ways.
    if hasattr(loop, 'gaio_selector') and asyncio.current_task(loop) is not None:
        warnings.warn(f'{name}.run() in a task: until it returns, no task of this loop makes a '
                      'step. Await something instead, or call it outside of tasks, after '
                      'gaio.install()', RuntimeWarning, stacklevel=3)


def _announce(name, class_, find_main_context, find_quit):
    """Have the run() of a class tell us when a main loop begins and ends. PyGObject does this for
    the loops of gi.events alone."""
    run = class_.run

    @functools.wraps(run)
    def wrapper(self, *args, **kwargs):
        _warn_of_task(name)
        outer = asyncio._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        main_context = find_main_context(self, *args, **kwargs)
        _of_thread.main_loops.append((main_context, find_quit(self)))
        _main_contexts.append(main_context)
        try:
            set_running()
            return run(self, *args, **kwargs)
        finally:
            _of_thread.main_loops.pop()
            _main_contexts.remove(main_context)
            asyncio._set_running_loop(None if outer is None or outer.is_closed() else outer)
            sys.set_asyncgen_hooks(*hooks)
            # There may be a new one.
            set_running()

    class_.run = wrapper


def _refuse_to_quit():
    raise RuntimeError('end Gaio.Context.run() with its cancellable')


# What does not take its arguments complains of them itself.
_announce('GLib.MainLoop', GLib.MainLoop, lambda self, *_, **__: self.get_context(),
          lambda self: self.quit)
_announce('Gio.Application', Gio.Application, lambda *_, **__: GLib.MainContext.default(),
          lambda self: self.quit)
_announce('Gaio.Context', Gaio.Context,
          lambda self, main_context=None, *_, **__:
          main_context or GLib.MainContext.default(), lambda _: _refuse_to_quit)
