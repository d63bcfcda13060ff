# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of bounds count: the system calls and the instructions of a driver, which is a
program that is told what to do, and how often."""

import collections
import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

# For Python, strace, valgrind, and what a context needs itself.
SPARE_FDS = 100
# % time, seconds, usecs/call, calls, errors if any, name
STRACE_ROW = r"^ *[\d.]+ +\S+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$"


class Skip(Exception):
    pass


def raise_fd_limit(most):
    """Gives all the programs run from here the hard limit. Returns how many fds one may have, at
    most as many as that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return most if hard == resource.RLIM_INFINITY else min(most, hard - SPARE_FDS)


def run(*command, **environment):
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.returncode}\n{done.stderr}".rstrip())
    return done.stdout


def need(*command):
    """Skips where the tool is missing, may not trace, or cannot read what the compiler wrote:
    valgrind 3.19 gives up on clang's debug information."""
    if shutil.which(command[0]) is None:
        raise Skip(f"{command[0]} is not installed")
    try:
        run(*command)
    except RuntimeError:
        raise Skip(f"{command[0]} cannot run the driver here") from None


def traced(*command):
    """The number that a driver prints, and its calls by the name of the system call."""
    with tempfile.TemporaryDirectory() as directory:
        table = os.path.join(directory, "table")
        printed = run("strace", "-f", "-c", "-o", table, *command)
        calls = collections.Counter()
        with open(table) as file:
            for row in re.finditer(STRACE_ROW, file.read(), re.M):
                calls[row[2]] += int(row[1])
    total = calls.pop("total")
    assert total == calls.total(), "the table of strace is not understood"
    return int(printed), calls


def instructions(*command):
    """In user space, of all that a driver does."""
    with tempfile.TemporaryDirectory() as directory:
        profile = os.path.join(directory, "profile")
        # `meson test` has malloc() fill what it gives, which takes instructions too.
        run("valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={profile}", *command,
            MALLOC_PERTURB_="0")
        with open(profile) as file:
            return int(re.search(r"^totals: (\d+)", file.read(), re.M)[1])


def compare(what, small, at_small, large, at_large, limit):
    ratio = at_large / at_small
    return ratio <= limit, (
        f"{what}: {at_small:.0f} instructions at {small}, {at_large:.0f} at {large}, "
        f"ratio {ratio:.3f} of at most {limit:.3f}"
    )


def outcome(test):
    """The lines of one test, without their numbers."""
    try:
        return [("ok" if good else "not ok", text) for good, text in test()]
    except Skip as reason:
        return [("ok", f"# SKIP {reason}")]
    except Exception as error:
        return [("not ok", str(error).replace("\n", "\n# "))]


def main(tests):
    """Runs them, and says in TAP which bounds hold."""
    number = 0
    failed = False
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for lines in pool.map(outcome, tests):
            for status, text in lines:
                number += 1
                failed |= status != "ok"
                print(f"{status} {number} {text}", flush=True)
    print(f"1..{number}")
    sys.exit(failed)
