#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bounds of Gaio that can be counted, not timed: system calls with strace, instructions with
callgrind, bytes, pages, pollfds. The arguments are the path of bounds-driver, and the libraries
that it can compare with."""

import math
import os
import sys

import counting
from counting import Skip, compare

DRIVER, *LIBRARIES = sys.argv[1:]
FEW = 10
READS = 32  # at a time
SOME = 100
MANY = counting.raise_fd_limit(19000)
CYCLES = 1000000


def drive(mode, n, k, rounds):
    return int(counting.run(DRIVER, mode, n, k, rounds))


def drive_on(monitor, mode, n, k, rounds):
    return int(counting.run(DRIVER, mode, n, k, rounds, GAIO_MONITOR=monitor))


def need(*command):
    """That the driver works, others test."""
    counting.need(*command, DRIVER, "add", 0, 0, 0)


def traced(mode, n, k, rounds):
    return counting.traced(DRIVER, mode, n, k, rounds)


def instructions(mode, n, k, rounds):
    return counting.instructions(DRIVER, mode, n, k, rounds)


def calls_per_round(mode, n):
    few, many = 100, 600
    served_few, calls_few = traced(mode, n, 1, few)
    served_many, calls_many = traced(mode, n, 1, many)
    assert (served_few, served_many) == (few, many), "not every event was served"
    return (calls_many.total() - calls_few.total()) / (many - few)


def instructions_per_round(mode, n, k=1):
    few, many = (200, 1200) if k == 1 else (10, 60)
    return (instructions(mode, n, k, many) - instructions(mode, n, k, few)) / (many - few)


def polls(calls):
    return calls["poll"] + calls["ppoll"]


def test_one_pollfd():
    more = drive("pollfds", MANY // 2, 0, 0)
    yield more == 1, f"{MANY // 2} handlers are {more} pollfd for GLib"


def test_memory():
    size = drive("memory", MANY, 0, 0)
    yield 0 < size <= 160, f"{size} bytes for each of {MANY} handlers on fds that had one before"


def soak_test(monitor, mode, where):
    def test():
        if drive_on(monitor, "refused", 0, 0, 0):
            raise Skip(f"{monitor} cannot be had here")
        growth = drive_on(monitor, mode, SOME, 0, CYCLES)
        yield growth < 256 * 1024, (
            f"{growth} bytes more after {CYCLES} additions and removals {where}, {monitor}"
        )

    return test


def test_sporadic_events_poll_once_each():
    need("strace", "-c", "-o", os.devnull)
    served, calls = traced("sporadic", SOME, 1, 100)
    yield served == 100 and polls(calls) <= 110, f"{polls(calls)} polls for {served} events"


def test_idle_is_silent():
    need("strace", "-c", "-o", os.devnull)
    _, short = traced("idle", SOME, 0, 20)
    _, long = traced("idle", SOME, 0, 520)
    yield polls(long) <= 2, f"{polls(long)} polls while nothing happens"
    more = long.total() - short.total()
    # How two threads meet at the end costs some calls more or less.
    yield more <= 10, f"{more} more calls in half a second of silence"


def test_calls_per_event():
    need("strace", "-c", "-o", os.devnull)
    few, many = (calls_per_round("nested", n) for n in (FEW, MANY))
    yield many <= 4.1, f"{many:.2f} system calls for an event, nested"
    yield abs(few - many) <= 0.02, f"as many with {FEW} as with {MANY} handlers: {few:.2f}"


def test_calls_per_event_alone():
    need("strace", "-c", "-o", os.devnull)
    few, many = (calls_per_round("standalone", n) for n in (FEW, MANY))
    yield many <= 3.1, f"{many:.2f} system calls for an event, stand-alone"
    yield abs(few - many) <= 0.02, f"as many with {FEW} as with {MANY} handlers: {few:.2f}"


def need_io_uring():
    need("strace", "-c", "-o", os.devnull)
    _, calls = traced("read", 0, 1, 1)
    if calls["io_uring_enter"] == 0:
        raise Skip("there is no io_uring")


def calls_per_read(n):
    few, many = 20, 220
    read_few, calls_few = traced("read", n, READS, few)
    read_many, calls_many = traced("read", n, READS, many)
    assert (read_few, read_many) == (few * READS, many * READS), "not every read has ended"
    return (calls_many.total() - calls_few.total()) / (READS * (many - few))


def test_calls_per_read():
    """A round polls twice, looks what the file is, and enters io_uring once."""
    need_io_uring()
    few, many = (calls_per_read(n) for n in (FEW, MANY))
    yield many <= 4.1 / READS, f"{many:.3f} system calls for a read, {READS} at a time"
    yield abs(few - many) <= 0.001, f"as many with {FEW} as with {MANY} handlers: {few:.3f}"


def test_instructions_per_read():
    need_io_uring()
    need("valgrind", "--tool=none")
    few, many = (instructions_per_round("read", n, READS) / READS for n in (FEW, MANY))
    yield many <= 1050, f"{many:.0f} instructions for a read, {READS} at a time"
    yield compare("a read", FEW, few, MANY, many, 1.02)


def test_calls_to_add():
    need("strace", "-c", "-o", os.devnull)
    _, calls = traced("add", MANY, 0, 0)
    ctl = calls["epoll_ctl"]
    yield MANY <= ctl <= MANY + 10, f"{ctl} epoll_ctl calls to add {MANY} fds"


def test_calls_for_the_same_condition():
    need("strace", "-c", "-o", os.devnull)
    few, many = (traced("same", SOME, 0, rounds)[1]["epoll_ctl"] for rounds in (0, 1000))
    yield few == many, f"{many - few} epoll_ctl calls for 1000 conditions that do not change"


def rival_test(mode, rival, k, limit):
    """Instructions for an event, in user space and of the same program."""

    def test():
        need("valgrind", "--tool=none")
        if rival == "libuv" and rival not in LIBRARIES:
            raise Skip(f"{rival} is not installed")
        ours, theirs = (instructions_per_round(name, 1000, k) / k for name in (mode, rival))
        yield ours <= limit * theirs, (
            f"an event, {mode}, {k} at once: {ours:.0f} instructions, {rival} {theirs:.0f}, "
            f"ratio {ours / theirs:.3f} of at most {limit:.3f}"
        )

    return test


def test_instructions_to_add():
    need("valgrind", "--tool=none")
    nothing = instructions("add", 0, 0, 0)
    small, large = ((instructions("add", n, 0, 0) - nothing) / n for n in (MANY // 10, MANY))
    yield compare("add", MANY // 10, small, MANY, large, 1.1)


def instructions_test(what, mode, small, limit):
    def test():
        need("valgrind", "--tool=none")
        per_round = [instructions_per_round(mode, n) for n in (small, MANY)]
        yield compare(what, small, per_round[0], MANY, per_round[1], limit())

    return test


TESTS = [
    test_one_pollfd,
    test_memory,
    soak_test("epoll", "soak", "under GLib"),
    soak_test("poll", "soak", "under GLib"),
    soak_test("epoll", "soak-alone", "stand-alone"),
    soak_test("poll", "soak-alone", "stand-alone"),
    test_sporadic_events_poll_once_each,
    test_idle_is_silent,
    test_calls_per_event,
    test_calls_per_event_alone,
    test_calls_per_read,
    test_calls_to_add,
    test_calls_for_the_same_condition,
    rival_test("standalone", "libuv", 1, 1.05),
    rival_test("standalone", "libuv", 256, 1),
    rival_test("nested", "hand-written", 256, 2),
    test_instructions_per_read,
    test_instructions_to_add,
    instructions_test("an event, nested", "nested", FEW, lambda: 1.002),
    instructions_test("an event, stand-alone", "standalone", FEW, lambda: 1.002),
    instructions_test("remove and add", "churn", SOME, lambda: 1.1),
    instructions_test("set_condition", "modify", SOME, lambda: 1.1),
    # A heap may grow as the logarithm.
    instructions_test("arm a timer", "timers", SOME, lambda: 1.1 * math.log(MANY, SOME)),
]


if __name__ == "__main__":
    counting.main(TESTS)
