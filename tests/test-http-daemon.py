#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-http-daemon.py DAEMON [CONNECTIONS SECONDS]. What the example of a web server makes
of its clients, good and bad, as TAP. The numbers are for wrk."""

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

import tap

DAEMON = sys.argv[1]
CONNECTIONS, SECONDS = sys.argv[2:] or ('100', '1')
# Only there to fail.
DEADLINE = 50
N_SUBSCRIBERS = 50
FEW_FDS = 40
HEADERS = 'HTTP/1.1\r\nHost: localhost\r\n\r\n'
FIGURES = {'requests', 'callbacks', 'rounds', 'wakeups', 'cpuPermille', 'connections',
           'subscribers', 'mainContexts'}
os.environ['LC_ALL'] = 'C.UTF-8'
# Or LeakSanitizer crashes if there are threads, and modules with data of each thread, as of TLS.
os.environ['ASAN_OPTIONS'] = os.environ.get('ASAN_OPTIONS', '') + ':intercept_tls_get_addr=0'


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, 'waited too long'
        time.sleep(0.01)


class Daemon:
    """Runs in a with block, at whose end it has to end well, and to have warned of nothing."""

    def __init__(self, *options, n_fds=None, tls=None, warns=''):
        self.tls = tls
        self.warns = warns
        if tls:
            options += (f'--certificate={tls.certificate}', f'--key={tls.key}')
        self.process = subprocess.Popen(
            [DAEMON, '--port=0', *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=n_fds and (
                lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n_fds, n_fds))))
        said = self.process.stdout.readline()
        address = re.fullmatch(r'listening on (https?)://127\.0\.0\.1:(\d+)/\n', said)
        assert address, said + self.process.stderr.read()
        assert (address[1] == 'https') == bool(tls), said
        self.url = said.split()[-1]
        self.port = int(address[2])

    def __enter__(self):
        return self

    def __exit__(self, exception, *_):
        if exception:
            self.process.kill()
        self.process.terminate()
        _, errors = self.process.communicate(timeout=DEADLINE)
        if not exception:
            assert self.process.returncode == 0, (self.process.returncode, errors)
            assert re.fullmatch(self.warns, errors.strip(), re.S), errors

    def connect(self, receive_buffer=None):
        client = socket.socket()
        client.settimeout(DEADLINE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(('127.0.0.1', self.port))
        return self.tls.context.wrap_socket(client, server_hostname='localhost') \
            if self.tls else client

    def http(self):
        """A connection that is kept alive."""
        if self.tls:
            return http.client.HTTPSConnection('localhost', self.port, timeout=DEADLINE,
                                               context=self.tls.context)
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=DEADLINE)

    def subscribe(self, **options):
        client = self.connect(**options)
        client.sendall(f'GET /events {HEADERS}'.encode())
        return client

    def figures(self):
        """Of the next event."""
        with self.subscribe() as client:
            return next(events(client))[1]


class Tls:
    """A certificate, and what trusts it."""

    def __init__(self, folder):
        self.certificate, self.key = folder / 'cert.pem', folder / 'key.pem'
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
             '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
             '-keyout', self.key, '-out', self.certificate],
            check=True, stderr=subprocess.DEVNULL)
        self.context = ssl.create_default_context(cafile=self.certificate)


@contextlib.contextmanager
def make_tls():
    if shutil.which('openssl') is None:
        raise tap.Skip('openssl is not installed')
    with tempfile.TemporaryDirectory() as folder:
        yield Tls(pathlib.Path(folder))


def events(client):
    """The number and the figures of each event, until the end."""
    number = None
    with client.makefile('rb') as stream:
        for line in stream:
            if line.startswith(b'id: '):
                number = int(line[4:])
            elif line.startswith(b'data: '):
                yield number, json.loads(line[6:])


def take(client, n):
    return list(itertools.islice(events(client), n))


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    client.close()


def get(connection, path='/', method='GET'):
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def check_answers(daemon):
    connection = daemon.http()
    status, headers, page = get(connection)
    first = connection.sock
    assert status == 200 and b'<title>Gaio, live</title>' in page
    assert headers['Content-Type'] == 'text/html; charset=utf-8'
    assert get(connection, method='HEAD')[::2] == (200, b'')
    assert get(connection, '/events', 'HEAD')[::2] == (200, b'')
    assert get(connection, '/nothing')[::2] == (404, b'Not Found\n')
    assert get(connection, '/events/nothing')[0] == 404
    status, headers, _ = get(connection, method='POST')
    assert status == 405 and headers['Allow'] == 'GET, HEAD'
    assert get(connection)[2] == page
    assert connection.sock is first, 'it was not kept alive'
    connection.close()


def is_alone(figures):
    return figures['connections'] == figures['subscribers'] == 1


def check_events(daemon):
    with daemon.subscribe() as client:
        stream = events(client)
        # Those that have just gone may still be there.
        first = next(number for number, figures in stream if is_alone(figures))
        told = list(itertools.islice(stream, 5))
    assert [number for number, _ in told] == list(range(first + 1, first + 6)), told
    for _, figures in told:
        assert set(figures) == FIGURES and is_alone(figures), figures
        assert figures['mainContexts'] == 3, figures  # with those of the service
    assert any(figures['callbacks'] > 0 for _, figures in told), told


def check_all_gone(daemon):
    """But for who asks."""
    wait_until(lambda: daemon.figures()['connections'] == 1)


def check_stopped_reader(daemon):
    """It is cut off; the others hear everything meanwhile."""
    with daemon.subscribe() as reader, daemon.subscribe(receive_buffer=4096) as sleeper:
        last, deadline = 0, time.monotonic() + DEADLINE
        for number, figures in events(reader):
            assert time.monotonic() < deadline, 'it was not cut off'
            assert last in (0, number - 1), (last, number)
            last = number
            if figures['subscribers'] == 1 and number > 100:
                break
        with contextlib.suppress(OSError):  # TLS calls it an error
            while sleeper.recv(1 << 16):
                pass
    check_all_gone(daemon)


def check_resets(daemon):
    """Before, in the middle of and after a request."""
    for request in '', 'GET / HT', f'GET / {HEADERS}', f'GET /events {HEADERS}':
        client = daemon.connect()
        client.sendall(request.encode())
        if request.startswith('GET /events'):
            take(client, 1)
        reset(client)
    check_all_gone(daemon)


def check_hang_ups(daemon):
    """Of a connection that was kept alive, libsoup itself sees it only since 3.4."""
    for _ in range(3):
        connection = daemon.http()
        assert get(connection)[0] == 200
        connection.close()
        with daemon.subscribe() as client:
            take(client, 1)
    check_all_gone(daemon)


def check_end(daemon, sign):
    clients = [daemon.subscribe() for _ in range(N_SUBSCRIBERS)]
    for client in clients:
        take(client, 1)
    idle = daemon.connect()
    daemon.process.send_signal(sign)
    for client in [*clients, idle]:
        with contextlib.suppress(OSError):
            while client.recv(1 << 16):
                pass
        client.close()
    assert daemon.process.wait(DEADLINE) == 0


CHECKS = check_answers, check_events, check_hang_ups, check_resets, check_stopped_reader


def test_http():
    with Daemon('--interval=10') as daemon:
        for check in CHECKS:
            check(daemon)


def test_https():
    with make_tls() as tls, Daemon('--interval=10', tls=tls) as daemon:
        for check in CHECKS:
            check(daemon)


def test_handshake_that_is_none():
    with make_tls() as tls, Daemon('--interval=10', tls=tls) as daemon:
        for nonsense in b'', b'\x16\x03\x01', f'GET / {HEADERS}'.encode():
            with socket.create_connection(('127.0.0.1', daemon.port), DEADLINE) as client:
                client.sendall(nonsense)
        check_all_gone(daemon)


def test_signal_ends_it_with_subscribers():
    for sign in signal.SIGTERM, signal.SIGINT:
        with Daemon('--interval=10') as daemon:
            check_end(daemon, sign)


def test_signal_ends_it_with_subscribers_and_a_handshake():
    with make_tls() as tls, Daemon('--interval=10', tls=tls) as daemon:
        with socket.create_connection(('127.0.0.1', daemon.port), DEADLINE):
            check_end(daemon, signal.SIGTERM)


def test_idle_client_is_cut_off():
    """Also in the handshake. A subscriber is not idle."""
    with make_tls() as tls, Daemon('--timeout=1') as plain, Daemon('--timeout=1', tls=tls) as secure:
        subscriber = plain.subscribe()
        with socket.create_connection(('127.0.0.1', secure.port), DEADLINE) as client:
            assert client.recv(1) == b''
        for daemon in plain, secure:
            connection = daemon.http()
            assert get(connection)[0] == 200
            assert connection.sock.recv(1) == b''
            connection.close()
        assert len(take(subscriber, 5)) == 5
        subscriber.close()


def test_few_fds():
    """Whoever finds none left waits until one is."""
    with Daemon('--interval=10', n_fds=FEW_FDS, warns='.*Cannot accept.*|') as daemon:
        clients = [daemon.connect() for _ in range(FEW_FDS)]
        while 'Cannot accept' not in (line := daemon.process.stderr.readline()):
            assert line, 'it ended'
        last = daemon.http()
        last.request('GET', '/')
        for client in clients:
            client.close()
        assert last.getresponse().status == 200
        last.close()


def test_wrong_options():
    for option, message in {
            '--port=65536': '--port is 0 to 65535', '--port=x': 'x', '--interval=0': '--interval',
            '--timeout=0': '--timeout', '--key=/nowhere': 'go together', 'what': 'What is',
            '--nothing': '--nothing'}.items():
        result = subprocess.run([DAEMON, option], check=False, text=True, capture_output=True)
        assert result.returncode == 2 and not result.stdout, result
        assert result.stderr.startswith('gaio-http-daemon: ') and message in result.stderr, result


def test_wrong_certificate():
    with make_tls() as tls:
        for files in ('/nowhere', tls.key), (tls.key, tls.key), (tls.certificate, '/nowhere'):
            result = subprocess.run([DAEMON, f'--certificate={files[0]}', f'--key={files[1]}'],
                                    check=False, text=True, capture_output=True)
            assert result.returncode == 2 and not result.stdout, result


def test_port_in_use():
    with Daemon() as daemon:
        result = subprocess.run([DAEMON, f'--port={daemon.port}'], check=False, text=True,
                                capture_output=True)
        assert result.returncode == 1 and 'already in use' in result.stderr, result


def run_wrk(daemon, seconds):
    """Returns how many requests there were. None failed."""
    said = subprocess.run(
        ['wrk', f'--connections={CONNECTIONS}', '--threads=2', f'--duration={seconds}',
         f'--timeout={DEADLINE}', daemon.url], check=True, text=True, capture_output=True).stdout
    print(*(f'# {line}\n' for line in said.splitlines()), sep='', end='')
    assert 'Socket errors' not in said and 'Non-2xx' not in said, said
    return int(re.search(r'(\d+) requests in', said)[1])


def check_with_wrk(daemon):
    seconds = int(SECONDS)
    # On a busy machine, the handshakes alone may take longer.
    while run_wrk(daemon, seconds) == 0:
        seconds *= 2
        assert seconds < DEADLINE
    check_all_gone(daemon)


def test_wrk_over_http():
    if shutil.which('wrk') is None:
        raise tap.Skip('wrk is not installed')
    with tap.need_fds(3 * int(CONNECTIONS)), Daemon('--interval=10') as daemon:
        check_with_wrk(daemon)


def test_wrk_over_https():
    if shutil.which('wrk') is None:
        raise tap.Skip('wrk is not installed')
    with tap.need_fds(3 * int(CONNECTIONS)), make_tls() as tls, \
            Daemon('--interval=10', tls=tls) as daemon:
        check_with_wrk(daemon)


tap.run(globals())
