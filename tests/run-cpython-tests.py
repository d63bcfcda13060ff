#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""CPython's own tests of asyncio and selectors, with gaio in the place of epoll.

Each module runs in two processes: one as it is, and one where selectors.DefaultSelector and
EpollSelector are gaio.Selector, and the loops that the tests make with epoll are gaio.EventLoop.
Every single test has to come out the same in both. A module where one does not is run again, alone,
for some of the tests count on a machine with nothing else to do."""

import argparse
import collections
import concurrent.futures
import contextlib
import faulthandler
import importlib
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import unittest

LOOPS = ('stock', 'gaio')
TEST_SECONDS = 120
MODULE_SECONDS = 900
TRIES = 3
# They put a mock into an attribute that only the EpollSelector of the standard library has.
LEFT_OUT = {'test_selectors.DefaultSelectorTestCase.test_modify_unregister',
            'test_selectors.EpollSelectorTestCase.test_modify_unregister'}
# Those that are made of nothing but a selector or a loop of ours.
QUICK = {'test_selectors': ('DefaultSelectorTestCase', 'EpollSelectorTestCase'),
         'test_asyncio.test_events': ('EPollEventLoopTests',),
         'test_asyncio.test_sock_lowlevel': ('EPollEventLoopTests',),
         'test_asyncio.test_sendfile': ('EPollEventLoopTests',)}


def write_outcome(file, name, outcome, reason):
    print(name, outcome, ' '.join(reason.split()), sep='\t', file=file, flush=True)


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


def use_gaio():
    import gaio

    selectors.DefaultSelector = selectors.EpollSelector = gaio.Selector
    return gaio.EventLoop


def run_module(loop, name, quick, file):
    """Run the tests of a module in this process."""
    event_loop = use_gaio() if loop == 'gaio' else None
    from test import support

    # There may be no network beyond this machine.
    support.use_resources = ['cpu', 'subprocess', 'walltime']
    try:
        module = importlib.import_module('test.' + name)
    except unittest.SkipTest as reason:
        write_outcome(file, name, 'skipped', str(reason))
        return
    classes = QUICK[name] if quick else ()
    if event_loop and hasattr(module, 'EPollEventLoopTests'):
        module.EPollEventLoopTests.create_event_loop = lambda self: event_loop()
    tests = flatten(unittest.defaultTestLoader.loadTestsFromModule(module))
    # A suite, and not one by one: it does what a module and a class set up.
    suite = unittest.TestSuite(
        test for test in tests if test.id().removeprefix('test.') not in LEFT_OUT
        and (not classes or type(test).__name__ in classes))
    suite.run(Recorder(file))


def end_of_process(name):
    """What stands for a test when a process does not end well."""
    return f'{name}: end of the process'


def run_child(loop, name, quick):
    """Run them in a process of its own. What each test came to, and all that was printed."""
    with tempfile.TemporaryDirectory() as folder:
        results, log = pathlib.Path(folder, 'results'), pathlib.Path(folder, 'log')
        command = [sys.executable, '-X', 'faulthandler', os.path.abspath(__file__), '--results',
                   results, '--loop', loop, name] + ['--quick'] * quick
        with open(log, 'wb') as output, subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True) as child:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(MODULE_SECONDS)
            # The tests may have left others behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        outcomes = {}
        if results.exists():
            for line in results.read_text(encoding='utf-8').splitlines():
                test, outcome, reason = line.split('\t')
                outcomes[test] = outcome, reason
        if child.returncode != 0:
            # Not the same, also if it happens with both.
            outcomes[end_of_process(name)] = f'failed with {loop}', f'status {child.returncode}'
        return outcomes, log.read_text(encoding='utf-8', errors='replace')


class Comparison:
    """What a module came to, with each of the loops."""

    def __init__(self, name, quick):
        self.name = name
        self.started = time.monotonic()
        (self.stock, _), (self.gaio, self.log) = (run_child(loop, name, quick) for loop in LOOPS)
        self.seconds = time.monotonic() - self.started

    def pairs(self):
        """(test, with stock, with gaio) for every test of the two."""
        missing = 'missing', ''
        for test in {**self.stock, **self.gaio}:
            yield test, self.stock.get(test, missing), self.gaio.get(test, missing)

    def differences(self):
        return [pair for pair in self.pairs() if pair[1][0] != pair[2][0]]

    def forgive(self, again):
        """A test that comes out the same when it is run again is the same."""
        outcomes = {test: (stock, gaio) for test, stock, gaio in again.pairs()}
        for test, _, _ in self.differences():
            if test in outcomes:
                stock, gaio = outcomes[test]
                if stock[0] == gaio[0]:
                    self.stock[test], self.gaio[test] = stock, gaio
            elif test == end_of_process(self.name):
                self.stock.pop(test, None)
                self.gaio.pop(test, None)
        self.log = again.log


def counts(outcomes):
    """How many were run, passed, failed and were skipped."""
    number = collections.Counter(outcome for outcome, _ in outcomes.values())
    passed, skipped, expected = number['passed'], number['skipped'], number['failed as expected']
    run = number.total()
    return run, passed, run - passed - skipped - expected, skipped


class Report:
    """The table, with a line as soon as there is one, and for meson each test in TAP."""

    def __init__(self, tap, n_modules):
        self.tap = tap
        self.n_modules = n_modules
        self.done = []
        self.n_cases = 0
        heading = ' '.join(f'{title:>7}' for title in ('run', 'passed', 'failed', 'skipped'))
        self.say(f'{"":41} {"with stock asyncio":>31}   {"with gaio":>31}')
        self.say(f'{"":41} {heading}   {heading} {"s":>5}')

    def say(self, text):
        print('# ' * self.tap + text, flush=True)

    def line(self, name, stock, gaio, rest):
        columns = '   '.join(' '.join(f'{n:7}' for n in each) for each in (stock, gaio))
        self.say(f'{len(self.done):3}/{self.n_modules:<3} {name:33} {columns} {rest}')

    def again(self, comparison):
        for test, stock, gaio in comparison.differences():
            self.say(f'again: {test}: stock {stock[0]}, gaio {gaio[0]} {gaio[1]}')

    def add(self, comparison):
        self.done.append(comparison)
        differences = comparison.differences()
        self.line(comparison.name, counts(comparison.stock), counts(comparison.gaio),
                  f'{comparison.seconds:5.0f}' + '  NOT THE SAME' * bool(differences))
        if differences:
            print(comparison.log, file=sys.stderr, flush=True)
        for pair in differences:
            self.say('{}: stock {}, gaio {}'.format(pair[0], *(' '.join(one) for one in pair[1:])))
        if self.tap:
            for pair in comparison.pairs():
                self.case(*pair)

    def case(self, test, stock, gaio):
        self.n_cases += 1
        name = test.replace('#', '')
        if stock[0] != gaio[0]:
            print(f'not ok {self.n_cases} - {name}')
        elif gaio[0] == 'passed':
            print(f'ok {self.n_cases} - {name}')
        else:
            print(f'ok {self.n_cases} - {name} # SKIP {gaio[0]} with both loops')

    def end(self, seconds):
        total = [[sum(column) for column in zip(*(counts(outcomes) for outcomes in loop))]
                 for loop in ([one.stock for one in self.done], [one.gaio for one in self.done])]
        self.line('all', *total, f'{seconds:5.0f}')
        different = [one.name for one in self.done if one.differences()]
        self.say(f'NOT THE SAME with stock asyncio and with gaio: {", ".join(different)}'
                 if different else 'the same with stock asyncio and with gaio')
        if self.tap:
            print(f'1..{self.n_cases}', flush=True)
        return 1 if different else 0


def all_modules():
    import test.test_asyncio

    folder = pathlib.Path(test.test_asyncio.__path__[0])
    return ['test_selectors'] + sorted('test_asyncio.' + file.stem
                                       for file in folder.glob('test_*.py'))


def compare(names, quick, tap):
    report = Report(tap, len(names))
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(Comparison, name, quick) for name in names]
        comparisons = []
        for future in concurrent.futures.as_completed(running):
            comparison = future.result()
            if comparison.differences():
                comparisons.append(comparison)
                report.again(comparison)
            else:
                report.add(comparison)
    for comparison in comparisons:
        for _ in range(TRIES - 1):
            comparison.forgive(Comparison(comparison.name, quick))
            if not comparison.differences():
                break
            report.again(comparison)
        report.add(comparison)
    return report.end(time.monotonic() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('modules', nargs='*', metavar='MODULE',
                        help='such as test_asyncio.test_events')
    parser.add_argument('--quick', action='store_true', help='only what runs on a selector or loop')
    parser.add_argument('--tap', action='store_true', help='print a line of TAP for each test')
    parser.add_argument('--loop', choices=LOOPS, help=argparse.SUPPRESS)
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
    return compare(names, arguments.quick, arguments.tap)


if __name__ == '__main__':
    sys.exit(main())
