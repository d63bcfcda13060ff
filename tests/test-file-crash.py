#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-file-crash.py KILLS WRITER [WITHOUT]: what has been acknowledged after an fsync is in the
file, at whatever moment the process is killed. WITHOUT is the program that takes system calls
away."""

import os
import random
import signal
import struct
import subprocess
import sys
import tempfile

import tap

KILLS = int(sys.argv[1])
WRITER, WITHOUT = sys.argv[2:]
WORDS = 128
RECORD = struct.Struct(f'<{WORDS}Q')
COUNT = struct.Struct('<Q')


def read_counts(pipe):
    """Everything that it has said; what the kill has torn apart does not count."""
    data = pipe.read()
    whole = len(data) - len(data) % COUNT.size
    return [count for count, in COUNT.iter_unpack(data[:whole])]


def run_until_killed(command, first):
    """How many records it has acknowledged, after a random number of fsyncs and some time."""
    with subprocess.Popen([*command, str(first)], stdout=subprocess.PIPE) as writer:
        counts = [COUNT.unpack(writer.stdout.read(COUNT.size))[0]
                  for _ in range(random.randrange(4))]
        # Not only right after an fsync.
        for _ in range(random.randrange(20000)):
            pass
        writer.send_signal(signal.SIGKILL)
        counts += read_counts(writer.stdout)
    assert writer.returncode == -signal.SIGKILL, writer.returncode
    assert counts == sorted(counts), counts
    return counts[-1] if counts else first


def check(file, first, end):
    """All records from first up to end are there, and whole."""
    data = os.pread(file.fileno(), (end - first) * RECORD.size, first * RECORD.size)
    assert len(data) == (end - first) * RECORD.size, (len(data), first, end)
    for number, words in enumerate(RECORD.iter_unpack(data), first):
        assert words == (number,) * WORDS, number


def check_kills(wrapper):
    seed = random.randrange(1 << 32)
    random.seed(seed)
    with tempfile.NamedTemporaryFile() as file:
        acknowledged = [0]
        for _ in range(KILLS):
            end = run_until_killed([*wrapper, WRITER, file.name], acknowledged[-1])
            check(file, acknowledged[-1], end)
            acknowledged.append(end)
        check(file, 0, acknowledged[-1])
    assert acknowledged[-1] > 0, f'nothing was acknowledged, seed {seed}'
    print(f'# {acknowledged[-1]} records acknowledged in {KILLS} lives, seed {seed}')


def test_acknowledged_records_survive_with_a_ring():
    check_kills([])


def test_acknowledged_records_survive_with_a_pool():
    check_kills([WITHOUT, 'io_uring_setup', '--'])


tap.run(dict(globals()))
