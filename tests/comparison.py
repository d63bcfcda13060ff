# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tests of others with the loop of asyncio and with those of gaio, and compares the
outcomes test by test: what passes with asyncio's has to pass with ours.

Each part of a suite runs in three processes: one with asyncio as it is; "gaio", with
gaio.EventLoop; and "installed", with the loop of gaio.install() inside a GLib.MainLoop. Where a
test does not come out the same, that part is run again, alone, for some of the tests count on a
machine with nothing else to do."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import time

STOCK = 'stock'
OURS = 'gaio', 'installed'
TEST_SECONDS = 120
MODULE_SECONDS = 900
TRIES = 3
MISSING = 'missing', ''


def use_gaio():
    import gaio

    selectors.DefaultSelector = selectors.EpollSelector = gaio.Selector
    return gaio.EventLoop


def use_installed():
    from hosted import InMainLoop

    make_default(InMainLoop)
    return InMainLoop


def make_default(event_loop):
    """For asyncio.run() and new_event_loop()."""
    from asyncio import unix_events

    # Its name is private from Python 3.14 on.
    policy = getattr(unix_events, 'DefaultEventLoopPolicy', None) or \
        unix_events._DefaultEventLoopPolicy
    policy._loop_factory = event_loop


# What they return is the class of the loop, or None.
USE = {STOCK: lambda: None, 'gaio': use_gaio, 'installed': use_installed}


def write_outcome(file, name, outcome, reason=''):
    """At once: the process may not come to its end."""
    print(name, outcome, ' '.join(reason.split()), sep='\t', file=file, flush=True)


def read_outcomes(results):
    """What was written last of each test."""
    outcomes = {}
    if results.exists():
        for line in results.read_text(encoding='utf-8').splitlines():
            test, outcome, reason = line.split('\t')
            outcomes[test] = outcome, reason
    return outcomes


def end_of_process(name):
    """What stands for a test when a process does not end well."""
    return f'{name}: end of the process'


def run_process(command, folder, log, seconds, env=None):
    """Run the command in a process group of its own. Returns its status, or None if it took too
    long."""
    with open(log, 'ab') as output, subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, env=env) as child:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(seconds, 0))
        status = child.poll()
        # The tests may have left others behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return status


def run_here(loop, name, options):
    """Have this program run them in a process of its own. What each test came to, and all that was
    printed."""
    with tempfile.TemporaryDirectory() as folder:
        results, log = pathlib.Path(folder, 'results'), pathlib.Path(folder, 'log')
        command = [sys.executable, '-X', 'faulthandler', os.path.abspath(sys.argv[0]), '--results',
                   results, '--loop', loop, name, *options]
        status = run_process(command, folder, log, MODULE_SECONDS)
        outcomes = read_outcomes(results)
        if status != 0:
            # Not the same, also if it happens with both.
            outcomes[end_of_process(name)] = f'failed with {loop}', f'status {status}'
        return outcomes, log.read_text(encoding='utf-8', errors='replace')


class Part:
    """A part of a suite. @run takes a loop, and returns the outcomes of the tests with it and a
    log; @why_different takes a test and a loop, and returns why the outcome cannot be the same, or
    None."""

    def __init__(self, name, run, why_different, loops=(STOCK, *OURS), suite=None):
        self.name, self.suite = name, suite
        self.run, self.why_different, self.loops = run, why_different, loops


class Comparison:
    """What a part came to, with each of the loops."""

    def __init__(self, part):
        self.part = part
        self.outcomes, self.logs = {}, {}
        started = time.monotonic()
        for loop in part.loops:
            self.outcomes[loop], self.logs[loop] = part.run(loop)
        self.seconds = time.monotonic() - started

    def pairs(self):
        """(test, loop, with stock, with that loop) for every test of the loops of ours."""
        stock = self.outcomes[STOCK]
        for loop in OURS:
            ours = self.outcomes.get(loop)
            for test in {**stock, **ours} if ours is not None else ():
                yield test, loop, stock.get(test, MISSING), ours.get(test, MISSING)

    def is_wrong(self, test, loop, stock, ours):
        """What does not pass with ours has to be the same with asyncio's, but for what cannot."""
        if self.part.why_different(test, loop):
            return ours[0] == 'passed'
        return ours[0] not in (stock[0], 'passed')

    def differences(self):
        return [pair for pair in self.pairs() if self.is_wrong(*pair)]

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
            elif test == end_of_process(self.part.name):
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


def add_up(comparisons):
    return [[sum(column) for column in zip(*of_loop)]
            for of_loop in zip(*(numbers(one) for one in comparisons))]


class Report:
    """The table, with a line as soon as there is one, and for meson each test in TAP."""

    def __init__(self, n_parts, tap=False):
        self.tap = tap
        self.n_parts = n_parts
        self.done = []
        self.n_cases = 0
        heading = ' '.join(f'{title:>7}' for title in ('run', 'passed', 'failed', 'skipped'))
        self.say(f'{"":41} ' + '   '.join(f'{"with " + loop:>31}' for loop in (STOCK, *OURS)))
        self.say(f'{"":41} ' + '   '.join([heading] * (1 + len(OURS))) + f' {"s":>5}')

    def say(self, text):
        print('# ' * self.tap + text, flush=True)

    def line(self, name, numbers, rest):
        columns = '   '.join(' '.join(f'{n:7}' for n in each) for each in numbers)
        self.say(f'{len(self.done):3}/{self.n_parts:<3} {name:33} {columns} {rest}')

    def again(self, comparison):
        for test, loop, stock, ours in comparison.differences():
            self.say(f'again: {test}: stock {stock[0]}, {loop} {ours[0]} {ours[1]}')

    def add(self, comparison):
        self.done.append(comparison)
        differences = comparison.differences()
        self.line(comparison.part.name, numbers(comparison),
                  f'{comparison.seconds:5.0f}' + '  NOT THE SAME' * bool(differences))
        for loop in dict.fromkeys(loop for _, loop, _, _ in differences):
            print(comparison.logs[loop], file=sys.stderr, flush=True)
        for test, loop, stock, ours in differences:
            self.say(f'{test}: stock {" ".join(stock)}, {loop} {" ".join(ours)}')
            if reason := comparison.part.why_different(test, loop):
                self.say(f'which was not to be the same: {reason}')
        if self.tap:
            for pair in comparison.pairs():
                self.case(pair, pair in differences, comparison.part)

    def case(self, pair, is_wrong, part):
        test, loop, stock, ours = pair
        self.n_cases += 1
        name = f'{loop}: {test}'.replace('#', '')
        if is_wrong:
            print(f'not ok {self.n_cases} - {name}')
        elif ours[0] == 'passed':
            print(f'ok {self.n_cases} - {name}')
        else:
            reason = part.why_different(test, loop) or f'{ours[0]} with both loops'
            print(f'ok {self.n_cases} - {name} # SKIP {reason}')

    def end(self, seconds):
        for suite in dict.fromkeys(one.part.suite for one in self.done if one.part.suite):
            of_suite = [one for one in self.done if one.part.suite == suite]
            self.line(f'all of {suite}', add_up(of_suite),
                      f'{sum(one.seconds for one in of_suite):5.0f}')
        self.line('all', add_up(self.done), f'{seconds:5.0f}')
        different = [one.part.name for one in self.done if one.differences()]
        n_known = sum(bool(one.part.why_different(test, loop))
                      for one in self.done for test, loop, _, _ in one.pairs())
        self.say(f'NOT THE SAME with stock asyncio and with gaio: {", ".join(different)}'
                 if different else 'the same with stock asyncio and with gaio, but for '
                 f'{n_known} tests that cannot be')
        if self.tap:
            print(f'1..{self.n_cases}', flush=True)
        return 1 if different else 0


def compare(parts, n_at_once=1, tap=False):
    """Returns the exit status."""
    report = Report(len(parts), tap)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(n_at_once) as pool:
        running = [pool.submit(Comparison, part) for part in parts]
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
            comparison.forgive(Comparison(comparison.part))
            if not comparison.differences():
                break
            report.again(comparison)
        report.add(comparison)
    return report.end(time.monotonic() - started)
