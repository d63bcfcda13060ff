# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmarks in Python have in common."""

import argparse
import pathlib
import sys
import time


def progress(text):
    """A line on a terminal that the next one overwrites."""
    if sys.stderr.isatty():
        print(f'\r{text:<60}', end='', file=sys.stderr, flush=True)


def cpu_time(pid):
    """Of another process, user and system, in seconds: clock_getcpuclockid(3), which Python
    lacks."""
    return time.clock_gettime((~pid << 3) | 2)


def talk(process, client, n_active, seconds):
    """The CPU time of @process for each message, in nanoseconds: @client makes them."""
    began = cpu_time(process.pid)
    client.stdin.write(f'{n_active} {seconds}\n')
    client.stdin.flush()
    n = int(client.stdout.readline())
    return 1e9 * (cpu_time(process.pid) - began) / n


def parse_options(doc, program, quick_rounds, quick_seconds, seconds):
    """The options that `./dev bench` passes on. @program is a name and a help text."""
    parser = argparse.ArgumentParser(description=doc.partition('\n\n')[0])
    parser.add_argument(program[0], type=pathlib.Path, help=program[1])
    parser.add_argument('--quick', action='store_true', help='fewer and shorter rounds')
    parser.add_argument('--rounds', type=int, help='how many rounds')
    parser.add_argument('--only', default='', help='only the lines of the table that match')
    parser.add_argument('--contender', default='', help='only the contenders that match')
    parser.add_argument('--json', type=argparse.FileType('w'), default=sys.stdout,
                        help='write the results there, not to stdout')
    options = parser.parse_args()
    options.rounds = options.rounds or (quick_rounds if options.quick else 15)
    options.seconds = quick_seconds if options.quick else seconds
    return options
