#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random reads of 4 KiB a second, one or 32 at a time, from the page cache and past it (O_DIRECT):
with Gaio and others under a GLib main loop, with asyncio, with fio, and with QEMU's loop.

Each contender is a process that reads from the same file for a part of a second, and tells how fast
that was, without how long it took to begin. In each round they take turns, in random order.

gaio+3168 has 3,168 handlers of Gaio's that wait for nothing, glib+3168 as many of GLib's; in both,
Gaio reads. fio measures no latencies (--gtod_reduce), may read a block again before it has read all
(--norandommap), and leaves the page cache as it is (--invalidate=0). By default it submits each
read by itself; fio-batch submits and takes as many at once as there are, as Gaio does. qemu-img has
no random offsets: it steps through the file by more than half of it, so that no read follows the
one before, and reads each block once before it reads one again."""

import asyncio
import concurrent.futures
import json
import mmap
import os
import pathlib
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

from measuring import parse_options, progress

SIZE = 256 << 20
BLOCK = 4096
HANDLERS = 3168
# An odd number of blocks comes to all of them.
QEMU_STEP = 40503 * BLOCK
QEMU_FIRST_COUNT = 1000
BATCH = ('--iodepth_batch_submit={0}', '--iodepth_batch_complete_min=1',
         '--iodepth_batch_complete_max={0}')
ROWS = {f'{where} iodepth={iodepth}': (where == 'direct', iodepth)
        for where in ('cache', 'direct') for iodepth in (1, 32)}


class LeftOut(Exception):
    """With the reason."""


def run(program, *arguments):
    """What it prints."""
    if shutil.which(program) is None:
        raise LeftOut(f'{program} is not installed')
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise LeftOut(done.stderr.strip() or f'{program} has failed')
    return done.stdout


class Contender:
    """In one row."""

    def __init__(self, path, direct, iodepth):
        self.path, self.direct, self.iodepth = path, direct, iodepth

    def reads_per_second(self, seconds):
        raise NotImplementedError


class Randread(Contender):
    program = None  # examples/randread

    def __init__(self, *row, options=()):
        super().__init__(*row)
        self.options = options

    def reads_per_second(self, seconds):
        said = run(self.program, f'--size={SIZE}', f'--bs={BLOCK}', f'--iodepth={self.iodepth}',
                   f'--seconds={seconds}', *['--direct'] * self.direct, *self.options, self.path)
        return float(re.search(r'(\d+) reads/s', said)[1])


class Fio(Contender):
    def __init__(self, *row, engine, options=()):
        super().__init__(*row)
        self.options = [f'--ioengine={engine}', *(word.format(self.iodepth) for word in options)]

    def reads_per_second(self, seconds):
        said = run('fio', '--name=bench', f'--filename={self.path}', '--rw=randread', '--readonly',
                   f'--size={SIZE}', f'--bs={BLOCK}', f'--iodepth={self.iodepth}',
                   f'--direct={self.direct:d}', '--invalidate=0', '--gtod_reduce=1',
                   '--norandommap', '--thread', '--time_based',
                   f'--runtime={1000 * seconds:.0f}ms', '--output-format=json', *self.options)
        return json.loads(said[said.index('{'):])['jobs'][0]['read']['iops']


class Qemu(Contender):
    """It is told how many reads to do, not how long."""

    def __init__(self, *row, engine):
        super().__init__(*row)
        self.engine = engine
        self.rate = None

    def do(self, count):
        said = run('qemu-img', 'bench', '-f', 'raw', '-t', 'none' if self.direct else 'writeback',
                   '-i', self.engine, '-c', count, '-d', self.iodepth, '-s', BLOCK, '-S', QEMU_STEP,
                   self.path)
        return count / float(re.search(r'completed in ([\d.]+) seconds', said)[1])

    def reads_per_second(self, seconds):
        if self.rate is None:
            self.rate = self.do(QEMU_FIRST_COUNT)
        self.rate = self.do(int(self.rate * seconds) + 1)
        return self.rate


class Asyncio(Contender):
    def reads_per_second(self, seconds):
        return float(run(sys.executable, __file__, '--read-with-asyncio', self.path,
                         int(self.direct), self.iodepth, seconds))


def read_block(fd, buffer, offset):
    assert os.preadv(fd, [buffer], offset) == BLOCK


async def read_for(fd, pool, end):
    """One read after the other. Returns how many."""
    loop = asyncio.get_running_loop()
    buffer = mmap.mmap(-1, BLOCK)  # aligned
    n = 0
    while time.monotonic() < end:
        offset = BLOCK * random.randrange(SIZE // BLOCK)
        await loop.run_in_executor(pool, read_block, fd, buffer, offset)
        n += 1
    return n


async def read_with_asyncio(path, direct, iodepth, seconds):
    """A contender. Prints the reads a second."""
    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if int(direct) else 0))
    with concurrent.futures.ThreadPoolExecutor(int(iodepth)) as pool:
        began = time.monotonic()
        end = began + float(seconds)
        counts = await asyncio.gather(*(read_for(fd, pool, end) for _ in range(int(iodepth))))
        print(sum(counts) / (time.monotonic() - began))


# In which rows there would be a difference to another, or it works at all.
ALL, ONE, MANY, DIRECT = '', 'iodepth=1$', 'iodepth=32$', '^direct'
CONTENDERS = {
    'gaio': (ALL, Randread, {}),
    f'gaio+{HANDLERS}': (ALL, Randread, {'options': [f'--handlers={HANDLERS}']}),
    f'glib+{HANDLERS}': (ALL, Randread, {'options': [f'--handlers={HANDLERS}', '--watch=glib']}),
    'gio': (ALL, Randread, {'options': ['--engine=gio']}),
    'threads': (ALL, Randread, {'options': ['--engine=threads']}),
    'sync': (ALL, Randread, {'options': ['--engine=sync']}),
    'asyncio': (ALL, Asyncio, {}),
    'fio-uring': (ALL, Fio, {'engine': 'io_uring'}),
    'fio-batch': (MANY, Fio, {'engine': 'io_uring', 'options': BATCH}),
    'fio-psync': (ONE, Fio, {'engine': 'psync'}),
    'qemu-uring': (ALL, Qemu, {'engine': 'io_uring'}),
    'qemu-native': (DIRECT, Qemu, {'engine': 'native'}),
}


def begin(row, path, options):
    """The contenders of a row by name, once each has read for a moment."""
    contenders = {}
    for name, (where, kind, settings) in CONTENDERS.items():
        if not re.search(where, row) or not re.search(options.contender, name):
            continue
        progress(f'file: {row}: {name} begins')
        try:
            contender = kind(path, *ROWS[row], **settings)
            contender.reads_per_second(options.seconds / 5)
        except LeftOut as reason:
            progress('')
            print(f'file, {row}: {name} is left out: {reason}', file=sys.stderr)
        else:
            contenders[name] = contender
    return contenders


def measure_row(row, path, options):
    contenders = begin(row, path, options)
    values = {name: [] for name in contenders}
    for number in range(options.rounds):
        for name in random.sample(list(contenders), len(contenders)):
            progress(f'file: {row}: round {number + 1} of {options.rounds}: {name}')
            values[name].append(contenders[name].reads_per_second(options.seconds))
    return {'name': row, 'values': values}


def measure(options):
    """Where the build is: /tmp may be in memory."""
    with tempfile.TemporaryDirectory(dir=options.randread.parent) as folder:
        path = pathlib.Path(folder) / 'file'
        progress('file: a file is made')
        Randread(path, False, 1).reads_per_second(options.seconds)
        rows = [measure_row(row, path, options) for row in ROWS if re.search(options.only, row)]
    progress('')
    return rows


def version(program):
    """Or nothing, where it is not installed."""
    try:
        return {program: re.search(r'\d[\d.]*', run(program, '--version'))[0]}
    except LeftOut:
        return {}


def main():
    options = parse_options(__doc__, ('randread', 'examples/randread'), 3, 0.3, 0.5)
    Randread.program = options.randread
    json.dump({
        'benchmark': 'file',
        'summary': 'Random reads of 4 KiB from a file',
        'unit': 'reads/s',
        'versions': {**version('fio'), **version('qemu-img'), 'asyncio': platform.python_version()},
        'rows': measure(options),
    }, options.json, indent=1)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--read-with-asyncio']:
        asyncio.run(read_with_asyncio(*sys.argv[2:]))
    else:
        main()
