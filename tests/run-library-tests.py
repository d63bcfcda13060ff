#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests of libraries for asyncio, with the loops of gaio in the place of asyncio's.

See comparison.py for the loops. The tests come from Debian's source packages, which are unpacked to
build/libraries. What they test is what Debian has installed. A folder of that name which is there
already is used as it is."""

import argparse
import asyncio
import contextlib
import dataclasses
import faulthandler
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import typing

from comparison import (MODULE_SECONDS, OURS, USE, Part, compare, end_of_process, make_default,
                        read_outcomes, run_process, write_outcome)

FOLDER = pathlib.Path(__file__).resolve().parent.parent / 'build' / 'libraries'
TEST_SECONDS = 60


@dataclasses.dataclass
class Library:
    source: str
    package: str
    tests: str = 'tests'
    # Those modules.
    modules: str = r'test_.*|.*_test'
    # What the names of tests that use another loop, or another library than asyncio, have.
    without: str = '(?!)'
    options: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    # Has its tests take our class for that of the library.
    stand_in: typing.Callable = lambda event_loop: None


def in_place_of_gbulb(event_loop):
    import gbulb.glib_events
    import gi

    gbulb.glib_events.GLibEventLoopPolicy = asyncio.DefaultEventLoopPolicy
    with contextlib.suppress(ImportError, ValueError):
        gi.require_version('Gtk', '3.0')
        import gbulb.gtk

        gbulb.gtk.GtkEventLoopPolicy = asyncio.DefaultEventLoopPolicy
        gbulb.gtk.GtkEventLoop = event_loop


def in_place_of_gi_events(event_loop):
    import gi.events

    gi.events.GLibEventLoopPolicy = asyncio.DefaultEventLoopPolicy
    gi.events.GLibEventLoop = event_loop


LIBRARIES = {
    'aiohttp': Library('python-aiohttp', 'aiohttp'),
    'websockets': Library('python-websockets', 'websockets',
                          environment={'WEBSOCKETS_TESTS_TIMEOUT_FACTOR': '10'}),
    'anyio': Library('python-anyio', 'anyio', without='trio|uvloop',
                     options=('-p', 'no:asyncio')),
    'tornado': Library('python-tornado', 'tornado', tests='tornado/test'),
    'uvicorn': Library('python-uvicorn', 'uvicorn', without='trio|uvloop'),
    'asyncssh': Library('python-asyncssh', 'asyncssh'),
    'dbus-fast': Library('dbus-fast', 'dbus_fast'),
    'uvloop': Library('uvloop', 'uvloop', without='UV|uvloop'),
    # For these, stock is their own loop.
    'gbulb': Library('python-gbulb', 'gbulb', stand_in=in_place_of_gbulb),
    'pygobject': Library('pygobject', 'gi.events', modules='test_events',
                         stand_in=in_place_of_gi_events),
}

# What cannot come out the same: the library, a pattern for the tests, the loops, and why.
DIFFERENT = [
    ('gbulb', r'_child_watcher|_new_event_loop|_install\[False|_set_application|_run$|test_stop$|'
     r'_recursion$(?<!_forever_recursion)|_soon_priority$|_signal_handler$|_sigill', OURS,
     'is about what only the loops and the policies of gbulb have'),
    ('gbulb', '_no_coroutine', OURS, 'asyncio refuses a coroutine function only in debug mode'),
    ('uvloop', 'UDP::test_socketpair', OURS, 'knows the loop of asyncio by the name of its module'),
    ('pygobject', '_application', OURS, 'gaio has gaio.install() instead of a policy'),
    ('pygobject', 'Policy.*_new_event_loop', OURS, 'a loop of gaio may be set in any thread'),
    ('pygobject', '_task_prio', OURS, 'all tasks of gaio have the priority of the loop'),
    ('pygobject', '_inside_context_iteration', OURS, 'only gi.events knows whose iteration it is'),
    ('pygobject', '_recursive_stop', OURS, 'what stop() ends is its own loop'),
]


def why_different(test, loop, library):
    for name, pattern, loops, reason in DIFFERENT:
        if name == library and loop in loops and re.search(pattern, test):
            return reason
    return None


class Recorder:
    """A plugin of pytest that writes what becomes of each test, and leaves out those for which that
    is known."""

    def __init__(self, file, known, without, log):
        self.file, self.known, self.without = file, known, re.compile(without)
        # Not captured.
        self.log = os.fdopen(os.dup(log), 'w')
        self.outcome = None

    @staticmethod
    def name(nodeid):
        return re.sub('0x[0-9a-f]+', '0x', nodeid)

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if not self.without.search(item.nodeid)
                    and self.name(item.nodeid) not in self.known]

    def pytest_collectreport(self, report):
        if report.outcome != 'passed':
            self.write(report.nodeid, *self.judge(report))

    def pytest_runtest_logstart(self, nodeid):
        self.outcome = 'passed', ''
        self.write(nodeid, 'crashed')
        faulthandler.dump_traceback_later(TEST_SECONDS, file=self.log, exit=True)

    def pytest_runtest_logreport(self, report):
        outcome = self.judge(report)
        if self.outcome[0] != 'failed' and outcome[0] != 'passed':
            self.outcome = outcome

    def pytest_runtest_logfinish(self, nodeid):
        faulthandler.cancel_dump_traceback_later()
        self.write(nodeid, *self.outcome)

    def write(self, nodeid, outcome, reason=''):
        write_outcome(self.file, self.name(nodeid), outcome, reason)

    @staticmethod
    def judge(report):
        if hasattr(report, 'wasxfail'):
            return 'failed as expected' if report.skipped else 'passed unexpectedly', ''
        if report.outcome == 'passed':
            return 'passed', ''
        if report.skipped:
            return 'skipped', str(report.longrepr[2])
        crash = getattr(report.longrepr, 'reprcrash', None)
        return 'failed', crash.message if crash is not None else str(report.longrepr)[-500:]


class Matches:
    """Equals what begins as a pattern says. Tests of aiohttp's take it from the module re_assert,
    which Debian does not have."""

    def __init__(self, pattern):
        self.pattern = re.compile(pattern)

    def __eq__(self, other):
        return self.pattern.match(other) is not None


def run_module(loop, library, module, results):
    """Run the tests of a module in this process."""
    import pytest

    event_loop = USE[loop]()
    if event_loop is not None:
        make_default(event_loop)
        library.stand_in(event_loop)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, os.getcwd())
    sys.modules.setdefault('re_assert', types.SimpleNamespace(Matches=Matches))
    known = read_outcomes(results)
    with open(results, 'a', encoding='utf-8') as file:
        status = pytest.main(
            ['-q', '--tb=short', '--continue-on-collection-errors', '-p', 'no:cacheprovider',
             '-p', 'no:faulthandler', '-o', 'addopts=', *library.options, module],
            [Recorder(file, known, library.without, 2)])
    fine = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED
    return 0 if status in fine else int(status)


def part_name(name, module):
    return f'{name} {pathlib.Path(module).stem}'


def run_child(loop, name, module, folder):
    """Run them in a process of its own, and in another one what is left when that has died. What
    each test came to, and all that was printed."""
    deadline = time.monotonic() + MODULE_SECONDS
    with tempfile.TemporaryDirectory() as home:
        results, log = pathlib.Path(home, 'results'), pathlib.Path(home, 'log')
        command = ['dbus-run-session', '--', sys.executable, '-X', 'faulthandler', __file__,
                   '--results', results, '--loop', loop, '--module', module, name]
        outcomes, status, n_known = {}, None, -1
        while status != 0 and len(outcomes) > n_known:
            n_known = len(outcomes)
            status = run_process(command, folder, log, deadline - time.monotonic(),
                                 {**os.environ, 'HOME': home, 'TMPDIR': home,
                                  **LIBRARIES[name].environment})
            outcomes = read_outcomes(results)
        if status != 0:
            # Not the same, also if it happens with both.
            test = end_of_process(part_name(name, module))
            outcomes[test] = f'failed with {loop}', f'status {status}'
        return outcomes, log.read_text(encoding='utf-8', errors='replace')


def make_parts(name, folder):
    library = LIBRARIES[name]
    modules = sorted(str(path.relative_to(folder))
                     for path in (folder / library.tests).rglob('*test*.py')
                     if re.fullmatch(library.modules, path.stem))
    return [Part(part_name(name, module),
                 functools.partial(run_child, name=name, module=module, folder=folder),
                 functools.partial(why_different, library=name), suite=name)
            for module in modules]


class Sources:
    """Debian's source packages, got with an apt of our own: that of the system has none as a
    rule."""

    TARGETS = '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)'

    def __init__(self):
        self.options = None

    def run(self, *arguments):
        subprocess.run(['apt-get', *self.options, *arguments], cwd=FOLDER, check=True,
                       stdout=subprocess.DEVNULL)

    def update(self):
        """Ask where the binary packages of Debian come from."""
        lists = FOLDER / 'apt' / 'lists'
        (lists / 'partial').mkdir(parents=True, exist_ok=True)
        targets = subprocess.run(
            ['apt-get', 'indextargets', '--format', self.TARGETS, 'Created-By: Packages'],
            stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        lines = dict.fromkeys(f'deb-src {target.removesuffix(" Debian")}\n' for target in targets
                              if target.endswith(' Debian'))
        sources = FOLDER / 'apt' / 'sources.list'
        sources.write_text(''.join(lines), encoding='utf-8')
        self.options = ['-q', '-o', f'Dir::Etc::sourcelist={sources}',
                        '-o', 'Dir::Etc::sourceparts=/dev/null',
                        '-o', f'Dir::State::lists={lists}', '-o', 'APT::Sandbox::User=root']
        self.run('update')

    def get(self, source):
        """The folder with what is in the package, which is fetched if need be."""
        folder = FOLDER / source
        if not folder.exists():
            if self.options is None:
                self.update()
            self.run('source', '--download-only', source)
            description = max(FOLDER.glob(f'{source}_*.dsc'), key=lambda path: path.stat().st_mtime)
            shutil.rmtree(FOLDER / 'new', ignore_errors=True)
            subprocess.run(['dpkg-source', '--no-check', '-x', description.name, 'new'], cwd=FOLDER,
                           check=True, stdout=subprocess.DEVNULL)
            os.rename(FOLDER / 'new', folder)
        return folder


def find_folder(library, sources):
    """Raises a RuntimeError with what is missing."""
    for package in 'pytest', library.package:
        if subprocess.run([sys.executable, '-c', f'import {package}'], check=False, cwd='/',
                          stderr=subprocess.DEVNULL).returncode != 0:
            raise RuntimeError(f'there is no {package}')
    try:
        folder = sources.get(library.source)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError('its source cannot be had') from error
    if not library.tests.startswith(library.package):
        # It would come before what is installed.
        for place in folder, folder / 'src':
            shutil.rmtree(place / library.package, ignore_errors=True)
    return folder


def get_parts(name, sources):
    try:
        parts = make_parts(name, find_folder(LIBRARIES[name], sources))
        if not parts:
            raise RuntimeError('its source has no such tests')
    except RuntimeError as reason:
        print(f'{name} is skipped: {reason}', flush=True)
        return []
    return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('libraries', nargs='*', metavar='LIBRARY',
                        help=f'such as {", ".join(LIBRARIES)}')
    parser.add_argument('--module', help='such as tests/test_sockets.py')
    parser.add_argument('--loop', choices=USE, help=argparse.SUPPRESS)
    parser.add_argument('--results', help=argparse.SUPPRESS, type=pathlib.Path)
    arguments = parser.parse_args()
    for name in arguments.libraries:
        if name not in LIBRARIES:
            parser.error(f'no such library: {name}')
    if arguments.results:
        status = run_module(arguments.loop, LIBRARIES[arguments.libraries[0]], arguments.module,
                            arguments.results)
        sys.stdout.flush()
        # A test may have left a thread that never ends.
        os._exit(status)
    sources = Sources()
    parts = [part for name in arguments.libraries or LIBRARIES
             for part in get_parts(name, sources)]
    if arguments.module:
        parts = [part for part in parts if part.run.keywords['module'] == arguments.module]
    if not parts:
        sys.exit('there is nothing to run')
    return compare(parts)


if __name__ == '__main__':
    sys.exit(main())
