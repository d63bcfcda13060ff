# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests in Python have in common."""

import contextlib
import faulthandler
import resource
import signal
import sys
import threading
import time
import traceback

DEADLINE = 120
# For Python, and for what a loop needs itself.
SPARE_FDS = 100
MAIN_STAT = f'/proc/self/task/{threading.main_thread().native_id}/stat'


class Skip(Exception):
    """Raised by a test that cannot be run here."""


def wait_until_main_sleeps():
    """Best effort, so that the signal finds the loop waiting. It has to end it at any time."""
    looks = 0
    while looks < 20:
        time.sleep(0.001)
        with open(MAIN_STAT, encoding='ascii') as stat:
            asleep = stat.read().rpartition(')')[2].split()[0] == 'S'
        looks = looks + 1 if asleep else 0


@contextlib.contextmanager
def need_fds(n):
    """The limit does not keep the block from having n fds more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = n + SPARE_FDS
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise Skip(f'needs {needed} fds, the limit is {hard}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def caught_by_hook():
    """The exceptions that end in C."""
    caught = []
    hook, sys.excepthook = sys.excepthook, lambda *exception: caught.append(exception[0])
    try:
        yield caught
    finally:
        sys.excepthook = hook


def run(namespace):
    """Run every test_ function, in TAP. One that hangs ends the program, and says where."""
    tests = [(name, test) for name, test in namespace.items() if name.startswith('test_')]
    # A shell has what it starts in the background ignore it, and so would what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f'1..{len(tests)}', flush=True)
    for number, (name, test) in enumerate(tests, 1):
        faulthandler.dump_traceback_later(DEADLINE, exit=True)
        try:
            test()
        except Skip as reason:
            print(f'ok {number} - {name} # SKIP {reason}', flush=True)
        except (Exception, KeyboardInterrupt):
            traceback.print_exc(file=sys.stderr)
            print(f'not ok {number} - {name}', flush=True)
        else:
            print(f'ok {number} - {name}', flush=True)
        faulthandler.cancel_dump_traceback_later()
