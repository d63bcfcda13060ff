#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the benchmarks of a build, tells what the numbers are and which goals hold, and draws them.

In <build>/results, NAME.rounds.json is what was measured, and NAME.json its medians, quartiles and
goals, with the machine."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

import goals
import plot

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
PUBLISHED = ROOT / 'docs/benchmarks'
NAMES = ['loop', 'host', 'churn', 'memory', 'timers', 'threads', 'python',
         'asyncio', 'daemon', 'gio', 'file', 'neighbours']


def cpu_model():
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        for line in file:
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.machine()


def commit():
    try:
        return subprocess.run(['git', '-C', ROOT, 'describe', '--always', '--dirty'], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def kernel():
    """Without what tells whose build it is."""
    return f'{platform.system()} {".".join(platform.release().split(".")[:2])}'


def machine():
    return {
        'cpu': cpu_model(),
        'processors': os.cpu_count(),
        'kernel': kernel(),
        'load': round(os.getloadavg()[0], 1),
        'date': datetime.date.today().isoformat(),
        'commit': commit(),
    }


def measure(build, name, path, options):
    if name in ('python', 'asyncio', 'daemon', 'gio', 'file', 'neighbours'):
        program = [sys.executable, HERE / f'bench-{name}.py']
    else:
        program = [build / 'tests/benchmarks' / f'bench-{name}']
    if name == 'daemon':
        program.append(build / 'examples/session-daemon/gaio-logbook')
    elif name in ('gio', 'neighbours'):
        program.append(build / 'tests/benchmarks')
    elif name == 'file':
        program.append(build / 'examples/randread')
    done = subprocess.run([*program, '--json', path, *options], check=False)
    if done.returncode != 0:
        sys.exit(f'bench-{name} has failed')
    return json.loads(path.read_text(encoding='utf-8'))


def summarize(results, where, lines):
    """What is published of it. In few rounds, some rows are not measured."""
    rows = [row for row in results['rows'] if row['values']]
    return {
        'benchmark': results['benchmark'],
        'summary': results['summary'],
        'unit': results['unit'],
        'machine': where,
        'versions': results['versions'],
        'rounds': max((len(values) for row in rows for values in row['values'].values()),
                      default=0),
        'goals': list(lines),
        'rows': [
            {'name': row['name'],
             'values': {name: dict(zip(('median', 'low', 'high'),
                                       (float(f'{value:.4g}') for value in goals.spread(values))))
                        for name, values in row['values'].items()}}
            for row in rows
        ],
    }


def cell(value):
    """The median, and how far the quartiles are apart."""
    if value is None:
        return '-'
    median = value['median']
    return f'{median:.0f} {(value["high"] - value["low"]) / median * 100:3.0f}%'


def show(summary):
    contenders = list(dict.fromkeys(name for row in summary['rows'] for name in row['values']))
    width = max((len(row['name']) for row in summary['rows']), default=0)
    print(f'\n== {summary["benchmark"]}: {summary["summary"]}, {summary["unit"]}: '
          f'median, distance of the quartiles ({summary["rounds"]} rounds)')
    print(' ' * width, *(f'{name:>14}' for name in contenders))
    for row in summary['rows']:
        print(f'{row["name"]:{width}}',
              *(f'{cell(row["values"].get(name)):>14}' for name in contenders))
    print(*summary['goals'], sep='\n', flush=True)


def to_json(summary):
    """A line for each row: small, and a change is seen."""
    head = {key: value for key, value in summary.items() if key != 'rows'}
    text = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n'
    return text + ',\n'.join('  ' + json.dumps(row) for row in summary['rows']) + '\n ]\n}\n'


def publish(directory):
    PUBLISHED.mkdir(exist_ok=True)
    for path in [*directory.glob('*.json'), *directory.glob('*.svg')]:
        if not path.name.endswith('.rounds.json'):
            shutil.copy(path, PUBLISHED)


def parse_arguments():
    parser = argparse.ArgumentParser(prog='./dev bench', description=__doc__.partition('\n')[0])
    parser.add_argument('build', type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'{", ".join(NAMES)} (all)')
    parser.add_argument('--quick', action='store_true', help='fewer and shorter rounds')
    parser.add_argument('--rounds', type=int, help='how many rounds')
    parser.add_argument('--only', metavar='REGEX', help='only the lines of the table that match')
    parser.add_argument('--contender', metavar='REGEX', help='only the contenders that match')
    parser.add_argument('--publish', action='store_true',
                        help=f'copy results and plots to {PUBLISHED.relative_to(ROOT)}/')
    arguments = parser.parse_intermixed_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f'no such benchmark: {name}')
    return arguments


def options_of(arguments):
    """What the benchmarks are told."""
    yield from ['--quick'] if arguments.quick else []
    for name in ('rounds', 'only', 'contender'):
        if getattr(arguments, name) is not None:
            yield f'--{name}={getattr(arguments, name)}'


def main():
    arguments = parse_arguments()
    directory = arguments.build / 'results'
    directory.mkdir(exist_ok=True)
    # Only part of it is for the eye alone.
    whole = arguments.only is None and arguments.contender is None
    where = machine()
    if arguments.publish and where['commit'].endswith('-dirty'):
        sys.exit('Nobody could measure again what is not committed: commit it before --publish')
    for name in arguments.names or NAMES:
        path = directory / f'{name if whole else "part"}.rounds.json'
        results = measure(arguments.build, name, path, options_of(arguments))
        summary = summarize(results, where, goals.check(results, whole))
        show(summary)
        if whole:
            plot.draw(directory, summary)
            (directory / f'{name}.json').write_text(to_json(summary), encoding='utf-8')
    if whole:
        print(f'\nJSON and SVG files are in {directory}')
    if arguments.publish:
        publish(directory)


if __name__ == '__main__':
    sys.exit(main())
