#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""CPython's own tests of asyncio and selectors, with gaio in the place of epoll.

Each module runs in three processes: one as it is; "gaio", where selectors.DefaultSelector and
EpollSelector are gaio.Selector, and the loops that the tests make with epoll are gaio.EventLoop;
and "installed", where those, and all that asyncio.run() and new_event_loop() make, are the loop of
gaio.install() inside a GLib.MainLoop.
Every single test has to come out the same as in the first. A module where one does not is run
again, alone, for some of the tests count on a machine with nothing else to do."""

import argparse
import asyncio
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

STOCK = 'stock'
OURS = 'gaio', 'installed'
TEST_SECONDS = 120
MODULE_SECONDS = 900
TRIES = 3
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


def use_installed():
    from asyncio import unix_events
    from hosted import InMainLoop

    # For asyncio.run() and new_event_loop(). Its name is private from Python 3.14 on.
    policy = getattr(unix_events, 'DefaultEventLoopPolicy', None) or \
        unix_events._DefaultEventLoopPolicy
    policy._loop_factory = InMainLoop
    return InMainLoop


USE = {STOCK: lambda: None, 'gaio': use_gaio, 'installed': use_installed}


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
        self.outcomes, self.logs = {}, {}
        started = time.monotonic()
        for loop in (STOCK, *OURS):
            if loop != 'installed' or name not in NO_LOOP:
                self.outcomes[loop], self.logs[loop] = run_child(loop, name, quick)
        self.seconds = time.monotonic() - started

    def pairs(self):
        """(test, loop, with stock, with that loop) for every test of the loops of ours."""
        missing = 'missing', ''
        stock = self.outcomes[STOCK]
        for loop in OURS:
            ours = self.outcomes.get(loop)
            for test in {**stock, **ours} if ours is not None else ():
                yield test, loop, stock.get(test, missing), ours.get(test, missing)

    def differences(self):
        return [(test, loop, stock, ours) for test, loop, stock, ours in self.pairs()
                if (stock[0] != ours[0]) != (test in DIFFERENT)]

    def forgive(self, again):
        """A test that comes out the same when it is run again is the same."""
        outcomes = {pair[:2]: pair for pair in again.pairs()}
        wrong = {pair[:2] for pair in again.differences()}
        for test, loop, _, _ in self.differences():
            if (test, loop) in wrong:
                continue
            _, _, stock, ours = outcomes.get((test, loop), (None, None, None, None))
            if stock is not None:
                self.outcomes[STOCK][test], self.outcomes[loop][test] = stock, ours
            elif test == end_of_process(self.name):
                self.outcomes[STOCK].pop(test, None)
                self.outcomes[loop].pop(test, None)
        self.logs = again.logs


def counts(outcomes):
    """How many were run, passed, failed and were skipped."""
    number = collections.Counter(outcome for outcome, _ in outcomes.values())
    passed, skipped, expected = number['passed'], number['skipped'], number['failed as expected']
    run = number.total()
    return run, passed, run - passed - skipped - expected, skipped


def numbers(comparison):
    return [counts(comparison.outcomes.get(loop, {})) for loop in (STOCK, *OURS)]


class Report:
    """The table, with a line as soon as there is one, and for meson each test in TAP."""

    def __init__(self, tap, n_modules):
        self.tap = tap
        self.n_modules = n_modules
        self.done = []
        self.n_cases = 0
        heading = ' '.join(f'{title:>7}' for title in ('run', 'passed', 'failed', 'skipped'))
        self.say(f'{"":41} ' + '   '.join(f'{"with " + loop:>31}' for loop in (STOCK, *OURS)))
        self.say(f'{"":41} ' + '   '.join([heading] * (1 + len(OURS))) + f' {"s":>5}')

    def say(self, text):
        print('# ' * self.tap + text, flush=True)

    def line(self, name, numbers, rest):
        columns = '   '.join(' '.join(f'{n:7}' for n in each) for each in numbers)
        self.say(f'{len(self.done):3}/{self.n_modules:<3} {name:33} {columns} {rest}')

    def again(self, comparison):
        for test, loop, stock, ours in comparison.differences():
            self.say(f'again: {test}: stock {stock[0]}, {loop} {ours[0]} {ours[1]}')

    def add(self, comparison):
        self.done.append(comparison)
        differences = comparison.differences()
        self.line(comparison.name, numbers(comparison),
                  f'{comparison.seconds:5.0f}' + '  NOT THE SAME' * bool(differences))
        for loop in dict.fromkeys(loop for _, loop, _, _ in differences):
            print(comparison.logs[loop], file=sys.stderr, flush=True)
        for test, loop, stock, ours in differences:
            self.say(f'{test}: stock {" ".join(stock)}, {loop} {" ".join(ours)}')
            if test in DIFFERENT:
                self.say(f'which was not to be the same: {DIFFERENT[test]}')
        if self.tap:
            for pair in comparison.pairs():
                self.case(pair, pair in differences)

    def case(self, pair, is_wrong):
        test, loop, stock, ours = pair
        self.n_cases += 1
        name = f'{loop}: {test}'.replace('#', '')
        if is_wrong:
            print(f'not ok {self.n_cases} - {name}')
        elif ours[0] == 'passed':
            print(f'ok {self.n_cases} - {name}')
        else:
            reason = DIFFERENT.get(test, f'{ours[0]} with both loops')
            print(f'ok {self.n_cases} - {name} # SKIP {reason}')

    def end(self, seconds):
        total = [[sum(column) for column in zip(*of_loop)]
                 for of_loop in zip(*(numbers(one) for one in self.done))]
        self.line('all', total, f'{seconds:5.0f}')
        different = [one.name for one in self.done if one.differences()]
        n_known = sum(test in DIFFERENT
                      for one in self.done for test, loop, _, _ in one.pairs())
        self.say(f'NOT THE SAME with stock asyncio and with gaio: {", ".join(different)}'
                 if different else 'the same with stock asyncio and with gaio, but for '
                 f'{n_known} tests that cannot be')
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
    return compare(names, arguments.quick, arguments.tap)


if __name__ == '__main__':
    sys.exit(main())
