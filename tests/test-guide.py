#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-guide.py PAGE: that a reader who does what the page says sees what it shows.

It saves each file that is shown, types each block of commands, and reads until what follows as a
screen is there. Where a screen has the role "varies", numbers may be others."""

import contextlib
import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

PAGE = pathlib.Path(sys.argv[1]).resolve()
FOLDERS = PAGE.parent / "snippets", PAGE.parents[1] / "examples/neighbours"
PARTS = re.compile(
    r'<xi:include href="\.\./(?P<file>[^"]+)\.txt"'
    r'|<programlisting language="sh">(?P<commands>.*?)</programlisting>'
    r"|<screen(?P<varies> role=\"varies\")?>(?P<screen>.*?)</screen>",
    re.DOTALL,
)
MARK = "the-shell-is-ready-for-more"
# Only there to fail.
DEADLINE_S = 250


def unescape(text):
    plain = re.fullmatch(r"\s*<!\[CDATA\[(.*)\]\]>\s*", text, re.DOTALL)
    return (plain[1] if plain else html.unescape(text)).strip("\n")


def save(name, folder):
    """Without the licence, as it is shown."""
    path = next(place / name for place in FOLDERS if (place / name).exists())
    text = path.read_text(encoding="utf-8")
    (folder / name).write_text(text.partition("\n")[2], encoding="utf-8")


def read_steps(folder):
    """Saves the files, and gives the commands, each with the screen that follows it."""
    steps = []
    for part in PARTS.finditer(PAGE.read_text(encoding="utf-8")):
        if part["file"]:
            save(part["file"], folder)
        elif part["commands"]:
            steps.append([unescape(part["commands"]), "", False])
        elif part["screen"]:
            steps[-1][1:] = [unescape(part["screen"]), part["varies"] is not None]
    return steps


def blur(text, varies):
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return [re.sub(r"\d+", "0", " ".join(line.split())) for line in lines] if varies else lines


class Shell:
    """One for the whole page, which ends at the first command that fails."""

    def __init__(self, folder):
        # Meson's own Python, which has gi.
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        self.process = subprocess.Popen(
            ["bash", "-e"],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, commands, screen, varies):
        """Until the commands have returned and the screen is there: a server goes on running."""
        wanted = blur(screen, varies)
        self.process.stdin.write(f"{commands}\necho {MARK}\n".encode())
        self.process.stdin.flush()
        text, returned = "", False
        while not (returned and blur(text, varies) == wanted):
            line = self.process.stdout.readline().decode()
            if not line:
                return text
            if line.strip() == MARK:
                returned = True
            else:
                text += line
        return None

    def end(self):
        """With what it has left running."""
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()


def follow(folder):
    steps = read_steps(folder)
    shell = Shell(folder)
    guard = threading.Timer(DEADLINE_S, shell.end)
    guard.start()
    failed = False
    for number, (commands, screen, varies) in enumerate(steps, 1):
        said = None if failed else shell.run(commands, screen, varies)
        if said is not None:
            failed = True
            print("# It said:", *said.splitlines(), sep="\n# ")
        title = commands.splitlines()[0].replace("#", "")
        print(f"{'not ok' if failed else 'ok'} {number} - {title}", flush=True)
    guard.cancel()
    shell.end()
    print(f"1..{len(steps)}")
    return failed or not steps


@contextlib.contextmanager
def session_bus():
    """One of its own, for programs that are found on it."""
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as bus:
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        try:
            yield
        finally:
            bus.kill()


def main():
    match = re.search(r"<!-- needs (.*?) -->", PAGE.read_text(encoding="utf-8"))
    needed = match[1].split() if match else []
    missing = [tool for tool in needed if shutil.which(tool) is None]
    if missing:
        print(f"1..0 # SKIP {' and '.join(missing)} not found")
        return False
    bus = session_bus() if "dbus-daemon" in needed else contextlib.nullcontext()
    with bus, tempfile.TemporaryDirectory() as folder:
        return follow(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
