#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-hardening.py LIBRARY cet|no-cet PROGRAM...: what the linker was told to make harder."""

import re
import shutil
import subprocess
import sys

LIBRARY, CET, *PROGRAMS = sys.argv[1:]
SYMBOL = r"^ *\d+: +\w+ +\d+ +\w+ +(?:GLOBAL|WEAK) +(?:DEFAULT|PROTECTED) +(\w+) +([\w.]+)"


class Skip(Exception):
    pass


def read(path, *options):
    return subprocess.run(
        ["readelf", "--wide", *options, path], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def symbols(path):
    """The names it exports, and those it imports."""
    found = re.findall(SYMBOL, read(path, "--dyn-syms"), re.M)
    exported = {name for section, name in found if section != "UND"}
    return exported, {name for section, name in found if section == "UND"}


def is_bound_at_once(path):
    return re.search(r"\bBIND_NOW\b|\bNOW\b", read(path, "--dynamic")) is not None


def has_relro(path):
    return "GNU_RELRO" in read(path, "--program-headers")


def stack_is_data(path):
    flags = re.search(r"GNU_STACK(?: +0x[0-9a-f]+){5} +([RWE]+)", read(path, "--program-headers"))
    return flags is not None and "E" not in flags[1]


def is_free_of_text_relocations(path):
    return "TEXTREL" not in read(path, "--dynamic")


def has_stack_protector(path):
    return bool(symbols(path)[1] & {"__stack_chk_fail", "__stack_chk_guard"})


def stays_loaded(path):
    return re.search(r"\bNODELETE\b", read(path, "--dynamic")) is not None


def exports_its_own_names(path):
    exported, _ = symbols(path)
    return bool(exported) and all(name.startswith("gaio_") for name in exported)


def is_marked_for_cet(path):
    if CET != "cet":
        raise Skip("the compiler's own start files are without")
    return re.search(r"x86 feature:.*\bIBT\b.*\bSHSTK\b", read(path, "--notes")) is not None


def is_position_independent(path):
    return re.search(r"Type: +DYN\b", read(path, "--file-header")) is not None


OF_ALL = [
    ("its calls are bound before it runs", is_bound_at_once),
    ("what is bound is read-only", has_relro),
    ("its stack is not executable", stack_is_data),
    ("its code is never written to", is_free_of_text_relocations),
    ("its stack is protected", has_stack_protector),
    ("it is marked for CET", is_marked_for_cet),
    ("it can be loaded anywhere", is_position_independent),
]
OF_LIBRARY = [
    ("it stays loaded", stays_loaded),
    ("it exports gaio_* alone", exports_its_own_names),
]


def outcome(path, check):
    try:
        return check(path), ""
    except Skip as reason:
        return True, f" # SKIP {reason}"


def main():
    if shutil.which("readelf") is None:
        print("1..0 # SKIP readelf is not installed")
        return False
    checks = [(path, *check) for path in [LIBRARY, *PROGRAMS] for check in OF_ALL]
    checks += [(LIBRARY, *check) for check in OF_LIBRARY]
    failed = False
    for number, (path, text, check) in enumerate(checks, 1):
        good, comment = outcome(path, check)
        failed |= not good
        print(f"{'ok' if good else 'not ok'} {number} {path.rsplit('/', 1)[-1]}: {text}{comment}")
    print(f"1..{len(checks)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
