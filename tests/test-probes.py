#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""That tracers find the USDT probes in the library, which is the only argument."""

import re
import shutil
import subprocess
import sys

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
NOTE = (
    r"Provider: gaio\s+Name: (\w+)\s+"
    r"Location: \S+, Base: \S+, Semaphore: (\S+)\s+Arguments: (.*)"
)


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
    for number, (good, text) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} {text}")
    print(f"1..{len(results)}")
    return not all(good for good, _ in results)


if __name__ == "__main__":
    sys.exit(main())
