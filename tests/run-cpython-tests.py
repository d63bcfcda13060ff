#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""CPython's own tests of asyncio and selectors, with gaio in the place of epoll.

See comparison.py for the loops. In "gaio", selectors.DefaultSelector and EpollSelector are
gaio.Selector, and the loops that the tests make with epoll are gaio.EventLoop; in "installed",
those, and all that asyncio.run() and new_event_loop() make, are that of gaio.install()."""

import argparse
import asyncio
import faulthandler
import functools
import importlib
import os
import pathlib
import signal
import sys
import unittest

from comparison import OURS, STOCK, TEST_SECONDS, USE, Part, compare, run_here, write_outcome

# What cannot come out the same, and why.
MOCKED_SELECTOR = 'puts a mock into an attribute that only the EpollSelector of Python has'
DIFFERENT = {
    'test_selectors.DefaultSelectorTestCase.test_modify_unregister': MOCKED_SELECTOR,
    'test_selectors.EpollSelectorTestCase.test_modify_unregister': MOCKED_SELECTOR,
}
# A loop is none of their business.
NO_LOOP = {'test_selectors'}
# Where the tests of a class make the loop that they run.
MAKERS = {'EPollEventLoopTests': 'create_event_loop', 'SelectorStartServerTests': 'new_loop',
          'SelectorStartTLSTests': 'new_loop'}
# All loops that these make are SelectorEventLoops.
SELECTOR_LOOPS = {'test_asyncio.test_unix_events'}
# Those that are made of nothing but a selector or a loop of ours.
QUICK = {'test_selectors': ('DefaultSelectorTestCase', 'EpollSelectorTestCase'),
         'test_asyncio.test_events': ('EPollEventLoopTests',),
         'test_asyncio.test_sock_lowlevel': ('EPollEventLoopTests',),
         'test_asyncio.test_sendfile': ('EPollEventLoopTests',)}


class Recorder(unittest.TestResult):
    """Writes what becomes of each test, at once: the process may not come to its end."""

    def __init__(self, file):
        super().__init__()
        self.file = file
        self.failed = False

    def write(self, test, outcome, reason=''):
        write_outcome(self.file, test.id().removeprefix('test.'), outcome, reason)

    def startTest(self, test):
        super().startTest(test)
        self.failed = False
        self.write(test, 'crashed')
        faulthandler.dump_traceback_later(TEST_SECONDS, exit=True)

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()

    def addSuccess(self, test):
        if not self.failed:
            self.write(test, 'passed')

    def addError(self, test, err):
        self.failed = True
        super().addError(test, err)
        print(self.errors[-1][1], file=sys.stderr, flush=True)
        self.write(test, 'failed', repr(err[1]))

    def addFailure(self, test, err):
        self.addError(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test, reason):
        if not self.failed:
            self.write(test, 'skipped', reason)

    def addExpectedFailure(self, test, err):
        self.write(test, 'failed as expected')

    def addUnexpectedSuccess(self, test):
        self.write(test, 'passed unexpectedly')


def flatten(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def run_module(loop, name, quick, file):
    """Run the tests of a module in this process."""
    event_loop = USE[loop]()
    from test import support

    # A shell has what it starts in the background ignore it, and some tests would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    # There may be no network beyond this machine.
    support.use_resources = ['cpu', 'subprocess', 'walltime']
    try:
        module = importlib.import_module('test.' + name)
    except unittest.SkipTest as reason:
        write_outcome(file, name, 'skipped', str(reason))
        return
    classes = QUICK[name] if quick else ()
    for class_, method in MAKERS.items():
        if event_loop and hasattr(module, class_):
            setattr(getattr(module, class_), method, lambda self: event_loop())
    if event_loop and name in SELECTOR_LOOPS:
        asyncio.SelectorEventLoop = event_loop
    tests = flatten(unittest.defaultTestLoader.loadTestsFromModule(module))
    # A suite, and not one by one: it does what a module and a class set up.
    suite = unittest.TestSuite(test for test in tests
                               if not classes or type(test).__name__ in classes)
    suite.run(Recorder(file))


def all_modules():
    import test.test_asyncio

    folder = pathlib.Path(test.test_asyncio.__path__[0])
    return ['test_selectors'] + sorted('test_asyncio.' + file.stem
                                       for file in folder.glob('test_*.py'))


def make_part(name, quick):
    return Part(name, functools.partial(run_here, name=name, options=['--quick'] * quick),
                lambda test, loop: DIFFERENT.get(test),
                (STOCK, OURS[0]) if name in NO_LOOP else (STOCK, *OURS))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('modules', nargs='*', metavar='MODULE',
                        help='such as test_asyncio.test_events')
    parser.add_argument('--quick', action='store_true', help='only what runs on a selector or loop')
    parser.add_argument('--tap', action='store_true', help='print a line of TAP for each test')
    parser.add_argument('--loop', choices=USE, help=argparse.SUPPRESS)
    parser.add_argument('--results', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.results:
        with open(arguments.results, 'w', encoding='utf-8') as file:
            run_module(arguments.loop, arguments.modules[0], arguments.quick, file)
        return 0
    try:
        names = arguments.modules or (list(QUICK) if arguments.quick else all_modules())
    except ImportError:
        print('1..0 # SKIP the tests of CPython are not installed')
        return 0
    parts = [make_part(name, arguments.quick) for name in names]
    return compare(parts, os.cpu_count(), arguments.tap)


if __name__ == '__main__':
    sys.exit(main())
