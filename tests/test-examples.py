#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-examples.py LANGUAGE TOPIC COMMAND...: the example does what its first comment says."""

import signal
import socket
import struct
import subprocess
import sys

LANGUAGE, TOPIC, *COMMAND = sys.argv[1:]
# Only there to fail.
TIMEOUT = 60
N_CLIENTS = 20


def start():
    return subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)


def output(program):
    """What it still says until it ends, which has to be well."""
    try:
        said, _ = program.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        program.kill()
        raise
    assert program.returncode == 0, program.returncode
    return said


def timers():
    assert output(start()) == "tick 1\ntick 2\ntick 3\ndone\n"


def batch():
    assert output(start()) == "3 are ready\ntoken 30\ntoken 60\ntoken 90\n"


def notifier():
    program = start()
    assert program.stdout.readline() == "waiting\n"
    program.send_signal(signal.SIGINT)
    assert output(program) == ""


def echo():
    program = start()
    word, port = program.stdout.readline().split()
    assert word == "port", word
    with socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT) as client:
        for message in b"hello", b"again":
            client.sendall(message)
            assert client.recv(len(message), socket.MSG_WAITALL) == message
    assert output(program) == ""


def reset(client):
    """Closes it with a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def echo_stream():
    program = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    port = int(program.stdout.readline().removeprefix("port "))
    clients = [socket.create_connection(("127.0.0.1", port), TIMEOUT) for _ in range(N_CLIENTS)]
    long = bytes(range(256)) * 64  # more than it reads at a time
    for message in b"hello", b"again", long:
        for client in clients:
            client.sendall(message)
        for client in clients:
            assert client.makefile("rb").read(len(message)) == message
    for client in clients[::2]:
        reset(client)
    for client in clients[1::2]:
        client.sendall(b"goodbye")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"goodbye"
        client.close()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as last:
        last.sendall(b"?")
        assert last.recv(1) == b"?"
        program.terminate()
        assert last.recv(1) == b""
    said = program.communicate(timeout=TIMEOUT)
    assert said == ("", "") and program.returncode == -signal.SIGTERM, said


print("1..1")
globals()[TOPIC.replace("-", "_")]()
print(f"ok 1 /examples/{LANGUAGE}/{TOPIC}")
