# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files and GIO in coroutines."""

import asyncio
import contextlib
import errno
import functools
import gc
import os
import tempfile
import threading
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from asyncio_support import (
    future, idle, installed, left_as_it_was, output_of, pair, raises, run_in_main_loop, size_of,
    tcp_echo, watched)
from gi.repository import Gaio, Gio, GLib, GObject

SERVICE = '''<node><interface name='org.gaio.Test'>
  <method name='Double'><arg type='i' direction='in'/><arg type='i' direction='out'/></method>
  <signal name='Doubled'><arg type='i'/></signal>
</interface></node>'''


async def wrap(*args):
    """What hangs fails."""
    return await asyncio.wait_for(gaio.wrap(*args), 20)


# Files and GIO in coroutines.

def test_readable_and_writable():
    """For numbers and for what has a fileno(), and both for one fd at a time."""
    async def main():
        with pair() as (one, other):
            await gaio.writable(one)
            for file in (one, one.fileno()):
                waiting = asyncio.create_task(gaio.readable(file))
                await asyncio.sleep(0)
                await gaio.writable(file)
                assert not waiting.done()
                other.send(b'x')
                await waiting
                assert one.recv(8) == b'x'

    gaio.run(main())


def test_async_for_over_a_ready_set():
    """Takes one batch after another, in each kind of loop; when it ends, the set is free."""
    async def main():
        ready_set = Gaio.ReadySet(Gaio.Context.get_default())
        notifiers = [Gaio.Notifier() for _ in range(3)]
        handlers = [ready_set.add_fd(notifier.get_fd(), 'r', token)
                    for token, notifier in enumerate(notifiers)]
        taken = []
        notifiers[0].set()
        notifiers[2].set()

        async def take():
            async for token, fd, condition in ready_set:
                assert (fd, condition) == (notifiers[token].get_fd(), GLib.IOCondition.IN)
                notifiers[token].test_and_clear()
                taken.append(token)
                if len(taken) == 2:
                    idle(notifiers[1].set)

        waiting = asyncio.create_task(take())
        while len(taken) < 3 and not waiting.done():
            await asyncio.sleep(0)
        waiting.cancel()
        with raises(asyncio.CancelledError):
            await waiting
        assert sorted(taken[:2]) == [0, 2] and taken[2:] == [1], taken
        came = future()
        ready_set.set_func(lambda *_: came.done() or came.set_result(True))
        notifiers[0].set()
        assert await came
        with raises(RuntimeError) as raised:
            await take()
        assert 'set_func(None)' in str(raised[0]), raised
        ready_set.set_func(None)
        waiting = asyncio.create_task(take())
        while len(taken) < 4 and not waiting.done():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        ready_set.set_func(print)
        with raises(Gaio.LoopError) as raised:
            await waiting
        assert raised[0].code == Gaio.Error.REMOVED, raised
        for handler in handlers:
            handler.remove()

    gaio.run(main())
    with installed() as loop:
        run_in_main_loop(loop, main())


def test_async_for_over_readable():
    """Once for each time that there is something to read, and nothing is left behind."""
    async def main():
        with pair() as (one, other):
            before = watched()
            received = b''
            other.send(b'a')
            async for _ in gaio.readable(one):
                received += one.recv(1)
                if len(received) == 3:
                    break
                other.send(b'x')
            async for _ in gaio.writable(one):
                break
            while watched() != before:
                await asyncio.sleep(0)
            return received

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        assert gaio.run(main()) == b'axx'
        gc.collect()
    assert not caught, caught


def test_wait_in_a_stock_loop_fails():
    """At once: nobody would serve it."""
    async def main():
        query_info = Gio.File.new_for_path('/').query_info_async
        with pair() as (one, _):
            for wait, name in (
                    (lambda: gaio.readable(one), ''), (lambda: gaio.writable(one), ''),
                    (lambda: gaio.wrap(query_info, '*', 0, 0), 'gaio.wrap()'),
                    (lambda: gaio.wait_signal(Gio.Cancellable(), 'cancelled'),
                     'gaio.wait_signal()')):
                with raises(TypeError) as raised:
                    await wait()
                assert 'begin with gaio.run()' in str(raised[0]), raised
                assert name in str(raised[0]), raised
                assert 'asyncio.run() makes a loop of its own' in str(raised[0]), raised

    asyncio.run(main())
    with installed():
        asyncio.run(main())


def test_wait_signal():
    """Returns what came with it, also from another thread. It is disconnected, also when
    cancelled."""
    async def main():
        action = Gio.SimpleAction.new('action', GLib.VariantType('i'))
        for emit in (lambda: action.activate(GLib.Variant('i', 7)),
                     lambda: threading.Thread(
                         target=action.activate, args=(GLib.Variant('i', 7),)).start()):
            idle(emit)
            parameter, = await gaio.wait_signal(action, 'activate')
            assert parameter.unpack() == 7
        idle(action.set_enabled, False)
        await gaio.wait_signal(action, 'notify::enabled')
        with raises(asyncio.TimeoutError):
            await asyncio.wait_for(gaio.wait_signal(action, 'activate'), 0.001)
        with raises(TypeError):
            await gaio.wait_signal(action, 'no such signal')
        with raises(TypeError) as raised:
            await gaio.wait_signal('action', 'activate')
        assert str(raised[0]) == "gaio.wait_signal() takes a GObject, not 'action'", raised
        activate = GObject.signal_lookup('activate', Gio.SimpleAction)
        assert not GObject.signal_has_handler_pending(action, activate, 0, True)

    # Where asyncio looks whether the thread is right.
    gaio.run(main(), debug=True)
    with installed() as loop:
        run_in_main_loop(loop, main())


def test_wait_signal_listens_from_the_call_on():
    """So that one can wait for what one's own call brings about. What is dropped before it is
    awaited, or cancelled before it begins, does not listen any longer."""
    async def main():
        action = Gio.SimpleAction.new('action', None)
        waiting = gaio.wait_signal(action, 'activate')
        action.activate(None)
        action.activate(None)
        assert await asyncio.wait_for(waiting, 20) == (None,)
        waiting = asyncio.create_task(gaio.wait_signal(action, 'activate'))
        action.activate(None)
        assert await asyncio.wait_for(waiting, 20) == (None,)
        activate = GObject.signal_lookup('activate', Gio.SimpleAction)
        gaio.wait_signal(action, 'activate').close()
        waiting = asyncio.create_task(gaio.wait_signal(action, 'activate'))
        waiting.cancel()
        with raises(asyncio.CancelledError):
            await waiting
        # What woke us has it, too, and its traceback what it waited for.
        del waiting
        await asyncio.sleep(0)
        gc.collect()
        assert not GObject.signal_has_handler_pending(action, activate, 0, True)

    gaio.run(main())
    with installed() as loop:
        run_in_main_loop(loop, main())


def test_wait_signal_keeps_who_waits():
    """asyncio has only weak references to tasks."""
    async def main():
        action = Gio.SimpleAction.new('action', None)
        done = future()

        async def wait():
            await gaio.wait_signal(action, 'activate')
            done.set_result(True)

        asyncio.create_task(wait())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        action.activate(None)
        assert await asyncio.wait_for(done, 20)

    gaio.run(main())


def test_task_holds_an_application():
    """Until it is done, with whatever. Nobody else keeps it."""
    async def work(error):
        gc.collect()
        await asyncio.sleep(0.001)
        gc.collect()
        done.append(True)
        if error is not None:
            raise error

    done = []
    for error in (None, asyncio.CancelledError()):
        application = Gio.Application(application_id=None, flags=Gio.ApplicationFlags.NON_UNIQUE)
        application.connect('activate', lambda application, error=error: gaio.create_task(
            work(error), application=application) and None)
        with installed():
            assert application.run([]) == 0
    assert done == [True, True]
    assert gaio.run(size_of(__file__)) > 0


def test_cancelled_wait_is_removed():
    """Nothing watches the fd any more, and it can be waited for again."""
    async def main():
        loop = asyncio.get_running_loop()
        with pair() as (one, other):
            before = watched()
            for _ in range(10):
                task = asyncio.create_task(gaio.readable(one))
                await asyncio.sleep(0)
                task.cancel()
                with raises(asyncio.CancelledError):
                    await task
                assert watched() == before
                assert not loop.remove_reader(one)
            with raises(asyncio.TimeoutError):
                await asyncio.wait_for(gaio.readable(one), 0.001)
            other.send(b'x')
            await gaio.readable(one)
            assert one.recv(8) == b'x'

    with left_as_it_was():
        gaio.run(main())


def test_any_number_waits_for_one_fd():
    """Also beside add_reader(). All are told, and each that leaves leaves the others alone."""
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        with pair() as (one, other):
            loop.add_reader(one, calls.append, 'reader')
            waiting = [asyncio.create_task(gaio.readable(one)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting.pop().cancel()
            await asyncio.sleep(0)
            assert not calls and not any(task.done() for task in waiting)
            other.send(b'x')
            await asyncio.gather(*waiting)
            while not calls:
                await asyncio.sleep(0)
            loop.remove_reader(one)

    gaio.run(main())


def test_wait_for_what_is_not_open_fails():
    """At once, as an OSError."""
    async def main():
        with pair() as (one, _):
            number = one.fileno()
        for wait in (gaio.readable, gaio.writable):
            with raises(OSError, errno.EBADF):
                await wait(number)

    gaio.run(main())


def test_wrap_returns_what_finish_returns():
    """As the method that blocks does."""
    async def main():
        with tempfile.NamedTemporaryFile() as file:
            file.write(b'contents')
            file.flush()
            gfile = Gio.File.new_for_path(file.name)
            assert await gaio.wrap(gfile.load_contents_async) == gfile.load_contents(None)
            assert await size_of(file.name) == len(b'contents')

    gaio.run(main())


def test_wrap_raises_what_finish_raises():
    """A GLib.Error."""
    async def main():
        gfile = Gio.File.new_for_path('/nowhere')
        try:
            await gaio.wrap(gfile.load_contents_async)
        except GLib.Error as error:
            assert error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.NOT_FOUND), repr(error)
        else:
            assert False, 'no exception'

    gaio.run(main())


def test_wrap_that_is_cancelled_cancels_the_operation():
    """It has taken nothing from the stream, and another can be started."""
    async def main():
        reader, writer = os.pipe()
        stream = Gio.UnixInputStream.new(reader, True)
        for _ in range(3):
            task = asyncio.create_task(gaio.wrap(stream.read_bytes_async, 8, GLib.PRIORITY_DEFAULT))
            await asyncio.sleep(0)
            assert stream.has_pending()
            task.cancel()
            with raises(asyncio.CancelledError):
                await task
            while stream.has_pending():
                await asyncio.sleep(0)
        os.write(writer, b'x')
        data = await gaio.wrap(stream.read_bytes_async, 8, GLib.PRIORITY_DEFAULT)
        assert data.get_data() == b'x'
        os.close(writer)
        stream.close()

    with left_as_it_was():
        gaio.run(main())


def test_wrap_with_a_cancellable_of_ones_own():
    """To cancel that, from GLib, cancels what waits for it."""
    async def main():
        reader, writer = os.pipe()
        stream = Gio.UnixInputStream.new(reader, True)
        cancellable = Gio.Cancellable()
        idle(cancellable.cancel)
        with raises(asyncio.CancelledError):
            await gaio.wrap(stream.read_bytes_async, 8, GLib.PRIORITY_DEFAULT,
                            cancellable=cancellable)
        os.close(writer)
        stream.close()

    with left_as_it_was():
        gaio.run(main())


def test_wrap_checks_arguments():
    """One too few and one too many, and then nothing has been started."""
    async def main():
        gfile = Gio.File.new_for_path('/')
        for args in ((), ('standard::*', Gio.FileQueryInfoFlags.NONE, 0, 'too many')):
            with raises(TypeError):
                await gaio.wrap(gfile.query_info_async, *args)

    gaio.run(main())


def test_wrap_takes_keywords():
    """The names of C."""
    async def main():
        gfile = Gio.File.new_for_path(__file__)
        for kwargs in ({'attributes': 'standard::size', 'flags': 0, 'io_priority': 0},
                       {'io_priority': 0, 'attributes': 'standard::size',
                        'flags': Gio.FileQueryInfoFlags.NONE, 'cancellable': None}):
            info = await gaio.wrap(gfile.query_info_async, **kwargs)
            assert info.get_size() == os.path.getsize(__file__)
        info = await gaio.wrap(gfile.query_info_async, 'standard::size', io_priority=0, flags=0)
        for args, kwargs, words in ((('*',), {'flags': 0}, "misses its argument 'io_priority'"),
                                    (('*', 0), {'flags': 0, 'io_priority': 0}, "'flags' twice"),
                                    (('*',), {'flag': 0}, "'attributes', 'flags', 'io_priority'")):
            with raises(TypeError) as raised:
                await gaio.wrap(gfile.query_info_async, *args, **kwargs)
            assert words in str(raised[0]), raised

    gaio.run(main())


def test_wrap_takes_the_cancellable_where_c_has_it():
    """None, or one. Whoever gives a callback is told."""
    async def main():
        gfile = Gio.File.new_for_path(__file__)
        cancelled = Gio.Cancellable()
        cancelled.cancel()
        for method, args in ((gfile.load_contents_async, ()),
                             (gfile.query_info_async, ('standard::size', 0, 0))):
            for cancellable in (None, Gio.Cancellable()):
                assert await gaio.wrap(method, *args, cancellable)
            with raises(asyncio.CancelledError):
                await gaio.wrap(method, *args, cancelled)
            with raises(TypeError) as raised:
                await gaio.wrap(method, *args, None, print)
            assert 'gaio.wrap() fills in the callback' in str(raised[0]), raised

    gaio.run(main())


def test_wrap_refuses_plain_functions():
    """And says what it takes."""
    async def main():
        for function in (print, size_of, Gio.File.new_for_path):
            with raises(TypeError) as raised:
                await gaio.wrap(function, '/')
            assert 'asynchronous' in str(raised[0]), raised

    gaio.run(main())


def test_wrap_works_in_an_installed_loop():
    """As in a loop that is run."""
    with installed() as loop:
        assert run_in_main_loop(loop, size_of(__file__)) == os.path.getsize(__file__)


# All at once, with a real bus.

@contextlib.contextmanager
def bus():
    """Makes connections to a dbus-daemon."""
    address = os.environ.get('DBUS_SESSION_BUS_ADDRESS')
    if not address:
        raise tap.Skip('there is no session bus: use dbus-run-session')
    flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
             | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
    connections = [Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
                   for _ in range(2)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close_sync(None)


def export_doubler(connection):
    """A service with a method and a signal."""
    def on_call(connection, sender, path, interface, method, parameters, invocation):
        result = GLib.Variant('(i)', (2 * parameters[0],))
        connection.emit_signal(None, path, interface, 'Doubled', result)
        invocation.return_value(result)

    interface = Gio.DBusNodeInfo.new_for_xml(SERVICE).interfaces[0]
    connection.register_object('/', interface, on_call, None, None)


async def double(connection, name, number):
    done = future()

    def on_answer(connection, result):
        done.set_result(connection.call_finish(result)[0])

    connection.call(name, '/', 'org.gaio.Test', 'Double', GLib.Variant('(i)', (number,)),
                    GLib.VariantType('(i)'), Gio.DBusCallFlags.NONE, -1, None, on_answer)
    return await done


async def call_and_hear(service, client, number):
    """A call and its answer, and the signal in between."""
    heard = future()

    def on_signal(connection, sender, path, interface, signal_name, parameters):
        if not heard.done():
            heard.set_result(parameters[0])

    subscription = client.signal_subscribe(None, 'org.gaio.Test', 'Doubled', '/', None,
                                           Gio.DBusSignalFlags.NONE, on_signal)
    try:
        return await double(client, service.get_unique_name(), number), await heard
    finally:
        client.signal_unsubscribe(subscription)


def test_dbus_while_asyncio_waits():
    """Both ends in this process: calls, answers and signals go through the bus."""
    async def main(service, client):
        for number in range(20):
            assert await call_and_hear(service, client, number) == (2 * number, 2 * number)

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


def test_function_handles_a_method_of_dbus():
    """With `async` or without: what it returns is the reply, and what it raises is an error, which
    the caller gets. The loop is told of what was not meant for the caller."""
    @gaio.dbus_method
    async def coroutine(*args):
        await asyncio.sleep(0.001)
        return on_call(*args)

    @gaio.dbus_method
    def function(*args):
        return on_call(*args)

    def on_call(connection, sender, path, interface, method, parameters, invocation):
        number = parameters[0]
        if number == 0:
            raise GLib.Error('zero', GLib.quark_to_string(Gio.io_error_quark()),
                             Gio.IOErrorEnum.INVALID_ARGUMENT)
        if number == 1:
            raise ZeroDivisionError('one')
        if number == -4:
            raise GLib.Error('no domain', Gio.io_error_quark(), Gio.IOErrorEnum.NOT_FOUND)
        wrong = {2: 'no variant', -1: None, -2: GLib.Variant('s', ''),
                 -3: GLib.Variant('(s)', ('',))}
        return wrong.get(number, GLib.Variant('(i)', (2 * number,)))

    async def main(service, client):
        told = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, details: told.append(type(details['exception'])))
        name = service.get_unique_name()
        results = await asyncio.gather(*(double(client, name, number) for number in range(3, 6)))
        assert results == [6, 8, 10], results
        call = functools.partial(gaio.wrap, client.call, name, '/', 'org.gaio.Test', 'Double')
        for number, words in ((0, 'zero'), (1, 'one'), (2, 'returns a GLib.Variant'),
                              (-1, "type '()', but Double returns '(i)'"),
                              (-2, "type 's', but"), (-3, "type '(s)', but"), (-4, '')):
            with raises(GLib.Error) as raised:
                await call(GLib.Variant('(i)', (number,)), None, Gio.DBusCallFlags.NONE, -1)
            assert words in raised[0].message, raised
        while len(told) < 6:
            await asyncio.sleep(0.001)
        assert told == [ZeroDivisionError] + 4 * [TypeError] + [GLib.Error], told

    with raises(TypeError):
        gaio.dbus_method('on_call')
    with bus() as (service, client):
        interface = Gio.DBusNodeInfo.new_for_xml(SERVICE).interfaces[0]
        for handler in (coroutine, function):
            registration = service.register_object('/', interface, handler, None, None)
            gaio.run(main(service, client))
            with installed() as loop:
                run_in_main_loop(loop, main(service, client))
            service.unregister_object(registration)


def test_error_of_a_dbus_method_has_a_name():
    """That with which it was made, also where it comes from another service."""
    @gaio.dbus_method
    async def on_call(connection, sender, path, interface, method, parameters, invocation):
        if parameters[0] == 0:
            raise Gio.dbus_error_new_for_dbus_error('org.gaio.Error.Zero', 'it is: zero')
        if parameters[0] < 0:
            raise wrong[parameters[0]]
        await gaio.wrap(connection.call, connection.get_unique_name(), path, interface, 'Double',
                        GLib.Variant('(i)', (0,)), None, Gio.DBusCallFlags.NONE, -1)

    class Silent(Exception):
        def __repr__(self):
            raise ValueError

    class Surrogate(Exception):
        def __repr__(self):
            return '\udc80'

    # What GIO would refuse, so that the caller would wait, or PyGObject.
    wrong = dict(zip(range(-1, -8, -1), (
        Gio.dbus_error_new_for_dbus_error('Zero', 'no name'),
        Gio.dbus_error_new_for_dbus_error('', 'no name'),
        GLib.Error('negative', GLib.quark_to_string(Gio.io_error_quark()), -1),
        GLib.Error(None), Silent(), Surrogate(), asyncio.CancelledError())))

    async def main(service, client):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        for number in wrong:
            with raises(GLib.Error) as raised:
                await gaio.wrap(client.call, service.get_unique_name(), '/', 'org.gaio.Test',
                                'Double', GLib.Variant('(i)', (number,)), None,
                                Gio.DBusCallFlags.NONE, 20000)
            assert 'org.freedesktop.DBus.Error.Failed' in raised[0].message, raised
        for number in range(2):
            with raises(GLib.Error) as raised:
                await gaio.wrap(client.call, service.get_unique_name(), '/', 'org.gaio.Test',
                                'Double', GLib.Variant('(i)', (number,)), None,
                                Gio.DBusCallFlags.NONE, 20000)
            assert raised[0].message == 'GDBus.Error:org.gaio.Error.Zero: it is: zero', raised

    with bus() as (service, client):
        interface = Gio.DBusNodeInfo.new_for_xml(SERVICE).interfaces[0]
        service.register_object('/', interface, on_call, None, None)
        gaio.run(main(service, client))


def test_dbus_method_that_never_begins_is_answered():
    """Its task is cancelled before."""
    @gaio.dbus_method
    async def on_call(*args):
        assert False, args

    def make_task(loop, coroutine, **kwargs):
        task = asyncio.Task(coroutine, loop=loop, **kwargs)
        if coroutine.__name__ == '_call':
            task.cancel()
        return task

    async def main(service, client):
        asyncio.get_running_loop().set_task_factory(make_task)
        with raises(GLib.Error) as raised:
            await gaio.wrap(client.call, service.get_unique_name(), '/', 'org.gaio.Test', 'Double',
                            GLib.Variant('(i)', (0,)), None, Gio.DBusCallFlags.NONE, 20000)
        assert 'CancelledError' in raised[0].message, raised

    with bus() as (service, client):
        interface = Gio.DBusNodeInfo.new_for_xml(SERVICE).interfaces[0]
        service.register_object('/', interface, on_call, None, None)
        gaio.run(main(service, client))


def test_wrong_reply_for_a_property_is_an_error():
    """GIO asks the handler of methods for a property that has none. A getter cannot be one."""
    replies = {'Right': GLib.Variant('(v)', (GLib.Variant('s', 'value'),)),
               'Empty': None,
               'Bare': GLib.Variant('(s)', ('value',)),
               'Other': GLib.Variant('(v)', (GLib.Variant('i', 7),))}

    @gaio.dbus_method
    async def on_call(connection, sender, path, interface, method, parameters, invocation):
        return {'Get': lambda: replies[parameters[1]], 'Set': lambda: replies['Right']}.get(
            method, lambda: GLib.Variant('(s)', ('value',)))()

    async def main(service, client):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        call = functools.partial(gaio.wrap, client.call, service.get_unique_name(), '/',
                                 'org.freedesktop.DBus.Properties')
        flags = Gio.DBusCallFlags.NONE, 20000
        get = [GLib.Variant('(ss)', ('org.gaio.Test', name)) for name in replies]
        assert (await call('Get', get[0], None, *flags))[0] == 'value'
        for method, parameters, words in (
                *(('Get', parameters, f"type '{type_}', but") for parameters, type_ in
                  zip(get[1:], ('()', '(s)', 'i'))),
                ('Set', GLib.Variant('(ssv)', ('org.gaio.Test', 'Bare', GLib.Variant('s', ''))),
                 "Set returns '()'"),
                ('GetAll', GLib.Variant('(s)', ('org.gaio.Test',)), "returns '(a{sv})'")):
            with raises(GLib.Error) as raised:
                await call(method, parameters, None, *flags)
            assert words in raised[0].message, raised

    properties = ''.join(f"<property name='{name}' type='s' access='readwrite'/>"
                         for name in replies)
    node = f"<node><interface name='org.gaio.Test'>{properties}</interface></node>"
    with bus() as (service, client):
        interface = Gio.DBusNodeInfo.new_for_xml(node).interfaces[0]
        service.register_object('/', interface, on_call, None, None)
        gaio.run(main(service, client))
    with raises(TypeError) as raised:
        on_call(service, '', '/', 'org.gaio.Test', 'Right')
    assert 'register a plain function' in str(raised[0]), raised


def test_wrap_works_for_what_is_not_called_async():
    """Calls, constructors and functions, which have a _finish as well."""
    async def main(service, client):
        number = GLib.Variant('(i)', (3,))
        answer = await gaio.wrap(client.call, service.get_unique_name(), '/', 'org.gaio.Test',
                                 'Double', number, None, Gio.DBusCallFlags.NONE, -1)
        assert answer.unpack() == (6,)
        proxy = await gaio.wrap(Gio.DBusProxy.new, client, Gio.DBusProxyFlags.NONE, None,
                                service.get_unique_name(), '/', 'org.gaio.Test')
        answer = await gaio.wrap(proxy.call, 'Double', number, Gio.DBusCallFlags.NONE, -1)
        assert answer.unpack() == (6,)
        with raises(GLib.Error):
            await gaio.wrap(proxy.call, 'Triple', number, Gio.DBusCallFlags.NONE, -1)
        session = await gaio.wrap(Gio.bus_get, Gio.BusType.SESSION)
        assert session.get_unique_name()
        session.set_exit_on_close(False)

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


def test_wrap_fills_in_what_is_beside_the_callback():
    """Another callback, which gets what C's gets, its notify, and what is only given back."""
    async def main(service, client):
        paths = []

        def get_proxy_type(manager, path, interface):
            paths.append(path)
            return (Gio.DBusProxy if interface else Gio.DBusObjectProxy).__gtype__

        server = Gio.DBusObjectManagerServer.new('/')
        skeleton = Gio.DBusObjectSkeleton.new('/thing')
        server.export(skeleton)
        server.set_connection(service)
        manager = await wrap(Gio.DBusObjectManagerClient.new, client,
                             Gio.DBusObjectManagerClientFlags.NONE, service.get_unique_name(), '/',
                             get_proxy_type)
        assert [thing.get_object_path() for thing in manager.get_objects()] == ['/thing'], paths
        assert '/thing' in paths, paths
        call = Gio.DBusMessage.new_method_call(service.get_unique_name(), '/', 'org.gaio.Test',
                                               'Double')
        call.set_body(GLib.Variant('(i)', (3,)))
        answer = await wrap(client.send_message_with_reply, call,
                            Gio.DBusSendMessageFlags.NONE, -1)
        assert answer.get_body().unpack() == (6,)

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


def test_wrap_refuses_what_pygobject_makes_of_an_unknown_name():
    """For a method of D-Bus it says how to call it."""
    async def main(service, client):
        proxy = await gaio.wrap(Gio.DBusProxy.new, client, Gio.DBusProxyFlags.NONE, None,
                                service.get_unique_name(), '/', 'org.gaio.Test')
        try:
            await wrap(proxy.Double, '(i)', 3)
        except TypeError as error:
            assert "gaio.wrap(proxy.call, 'Double'" in str(error), error
        else:
            assert False, 'no TypeError'

    with bus() as (service, client):
        export_doubler(service)
        gaio.run(main(service, client))


async def everything(service, client):
    ticks = 0

    def tick():
        nonlocal ticks
        ticks += 1
        return True

    source = GLib.timeout_add(1, tick)
    for number in range(5):
        results = await asyncio.gather(
            call_and_hear(service, client, number), output_of('echo', 'child'), tcp_echo(),
            asyncio.to_thread(pow, 2, 3), asyncio.sleep(0.002, 'slept'))
        expected = [(2 * number, 2 * number), (b'child\n', 0), b'hello\n', 8, 'slept']
        assert results == expected, results
    while ticks < 3:
        await asyncio.sleep(0.001)
    GLib.source_remove(source)
    return True


def test_everything_at_once():
    """A GLib timeout, D-Bus, children, TCP, threads and timers."""
    with bus() as (service, client):
        export_doubler(service)
        assert gaio.run(everything(service, client))


def test_everything_at_once_in_an_installed_loop():
    """The same, in GLib's main loop."""
    with bus() as (service, client), installed() as loop:
        export_doubler(service)
        assert run_in_main_loop(loop, everything(service, client))


tap.run(globals())
