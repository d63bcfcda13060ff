#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-docs.py BUILD: that the API reference builds without a warning, and has what belongs in it."""

import pathlib
import subprocess
import sys

BUILD = sys.argv[1]
HTML = pathlib.Path(BUILD, "docs", "html")
START = "Building documentation for gaio\n"
PARTS = [
    "gaio.devhelp2",
    "object-tree.html",
    "api-index-full.html",
    "api-index-1-0.html",
    "annotation-glossary.html",
    "guides.html",
    "getting-started.html",
    "threads.html",
    "monitors.html",
    "fairness.html",
    "timers.html",
    "python.html",
    "asyncio.html",
    "gjs.html",
    "vala.html",
    "debugging.html",
    "how-it-works.html",
    "from-glib.html",
    "for-qemu-people.html",
    "what-it-does-not-do.html",
    "nesting.svg",
    "round.svg",
    "ready-list.svg",
]
# Page, what it has to link to
LINKS = [
    ("GaioHandler.html", "glib-The-Main-Event-Loop.html#GSourceOnceFunc"),
    ("GaioContext.html", "gobject-The-Base-Object-Type.html#GObject"),
    ("gaio-Running-the-main-loop.html", "GCancellable.html"),
    ("from-glib.html", "GaioHandler.html#gaio-clear-handler"),
    ("getting-started.html", "GaioHandler.html#gaio-context-add-fd"),
]


def warnings():
    """What gtk-doc says beside that it works. The target is always built anew. Not with `meson
    compile`: what that says itself comes last, where its Python has a buffer."""
    build = subprocess.run(
        ["ninja", "-C", BUILD, "gaio-doc"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    before, start, said = build.stdout.partition(START)
    if build.returncode != 0 or not start:
        return before + start + said
    return said.strip()


def read(name):
    page = HTML / name
    return page.read_text(encoding="utf-8") if page.exists() else ""


def main():
    said = warnings()
    results = [(said == "", "gtk-doc warns of nothing")]
    results += [(read(part) != "", f"there is {part}") for part in PARTS]
    results += [(link in read(page), f"{page} links to {link}") for page, link in LINKS]
    for line in said.splitlines():
        print("#", line)
    for number, (good, text) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} {text}")
    print(f"1..{len(results)}")
    return not all(good for good, _ in results)


if __name__ == "__main__":
    sys.exit(main())
