# SPDX-License-Identifier: LGPL-2.1-or-later
"""gaio.wrap() fills in what belongs to it, with every method of GIO, and never waits for what can
never come."""

import asyncio
import contextlib
import inspect
import os
import tempfile
import threading
import warnings

import gi

import tap

gi.require_version('Gaio', '1.0')
import gaio
from gaio import _awaitables
from gi.docstring import generate_doc_string
from gi.repository import Gio, GLib

# What hangs fails.
DEADLINE_S = 20
ASYNC_READY_CALLBACK = 'Gio.AsyncReadyCallback'
# Those that fill a buffer of C; those whose finish function Python does not have; and what makes
# the results that the others give.
NOT_FOR_PYTHON = {
    'InputStream.read_async', 'InputStream.read_all_async', 'AsyncInitable.newv_async',
    'async_initable_newv_async', 'SimpleAsyncResult.new', 'SimpleAsyncResult.new_from_error',
    'simple_async_report_gerror_in_idle', 'Task.new', 'Task.report_error',
}


async def wrap(*args, **kwargs):
    return await asyncio.wait_for(gaio.wrap(*args, **kwargs), DEADLINE_S)


@contextlib.contextmanager
def refused(*words):
    """The block raises a TypeError that tells the reason."""
    try:
        yield
    except TypeError as error:
        assert all(word in str(error) for word in words), error
    else:
        assert False, 'no TypeError'


@contextlib.contextmanager
def files(*names):
    """The first has contents; the others are not there."""
    with tempfile.TemporaryDirectory() as folder:
        made = [Gio.File.new_for_path(os.path.join(folder, name)) for name in names]
        made[0].replace_contents(b'contents', None, False, Gio.FileCreateFlags.NONE, None)
        yield made


def contents_of(file):
    return file.load_contents(None)[1]


def get_methods(module):
    """All functions and methods in it, by name."""
    methods = {}
    for name in dir(module):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            thing = getattr(module, name)
        if not isinstance(thing, type):
            methods[name] = thing
        elif hasattr(getattr(thing, '__info__', None), 'get_methods'):
            methods.update({f'{name}.{method.__name__}': method
                            for method in thing.__info__.get_methods()})
    return {name: method for name, method in methods.items() if hasattr(method, 'get_arguments')}


def get_documented(method):
    """The arguments that PyGObject says that there are."""
    inside = generate_doc_string(method).partition('(')[2].partition(')')[0]
    return [name for name in inside.split(', ') if name not in ('', 'self')]


def fill_in(method):
    """With as many arguments as it wants."""
    roles = _awaitables._get_roles(method)
    for n in range(20):
        with contextlib.suppress(TypeError):
            return _awaitables._fill_in(method, roles, [None] * n, {}, 'cancellable', 'callback')
    return _awaitables._fill_in(method, roles, [], {}, 'cancellable', 'callback')


def test_each_method_of_gio_gets_what_pygobject_wants():
    """As many arguments, the callback and the cancellable in their places; and it has a finish
    function. What cannot be had so is refused."""
    refused_ones, n = set(), 0
    for name, method in get_methods(Gio).items():
        documented = get_documented(method)
        places = [place for place, argument in enumerate(documented)
                  if ASYNC_READY_CALLBACK in argument]
        if not places:
            continue
        try:
            filled = fill_in(method)
            assert callable(_awaitables._find_finish(method)), name
        except TypeError:
            refused_ones.add(name)
            continue
        n += 1
        assert len(filled) == len(documented), (name, filled, documented)
        assert filled.index('callback') == places[-1], (name, filled, documented)
        for value, argument in zip(filled, documented):
            assert (value == 'cancellable') == ('Gio.Cancellable' in argument), (name, argument)
    assert n > 100, n
    assert refused_ones <= NOT_FOR_PYTHON, refused_ones - NOT_FOR_PYTHON


def test_what_takes_a_progress_callback_too():
    """It gets what C's gets, on each version of GLib and PyGObject."""
    async def main(one, other, third):
        calls = []
        assert await wrap(one.copy_async, other, Gio.FileCopyFlags.NONE, GLib.PRIORITY_DEFAULT,
                          lambda *call: calls.append(call))
        assert contents_of(other) == b'contents'
        assert (8, 8) in calls, calls
        assert await wrap(one.copy_async, other, Gio.FileCopyFlags.OVERWRITE, 0, None)
        if hasattr(Gio.File, 'move_async'):
            assert await wrap(one.move_async, third, Gio.FileCopyFlags.NONE, 0, None)
            assert contents_of(third) == b'contents' and not one.query_exists(None)

    with files('one', 'other', 'third') as made:
        gaio.run(main(*made))


def test_data_of_a_progress_callback():
    """May be given where PyGObject shows it."""
    async def main(one, other):
        calls = []
        await wrap(one.copy_async, other, Gio.FileCopyFlags.NONE, 0,
                   lambda *call: calls.append(call), 'data')
        assert (8, 8, 'data') in calls, calls

    if not any('progress_callback_data' in name for name in get_documented(Gio.File.copy_async)):
        raise tap.Skip('it is not shown')
    with files('one', 'other') as made:
        gaio.run(main(*made))


def test_finish_function_of_another_name():
    """That of the method which this is a variant of."""
    async def main(file):
        await wrap(file.replace_contents_bytes_async, GLib.Bytes(b'new'), None, False,
                   Gio.FileCreateFlags.NONE)
        assert contents_of(file) == b'new'

    with files('one') as made:
        gaio.run(main(*made))


def test_finish_function_that_is_static():
    """It gets the result alone."""
    async def main():
        streams = [Gio.SimpleIOStream.new(Gio.MemoryInputStream.new_from_bytes(GLib.Bytes(b'x')),
                                          Gio.MemoryOutputStream.new_resizable())
                   for _ in range(2)]
        assert await wrap(streams[0].splice_async, streams[1], Gio.IOStreamSpliceFlags.NONE, 0)

    gaio.run(main())


def test_what_is_not_asynchronous_is_refused():
    """Before it is called."""
    async def main(file):
        with refused('delete()', 'not asynchronous'):
            await wrap(file.delete)
        assert file.query_exists(None)
        with refused('new()', 'finish'):
            await wrap(Gio.Task.new, None)
        with refused('read_async()', 'buffer'):
            await wrap(file.read().read_async, 0)
        for wrong in (len, main, None, file, 'load_contents_async', inspect.signature):
            with refused('gaio.wrap(file.load_contents_async)', repr(wrong)):
                await wrap(wrong)

    with files('one') as made:
        gaio.run(main(*made))


def test_loop_that_does_not_run_glib_is_refused():
    """In the main thread and in others, and inside of a main loop, which does not run meanwhile."""
    refusals = []

    def run(file):
        with refused('_UnixSelectorEventLoop', 'gaio.run()', 'gaio.install()'):
            asyncio.run(wrap(file.load_contents_async))
        with refused('_UnixSelectorEventLoop', 'gaio.run()', 'gaio.install()'):
            asyncio.run(gaio.readable(0))
        refusals.append(file)

    def run_and_quit(file, main_loop):
        main_loop.quit()
        run(file)

    with files('one') as (file,):
        run(file)
        thread = threading.Thread(target=run, args=[file])
        thread.start()
        thread.join()
        main_loop = GLib.MainLoop()
        GLib.idle_add(run_and_quit, file, main_loop)
        main_loop.run()
    assert len(refusals) == 3, refusals


def test_loop_of_asyncio_with_our_selector():
    """It runs GLib, so it will do."""
    def make_loop():
        return asyncio.SelectorEventLoop(gaio.Selector())

    with files('one') as (file,), asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(wrap(file.load_contents_async))[1] == b'contents'


def test_loop_of_pygobject():
    """So does this one."""
    try:
        from gi.events import GLibEventLoopPolicy
    except ImportError:
        raise tap.Skip('this PyGObject has none') from None

    with files('one') as (file,), \
            asyncio.Runner(loop_factory=GLibEventLoopPolicy().new_event_loop) as runner:
        assert runner.run(wrap(file.load_contents_async))[1] == b'contents'


def test_thread_default_of_somebody_else():
    """What is asked for completes in the main context of the loop nevertheless."""
    async def main(file):
        other = GLib.MainContext()
        other.push_thread_default()
        try:
            loading = asyncio.ensure_future(gaio.wrap(file.load_contents_async))
            await asyncio.sleep(0)
        finally:
            other.pop_thread_default()
        assert (await asyncio.wait_for(loading, DEADLINE_S))[1] == b'contents'

    with files('one') as made:
        gaio.run(main(*made))


if __name__ == '__main__':
    tap.run(globals())
