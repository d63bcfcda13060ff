#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-session-daemon.py LOGBOOK SERVICE. What the example of a session daemon makes of its
clients, its bus and its service manager, good and bad, as TAP. SERVICE is its file for D-Bus."""

import contextlib
import ctypes
import os
import pathlib
import resource
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tap

try:
    from gi.repository import Gio, GLib
except ImportError:
    print("1..0 # SKIP there is no PyGObject")
    sys.exit()

if shutil.which("dbus-daemon") is None:
    print("1..0 # SKIP dbus-daemon is not installed")
    sys.exit()

LOGBOOK, SERVICE = sys.argv[1:]
NAME = "org.gaio.Logbook"
PATH = "/org/gaio/Logbook"
INTERFACE = "org.gaio.Logbook1"
LIBC = ctypes.CDLL(None)
DEADLINE = 50
N_CLIENTS = 3000
N_ENTRIES = 4  # of each client
COMMANDS = """
[Commands]
well=true
badly=sh -c 'exit 3'
never=sleep 1000
missing=/nowhere/at/all
unaware=sh -c 'test -z "$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES"'
"""


def die_with_parent():
    """Before exec: also if a test that hangs ends this program."""
    PR_SET_PDEATHSIG = 1
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


class Session:
    """A session bus, with folders of its own, in which daemons run."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.socket_path = self.folder / "gaio-logbook.sock"
        self.log = self.folder / "gaio-logbook/entries"
        self.config = self.folder / "gaio-logbook.conf"
        self.config.write_text(f"[Logbook]\nCommandTimeout={DEADLINE}\n{COMMANDS}")
        services = self.folder / "dbus-1/services"
        services.mkdir(parents=True)
        shutil.copy(SERVICE, services)
        self.environment = {
            **os.environ, "XDG_RUNTIME_DIR": str(self.folder), "XDG_DATA_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder), "LC_ALL": "C.UTF-8",
        }
        self.bus = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--print-address"], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=self.environment,
            preexec_fn=die_with_parent)
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = self.bus.stdout.readline().strip()
        self.connection = Gio.DBusConnection.new_for_address_sync(
            self.environment["DBUS_SESSION_BUS_ADDRESS"],
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
            | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.daemons = []

    def __enter__(self):
        return self

    def __exit__(self, exc_type, *_):
        try:
            for daemon in self.daemons:
                daemon.end(kill=exc_type is not None)
        finally:
            self.clear()

    def clear(self):
        with contextlib.suppress(GLib.Error):  # it may have gone with the bus
            self.connection.close_sync(None)
        self.kill_bus()
        self.bus.stdout.close()
        shutil.rmtree(self.folder)

    def kill_bus(self):
        self.bus.kill()
        self.bus.wait()

    def start(self, *arguments, **options):
        """A daemon that serves its socket."""
        daemon = Daemon(self, *arguments, **options)
        wait_until(daemon.is_up)
        return daemon

    def fail(self, *arguments, **options):
        """What a daemon that does not start says, and its exit status."""
        daemon = Daemon(self, *arguments, **options)
        said = daemon.process.communicate(timeout=DEADLINE)[1]
        self.daemons.remove(daemon)
        return said, daemon.process.returncode

    def call(self, method, parameters=None, path=PATH, interface=INTERFACE):
        answer = self.connection.call_sync(
            NAME, path, interface, method, parameters, None, Gio.DBusCallFlags.NONE,
            DEADLINE * 1000, None)
        return answer.unpack()[0] if answer.n_children() else None

    def properties(self):
        return self.call("GetAll", GLib.Variant("(s)", (INTERFACE,)),
                         interface="org.freedesktop.DBus.Properties")

    def stats(self):
        return self.call("GetStats", path="/org/gaio/Stats/0", interface="org.gaio.Stats1")

    def slowest(self):
        return self.call("GetSlowest", GLib.Variant("(u)", (100,)), path="/org/gaio/Stats/0",
                         interface="org.gaio.Stats1")

    def connect(self):
        return Client(self.socket_path)

    def entries(self):
        return self.log.read_text().splitlines()


class Daemon:
    """A daemon process; at the end of the session it is stopped and has to end well."""

    def __init__(self, session, *arguments, passed=None, setup=None, n_passed=1, environment=None):
        def prepare():
            die_with_parent()
            if passed is not None:
                os.dup2(passed.fileno(), 3)
            if setup is not None:
                setup()

        self.socket_path = session.socket_path
        command = [LOGBOOK, *arguments]
        if passed is not None:
            line = f'LISTEN_PID=$$ LISTEN_FDS={n_passed} LISTEN_FDNAMES=x exec "$@"'
            command = ["sh", "-c", line, "sh", *command]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, preexec_fn=prepare,
            pass_fds=[] if passed is None else [3], restore_signals=setup is None,
            env={**session.environment, **(environment or {})})
        session.daemons.append(self)

    def is_up(self):
        assert self.process.poll() is None, self.process.stderr.read()
        try:
            Client(self.socket_path).close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def ended(self):
        """Its exit status and what it said, when it has ended by itself."""
        said = self.process.communicate(timeout=DEADLINE)[1]
        return self.process.returncode, said

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.ended()[0] == 0, self.process.returncode

    def kill(self):
        self.process.kill()
        self.ended()

    def end(self, kill):
        if self.process.poll() is None:
            (self.kill if kill else self.stop)()
        self.process.stderr.close()


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def read_line(self):
        """The next line, or None at the end."""
        while b"\n" not in self.buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert self.buffer == b"", self.buffer
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def ask(self, request, *answers):
        self.send(request)
        for answer in answers:
            line = self.read_line()
            assert line == answer, (line, answer)

    def close(self):
        self.socket.close()


# What it does


def converse(*arguments):
    with Session() as session:
        session.start(*arguments)
        one, two = session.connect(), session.connect()
        two.ask(b"WATCH\n", "OK")
        one.ask(b"PUT a hello world\nPUT b \nPUT c\n", "OK a", "OK b", "OK c")
        for line in "ENTRY a hello world", "ENTRY b ", "ENTRY c ":
            assert two.read_line() == line
        two.send(b"PUT d half-closed")
        two.send(b"\n")
        two.socket.shutdown(socket.SHUT_WR)
        rest = [two.read_line(), two.read_line(), two.read_line()]
        assert rest == ["OK d", "ENTRY d half-closed", None], rest
        assert session.entries() == ["a hello world", "b ", "c ", "d half-closed"]
        one.close()
        two.close()


def test_serves_its_clients():
    converse()


def test_serves_its_clients_with_glib():
    converse("--watch=glib")


def test_bus_starts_it_and_quit_ends_it():
    with Session() as session:
        assert session.call("Run", GLib.Variant("(s)", ("well",))) == "exited 0"
        # Not our child: it has no status for us, and stays a zombie where the init reaps nobody.
        pidfd = os.pidfd_open(session.stats()["pid"])
        client = session.connect()
        client.ask(b"PUT a b\n", "OK a")
        assert session.call("Quit") is None
        assert client.read_line() == "BYE"
        assert client.read_line() is None
        assert select.select([pidfd], [], [], DEADLINE)[0], "waited too long"
        os.close(pidfd)
        assert not session.socket_path.exists()
        assert session.entries() == ["a b"]
        client.close()


def test_sent_again_it_is_there_once():
    with Session() as session:
        daemon = session.start()
        one, two = session.connect(), session.connect()
        one.ask(b"PUT a first\nPUT a again\n", "OK a", "OK a")
        two.ask(b"PUT a later\n", "OK a")
        daemon.kill()
        one.close()
        two.close()
        session.start()
        one = session.connect()
        one.ask(b"PUT a after a restart\n", "OK a")
        one.close()
        assert session.entries() == ["a first"]


class Talker:
    """Says what it has to say, one entry after the other, again where it got no answer."""

    def __init__(self, crowd, number):
        self.crowd = crowd
        self.number = number
        self.n_safe = 0
        self.client = None

    def connect(self):
        self.client = self.crowd.session.connect()
        self.crowd.selector.register(self.client.socket, selectors.EVENT_READ, self)
        self.say_next()

    def id(self):
        return f"{self.number}.{self.n_safe}"

    def say_next(self):
        if self.n_safe < N_ENTRIES:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.client.send(f"PUT {self.id()} text of {self.id()}\n".encode())

    def listen(self):
        line = self.client.read_line()
        if line is None:
            self.crowd.selector.unregister(self.client.socket)
            self.client.close()
            self.client = None
        elif line != "BYE":
            assert line == f"OK {self.id()}", (line, self.id())
            self.crowd.safe.add(self.id())
            self.n_safe += 1
            self.say_next()


class Crowd:
    def __init__(self, session, n):
        self.session = session
        self.selector = selectors.DefaultSelector()
        self.talkers = [Talker(self, number) for number in range(n)]
        self.safe = set()

    def connect(self):
        for talker in self.talkers:
            if talker.client is None:
                talker.connect()

    def talk_until(self, n_safe):
        while len(self.safe) < n_safe:
            events = self.selector.select(DEADLINE)
            assert events, "nothing comes any more"
            for key, _ in events:
                key.data.listen()

    def hear_the_end(self):
        """All that the daemon has said before it ended."""
        while any(talker.client for talker in self.talkers):
            for key, _ in self.selector.select(DEADLINE):
                key.data.listen()

    def check(self):
        ids = [line.split()[0] for line in self.session.entries()]
        assert len(ids) == len(set(ids)), "an entry is there twice"
        assert self.safe <= set(ids), self.safe - set(ids)


def test_nothing_acknowledged_is_lost_or_doubled():
    total = N_CLIENTS * N_ENTRIES
    with tap.need_fds(N_CLIENTS), Session() as session:
        daemon = session.start()
        crowd = Crowd(session, N_CLIENTS)
        for n_safe, end in (total // 3, daemon.stop), (2 * total // 3, None), (total, None):
            crowd.connect()
            crowd.talk_until(n_safe)
            if n_safe < total:
                (end or daemon.kill)()
                crowd.hear_the_end()
                crowd.check()
                daemon = session.start()
        # Who has nothing left to say may not have been accepted yet.
        wait_until(lambda: session.stats()["handlers"] >= N_CLIENTS)
        crowd.check()
        expected = {f"{client}.{entry} text of {client}.{entry}"
                    for client in range(N_CLIENTS) for entry in range(N_ENTRIES)}
        assert set(session.entries()) == expected
        for talker in crowd.talkers:
            talker.client.close()
        crowd.selector.close()


def test_commands():
    with Session() as session:
        session.start()
        client = session.connect()
        client.ask(b"RUN well\n", "DONE well exited 0")
        client.ask(b"RUN badly\n", "DONE badly exited 3")
        client.ask(b"RUN unknown\n", "ERR unknown There is no command “unknown”")
        client.send(b"RUN missing\n")
        assert client.read_line().startswith("ERR missing ")
        client.ask(b"PUT still here\n", "OK still")
        client.close()


def test_command_that_does_not_end():
    with Session() as session:
        config = write(session, f"[Logbook]\nCommandTimeout=1\n{COMMANDS}")
        session.start("--config", config)
        client, half_closed = session.connect(), session.connect()
        half_closed.send(b"RUN never\n")
        half_closed.socket.shutdown(socket.SHUT_WR)
        client.ask(b"RUN never\n", "DONE never timed out")
        assert half_closed.read_line() == "DONE never timed out"
        assert half_closed.read_line() is None
        half_closed.close()
        client.ask(b"PUT still here\n", "OK still")
        client.close()


def both_have_ended(ended):
    while GLib.MainContext.default().iteration(False):
        pass
    return len(ended) == 2


def test_commands_on_the_bus():
    with Session() as session:
        session.start()
        ended = []
        session.connection.signal_subscribe(
            NAME, INTERFACE, "CommandEnded", PATH, None, Gio.DBusSignalFlags.NONE,
            lambda *what: ended.append(what[5].unpack()))
        # What answers this has heard of the subscription before.
        assert session.properties()["Entries"] == 0
        client = session.connect()
        client.ask(b"RUN badly\n", "DONE badly exited 3")
        assert session.call("Run", GLib.Variant("(s)", ("well",))) == "exited 0"
        wait_until(lambda: both_have_ended(ended))
        assert ended == [("badly", "exited 3"), ("well", "exited 0")], ended
        try:
            session.call("Run", GLib.Variant("(s)", ("unknown",)))
        except GLib.Error as error:
            assert "There is no command" in error.message, error
        else:
            raise AssertionError("it ran")
        client.close()


def test_stop_ends_commands():
    with Session() as session:
        daemon = session.start("--config", write(session, "[Commands]\nnever=sleep 1000\n"))
        client = session.connect()
        client.ask(b"RUN never\nPUT a b\n", "OK a")
        pid = int(pathlib.Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
                  .read_text().split()[0])
        daemon.process.send_signal(signal.SIGTERM)
        assert client.read_line() == "DONE never stopped"
        assert client.read_line() == "BYE"
        assert daemon.ended()[0] == 0
        assert not os.path.exists(f"/proc/{pid}")
        client.close()


def test_properties():
    with Session() as session:
        session.start()
        clients = [session.connect() for _ in range(5)]
        clients[0].ask(b"PUT a b\n", "OK a")
        wait_until(lambda: session.properties() == {"Clients": 5, "Entries": 1})
        clients[4].close()
        wait_until(lambda: session.properties() == {"Clients": 4, "Entries": 1})
        for client in clients:
            client.close()


def test_figures_of_its_loop():
    with Session() as session:
        session.start()
        assert session.slowest() == []
        client = session.connect()
        client.ask(b"PUT a b\n", "OK a")
        rows = {(kind, name): calls for kind, name, _, calls, _, _ in session.slowest()}
        assert rows["handler", "client"] >= 1 and rows["handler", "listener"] >= 1, rows
        assert rows["bottom half", ""] == 1, rows
        client.close()


# The service manager


def listening(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(100)
    return listener


def test_socket_of_the_service_manager():
    with Session() as session:
        listener = listening(session.socket_path)
        early = session.connect()
        early.send(b"PUT a before it starts\n")
        daemon = session.start(passed=listener)
        assert early.read_line() == "OK a"
        flags = pathlib.Path(f"/proc/{daemon.process.pid}/fdinfo/3").read_text().split()[3]
        assert int(flags, 8) & os.O_CLOEXEC and int(flags, 8) & os.O_NONBLOCK, flags
        early.ask(b"RUN unaware\n", "DONE unaware exited 0")
        daemon.stop()
        early.close()
        assert session.socket_path.exists()
        late = session.connect()
        late.send(b"PUT b between two\n")
        session.start(passed=listener)
        assert late.read_line() == "OK b"
        late.close()
        listener.close()


def test_sockets_for_another_process():
    with Session() as session:
        environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
        daemon = session.start(environment=environment)
        daemon.stop()
        assert not session.socket_path.exists()


def test_socket_that_is_none():
    message = "gaio-logbook: LISTEN_FDS: one listening Unix stream socket is expected\n"
    with Session() as session, listening(session.socket_path) as listener:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            assert session.fail(passed=datagrams) == (message, 1)
        with socket.socket() as other, socket.socket(socket.AF_UNIX) as silent:
            assert session.fail(passed=other) == (message, 1)
            assert session.fail(passed=silent) == (message, 1)
        with open("/dev/null") as file:
            assert session.fail(passed=file) == (message, 1)
        assert session.fail(passed=listener, n_passed=2) == (message, 1)


# What is wrong


def write(session, text):
    session.config.write_text(text)
    return str(session.config)


BROKEN = {
    "[Logbook\n": "line “[Logbook”",
    "nonsense\n": "line “nonsense”",
    "[Logbook]\nSync=perhaps\n": "[Logbook] Sync: ",
    "[Logbook]\nCommandTimeout=soon\n": "[Logbook] CommandTimeout: ",
    "[Logbook]\nCommandTimeout=0\n": "[Logbook] CommandTimeout: 0 is not a number of seconds",
    "[Logbook]\nSocket=here\n": "[Logbook] Socket: “here” is not an absolute path",
    "[Logbook]\nLog=\n": "[Logbook] Log: “” is not an absolute path",
    "[Logbook]\nSycn=true\n": "[Logbook] Sycn: there is no such key",
    "[Logbok]\nSync=true\n": "[Logbok]: there is no such group",
    "[Commands]\nx='\n": "[Commands] x: ",
    "[Commands]\nx=\n": "[Commands] x: ",
}


def test_broken_configuration():
    with Session() as session:
        for text, message in BROKEN.items():
            said, status = session.fail(f"--config={write(session, text)}")
            assert status == 2, (text, status)
            assert said.startswith(f"gaio-logbook: {session.config}: "), said
            assert message in said and said.count("\n") == 1, (said, message)
        said, status = session.fail()
        assert (status, str(session.config) in said) == (2, True), said
        assert not session.log.exists() and not session.socket_path.exists()
        assert session.fail("--watch=x") == ("gaio-logbook: --watch is gaio or glib\n", 2)
        said, status = session.fail("--config=/nowhere/x")
        assert said.startswith("gaio-logbook: /nowhere/x: ") and status == 2, said


def test_example_of_a_configuration():
    folder = pathlib.Path(__file__).parent.parent / "examples/session-daemon"
    with Session() as session:
        session.start("--config", folder / "gaio-logbook.conf")


def test_bus_that_goes_away():
    with Session() as session:
        daemon = session.start()
        client = session.connect()
        client.ask(b"PUT a b\n", "OK a")
        session.kill_bus()
        assert daemon.ended() == (1, "gaio-logbook: the session bus has gone\n")
        assert client.read_line() == "BYE"
        assert session.entries() == ["a b"]
        assert not session.socket_path.exists()
        client.close()


def test_no_bus():
    with Session() as session:
        session.kill_bus()
        said, status = session.fail()
        assert status == 1 and said.endswith("gaio-logbook: there is no session bus\n"), said


def test_second_daemon():
    with Session() as session:
        session.start()
        said, status = session.fail()
        assert status == 1 and NAME in said, said
        session.connect().close()


def test_socket_of_a_live_server():
    with Session() as session:
        listener = listening(session.socket_path)
        said = f"gaio-logbook: {session.socket_path}: another server listens there\n"
        assert session.fail() == (said, 1)
        session.connect().close()
        listener.close()


def test_socket_of_a_dead_server():
    with Session() as session:
        listening(session.socket_path).close()
        assert session.socket_path.exists()
        session.start().stop()
        assert not session.socket_path.exists()


def test_path_that_is_no_socket():
    with Session() as session:
        session.socket_path.write_text("precious")
        said = f"gaio-logbook: {session.socket_path}: it is there, and not a socket\n"
        assert session.fail() == (said, 1)
        assert session.socket_path.read_text() == "precious"


def test_path_that_is_too_long():
    with Session() as session:
        path = session.folder / ("x" * 200)
        said = f"gaio-logbook: {path}: too long for the path of a socket\n"
        config = write(session, f"[Logbook]\nSocket={path}\n")
        assert session.fail("--config", config) == (said, 1)


def test_log_that_cannot_be_had():
    with Session() as session:
        config = write(session, "[Logbook]\nLog=/dev/null/entries\n")
        said, status = session.fail("--config", config)
        assert status == 1 and "/dev/null/entries: cannot open it: " in said, said
        other = session.folder / "other"
        other.write_text("a b\nnot_ours\n")
        config = write(session, f"[Logbook]\nLog={other}\n")
        said = f"gaio-logbook: {other}: line 2 is not an entry of a logbook\n"
        assert session.fail("--config", config) == (said, 1)
        assert other.read_text() == "a b\nnot_ours\n"


def test_log_of_another_process():
    with Session() as session, Session() as other:
        session.start()
        config = write(other, f"[Logbook]\nLog={session.log}\n")
        said = f"gaio-logbook: {session.log}: another process uses it\n"
        assert other.fail("--config", config) == (said, 1)


def test_unfinished_entry_is_cut_off():
    with Session() as session:
        session.log.parent.mkdir()
        session.log.write_text("a whole\nb ha")
        daemon = session.start()
        client = session.connect()
        client.ask(b"PUT b whole\n", "OK b")
        daemon.process.send_signal(signal.SIGTERM)
        assert "4 bytes of an unfinished entry are cut off" in daemon.ended()[1]
        assert session.entries() == ["a whole", "b whole"]
        client.close()


def test_log_that_cannot_be_written():
    def limit_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    with Session() as session:
        session.start(setup=limit_size)
        client = session.connect()
        client.ask(b"PUT a short\n", "OK a")
        client.send(b"PUT b " + b"x" * 200 + b"\n")
        assert client.read_line().startswith(f"ERR b {session.log}: cannot write to it: ")
        client.ask(b"PUT c short\nPUT b short\n", "OK c", "OK b")
        assert session.entries() == ["a short", "c short", "b short"]
        client.close()


def test_bad_clients():
    bad = {
        b"GET / HTTP/1.1\r\n\r\n": "ERR there is no such command",
        b"PUT\n": "ERR there is no such command",
        b"RUN\n": "ERR there is no such command",
        b"\n": "ERR there is no such command",
        b"PUT a \xff\xfe\n": "ERR this is not text",
        b"PUT a \0\n": "ERR this is not text",
        b"x" * 4096: "ERR the line is too long",
        b"PUT a " + b"x" * 4096 + b"\n": "ERR the line is too long",
    }
    with Session() as session:
        session.start()
        good = session.connect()
        for number, (data, answer) in enumerate(bad.items()):
            client = session.connect()
            client.ask(data, answer)
            assert client.read_line() is None
            client.close()
            good.ask(b"PUT %d x\n" % number, f"OK {number}")
        assert len(session.entries()) == len(bad)
        good.close()


def test_long_line_with_its_end():
    """The end comes with what makes it too long."""
    with Session() as session:
        session.start()
        client = session.connect()
        client.ask(b"PUT a x\n", "OK a")
        client.ask(b"PUT a x\nPUT b " + b"x" * 4150 + b"\n", "OK a", "ERR the line is too long")
        assert client.read_line() is None
        assert session.entries() == ["a x"]
        client.close()


def test_client_that_reads_too_slowly():
    with Session() as session:
        session.start()
        slow, good = session.connect(), session.connect()
        slow.ask(b"WATCH\n", "OK")
        n = 0
        while session.stats()["handlers"] > 2:
            assert n < 2000, "nobody was cut off"
            for n in range(n + 1, n + 101):
                good.ask(b"PUT %d %s\n" % (n, b"x" * 4000), f"OK {n}")
        seen = 0
        while (line := slow.read_line()) is not None and line.startswith("ENTRY"):
            seen += 1
        assert 0 < seen < n, (seen, n)
        slow.close()
        good.close()


def test_more_clients_than_fds():
    limit = 40

    def limit_fds():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    with Session() as session:
        session.start(setup=limit_fds)
        clients = [session.connect() for _ in range(limit)]
        for client in clients:
            client.send(b"PUT a b\n")
        for client in clients:
            assert client.read_line() == "OK a"
            client.close()


if __name__ == "__main__":
    tap.run(globals())
