#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-neighbours.py NEIGHBOUR PROGRAM HAZARDS. What the examples of libraries that run on
Gaio make of the real server, which each test starts for itself, and of servers that are bad, as TAP.
HAZARDS is a tests/neighbour-NEIGHBOUR.c."""

import atexit
import contextlib
import functools
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import tap

NEIGHBOUR, PROGRAM, HAZARDS = sys.argv[1:]
STAND_IN = pathlib.Path(__file__).with_name('neighbour-server.py')
# Only there to fail.
DEADLINE = 100
MANY = 2000
os.environ['LC_ALL'] = 'C.UTF-8'


def find(tool, package):
    """Also where daemons are, and not only users look."""
    path = shutil.which(tool, path=f'{os.environ["PATH"]}:/usr/sbin')
    if path is None:
        raise tap.Skip(f'{package} is not installed')
    return path


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, 'waited too long'
        time.sleep(0.01)


class Process:
    """Of a with block, at whose end it is gone."""

    def __init__(self, *command, **options):
        self.command = command
        self.options = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL, **options}

    def start(self):
        self.process = subprocess.Popen(self.command, **self.options)

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()


@contextlib.contextmanager
def stand_in(how):
    """Its port."""
    with Process(sys.executable, STAND_IN, how, stdout=subprocess.PIPE, text=True) as server:
        yield server.process.stdout.readline().strip()


class Program:
    """Of a with block, at whose end it has ended well, or with the status that was asked for."""

    def __init__(self, *arguments, status=0):
        self.status = status
        self.process = subprocess.Popen(
            [PROGRAM, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        # So that it never waits for a reader.
        self.errors = ''
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def listen(self):
        for line in self.process.stderr:
            self.errors += line

    def say(self, *lines):
        self.process.stdin.write(''.join(f'{line}\n' for line in lines))
        self.process.stdin.flush()

    def hear(self, *lines):
        for line in lines:
            heard = self.process.stdout.readline()
            assert heard == f'{line}\n', (heard, line, self.errors)

    def complains(self, regex):
        """At some time; all that it has to say is heard when the listener ends."""
        wait_until(lambda: re.search(regex, self.errors) or not self.listener.is_alive())
        assert re.search(regex, self.errors), self.errors

    def __enter__(self):
        return self

    def __exit__(self, exception, *_):
        if exception:
            self.process.kill()
        # Its end of input.
        rest, _ = self.process.communicate(timeout=DEADLINE)
        self.listener.join()
        if not exception:
            assert self.process.returncode == self.status, (self.process.returncode, self.errors)
            assert rest == '', rest


def check_hazards(address):
    result = subprocess.run([HAZARDS], check=False, text=True, capture_output=True,
                            timeout=DEADLINE, env={**os.environ, 'ADDRESS': address})
    assert result.returncode == 0, result.stdout + result.stderr


# --- Redis ---

class Redis(Process):
    def __init__(self, folder):
        self.socket = f'{folder}/redis.sock'
        super().__init__(find('redis-server', 'redis-server'), '--port', '0', '--save', '',
                         '--unixsocket', self.socket, '--dir', folder,
                         '--maxclients', str(MANY + 100))

    def start(self):
        super().start()
        wait_until(lambda: os.path.exists(self.socket))

    def kill(self):
        super().kill()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)


@contextlib.contextmanager
def redis():
    with tempfile.TemporaryDirectory() as folder, Redis(folder) as server:
        yield server


def test_redis_answers_a_pipeline_in_order():
    with redis() as server, Program(server.socket) as program:
        program.say(*(f'SET key{i} {i}' for i in range(3000)))
        program.say(*(f'GET key{i}' for i in range(3000)), 'GET other', 'LRANGE none 0 -1', 'WHAT')
        program.hear(*['OK'] * 3000, *range(3000), '(nothing)')
        assert program.process.stdout.readline().startswith("ERR unknown command")


def test_redis_takes_what_is_longer_than_a_socket():
    long = 'x' * 5_000_000
    with redis() as server, Program(server.socket) as program:
        program.say(f'SET key {long}', 'GET key')
        program.hear('OK', long)


def test_redis_subscription():
    with redis() as server, Program('--channel=news', server.socket) as program:
        program.hear('subscribed to news')
        program.say('PUBLISH news hello', 'PUBLISH other unheard', 'PUBLISH news again')
        heard = sorted(program.process.stdout.readline() for _ in range(5))
        assert heard == ['0\n', '1\n', '1\n', 'news: again\n', 'news: hello\n'], heard
        program.process.terminate()


def test_redis_many_idle_connections():
    with tap.need_fds(MANY), redis() as server:
        with Program(f'--idle={MANY}', server.socket) as program:
            program.hear(f'{MANY} idle connections')
            program.say('CLIENT LIST', 'SET key value', 'GET key')
            clients = [program.process.stdout.readline() for _ in range(MANY + 1)]
            assert all(line.startswith('id=') for line in clients), clients[-1]
            program.hear('', 'OK', 'value')


def test_redis_server_gone_and_back():
    """What had no answer is sent again."""
    with redis() as server, Program('--channel=news', server.socket) as program:
        program.hear('subscribed to news')
        program.say('SET key value')
        program.hear('OK')
        server.kill()
        program.complains('(closed the connection|reset by peer).*; trying again\n')
        program.say('SET key other', 'GET key')
        program.complains('No such file or directory; trying again\n')
        server.start()
        heard = sorted(program.process.stdout.readline() for _ in range(3))
        assert heard == ['OK\n', 'other\n', 'subscribed to news\n'], heard
        program.process.terminate()


def test_redis_server_never_there():
    with Program('/nowhere/redis.sock', status=1) as program:
        program.say('GET key', 'GET other')
        program.complains('No such file or directory\ngave up: 2 commands without an answer\n')


def check_redis_failure(how, regex, *options):
    with stand_in(how) as port, Program(*options, port, status=1) as program:
        program.say('GET key', 'GET other')
        program.complains(f'{regex}\ngave up: 2 commands without an answer\n')


def test_redis_server_slow():
    check_redis_failure('silent', 'no answer within 20 ms', '--timeout=20')


def test_redis_server_hangs_up():
    check_redis_failure('gone', 'Server closed the connection')


def test_redis_server_answers_garbage():
    check_redis_failure('garbage', r'Protocol error, got "\\a" as reply type byte')


def test_redis_hazards():
    with stand_in('redis') as port:
        check_hazards(port)


# --- libcurl ---

N_DOWNLOADS = 3000


def end(n_done, n_failed, n_left, n_bytes):
    return f'{n_done} done, {n_failed} failed, {n_left} left, {n_bytes} bytes'


@contextlib.contextmanager
def downloads(paths, *options, how='http', status=0):
    """The program, with those URLs, and what they begin with."""
    with stand_in(how) as port, Program(*options, status=status) as program:
        base = f'http://127.0.0.1:{port}/'
        program.say(*(base + path for path in paths))
        program.process.stdin.close()
        program.process.stdin = None
        yield program, base


def test_curl_many_at_once():
    """The server answers none until all have asked."""
    with tap.need_fds(N_DOWNLOADS):
        with downloads([f'together/{N_DOWNLOADS}'] * N_DOWNLOADS) as (program, _):
            program.hear(end(N_DOWNLOADS, 0, 0, N_DOWNLOADS))


def test_curl_all_sizes():
    sizes = [0, 1, 1000, 100_000, 3_000_000] * 20
    with downloads([f'size/{size}' for size in sizes]) as (program, _):
        program.hear(end(len(sizes), 0, 0, sum(sizes)))


def test_curl_many_idle_connections():
    with tap.need_fds(MANY):
        with downloads([*['never'] * MANY, *['size/10'] * 10]) as (program, _):
            program.complains(f'\n10 done, 0 failed, {MANY} left, 100 bytes\n')
            program.process.terminate()
            program.hear(end(10, 0, MANY, 100))


def test_curl_server_slow():
    """Each has its own timeout."""
    paths = [*['never'] * 50, *['size/10'] * 50]
    with downloads(paths, '--timeout=2000', status=1) as (program, base):
        for _ in range(50):
            line = program.process.stdout.readline()
            assert re.fullmatch(f'{base}never: Operation timed out after .*', line.strip()), line
        program.hear(end(50, 50, 0, 500))


def check_curl_failures(path, regex, n_bytes=0, **options):
    with downloads([path] * 20, status=1, **options) as (program, base):
        for _ in range(20):
            line = program.process.stdout.readline()
            assert re.fullmatch(f'{base}{path}: {regex}', line.strip()), line
        program.hear(end(0, 20, 0, n_bytes))


def test_curl_server_hangs_up():
    check_curl_failures('half', '.* 996 bytes (remaining to read|missing)', 80)
    check_curl_failures('any', '(Empty reply from server|Recv failure: .*)', how='gone')


def test_curl_server_answers_garbage():
    check_curl_failures('any', 'Received HTTP/0.9 when not allowed', how='garbage')
    check_curl_failures('none', 'The requested URL returned error: 404')


def test_curl_server_never_there():
    with Program(status=1) as program:
        program.say('http://127.0.0.1:1/', 'what://127.0.0.1/')
        program.process.stdin.close()
        program.process.stdin = None
        lines = sorted(program.process.stdout.readline() for _ in range(2))
        assert re.search(r'(Failed|Could not) connect', lines[0].replace('to connect', 'connect')), lines
        assert lines[1].startswith('what://127.0.0.1/: Protocol "what"'), lines
        program.hear(end(0, 2, 0, 0))


def test_curl_hazards():
    with stand_in('http') as port:
        check_hazards(port)


# --- libpq ---

N_POSTGRES = 200


@functools.cache
def as_nobody_special():
    """PostgreSQL refuses to be run by root."""
    if os.getuid() != 0:
        return {}
    for user in 'postgres', 'nobody':
        with contextlib.suppress(KeyError):
            group = pwd.getpwnam(user).pw_gid
            return {'user': user, 'group': group, 'extra_groups': []}
    raise tap.Skip('PostgreSQL needs a user other than root')


def find_postgres(tool):
    """Debian keeps them where several versions can be."""
    folders = sorted(pathlib.Path('/usr/lib/postgresql').glob('*/bin'),
                     key=lambda folder: int(folder.parent.name))
    if folders:
        return folders[-1] / tool
    return find(tool, 'postgresql')


@functools.cache
def postgres_folder():
    """With a cluster, for all tests."""
    initdb = find_postgres('initdb')
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    user = as_nobody_special()
    if user:
        shutil.chown(folder, user['user'])
    subprocess.run([initdb, '--no-sync', '--auth=trust', '--username=test', '--encoding=UTF8',
                    '--locale=C', f'{folder}/data'],
                   check=True, stdout=subprocess.DEVNULL, cwd='/', **user)
    return folder


class Postgres(Process):
    def __init__(self):
        folder = postgres_folder()
        settings = {'listen_addresses': '', 'unix_socket_directories': folder, 'fsync': 'off',
                    'shared_buffers': '16MB', 'max_connections': N_POSTGRES + 10,
                    'dynamic_shared_memory_type': 'mmap'}
        super().__init__(find_postgres('postgres'), '-D', f'{folder}/data',
                         *(f'--{name}={value}' for name, value in settings.items()),
                         cwd='/', **as_nobody_special())
        self.conninfo = f'host={folder} user=test dbname=postgres'
        self.socket = f'{folder}/.s.PGSQL.5432'

    def start(self):
        super().start()
        wait_until(lambda: os.path.exists(self.socket))

    def kill(self):
        """With its processes, which it would leave behind."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.communicate(timeout=DEADLINE)


def test_postgres_rows():
    with Postgres() as server, Program(server.conninfo) as program:
        program.hear('1 connections')
        program.say("SELECT 6 * 7, 'times'; SELECT 1", 'SELECT generate_series(1, 50000)', '')
        program.hear('42\ttimes', 1, *range(1, 50001))


def test_postgres_takes_what_is_longer_than_a_socket():
    long = 'x' * 5_000_000
    with Postgres() as server, Program(server.conninfo) as program:
        program.say(f"SELECT '{long}'")
        program.hear('1 connections', long)


def test_postgres_many_connections():
    """One after the other would take too long."""
    with Postgres() as server:
        with Program(f'--connections={N_POSTGRES}', server.conninfo) as program:
            program.hear(f'{N_POSTGRES} connections')
            program.say(*['SELECT pg_backend_pid(), pg_sleep(1)'] * N_POSTGRES)
            lines = {program.process.stdout.readline() for _ in range(N_POSTGRES)}
            assert len(lines) == N_POSTGRES, lines


def test_postgres_many_idle_connections():
    with tap.need_fds(MANY), stand_in('postgres') as port:
        conninfo = f'hostaddr=127.0.0.1 port={port} user=test sslmode=disable gssencmode=disable'
        with Program(f'--connections={MANY}', conninfo) as program:
            program.hear(f'{MANY} connections')
            program.say(*['SELECT 1'] * 10)
            program.hear(*[1] * 10)


def test_postgres_notifications():
    with Postgres() as server, Program('--channel=news', server.conninfo) as program:
        program.hear('2 connections')
        wait_until(lambda: listens(program))
        program.say("NOTIFY news, 'hello'", "NOTIFY other, 'unheard'", "NOTIFY news, 'again'")
        program.hear('news: hello', 'news: again')
        program.process.terminate()


def listens(program):
    """Whoever LISTENs has told the server so."""
    program.say("SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN news' AND "
                "state = 'idle'")
    return program.process.stdout.readline() == '1\n'


def test_postgres_error_ends_no_connection():
    with Postgres() as server, Program(server.conninfo, status=1) as program:
        program.say('SELECT 1', 'SELECT nothing', 'COPY pg_class TO STDOUT', 'SELECT 2')
        program.hear('1 connections', 1, 2)
        program.complains('column "nothing" does not exist')
        program.complains('not finished: COPY .*\nCOPY is not supported; trying again\n')


def test_postgres_server_gone_and_back():
    """What had not begun is run then."""
    with Postgres() as server, Program(server.conninfo, status=1) as program:
        program.say('SELECT 1', 'SELECT 2, pg_sleep(1000)', 'SELECT 3')
        program.hear('1 connections', 1)
        server.kill()
        program.complains('not finished: SELECT 2, .*\n(.*\n)*.*; trying again\n')
        server.start()
        program.hear(3)


def test_postgres_server_slow():
    with Postgres() as server, Program('--timeout=1000', server.conninfo, status=1) as program:
        program.say('SELECT pg_sleep(1000)', 'SELECT 1')
        program.hear('1 connections', 1)
        program.complains('not finished: SELECT pg_sleep.*\nno answer in time; trying again\n')


def test_postgres_server_never_there():
    with Program('host=/nowhere', status=1) as program:
        program.say('SELECT 1', 'SELECT 2')
        program.complains('No such file or directory\n(.*\n)*gave up: 2 queries not begun\n')


def check_postgres_failure(how, regex, *options):
    with stand_in(how) as port:
        conninfo = f'hostaddr=127.0.0.1 port={port} user=test sslmode=disable gssencmode=disable'
        with Program(*options, conninfo, status=1) as program:
            program.say('SELECT 1', 'SELECT 2')
            program.complains(f'{regex}\n(.*\n)*gave up: 2 queries not begun\n')


def test_postgres_server_silent():
    check_postgres_failure('silent', 'no answer in time', '--timeout=20')


def test_postgres_server_hangs_up():
    check_postgres_failure('gone', 'server closed the connection unexpectedly')


def test_postgres_server_answers_garbage():
    check_postgres_failure('garbage', 'expected authentication request from server, but received .*')


def test_postgres_other_host_is_tried():
    """Its socket may have the number of that of the first, which is closed."""
    with Postgres() as server, socket.socket() as deaf:
        deaf.bind(('127.0.0.1', 0))
        folder = server.conninfo.split()[0].removeprefix('host=')
        conninfo = f'host=127.0.0.1,{folder} port={deaf.getsockname()[1]},5432 user=test ' \
            'dbname=postgres sslmode=disable gssencmode=disable'
        with Program(conninfo) as program:
            program.say('SELECT 1')
            program.hear('1 connections', 1)


def test_postgres_hazards():
    with stand_in('postgres') as port:
        check_hazards(port)


# --- libdbus ---

BUS_CONFIG = """<busconfig>
<type>session</type>
<listen>unix:path={socket}</listen>
<auth>EXTERNAL</auth>
<policy context="default">
<allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
</policy>
<limit name="max_completed_connections">{limit}</limit>
<limit name="max_connections_per_user">{limit}</limit>
<limit name="max_replies_per_connection">{limit}</limit>
<limit name="max_incomplete_connections">{limit}</limit>
</busconfig>
"""


class Bus(Process):
    def __init__(self, folder):
        socket_path = f'{folder}/bus.sock'
        config = pathlib.Path(folder, 'config')
        config.write_text(BUS_CONFIG.format(socket=socket_path, limit=MANY + 100), 'utf-8')
        self.address = f'unix:path={socket_path}'
        super().__init__(find('dbus-daemon', 'dbus-daemon'), f'--config-file={config}', '--nofork',
                         '--print-address', stdout=subprocess.PIPE, text=True)

    def start(self):
        super().start()
        assert self.process.stdout.readline()


@contextlib.contextmanager
def bus():
    with tempfile.TemporaryDirectory() as folder, Bus(folder) as server:
        yield server


@contextlib.contextmanager
def bus_with_service():
    with bus() as server, Program('--serve', server.address) as service:
        service.hear('serving')
        yield server
        service.process.terminate()


def test_dbus_answers_in_order():
    with bus_with_service() as server, Program(server.address) as program:
        program.say(*range(1000))
        program.hear(*range(1000))


def test_dbus_takes_what_is_longer_than_a_socket():
    long = 'x' * 5_000_000
    with bus_with_service() as server, Program(server.address) as program:
        program.say(long)
        program.hear(long)


def test_dbus_signals():
    with bus_with_service() as server, Program('--listen', server.address) as program:
        program.say('hello', 'again')
        heard = sorted(program.process.stdout.readline() for _ in range(4))
        assert heard == ['again\n', 'hello\n', 'said: again\n', 'said: hello\n'], heard
        program.process.terminate()


def test_dbus_many_idle_connections():
    with tap.need_fds(MANY), bus_with_service() as server:
        with Program(f'--idle={MANY}', server.address) as program:
            program.hear(f'{MANY} idle connections')
            program.say('hello')
            program.hear('hello')


def test_dbus_service_slow():
    """Each call has its own timeout."""
    with bus_with_service() as server:
        with Program('--timeout=500', server.address, status=1) as program:
            program.say('nothing', 'hello')
            program.hear('hello')
            program.complains('nothing: Did not receive a reply.*\n')


def test_dbus_no_service():
    with bus() as server, Program(server.address, status=1) as program:
        program.say('hello')
        program.complains('hello: The name org.gaio.Neighbour was not provided .*\n')


def test_dbus_bus_gone():
    """All that had no answer are told of."""
    with bus() as server:
        with Program('--serve', server.address, status=1) as service:
            service.hear('serving')
            with Program('--listen', server.address, status=1) as program:
                program.say('nothing', 'nothing')
                program.hear('said: nothing', 'said: nothing')
                server.kill()
                program.complains('(nothing: not answered\n){2}.*: the connection is lost\n')
            service.complains('the connection is lost')


def check_dbus_failure(how, regex, *options):
    with stand_in(how) as port:
        with Program(*options, f'tcp:host=127.0.0.1,port={port}', status=1) as program:
            program.complains(regex)


def test_dbus_bus_silent():
    check_dbus_failure('silent', 'Did not receive a reply', '--timeout=20')


def test_dbus_bus_hangs_up():
    check_dbus_failure('gone', 'the connection is lost')


def test_dbus_bus_answers_garbage():
    """libdbus asks for something better, until its time is over."""
    check_dbus_failure('garbage', 'Did not receive a reply', '--timeout=300')


def test_dbus_bus_never_there():
    with Program('unix:path=/nowhere/bus', status=1) as program:
        program.complains('Failed to connect to socket /nowhere/bus')


def test_dbus_hazards():
    with bus() as server:
        check_hazards(server.address)


tap.run({name: test for name, test in globals().items() if name.startswith(f'test_{NEIGHBOUR}_')})
