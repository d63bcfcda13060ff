# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-python-stubs.py DIRECTORY EXAMPLES. The type stub says what is there at run time,
and mypy says what programs do wrong."""

import ast
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gi

import tap

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio

STUB = pathlib.Path(sys.argv[1], 'gi-stubs/repository/Gaio.pyi')
EXAMPLES = pathlib.Path(sys.argv[2])

# As much as is needed of pygobject-stubs, which Debian does not have.
STAND_INS = {
    '__init__.pyi': 'def require_version(namespace: str, version: str) -> None: ...\n',
    'repository/__init__.pyi': '',
    'repository/Gio.pyi': '''
class AsyncResult: ...
class Cancellable: ...
class DBusConnection: ...
class SocketConnection: ...
class SocketService:
    def connect(self, signal: str, function: object) -> int: ...
    def add_any_inet_port(self, source_object: object) -> int: ...
''',
    'repository/GObject.pyi': 'class Object: ...\nclass GEnum(int): ...\n',
    'repository/GLib.pyi': '''
SOURCE_CONTINUE: bool
SOURCE_REMOVE: bool
class Bytes:
    @staticmethod
    def new(data: bytes) -> Bytes: ...
    def get_data(self) -> bytes: ...
class Error(RuntimeError): ...
class IOCondition(int): ...
class Source: ...
class Variant: ...
class MainContext: ...
class MainLoop:
    def run(self) -> None: ...
    def quit(self) -> None: ...
''',
}

RIGHT = '''
import datetime
import socket
from gi.repository import Gaio, Gio, GLib

context = Gaio.Context()

def on_readable(fd: int, condition: int) -> bool:
    return GLib.SOURCE_CONTINUE

def use(connection: socket.socket) -> None:
    try:
        with context.add_fd(connection, 'r', on_readable) as handler:
            handler.set_condition(GLib.IOCondition(4))
        with context.add_timer(print, 'data') as timer:
            timer.arm(1000)
            timer.arm(datetime.timedelta(seconds=1))
            timer.arm(seconds=0.5)
        context.add_timeout(lambda: True, seconds=0.5)
    except OSError as error:
        print(error.errno)
    except Gaio.LoopError as error:
        print(error.matches(Gaio.error_quark(), Gaio.Error.BAD_FD))

def on_read(source: Gaio.Context, result: Gio.AsyncResult) -> None:
    print(source.pread_finish(result).get_data())

context.pread_async(0, 4096, 0, None, on_read)

for token, fd, condition in Gaio.ReadySet(context):
    print(token + fd + condition)

async def take_all(ready_set: Gaio.ReadySet) -> None:
    async for token, fd, condition in ready_set:
        print(token + fd + condition)
'''

WRONG = {
    "context.add_fd('0', 'r', on_readable)": 'arg-type',
    "context.add_fd(0, None, on_readable)": 'arg-type',
    "context.add_fd(0, 'r', lambda fd, condition: None)": 'arg-type',
    "context.add_timeout(1000, lambda: print())": 'arg-type',
    "context.add_timeout(0.5, lambda: True)": 'call-overload',
    "context.add_timeout(500000, lambda: True, seconds=1)": 'call-overload',
    "context.add_timer(print).fire()": 'attr-defined',
    "context.pread_async(0, '4096', 0)": 'arg-type',
    "context.pwrite_async(0, 'text', 0)": 'arg-type',
    "Gaio.ReadySet()": 'call-arg',
    "context.iterate()": 'call-overload',
    "context.add_fd(0, 'r', on_readable).unref()": 'attr-defined',
}


def is_public(name):
    return not name.startswith('_')


def class_names(class_):
    """What a class adds to those of PyGObject."""
    names = set()
    for ancestor in class_.__mro__:
        if ancestor.__module__.endswith('.Gaio'):
            names.update(vars(ancestor))
    # The structure of a class that can be derived from is not for Python either.
    return {name for name in names if is_public(name) and name != 'parent_instance'}


def runtime_names():
    """All names of the module, and of its classes: `Class.name`."""
    names = set()
    for name in filter(is_public, dir(Gaio)):
        value = getattr(Gaio, name)
        # The class structure of a GObject is not for Python.
        if hasattr(value, '__info__') and getattr(value.__info__, 'is_gtype_struct', bool)():
            continue
        names.add(name)
        if isinstance(value, type):
            names.update(f'{name}.{member}' for member in class_names(value))
    return names


def stub_names():
    """The same, of the stub."""
    classes, names = {}, set()
    for node in ast.parse(STUB.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        if not isinstance(node, ast.ClassDef):
            continue
        members = {getattr(member, 'name', None) or member.target.id for member in node.body
                   if isinstance(member, (ast.FunctionDef, ast.AnnAssign))}
        for base in node.bases:
            members |= classes.get(getattr(base, 'id', None), set())
        classes[node.name] = members
        if is_public(node.name):
            names.add(node.name)
            names.update(f'{node.name}.{member}' for member in filter(is_public, members))
    return names


def mypy(source):
    """What it says about a program, with the stub and nothing else of Gaio."""
    if shutil.which('mypy') is None:
        raise tap.Skip('mypy is not installed')
    with tempfile.TemporaryDirectory() as directory:
        package = pathlib.Path(directory, 'gi')
        package.joinpath('repository').mkdir(parents=True)
        for name, text in STAND_INS.items():
            package.joinpath(name).write_text(text, encoding='utf-8')
        shutil.copy(STUB, package / 'repository')
        pathlib.Path(directory, 'program.py').write_text(source, encoding='utf-8')
        return subprocess.run(
            ['mypy', '--strict', '--allow-untyped-defs', '--allow-untyped-calls',
             '--show-error-codes', '--cache-dir=cache', 'program.py',
             'gi/repository/Gaio.pyi'],
            cwd=directory, check=False, text=True, stdout=subprocess.PIPE).stdout


def test_stub_has_every_name():
    """What one can use is in the stub."""
    missing = runtime_names() - stub_names()
    assert not missing, sorted(missing)


def test_every_name_of_the_stub_exists():
    """What the stub promises is there."""
    # Which its __init__() sets.
    in_each_object = {f'LoopError.{name}' for name in ('message', 'domain', 'code', 'matches')}
    missing = stub_names() - runtime_names() - in_each_object
    assert not missing, sorted(missing)
    for name in in_each_object:
        assert hasattr(Gaio.LoopError(), name.partition('.')[2]), name


def test_mypy_takes_what_is_right():
    """The stub itself, and a program."""
    answer = mypy(RIGHT)
    assert 'no issues' in answer, answer


def test_mypy_takes_the_examples():
    """Each of them."""
    for path in EXAMPLES.glob('*.py'):
        answer = mypy(path.read_text(encoding='utf-8'))
        assert 'no issues' in answer, f'{path}: {answer}'


def test_mypy_finds_what_is_wrong():
    """Each of the mistakes, on its line."""
    answer = mypy(RIGHT + '\n'.join(WRONG))
    first = RIGHT.count('\n') + 1
    for line, code in enumerate(WRONG.values(), first):
        found = [text for text in answer.splitlines() if f'program.py:{line}: error' in text]
        assert any(f'[{code}]' in text for text in found), (line, code, answer)


if __name__ == '__main__':
    tap.run(globals())
