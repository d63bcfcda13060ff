# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be awaited besides asyncio's own awaitables: fds, and asynchronous GIO methods."""

import asyncio
import collections.abc
import functools
import importlib
import inspect
import weakref

from gi._gi import CallbackInfo, Direction, FunctionInfo
from gi.repository import Gio, GLib, GObject

from ._loop import get_running_gaio_loop
from ._main_context import thread_default
from ._main_loops import get_installed
from ._selector import READ, WRITE, Selector


def _set_result(future, result=None):
    if not future.done():
        future.set_result(result)


async def _ready(file, events):
    loop = get_running_gaio_loop()
    future = loop.create_future()
    handle = asyncio.Handle(_set_result, (future,), loop)
    data = (handle, None) if events == READ else (None, handle)
    remove = loop.gaio_selector.add_waiter(file, events, data)
    try:
        await future
    finally:
        remove()


class _Ready(collections.abc.Coroutine):
    """A coroutine, or with `async for` as many of them as are needed."""

    def __init__(self, file, events):
        self._args = file, events
        self._coroutine = _ready(file, events)

    def __await__(self):
        return self._coroutine.__await__()

    def send(self, value):
        return self._coroutine.send(value)

    def throw(self, *exception):
        return self._coroutine.throw(*exception)

    def close(self):
        self._coroutine.close()

    def __aiter__(self):
        self.close()
        return self._iterate()

    async def _iterate(self):
        while True:
            yield await _ready(*self._args)


def readable(file):
    """Wait until a file or an fd can be read without blocking, or has an error or a hang-up.
    `async for _ in gaio.readable(file)` waits again and again.

    Any number of tasks may wait for one file, even if add_reader() also watches it.
    """
    return _Ready(file, READ)


def writable(file):
    """Wait until a file or an fd can be written to without blocking, or has an error. Works with
    `async for`, too."""
    return _Ready(file, WRITE)


# What wrap() passes as an argument.
_GIVEN, _CANCELLABLE, _CALLBACK, _DATA, _OWN_DATA = range(5)


def _call_first(info, *names):
    """PyGObject 3.51 has renamed some methods."""
    return next(getattr(info, name) for name in names if hasattr(info, name))()


def _get_type(argument):
    return _call_first(argument, 'get_type_info', 'get_type')


def _is_a(argument, name):
    interface = _get_type(argument).get_interface()
    return interface is not None and f'{interface.get_namespace()}.{interface.get_name()}' == name


def _get_visible(method):
    """The indices of the arguments that Python passes: no results, array lengths or destroy
    notifies."""
    arguments = method.get_arguments()
    hidden = set()
    for index, argument in enumerate(arguments):
        if argument.get_direction() == Direction.OUT:
            if argument.is_caller_allocates():
                # PyGObject would free it before it is filled.
                raise TypeError(f'{method.__name__}() fills a buffer that Python cannot give it: '
                                'look for a method that returns GLib.Bytes')
            hidden.add(index)
        hidden |= {_call_first(argument, 'get_destroy_index', 'get_destroy'),
                   _call_first(_get_type(argument), 'get_array_length_index', 'get_array_length')}
    return [index for index in range(len(arguments)) if index not in hidden]


def _get_data(arguments):
    """Map the index of each callback to the index of its user data."""
    return {index: _call_first(argument, 'get_closure_index', 'get_closure')
            for index, argument in enumerate(arguments)
            if isinstance(_get_type(argument).get_interface(), CallbackInfo)}


def _find_callback(method):
    """The index of the callback that is called at the end. Where there are several callbacks, GLib
    2.82 takes closures."""
    arguments = method.get_arguments()
    types = ['Gio.AsyncReadyCallback']
    if method.__name__.endswith('_async'):
        types.append('GObject.Closure')
    for type_ in types:
        for index in reversed(range(len(arguments))):
            if _is_a(arguments[index], type_):
                return index
    raise TypeError(f'{method.__name__}() is not asynchronous: it takes no Gio.AsyncReadyCallback')


def _get_roles(method):
    """Map the index of each argument that Python passes to what to pass."""
    arguments = method.get_arguments()
    data = _get_data(arguments)
    callback = _find_callback(method)
    roles = {}
    for index in _get_visible(method):
        if index == callback:
            roles[index] = _CALLBACK
        elif index == data.get(callback):
            roles[index] = _OWN_DATA
        elif index in data.values():
            roles[index] = _DATA
        else:
            is_cancellable = _is_a(arguments[index], 'Gio.Cancellable')
            roles[index] = _CANCELLABLE if is_cancellable else _GIVEN
    return roles


def _match(method, indices, args, kwargs):
    """The arguments that the caller has given, by index."""
    given = dict(zip(indices, args))
    if len(given) == len(indices) == len(args) and not kwargs:
        return given
    names = {method.get_arguments()[index].get_name(): index for index in indices}
    if len(args) > len(indices):
        raise TypeError(f'{method.__name__}() has no argument for {args[len(indices)]!r}: '
                        'gaio.wrap() fills in the callback and its data')
    for name, value in kwargs.items():
        if name not in names:
            raise TypeError(f'{method.__name__}() has no argument {name!r} to fill in, but '
                            f'{", ".join(map(repr, names)) or "none"}')
        if names[name] in given:
            raise TypeError(f'{method.__name__}() has got its argument {name!r} twice')
        given[names[name]] = value
    for name, index in names.items():
        if index not in given:
            raise TypeError(f'{method.__name__}() misses its argument {name!r}')
    return given


def _split_cancellable(roles, args):
    """The arguments without the cancellable, which may be where C has it, and the cancellable."""
    roles = list(roles.values())
    if _CANCELLABLE in roles and len(args) > roles.count(_GIVEN):
        place = roles.index(_CANCELLABLE)
        if isinstance(args[place], (Gio.Cancellable, type(None))):
            return args[:place] + args[place + 1:], args[place]
    return args, None


def _to_data(value):
    """PyGObject unpacks the user data of a callback that is not the last one."""
    return value if isinstance(value, tuple) else (value,)


def _fill_in(method, roles, args, kwargs, cancellable, callback):
    """The arguments of @method, with ours where they belong. The user data of other callbacks may
    be omitted."""
    indices = [index for index in roles if roles[index] == _GIVEN]
    if len(args) > len(indices):
        indices = [index for index in roles if roles[index] in (_GIVEN, _DATA)]
    given = _match(method, indices, args, kwargs)
    given.update({index: _to_data(given[index]) for index in given if roles[index] == _DATA})
    own = {_CANCELLABLE: cancellable, _CALLBACK: callback, _DATA: (), _OWN_DATA: None}
    return [given[index] if index in given else own[role] for index, role in roles.items()]


def _get_finish_name(method, owner):
    """A method without a finish function uses that of the method that it is a variant of, as
    replace_contents_bytes_async() does."""
    get_finish_func = getattr(method, 'get_finish_func', None)
    finish = get_finish_func() if get_finish_func is not None else None
    if finish is not None:
        return finish.__name__
    stem = method.__name__.removesuffix('_async')
    if hasattr(owner, f'{stem}_finish'):
        return f'{stem}_finish'
    for end in range(len(stem) - 1, 0, -1):
        if hasattr(owner, f'{stem[:end]}_async') and hasattr(owner, f'{stem[:end]}_finish'):
            return f'{stem[:end]}_finish'
    raise TypeError(f'{method.__name__}() has no finish function: call it with a callback')


def _find_finish(method):
    """A function of the source object and the result."""
    owner = importlib.import_module(f'gi.repository.{method.get_namespace()}')
    container = method.get_container()
    if container is not None:
        owner = getattr(owner, container.get_name())
    finish = getattr(owner, _get_finish_name(method, owner))
    if getattr(finish, 'is_method', method.is_method)():
        return finish
    return lambda source, result: finish(result)


def _get_info(method):
    """What @method is in the typelib. An override tells what it wraps."""
    # Since PyGObject 3.51, a bound method is a Python method.
    function = getattr(method, '__func__', method)
    info = getattr(function, '__wrapped__', function)
    if isinstance(info, FunctionInfo):
        return info
    if hasattr(method, 'dbus_proxy'):
        name = method.method_name
        raise TypeError(f'{name!r} is a method of D-Bus: write gaio.wrap(proxy.call, {name!r}, '
                        'parameters, flags, timeout_ms)')
    raise TypeError('gaio.wrap() takes an asynchronous method of GIO and its arguments, as in '
                    f'gaio.wrap(file.load_contents_async), not {method!r}')


def _get_main_context(loop, caller):
    """The main context that @loop runs, in which what @caller waits for happens."""
    selector = getattr(loop, 'gaio_selector', getattr(loop, '_selector', None))
    if isinstance(selector, Selector):
        return selector.main_context
    # PyGObject, too, recognizes a loop that runs GLib by this.
    main_context = getattr(loop, '_context', None)
    if not isinstance(main_context, GLib.MainContext):
        raise TypeError(f'{type(loop).__name__} does not run GLib, so that {caller} would wait for '
                        'ever: begin with gaio.run() or gaio.install(); asyncio.run() makes a '
                        'loop of its own')
    return main_context


def _finish(finish, future, source, result):
    try:
        value = finish(source, result)
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


async def wrap(method, /, *args, cancellable=None, **kwargs):
    """Call an asynchronous GIO method, as in `await gaio.wrap(file.load_contents_async)`, and
    return what its finish function returns. The cancellable and the callback are filled in; the
    cancellable may also be given, among the arguments or by its name.

    Cancelling the task cancels the operation. Cancelling @cancellable, if it is given, cancels the
    task that waits. Any other GLib.Error is raised unchanged. A method that is not asynchronous,
    arguments that do not match, and a loop that does not run GLib raise a TypeError before anything
    is started.
    """
    loop = asyncio.get_running_loop()
    main_context = _get_main_context(loop, 'gaio.wrap()')
    info = _get_info(method)
    roles = _get_roles(info)
    args, given_cancellable = _split_cancellable(roles, args)
    future = loop.create_future()
    own = cancellable or given_cancellable or Gio.Cancellable()

    def callback(source, result, *_):
        # Nobody waits in a closed loop.
        if not future.get_loop().is_closed():
            _finish(finish, future, source, result)

    filled = _fill_in(info, roles, args, kwargs, own, callback)
    finish = _find_finish(info)
    with thread_default(main_context):
        method(*filled)
    try:
        return await future
    except asyncio.CancelledError:
        own.cancel()
        raise


async def _wait_for_signal(future, kept, disconnect):
    kept.append(future)
    try:
        return await future
    finally:
        kept.clear()
        disconnect()


def wait_signal(instance, signal):
    """Wait until a GObject emits a signal, such as 'notify::name', from this call on, and return
    its arguments as a tuple, without the object. If the signal wants a return value, it gets
    None."""
    loop = asyncio.get_running_loop()
    _get_main_context(loop, 'gaio.wait_signal()')
    if not isinstance(instance, GObject.Object):
        raise TypeError(f'gaio.wait_signal() takes a GObject, not {instance!r}')
    future = loop.create_future()
    # The connection keeps who waits, once the coroutine has begun. Before, it may be dropped.
    weak, kept = weakref.ref(future), []

    def on_signal(_, *args):
        # Other threads may emit it.
        if (future := weak()) is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_set_result, future, args[:-1])

    handler = GObject.Object.connect(instance, signal, on_signal, kept)
    disconnect = weakref.finalize(future, GObject.Object.disconnect, instance, handler)
    disconnect.atexit = False
    return _wait_for_signal(future, kept, disconnect)


# asyncio has only weak references to tasks.
_tasks = set()


def create_task(coroutine, *, application=None, **kwargs):
    """Like asyncio.create_task(), whose keywords it takes, but keep the task alive until it is
    done. Hold @application as long. Where no loop is running, the task is one of the loop of
    gaio.install(), and starts when the main loop does."""
    loop = asyncio._get_running_loop() or get_installed()
    if loop is None:
        if asyncio.iscoroutine(coroutine):
            coroutine.close()
        raise RuntimeError('gaio.create_task() is called where no event loop is: call '
                           'gaio.install() before, in the same thread, or call it in gaio.run()')
    task = loop.create_task(coroutine, **kwargs)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    if application is not None:
        application.hold()
        task.add_done_callback(lambda _: application.release())
    return task


# Of org.freedesktop.DBus.Properties, which has no info.
_PROPERTY_REPLIES = {'Get': '(v)', 'GetAll': '(a{sv})', 'Set': '()'}


def _get_promised(invocation):
    """The type of the reply to what was called."""
    method = invocation.get_method_info()
    if method is None:
        return _PROPERTY_REPLIES.get(invocation.get_method_name())
    return '(' + ''.join(argument.signature for argument in method.out_args) + ')'


def _check_reply(handler, value, invocation):
    """GIO would tell of a wrong one on stderr, and the caller would wait."""
    if not isinstance(value, (GLib.Variant, type(None))):
        raise TypeError(f'{handler.__qualname__}() returned {value!r}: a handler of a D-Bus '
                        'method returns a GLib.Variant, or None')
    returned = '()' if value is None else value.get_type_string()
    promised, called = _get_promised(invocation), invocation.get_method_name()
    info = invocation.get_property_info()
    if info is not None and called == 'Get' and returned == '(v)':
        returned = value.get_child_value(0).get_variant().get_type_string()
        promised, called = info.signature, f'the property {info.name}'
    if returned != promised and (promised is not None or not returned.startswith('(')):
        raise TypeError(f"{handler.__qualname__}() returned a GLib.Variant of type '{returned}', "
                        f"but {called} returns '{promised or 'a tuple'}'")


def _describe(error):
    try:
        return repr(error).encode(errors='backslashreplace').decode()
    except Exception:
        return type(error).__name__


def _return_error(invocation, error):
    """With the name that it had on the bus, if it has been there. False if GIO would refuse it:
    PyGObject takes anything for a GLib.Error."""
    try:
        name = Gio.dbus_error_get_remote_error(error)
        if error.message is None or error.code < 0:
            return False
        if name is not None and not Gio.dbus_is_name(name):
            return False
        if name is None:
            invocation.return_gerror(error)
        else:
            message = error.message.removeprefix(f'GDBus.Error:{name}: ')
            invocation.return_dbus_error(name, message)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


async def _call(handler, args):
    value = handler(*args)
    return await value if inspect.isawaitable(value) else value


def _answer(handler, invocation, task):
    """Whoever has called must not wait for ever, also if the task never began."""
    try:
        value = task.result()
        _check_reply(handler, value, invocation)
    except BaseException as error:
        if isinstance(error, GLib.Error) and _return_error(invocation, error):
            return
        invocation.return_dbus_error('org.freedesktop.DBus.Error.Failed', _describe(error))
        if not isinstance(error, asyncio.CancelledError):
            task.get_loop().call_exception_handler({
                'message': 'exception in the handler of a D-Bus method',
                'exception': error,
                'task': task,
            })
    else:
        invocation.return_value(value)


def dbus_method(handler):
    """Have a function, with or without `async`, handle the D-Bus methods of
    Gio.DBusConnection.register_object(). It takes what GIO passes, and what it returns is the
    reply: a GLib.Variant, or None. A GLib.Error is the error that the caller gets, with the name
    that it has if it is made by Gio.dbus_error_new_for_dbus_error(). Any other exception, of which
    the caller gets the repr(), goes to the exception handler of the loop."""
    if not callable(handler):
        raise TypeError(f'gaio.dbus_method() takes a function, not {handler!r}')

    @functools.wraps(handler)
    def wrapper(*args):
        if not isinstance(args[-1], Gio.DBusMethodInvocation):
            raise TypeError(f'{handler.__qualname__}() is called for a property, and a '
                            'gaio.dbus_method() handles methods: register a plain function')
        create_task(_call(handler, args)).add_done_callback(
            functools.partial(_answer, handler, args[-1]))

    return wrapper
