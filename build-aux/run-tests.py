# SPDX-License-Identifier: LGPL-2.1-or-later
"""run-tests.py BUILD[:SETUP][@SUITE]... [-- ARGUMENT...]: `meson test` in each, then one count.

BUILD is a directory; SETUP one of meson's test setups, SUITE one of its suites.

The count is of test cases, not of programs. A program that tells by its exit status alone is one
case. A program that crashes, hangs or leaks without naming a case, and a build that fails, counts
as one failed. What has failed is listed before the counts, for the end of a log is what one sees.
"""

import json
import pathlib
import re
import subprocess
import sys

CASE = re.compile(r'(not )?ok\b(?: +\d+)?(?: +-)? *([^#]*)(?:#\s*(skip|todo))?', re.IGNORECASE)
COUNTED = ('passed', 'failed', 'skipped')


def read_cases(text):
    """Count the cases in the TAP output of one test program, and name those that failed."""
    count, failures = dict.fromkeys(COUNTED, 0), []
    for line in text.splitlines():
        case = CASE.match(line)
        if not case:
            continue
        if case[3]:
            count['skipped'] += 1
        elif case[1]:
            count['failed'] += 1
            failures.append(case[2].strip())
        else:
            count['passed'] += 1
    return count, failures


def read_program(run):
    """Read one line of meson's testlog.json."""
    count, failures = read_cases(run['stdout'])
    if run['result'] == 'SKIP':
        count['skipped'] = max(count['skipped'], 1)
    elif run['result'] != 'OK':
        count['failed'] = max(count['failed'], 1)
        failures = failures or [run['result']]
    elif not any(count.values()):
        count['passed'] = 1
    # Some versions of meson put project and suites before the name.
    program = run['name'].rpartition(' / ')[2]
    return count, [f'{program}: {failure}' for failure in failures]


def run_build(build, arguments):
    """Build and test one directory. What its log counts, and what has failed."""
    name = build
    build, _, suite = build.partition('@')
    build, _, setup = build.partition(':')
    if setup:
        arguments = [f'--setup={setup}', *arguments]
    if suite:
        arguments = [f'--suite={suite}', *arguments]
    logs = pathlib.Path(build, 'meson-logs')
    for old in logs.glob('testlog*.json'):
        old.unlink()
    meson = subprocess.run(['meson', 'test', '-C', build, '--print-errorlogs', *arguments],
                           check=False)
    count, failures = dict.fromkeys(COUNTED, 0), []
    for log in logs.glob('testlog*.json'):
        for line in log.read_text(encoding='utf-8').splitlines():
            of_program, failed = read_program(json.loads(line))
            failures += failed
            for key, number in of_program.items():
                count[key] += number
    if (meson.returncode != 0 and count['failed'] == 0) or not any(count.values()):
        count['failed'] = 1
        failures.append('did not build, or ran no test')
    return count, [f'{name}: {failure}' for failure in failures]


def show(count):
    """Write a count the way the last line has it."""
    return f"{count['passed']} passed, {count['failed']} failed"


def main():
    """Test every build, and end with the line that a machine reads."""
    builds, arguments = sys.argv[1:], []
    if '--' in builds:
        cut = builds.index('--')
        builds, arguments = builds[:cut], builds[cut + 1:]
    counts, failures = {}, []
    for build in builds:
        counts[build], failed = run_build(build, arguments)
        failures += failed
    for failure in failures:
        print(f'failed: {failure}')
    for build, count in counts.items():
        print(f"{build}: {show(count)}, {count['skipped']} skipped")
    total = {key: sum(count[key] for count in counts.values()) for key in COUNTED}
    print(show(total))
    return 1 if total['failed'] else 0


if __name__ == '__main__':
    sys.exit(main())
