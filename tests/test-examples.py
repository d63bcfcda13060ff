#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-examples.py LANGUAGE TOPIC COMMAND...: the example does what its first comment says."""

import signal
import socket
import subprocess
import sys

LANGUAGE, TOPIC, *COMMAND = sys.argv[1:]
# Only there to fail.
TIMEOUT = 60


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


print("1..1")
globals()[TOPIC]()
print(f"ok 1 /examples/{LANGUAGE}/{TOPIC}")
