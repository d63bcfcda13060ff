# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be awaited beside asyncio's own: fds, and the asynchronous methods of GIO."""

import asyncio
import importlib

from gi.repository import Gio, GLib

from ._loop import EventLoop
from ._selector import READ, WRITE

_SCOPE_ASYNC = 2


def _set_result(future, result=None):
    if not future.done():
        future.set_result(result)


async def _ready(file, events):
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EventLoop):
        raise TypeError(f'{type(loop).__name__} is no gaio.EventLoop')
    future = loop.create_future()
    handle = asyncio.Handle(_set_result, (future,), loop)
    data = (handle, None) if events == READ else (None, handle)
    remove = loop.gaio_selector.add_waiter(file, events, data)
    try:
        await future
    finally:
        remove()


async def readable(file):
    """Wait until a file, or an fd, can be read without blocking, or has an error or a hang-up.

    Any number of tasks may wait for one file, also beside add_reader().
    """
    await _ready(file, READ)


async def writable(file):
    """Wait until a file, or an fd, can be written to without blocking, or has an error."""
    await _ready(file, WRITE)


def _is_cancellable(argument):
    interface = argument.get_type().get_interface()
    return interface is not None and interface.get_name() == 'Cancellable' and \
        interface.get_namespace() == 'Gio'


def _hidden(arguments):
    """The indices of those that Python does not see: lengths of arrays, data and notifies."""
    hidden = set()
    for argument in arguments:
        hidden |= {argument.get_closure(), argument.get_destroy(),
                   argument.get_type().get_array_length()}
    # A callback and its data name each other.
    return hidden - {index for index, argument in enumerate(arguments) if int(argument.get_scope())}


def _fill_in(method, args, cancellable, callback):
    """The arguments of @method, with ours where they belong."""
    arguments = method.get_arguments()
    hidden = _hidden(arguments)
    rest = list(args)
    filled = []
    for index, argument in enumerate(arguments):
        if index in hidden:
            continue
        if _is_cancellable(argument):
            filled.append(cancellable)
        elif int(argument.get_scope()) == _SCOPE_ASYNC:
            filled.append(callback)
        elif rest:
            filled.append(rest.pop(0))
        else:
            raise TypeError(f'{method.__name__}() misses its argument {argument.get_name()!r}')
    if rest:
        raise TypeError(f'{method.__name__}() has no argument for {rest[0]!r}')
    return filled


def _get_finish(method, source):
    name = method.__name__.removesuffix('_async') + '_finish'
    if method.is_method() and source is not None:
        return getattr(source, name)
    owner = importlib.import_module(f'gi.repository.{method.get_namespace()}')
    container = method.get_container()
    return getattr(owner if container is None else getattr(owner, container.get_name()), name)


def _finish(method, future, source, result):
    try:
        value = _get_finish(method, source)(result)
    except GLib.Error as error:
        if future.cancelled():
            return
        if error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED):
            future.cancel(error.message)
        else:
            future.set_exception(error)
    except Exception as error:
        if not future.cancelled():
            future.set_exception(error)
    else:
        _set_result(future, value)


async def wrap(method, *args, cancellable=None):
    """Call an asynchronous method of GIO, as in `await gaio.wrap(file.load_contents_async)`, and
    return what its finish function returns. The cancellable and the callback are filled in.

    To cancel the task cancels the operation; to cancel @cancellable, if there is one, cancels the
    task that waits. GLib.Error is raised as it is.
    """
    future = asyncio.get_running_loop().create_future()
    own = Gio.Cancellable() if cancellable is None else cancellable

    def callback(source, result, *_):
        # A loop that is closed tells nobody.
        if not future.get_loop().is_closed():
            _finish(method, future, source, result)

    method(*_fill_in(method, args, own, callback))
    try:
        return await future
    except asyncio.CancelledError:
        own.cancel()
        raise
