# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-python-examples.py EXAMPLES. Each runs, and does what it says; each is short."""

import contextlib
import pathlib
import signal
import socket
import struct
import subprocess
import sys

import tap

EXAMPLES = pathlib.Path(sys.argv[1])
TIMEOUT = 30
MAX_LINES = 30


@contextlib.contextmanager
def example(name):
    """Runs it; it has to end by itself, or with Ctrl-C."""
    with subprocess.Popen([sys.executable, str(EXAMPLES / name)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
            _, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    interrupted = errors.endswith('KeyboardInterrupt\n') and process.returncode == -signal.SIGINT
    assert interrupted or (process.returncode == 0 and not errors), errors


def reset(client):
    """Closes it with a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    client.close()


def check_echo(name):
    with example(name) as process:
        port = int(process.stdout.readline().split()[1])
        clients = [socket.create_connection(('127.0.0.1', port), TIMEOUT) for _ in range(20)]
        for number, client in enumerate(clients * 2):
            client.sendall(b'%d\n' % number)
            assert client.makefile('rb').readline() == b'%d\n' % number
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b''
            client.close()
        process.send_signal(signal.SIGINT)


def test_echo():
    """Twenty clients at a time."""
    check_echo('echo.py')


def test_echo_stream():
    """Twenty clients at a time, and one that does not hang up well does not end it."""
    check_echo('echo-stream.py')
    with example('echo-stream.py') as process:
        port = int(process.stdout.readline().split()[1])
        with socket.create_connection(('127.0.0.1', port), TIMEOUT) as client:
            reset(socket.create_connection(('127.0.0.1', port), TIMEOUT))
            client.sendall(b'?')
            assert client.recv(1) == b'?'
        process.send_signal(signal.SIGINT)


def test_batch():
    """Twenty clients at a time."""
    check_echo('batch.py')


def test_thread():
    """The result comes out of the thread, and the timer goes on meanwhile."""
    with example('thread.py') as process:
        output = process.stdout.read()
    squares = sum(i * i for i in range(3000000))
    assert f'the squares below 3000000 sum up to {squares}\n' in output, output
    assert '.' in output, output


def test_all_are_short_and_run():
    """None is forgotten here."""
    names = {path.name for path in EXAMPLES.glob('*.py')}
    assert names == {'echo.py', 'echo-stream.py', 'batch.py', 'thread.py'}, names
    for name in names:
        n = len((EXAMPLES / name).read_text(encoding='utf-8').splitlines())
        assert n <= MAX_LINES, f'{name}: {n} lines'


if __name__ == '__main__':
    tap.run(globals())
