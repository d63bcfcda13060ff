#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-probes.py LIBRARY TEST-SERVE: that tracers find the USDT probes, and what those tell."""

import re
import shutil
import subprocess
import sys
import tempfile

# Name: how many arguments
PROBES = {
    "add": 2,
    "remove": 3,
    "dispatch_begin": 4,
    "dispatch_end": 4,
    "poll_begin": 2,
    "poll_end": 2,
    "sleep": 2,
}
TURN = r"main context\|-1\|0x[0-9a-f]+ of a program\|0(x0)?"
NOTE = (
    r"Provider: gaio\s+Name: (\w+)\s+"
    r"Location: \S+, Base: \S+, Semaphore: (\S+)\s+Arguments: (.*)"
)


# TEST-SERVE has turns of a main context, and nothing else.
TURNS = ["-p", "/serve/idle-source/alone"]
SHOW_CALLS = """
set breakpoint pending on
break main
run
break -probe-stap gaio:dispatch_begin
commands
silent
printf "CALL %s|%d|%s|%#lx\\n", $_probe_arg0, $_probe_arg1, $_probe_arg2, $_probe_arg3
continue
end
continue
"""


def calls_seen_by_gdb(program):
    """What the probe before each call says; None if gdb may not trace."""
    with tempfile.NamedTemporaryFile("w") as script:
        script.write(SHOW_CALLS)
        script.flush()
        output = subprocess.run(
            ["gdb", "-nx", "-batch", "-x", script.name, "--args", program, *TURNS],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ).stdout
    calls = re.findall("^CALL (.*)", output, re.M)
    return None if not calls and "ptrace" in output else calls


def main():
    if shutil.which("readelf") is None:
        print("1..0 # SKIP readelf is not installed")
        return False
    notes = subprocess.run(
        ["readelf", "-n", sys.argv[1]], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = {name: (semaphore, rest.split()) for name, semaphore, rest in re.findall(NOTE, notes)}
    numbers = {name: len(arguments) for name, (_, arguments) in found.items()}
    semaphores = {int(semaphore, 16) for semaphore, _ in found.values()}
    results = [
        (numbers == PROBES, f"probes and their arguments: {numbers}"),
        (len(semaphores) == 1 and 0 not in semaphores, "who attaches to any of them is noticed"),
    ]
    calls = calls_seen_by_gdb(sys.argv[2]) if shutil.which("gdb") is not None else None
    if calls is None:
        results.append((True, "turn tells which main context # SKIP no gdb, or it may not trace"))
    else:
        good = calls and all(re.fullmatch(TURN, call) for call in calls)
        results.append((good, f"turn tells which main context: {calls}"))
    for number, (good, text) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} {text}")
    print(f"1..{len(results)}")
    return not all(good for good, _ in results)


if __name__ == "__main__":
    sys.exit(main())
