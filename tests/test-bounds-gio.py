#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bounds of connections of GIO whose main contexts are served, as far as they can be counted:
beside the same connections in one main context. The argument is the path of gio-driver."""

import os
import re
import subprocess
import sys
import tempfile
import time

import counting

(DRIVER,) = sys.argv[1:]
FEW = 10
MANY = 1000
IDLE = 9000
SILENCE = 2
GUARD = 60
# Connections made and dropped, and how many are there at a time.
STORM = int(os.environ.get("GAIO_STORM", 10000))
STORM_AT_ONCE = 100
# What the client does in the same process: write() and read().
CLIENT_CALLS = 2


def drive(mode, where, n, rounds):
    # GLib < 2.76 has slices, of which malloc knows nothing.
    return int(counting.run(DRIVER, mode, where, n, rounds, G_SLICE="always-malloc"))


def need(*command):
    counting.need(*command, DRIVER, "echo", "plain", 1, 1)


def calls_per_message(mode, where, n):
    few, many = 100, 600
    few_calls, many_calls = (counting.traced(DRIVER, mode, where, n, rounds)[1].total()
                             for rounds in (few, many))
    return (many_calls - few_calls) / (many - few) - CLIENT_CALLS


def instructions_per_message(mode, where, n):
    few, many = 200, 1200
    few_instructions, many_instructions = (counting.instructions(DRIVER, mode, where, n, rounds)
                                           for rounds in (few, many))
    return (many_instructions - few_instructions) / (many - few)


def calls_test(mode, where, limit):
    def test():
        need("strace", "-c", "-o", os.devnull)
        few, many = (calls_per_message(mode, where, n) for n in (FEW, MANY))
        yield many <= limit + 0.1, f"{many:.2f} system calls for an {mode}, {where}, of {limit}"
        yield abs(few - many) <= 0.1, f"as many with {FEW} as with {MANY} connections: {few:.2f}"

    return test


def instructions_test(mode, limit=None):
    def test():
        need("valgrind", "--tool=none")
        plain = instructions_per_message(mode, "plain", FEW)
        few, many = (instructions_per_message(mode, "served", n) for n in (FEW, MANY))
        yield few <= 1.05 * plain, (
            f"{mode}: {few:.0f} instructions, in one main context {plain:.0f}, "
            f"ratio {few / plain:.3f} of at most 1.05"
        )
        if limit is not None:
            yield few <= limit, f"{mode}: {few:.0f} instructions of at most {limit:.0f}"
        yield counting.compare(mode, FEW, few, MANY, many, 1.02)

    return test


def glib_is(version):
    asked = subprocess.run(["pkg-config", "--modversion", "glib-2.0"],
                           capture_output=True, text=True, check=False)
    return asked.stdout.startswith(version + ".")


def test_memory():
    n, first = counting.raise_fd_limit(8000) // 4, 100
    plain, served = (drive("memory", where, n, first) for where in ("plain", "served"))
    yield served - plain <= 1536, (
        f"{served - plain} bytes of at most 1536 for each of {n} connections, "
        f"beside {plain} of GIO's own"
    )


def count_calls(pid, seconds):
    """The system calls of a process meanwhile, without the one in which it sleeps."""
    with tempfile.NamedTemporaryFile("r") as log:
        strace = subprocess.Popen(["strace", "-f", "-o", log.name, "-p", str(pid)],
                                  stderr=subprocess.PIPE, text=True)
        attached = "attached" in strace.stderr.readline()
        if attached:
            time.sleep(seconds)
        strace.terminate()
        strace.communicate()
        if not attached:
            raise counting.Skip("strace cannot attach to a process here")
        return len(re.findall(r"\) += ", log.read()))


def test_idle_is_silent():
    need("strace", "-c", "-o", os.devnull)
    # A socket and an eventfd each.
    n = counting.raise_fd_limit(2 * (IDLE + counting.SPARE_FDS)) // 2 - counting.SPARE_FDS
    driver = subprocess.Popen([DRIVER, "idle", "served", str(n), "0"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout.readline() == "ready\n", "the connections are not there"
        # What goes on after the last message ends when all have been looked at.
        deadline = time.monotonic() + GUARD
        while (calls := count_calls(driver.pid, SILENCE)) > 0 and time.monotonic() < deadline:
            pass
        yield calls == 0, f"{calls} system calls in {SILENCE} s of {n} idle connections"
    finally:
        left, _ = driver.communicate()
    yield left == f"{n}\n", f"{left.strip()} of {n} connections are still there"


def test_storm():
    growth = drive("storm", "served", STORM_AT_ONCE, STORM)
    yield growth < 256 * 1024, (
        f"{growth} bytes more, no fd and no main context, after {STORM} connections"
    )


TESTS = [
    test_memory,
    test_idle_is_silent,
    test_storm,
    # Where nobody is nested, without GLib's poll.
    calls_test("echo-at-once", "alone", 13),
    calls_test("echo-at-once", "served", 14),
    calls_test("echo", "served", 18),
    # Eight turns: the wake-up fd is read only after the last one.
    calls_test("burst", "alone", 42),
    calls_test("burst", "served", 50),
    # Of GLib's own, which most of them are, with 2.74.
    instructions_test("echo-at-once", 22600 * 1.05 if glib_is("2.74") else None),
    instructions_test("echo"),
]


if __name__ == "__main__":
    counting.main(TESTS)
