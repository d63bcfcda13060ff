#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-relay.py RELAY. What the example daemon makes of good and bad clients, as TAP."""

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

DEADLINE = 30
MAX_LINE = 4096
MAX_QUEUE = 256 * 1024
FD_LIMIT = 24
# What is large goes back to the system at once when it is freed.
EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}


class Skip(Exception):
    """The test says nothing here; the reason."""


class Relay:
    """A relay process; leaving the block stops it with SIGTERM and checks that it ended well."""

    def __init__(self, binary, watch, fd_limit=None, environment=None):
        def limit_fds():
            if fd_limit is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (fd_limit, fd_limit))

        self.process = subprocess.Popen([binary, "--watch=" + watch], stdout=subprocess.PIPE,
                                        text=True, preexec_fn=limit_fds,
                                        env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, exc_type, *_):
        if exc_type is not None:
            self.process.kill()
            self.process.wait()
        elif self.process.poll() is None:
            self.stop()
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, self.process.returncode
        assert output.startswith("stopped: STATS "), output

    def is_sanitized(self):
        with open(f"/proc/{self.process.pid}/maps", encoding="utf-8") as maps:
            return "libasan" in maps.read()

    def memory(self):
        """The bytes that are resident."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    def connect(self, receive_buffer=None):
        return Client(self.port, receive_buffer)


class Client:
    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def read_line(self):
        """The next line, or None at the end of file."""
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                assert self.buffer == b"", self.buffer
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def read_to_the_end(self):
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass

    def expect(self, *lines):
        for line in lines:
            got = self.read_line()
            assert got == line, (got, line)

    def ask(self, request, answer):
        self.send(request)
        self.expect(answer)

    def stats(self):
        self.send(b"STATS\n")
        words = self.read_line().decode().split()
        assert words[0] == "STATS", words
        return dict(word.split("=") for word in words[1:])

    def wait_for_stats(self, key, value):
        deadline = time.monotonic() + DEADLINE
        while (stats := self.stats())[key] != str(value):
            assert time.monotonic() < deadline, (key, value, stats)
            time.sleep(0.01)

    def wait_for_ticks(self, count):
        """Until the heartbeat has beaten so often: the relay's own measure of time."""
        deadline = time.monotonic() + DEADLINE
        self.stats()
        while count > 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            count -= int(self.stats()["ticks"])

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def test_commands(start):
    with start() as relay:
        one, two = relay.connect(), relay.connect()
        one.ask(b"PING\n", b"PONG")
        one.ask(b"SUB news\r\n", b"OK")
        two.ask(b"SUB news\n", b"OK")
        one.send(b"PUB news hello, world\nPUB other unheard\nPING\n")
        one.expect(b"MSG news hello, world", b"PONG")
        two.expect(b"MSG news hello, world")
        two.ask(b"UNSUB news\n", b"OK")
        two.ask(b"UNSUB news\n", b"OK")
        one.ask(b"PUB news\n", b"MSG news ")
        two.ask(b"PING\n", b"PONG")
        two.ask(b"QUIT\n", b"BYE")
        assert two.read_line() is None
        two.close()
        one.wait_for_stats("connections", 1)
        one.close()


def test_lines_in_pieces(start):
    with start() as relay:
        client = relay.connect()
        for byte in b"SUB \xc3\xa4\r\nPUB \xc3\xa4 a  b \n":
            client.send(bytes([byte]))
        client.expect(b"OK", b"MSG \xc3\xa4 a  b ")
        client.send(b"PING\n" * 5000)
        client.expect(*[b"PONG"] * 5000)
        client.close()


def test_garbage_is_answered_and_survived(start):
    with start() as relay:
        client = relay.connect()
        for line in (b"", b" ", b"HELO", b"ping", b"\xff\xfe\x80", b"SUB" * 100, b"PINGX"):
            client.ask(line + b"\n", b"ERR unknown command")
        for line in (b"SUB", b"UNSUB ", b"PUB", b"PUB  text"):
            client.ask(line + b"\n", b"ERR topic missing")
        for line in (b"\0", b"SUB a\0b", b"PING\0"):
            client.ask(line + b"\n", b"ERR the line has a zero byte")
        client.send(bytes(range(256)) * 64 + b"\nQUIT\n")
        while (line := client.read_line()) != b"BYE":
            assert line.startswith(b"ERR "), line
        client.close()
        other = relay.connect()
        other.ask(b"PING\n", b"PONG")
        other.close()


def test_the_longest_line_is_served(start):
    with start() as relay:
        client = relay.connect()
        client.ask(b"SUB t\n", b"OK")
        text = b"x" * (MAX_LINE - len(b"PUB t \n"))
        client.ask(b"PUB t " + text + b"\n", b"MSG t " + text)
        client.ask(b"PUB t x" + text + b"\n", b"ERR line too long")
        assert client.read_line() is None
        client.close()


def test_an_endless_line_is_told_and_dropped(start):
    with start() as relay:
        watcher, client = relay.connect(), relay.connect()
        client.send(b"x" * (1024 * 1024))
        client.expect(b"ERR line too long")
        assert client.read_line() is None
        watcher.wait_for_stats("dropped", 1)
        try:
            deadline = time.monotonic() + DEADLINE
            while time.monotonic() < deadline:
                client.send(b"x" * 4096)
                time.sleep(0.001)
            raise AssertionError("one who goes on sending is never cut off")
        except (BrokenPipeError, ConnectionResetError):
            pass
        watcher.wait_for_stats("connections", 1)
        client.close()
        watcher.close()


def test_half_close_gets_what_is_queued(start):
    with start() as relay:
        watcher, client = relay.connect(), relay.connect()
        client.send(b"SUB t\n" + b"PUB t " + b"x" * 1000 + b"\nPING\n")
        client.send((b"PUB t " + b"x" * 1000 + b"\n") * 100)
        client.socket.shutdown(socket.SHUT_WR)
        client.expect(b"OK", b"MSG t " + b"x" * 1000, b"PONG")
        client.expect(*[b"MSG t " + b"x" * 1000] * 100)
        assert client.read_line() is None
        watcher.wait_for_stats("connections", 1)
        watcher.wait_for_stats("topics", 0)
        client.close()
        watcher.close()


def test_half_close_of_a_backlog(start):
    """More is queued than the sockets take: most of it goes out after the end of file came in."""
    with start() as relay:
        publisher, client = relay.connect(), relay.connect(receive_buffer=4096)
        client.ask(b"SUB t\n", b"OK")
        message = b"MSG t " + b"x" * 4000
        while int(publisher.stats()["queued_bytes"]) < MAX_QUEUE // 2:
            publisher.send(message.replace(b"MSG", b"PUB") + b"\n")
        client.socket.shutdown(socket.SHUT_WR)
        count = int(publisher.stats()["delivered"])
        client.expect(*[message] * count)
        assert client.read_line() is None
        publisher.wait_for_stats("connections", 1)
        client.close()
        publisher.close()


def test_publisher_may_go_before_its_words_are_read(start):
    with start() as relay:
        watcher, publisher = relay.connect(), relay.connect()
        client = relay.connect(receive_buffer=4096)
        client.ask(b"SUB t\n", b"OK")
        message = b"MSG t " + b"x" * 4000
        while int(publisher.stats()["queued_bytes"]) < MAX_QUEUE // 2:
            publisher.send(message.replace(b"MSG", b"PUB") + b"\n")
        publisher.close()
        watcher.wait_for_stats("connections", 2)
        client.expect(*[message] * int(watcher.stats()["delivered"]))
        client.ask(b"PING\n", b"PONG")
        client.close()
        watcher.close()


def test_vanished_clients_are_forgotten(start):
    with start() as relay:
        watcher = relay.connect()
        clients = [relay.connect() for _ in range(20)]
        for client in clients:
            client.ask(b"SUB t\n", b"OK")
        watcher.send(b"PUB t " + b"x" * 1000 + b"\n")
        for client in clients[:15]:
            client.reset()
        watcher.send(b"PUB t y\n")
        for client in clients[15:]:
            client.expect(b"MSG t " + b"x" * 1000, b"MSG t y")
            client.close()
        watcher.wait_for_stats("connections", 1)
        watcher.wait_for_stats("topics", 0)
        watcher.close()


def test_many_clients(start):
    count = 300
    with start() as relay:
        clients = [relay.connect() for _ in range(count)]
        for i, client in enumerate(clients):
            client.send(b"SUB all\nSUB own%d\n" % i)
            client.expect(b"OK", b"OK")
        stats = clients[0].stats()
        assert stats["connections"] == str(count) and stats["topics"] == str(count + 1), stats
        clients[0].send(b"PUB all 1\nPUB own%d 2\n" % (count - 1))
        for client in clients:
            client.expect(b"MSG all 1")
        clients[-1].expect(b"MSG own%d 2" % (count - 1))
        for client in clients[1:]:
            client.close()
        clients[0].wait_for_stats("connections", 1)
        clients[0].wait_for_stats("topics", 2)
        clients[0].close()


def test_subscriptions_are_bounded(start):
    with start() as relay:
        client = relay.connect()
        client.send(b"".join(b"SUB t%d\n" % i for i in range(64)))
        client.expect(*[b"OK"] * 64)
        client.ask(b"SUB one-more\n", b"ERR too many subscriptions")
        client.ask(b"UNSUB t0\n", b"OK")
        client.ask(b"SUB one-more\n", b"OK")
        client.close()


def overflow(publisher):
    """Publishes until somebody has been dropped."""
    deadline = time.monotonic() + DEADLINE
    while publisher.stats()["dropped"] == "0":
        assert time.monotonic() < deadline
        publisher.send((b"PUB t " + b"x" * 4000 + b"\n") * 20)


def test_a_slow_reader_is_told_and_dropped(start):
    with start() as relay:
        publisher, slow = relay.connect(), relay.connect(receive_buffer=4096)
        slow.ask(b"SUB t\n", b"OK")
        overflow(publisher)
        while (line := slow.read_line()) == b"MSG t " + b"x" * 4000:
            pass
        assert line == b"ERR too slow", line
        assert slow.read_line() is None
        slow.close()
        publisher.wait_for_stats("connections", 1)
        publisher.close()


def test_one_who_never_reads_is_cut_off(start):
    with start() as relay:
        publisher, slow = relay.connect(), relay.connect(receive_buffer=4096)
        slow.ask(b"SUB t\n", b"OK")
        overflow(publisher)
        publisher.wait_for_stats("connections", 1)
        publisher.wait_for_stats("topics", 0)
        slow.read_to_the_end()
        slow.close()
        publisher.close()


def test_one_who_asks_and_never_reads_is_dropped(start):
    with start() as relay:
        watcher, client = relay.connect(), relay.connect(receive_buffer=4096)
        deadline = time.monotonic() + DEADLINE
        while (stats := watcher.stats())["dropped"] == "0":
            assert time.monotonic() < deadline
            assert int(stats["queued_bytes"]) <= MAX_QUEUE
            client.send(b"PING\n" * 4096)
        client.close()
        watcher.wait_for_stats("connections", 1)
        watcher.wait_for_stats("queued_bytes", 0)
        watcher.close()


def test_topics_that_nobody_hears_are_not_kept(start):
    with start() as relay:
        client = relay.connect()
        for i in range(2000):
            client.send(b"PUB p%d x\nSUB s%d\nUNSUB s%d\nUNSUB u%d\n" % (i, i, i, i))
            client.expect(b"OK", b"OK", b"OK")
        assert client.stats()["topics"] == "0"
        client.close()


def test_a_queue_that_was_long_is_given_back(start):
    count, queue = 40, MAX_QUEUE * 3 // 4
    line = b"x" * 4000
    with start(environment=EXACT_MEMORY) as relay:
        if relay.is_sanitized():
            raise Skip("ASan keeps what was freed")
        publisher = relay.connect()
        clients = [relay.connect(receive_buffer=4096) for _ in range(count)]
        for i, client in enumerate(clients):
            client.ask(b"SUB t%d\n" % i, b"OK")
        before = relay.memory()
        for i in range(count):
            while int(publisher.stats()["queued_bytes"]) < (i + 1) * queue:
                publisher.send((b"PUB t%d " % i + line + b"\n") * 4)
        assert relay.memory() - before > count * queue / 2
        for i, client in enumerate(clients):
            client.send(b"PING\n")
            while (got := client.read_line()) != b"PONG":
                assert got == b"MSG t%d " % i + line, got
        stats = publisher.stats()
        assert stats["queued_bytes"] == stats["dropped"] == "0", stats
        grown = relay.memory() - before
        assert grown < count * queue / 2, grown
        for client in clients:
            client.close()
        publisher.close()


def test_out_of_fds_pauses_accepting(start):
    with start(fd_limit=FD_LIMIT) as relay:
        clients = [relay.connect()]
        clients[0].ask(b"PING\n", b"PONG")
        clients += [relay.connect() for _ in range(FD_LIMIT)]
        for client in clients[1:]:
            client.send(b"PING\n")
        clients[0].wait_for_stats("accept_pauses", 1)
        clients[0].wait_for_ticks(10)
        assert clients[0].stats()["accept_pauses"] == "1"
        for client in clients[1:]:
            client.expect(b"PONG")
            client.close()
        clients[0].wait_for_stats("connections", 1)
        clients[0].close()


def test_sigterm_with_clients(start):
    with start() as relay:
        clients = [relay.connect() for _ in range(10)]
        for client in clients:
            client.ask(b"SUB t\n", b"OK")
        clients[0].send(b"PUB t x\nunfinished")
        clients[1].expect(b"MSG t x")
        relay.stop()
        for client in clients[1:]:
            try:
                while client.read_line() is not None:
                    pass
            except ConnectionResetError:
                pass
            client.close()
        clients[0].close()


def main():
    binary = sys.argv[1]
    tests = [(name, function, watch)
             for watch in ("glib", "gaio", "gio", "gaio-gio")
             for name, function in globals().items() if name.startswith("test_")]
    failed = False
    print(f"1..{len(tests)}", flush=True)
    for number, (name, function, watch) in enumerate(tests, 1):
        description = f"{number} - {watch}: {name[len('test_'):].replace('_', ' ')}"
        try:
            function(lambda **options: Relay(binary, watch, **options))
            print("ok " + description, flush=True)
        except Skip as reason:
            print(f"ok {description} # SKIP {reason}", flush=True)
        except Exception:
            failed = True
            print("not ok " + description, flush=True)
            for line in traceback.format_exc().splitlines():
                print("# " + line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
