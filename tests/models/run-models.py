#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""run-models.py [MODEL...]: checks the models beside it in TAP, those in Promela with spin and those
in litmus/ with herd7.

Each has to hold in all of its states, or executions, as it is and with each VARIANT_ name in it
defined; with each MUTANT_ name in it defined it has to fail.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
MODELS = ["notify", "notify-nested", "busy-poll", "host", "removal"]
LITMUS = ["bottom-half", "entry", "host-wait", "last-user", "notifier", "room"]
# Each run of these comes to an end: a cycle is a loop that spins.
ENDING = {"notify", "notify-nested", "busy-poll", "host"}

NAME = re.compile(r"\b(?:VARIANT|MUTANT)_\w+")
# What pan says when it has not seen everything.
CUT_SHORT = re.compile(r"max search depth too small|Search not completed|MEMLIM|out of memory")
FAILURE = re.compile(
    r"^pan:1: ((?:assertion violated|invalid end state|non-progress cycle).*) \(at", re.M
)
NO_ERROR = re.compile(r"depth reached \d+, errors: 0\n +(\d+) states, stored")
# Of pan's report, and of its table of states: process, or state, file:line, statement
UNREACHED = re.compile(r"^unreached in (.*)|^\t(\S+:\d+), state (\d+), \"(.*)\"$", re.M)
STATE = re.compile(r"^(\w.*)$|^\tstate +(\d+) -.*\] (\S+:\d+) => (.*)$", re.M)


# What herd7 says of the condition of a litmus test, which is what must not be, and of a data race.
OBSERVATION = re.compile(r"^Observation \S+ (Never|Sometimes|Always) (\d+) (\d+)$", re.M)
DATA_RACE = re.compile(r"^Undef$", re.M)


class Failed(Exception):
    pass


def run(directory, *command):
    done = subprocess.run(
        [str(word) for word in command], cwd=directory, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def build(directory, *command):
    status, said = run(directory, *command)
    if status != 0:
        raise Failed(f"{command[0]} failed\n{said}")


def search(model, defines, directory):
    """What pan reports of the whole state space."""
    kind, options = ("-DNP", ["-l"]) if model in ENDING else ("-DSAFETY", [])
    # Without -o3 statements are merged, and not all of them are in the table of states.
    build(directory, "spin", "-a", "-o3", *defines, FOLDER / f"{model}.pml")
    # Most variants fail at once: compiling would take longer than searching.
    build(directory, "gcc", "-O0", "-w", kind, "-DMEMLIM=1024", "-o", "pan", "pan.c")
    return run(directory, "./pan", "-m100000", *options)[1]


def unreached(directory, report):
    """The lines that no process reaches. What is inline stands in several, and in some for
    nothing."""
    dead, lines, process = set(), set(), None
    for name, line, state, statement in UNREACHED.findall(report):
        if name:
            process = name
        elif statement != "-end-":
            dead.add((process, state))
            lines.add(line)
    for name, state, line, _ in STATE.findall(run(directory, "./pan", "-d")[1]):
        if name:
            process = name
        elif (process, state) not in dead:
            lines.discard(line)
    return sorted(lines)


def check_holds(model, defines, directory):
    report = search(model, defines, directory)
    no_error = NO_ERROR.search(report)
    if no_error is None:
        _, trail = run(directory, "spin", "-t", "-p", "-g", "-k", f"{model}.pml.trail", *defines,
                       FOLDER / f"{model}.pml")
        raise Failed(f"does not hold\n{report}\n{trail}")
    if CUT_SHORT.search(report):
        raise Failed(f"was not searched to the end\n{report}")
    lines = unreached(directory, report)
    if lines:
        raise Failed("never gets to " + ", ".join(pathlib.Path(line).name for line in lines))
    return f"holds in {no_error[1]} states"


def check_fails(model, defines, directory):
    report = search(model, defines, directory)
    failure = FAILURE.search(report)
    if failure is None:
        raise Failed(f"does not fail\n{report}")
    return f"fails: {failure[1]}"


def observe(test, defines, directory):
    """How many executions of a litmus test C11 allows (RC11, its repaired memory model), what is
    wrong with some of them, or None, and all that herd7 says."""
    text = pathlib.Path(directory, f"{test}.litmus")
    build(directory, "gcc", "-E", "-P", "-undef", "-w", "-x", "c", *defines, "-o", text,
          FOLDER / "litmus" / f"{test}.litmus")
    _, said = run(directory, "herd7", "-model", "rc11.cat", text)
    observation = OBSERVATION.search(said)
    if observation is None:
        raise Failed(f"was not understood\n{said}")
    wrong = None
    if DATA_RACE.search(said):
        wrong = "data race"
    elif observation[1] != "Never":
        wrong = "what must not be is allowed"
    return int(observation[2]) + int(observation[3]), wrong, said


def check_never(test, defines, directory):
    n_executions, wrong, said = observe(test, defines, directory)
    if wrong is not None:
        raise Failed(f"does not hold: {wrong}\n{said}")
    return f"holds in {n_executions} executions"


def check_allowed(test, defines, directory):
    _, wrong, said = observe(test, defines, directory)
    if wrong is None:
        raise Failed(f"does not fail\n{said}")
    return f"fails: {wrong}"


def checks(model):
    if model in LITMUS:
        path, holds, fails = f"litmus/{model}.litmus", check_never, check_allowed
    else:
        path, holds, fails = f"{model}.pml", check_holds, check_fails
    yield "", holds
    for name in sorted(set(NAME.findall((FOLDER / path).read_text(encoding="utf-8")))):
        yield name, fails if name.startswith("MUTANT") else holds


def outcome(model, name, check):
    """A line of TAP without its number."""
    title = f"{model} {name}".rstrip()
    with tempfile.TemporaryDirectory() as directory:
        try:
            text = check(model, [f"-D{name}"] if name else [], directory)
            return "ok", f"{title} {text}"
        except Failed as reason:
            return "not ok", f"{title} {reason}".rstrip().replace("\n", "\n# ")


def missing_tool(model):
    tools = ("herd7" if model in LITMUS else "spin", "gcc")
    return next((tool for tool in tools if shutil.which(tool) is None), None)


def outcomes(model):
    tool = missing_tool(model)
    if tool is not None:
        yield "ok", f"{model} # SKIP {tool} is not installed"
        return
    for name, check in checks(model):
        yield outcome(model, name, check)


def main():
    number, failed = 0, False
    for model in sys.argv[1:] or MODELS + LITMUS:
        for status, text in outcomes(model):
            number += 1
            failed |= status != "ok"
            print(f"{status} {number} {text}", flush=True)
    print(f"1..{number}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
