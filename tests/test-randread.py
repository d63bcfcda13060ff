#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-randread.py RANDREAD: the example of random reads works with each engine, and says what is
wrong."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile

import tap

PROGRAM = sys.argv[1]
# Only there to fail.
TIMEOUT = 60
SIZE = 1 << 20
FIGURES = re.compile(
    r'engine=(?P<engine>\w+) handlers=(?P<handlers>\d+) watch=(?P<watch>\w+) iodepth=\d+: '
    r'(?P<reads>\d+) reads/s, \d+ MB/s, latency in us p50 (\d+) p99 (\d+) p99\.9 (\d+)\n')


@contextlib.contextmanager
def make_file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'file')
        with open(path, 'wb') as file:
            file.write(os.urandom(SIZE))
        yield path


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)


def figures(text):
    found = FIGURES.search(text)
    assert found, text
    p50, p99, p999 = (int(number) for number in found.groups()[-3:])
    assert int(found['reads']) > 0 and p50 <= p99 <= p999, text
    return found


def read(path, *arguments):
    done = run(f'--size={SIZE}', '--seconds=0.05', *arguments, path)
    assert done.returncode == 0 and done.stderr == '', done
    return figures(done.stdout)


def refused(*arguments):
    """The sentence about them."""
    done = run(*arguments)
    assert done.returncode == 1 and done.stdout == '', done
    assert re.fullmatch(r'randread: .+\n', done.stderr), done.stderr
    return done.stderr


def test_each_engine_reads():
    with make_file() as path:
        for engine in 'gaio', 'gio', 'threads', 'sync':
            for iodepth in 1, 32:
                found = read(path, f'--engine={engine}', f'--iodepth={iodepth}')
                assert found['engine'] == engine


def test_odd_sizes():
    with make_file() as path:
        read(path, '--bs=1')
        read(path, '--bs=5000', '--iodepth=1000')
        read(path, '--bs=1M')


def test_idle_handlers():
    with make_file() as path:
        for watch in 'gaio', 'glib':
            found = read(path, '--handlers=20', f'--watch={watch}')
            assert (found['handlers'], found['watch']) == ('20', watch)


def test_past_the_page_cache():
    with make_file() as path:
        for engine in 'gaio', 'gio', 'threads', 'sync':
            done = run(f'--size={SIZE}', '--seconds=0.05', '--direct', f'--engine={engine}', path)
            if 'O_DIRECT: Invalid argument' in done.stderr:
                raise tap.Skip('the file system has no O_DIRECT')
            figures(done.stdout)


def test_makes_the_file():
    with make_file() as path:
        new = path + '-new'
        read(new)
        assert os.path.getsize(new) == SIZE


def test_only_reads_what_exists():
    with make_file() as path:
        with open(path, 'rb') as file:
            before = file.read()
        os.chmod(path, 0o400)
        read(path)
        assert 'has only' in refused(f'--size={2 * SIZE}', path)
        with open(path, 'rb') as file:
            assert file.read() == before


def test_bad_arguments():
    with make_file() as path:
        for argument in ('--bs=0', '--bs=-4k', '--bs=4x', '--bs=', '--bs=2M', '--bs=9999999999G',
                         '--iodepth=0', '--iodepth=-1', '--iodepth=x', '--seconds=0',
                         '--seconds=nan', '--handlers=-1', '--engine=none', '--watch=none',
                         '--no-such-option'):
            refused(f'--size={SIZE}', argument, path)
        assert '512' in refused(f'--size={SIZE}', '--direct', '--bs=100', path)
        refused()
        refused(path, path)


def test_bad_files():
    with make_file() as path:
        folder = os.path.dirname(path)
        assert 'No such file' in refused(os.path.join(folder, 'none/file'))
        for other in folder, '/dev/null':
            assert 'neither a regular file' in refused(other)


def test_no_permission():
    if os.getuid() == 0:
        raise tap.Skip('root may read everything')
    with make_file() as path:
        os.chmod(path, 0)
        assert 'Permission denied' in refused(path)


def test_too_few_fds():
    with make_file() as path:
        done = subprocess.run(['prlimit', '--nofile=30', PROGRAM, f'--size={SIZE}', '--handlers=99',
                               path], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and 'Cannot open 99 fds' in done.stderr, done


def test_progress_and_interruption():
    """On a terminal, the line comes before the end, and SIGINT ends it."""
    master, slave = pty.openpty()
    with make_file() as path, open(master, 'rb', buffering=0) as terminal:
        program = subprocess.Popen([PROGRAM, f'--size={SIZE}', '--seconds=1000', path],
                                   stdout=subprocess.PIPE, stderr=slave, text=True)
        os.close(slave)
        said = b''
        while b'reads/s' not in said:
            said += terminal.read(100)
        program.send_signal(signal.SIGINT)
        text, _ = program.communicate(timeout=TIMEOUT)
        assert program.returncode == 0, program.returncode
        figures(text)


if __name__ == '__main__':
    tap.run(globals())
