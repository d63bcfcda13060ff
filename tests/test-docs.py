#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-docs.py BUILD: that the API reference builds without a warning, and has what belongs in it;
and so what is installed, in which the guides have their code."""

import html
import pathlib
import re
import subprocess
import sys
import tempfile

BUILD = sys.argv[1]
SOURCE = pathlib.Path(__file__).parents[1]
# Where the code in the guides is.
CODE = [*(SOURCE / "docs/snippets").iterdir(), *(SOURCE / "examples/neighbours").iterdir()]
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
    "neighbours.html",
    "python.html",
    "asyncio.html",
    "gjs.html",
    "vala.html",
    "debugging.html",
    "how-it-works.html",
    "from-glib.html",
    "for-qemu-people.html",
    "what-it-does-not-do.html",
    "inside.html",
    "inside-close.svg",
    "inside-handler.svg",
    "inside-host.svg",
    "inside-remove-sync.svg",
    "inside-reuse.svg",
    "inside-round.svg",
    "inside-sleep.svg",
    "inside-wake-up.svg",
    "nesting.svg",
    "round.svg",
    "ready-list.svg",
]
# Page, what it has to link to
LINKS = [
    ("from-glib.html", "GaioHandler.html#gaio-clear-handler"),
    ("getting-started.html", "GaioHandler.html#gaio-context-add-fd"),
]
# The same, of GLib.
GLIB_LINKS = [
    ("GaioHandler.html", "glib-The-Main-Event-Loop.html#GSourceOnceFunc"),
    ("GaioContext.html", "gobject-The-Base-Object-Type.html#GObject"),
    ("gaio-Running-the-main-loop.html", "GCancellable.html"),
]
# What gtk-doc says of a symbol that it finds nowhere, if that is none of ours.
UNKNOWN = re.compile(r'.*: warning: no link for: "(?![Gg]aio|GAIO)')


def glib_has_gtk_doc():
    """Newer releases have their reference made by gi-docgen, to which gtk-doc cannot link."""
    prefix = subprocess.run(["pkg-config", "--variable=prefix", "glib-2.0"], check=True, text=True,
                            stdout=subprocess.PIPE).stdout.strip()
    return pathlib.Path(prefix, "share/gtk-doc/html/glib/glib.devhelp2").exists()


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


def without_code():
    """The guides that are installed without the code that they include. The texts of before do not
    count: they are made by whoever needs them, or not at all."""
    for text in pathlib.Path(BUILD, "docs").glob("*.txt"):
        if any(path.name == text.stem for path in CODE):
            text.unlink()
    with tempfile.TemporaryDirectory() as place:
        said = subprocess.run(["meson", "install", "-C", BUILD, "--destdir", place], check=False,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        pages = {page.name: text_of(page.read_text(encoding="utf-8"))
                 for page in pathlib.Path(place).rglob("gtk-doc/html/gaio/*.html")}
    if said.returncode != 0 or not pages:
        return said.stdout
    return "".join(
        f"{guide.name}: {name}\n"
        for guide in (SOURCE / "docs").glob("*.xml")
        for name in re.findall(r'include [^>]*href="\.\./([^"]+)\.txt"', guide.read_text("utf-8"))
        if squeeze(next(path for path in CODE if path.name == name).read_text("utf-8")
                   .split("\n", 1)[1])
        not in pages[guide.stem + ".html"])


def outdated():
    """What the chapter "Inside Gaio" names and the source no longer has."""
    chapter = (SOURCE / "docs/inside.xml").read_text("utf-8")
    paths = [SOURCE / "CONTRIBUTING.md", *SOURCE.glob("gaio/**/*"), *SOURCE.glob("tests/**/*")]
    code = "".join(path.read_text("utf-8") for path in paths if path.suffix in (".c", ".h"))
    places = "".join(f"{path}\n" for path in paths)
    defined = re.findall(r"(?:^|define )(\w+) ?\(", code, re.M)
    named = [(name, code) for name in re.findall("<literal>([^<]+)<", chapter)]
    named += [(name, defined) for name in re.findall("<function>([^<]+)<", chapter)]
    named += [(f"/{name}\n", places) for name in re.findall("<filename>([^<]+)<", chapter)]
    return "".join(f"inside.xml: {name.strip()}\n" for name, where in named if name not in where)


def squeeze(text):
    return re.sub(r"\s", "", text)


def text_of(page):
    return squeeze(html.unescape(re.sub(r"<[^>]*>", "", page)))


def main():
    said = warnings()
    links = LINKS
    if glib_has_gtk_doc():
        links = LINKS + GLIB_LINKS
    else:
        said = "".join(line + "\n" for line in said.splitlines() if not UNKNOWN.match(line))
    results = [(said == "", "gtk-doc warns of nothing")]
    results += [(read(part) != "", f"there is {part}") for part in PARTS]
    results += [(link in read(page), f"{page} links to {link}") for page, link in links]
    missing = without_code()
    results += [(missing == "", "guides are installed with their code")]
    names = outdated()
    results += [(names == "", "inside.html names only what exists")]
    said += missing + names
    for line in said.splitlines():
        print("#", line)
    for number, (good, text) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} {text}")
    print(f"1..{len(results)}")
    return not all(good for good, _ in results)


if __name__ == "__main__":
    sys.exit(main())
