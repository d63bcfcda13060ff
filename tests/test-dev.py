#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-dev.py SOURCE: which packages ./dev asks for, on systems that are made up, and how it ends.

What they have is in the file `known`. Nothing is installed: apt-get fails, and ./dev tells of what.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import tap

DEV = pathlib.Path(sys.argv[1], 'dev').resolve()
TOOLS = ['sh', 'cat', 'dirname', 'echo', 'env', 'sed', 'tr']
ALWAYS = ['python3', 'gcc', 'meson', 'mypy', 'libgirepository1.0-dev']

APT_CACHE = '''#!/bin/sh
grep -qx -- "$2" known || exit 100
[ "$1 $2" != 'depends python3' ] || sed -n 's/^lib\\(python.*\\)-testsuite$/  Depends: \\1/p' known
'''
APT_GET = '''#!/bin/sh
[ "$1" != update ] || [ ! -f new ] || mv new known
[ "$1" = update ]
'''


def asked_for(command, known, new=None):
    """The packages that `./dev COMMAND` wants of a system that knows these, or after an update
    others."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        shutil.copy(DEV, place)
        tools = place / 'bin'
        tools.mkdir()
        for tool in [*TOOLS, 'grep', 'mv']:
            (tools / tool).symlink_to(shutil.which(tool))
        fakes = {'apt-cache': APT_CACHE, 'apt-get': APT_GET,
                 'dpkg-query': '#!/bin/sh\nexit 1\n', 'id': '#!/bin/sh\necho 0\n'}
        for name, text in fakes.items():
            (tools / name).write_text(text, encoding='utf-8')
            (tools / name).chmod(0o755)
        (place / 'known').write_text('\n'.join(known) + '\n', encoding='utf-8')
        if new is not None:
            (place / 'new').write_text('\n'.join(new) + '\n', encoding='utf-8')
        said = dev(place, command)
    wanted = re.search(r'^Installing Debian packages: (.*)$', said, re.M)
    assert wanted, said
    return wanted[1].split()


def dev(place, command):
    result = subprocess.run([place / 'dev', command], check=False, text=True, cwd=place,
                            env={'PATH': str(place / 'bin')}, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 1, result.stdout
    return result.stdout


def test_testsuite_is_that_of_the_default_python():
    for version in ('3.11', '3.13', '3.14'):
        packages = asked_for('test', [*ALWAYS, f'libpython{version}-testsuite'])
        assert f'libpython{version}-testsuite' in packages, packages


def test_what_a_release_does_not_have_is_not_asked_for():
    for command in ('test', 'bench'):
        packages = asked_for(command, ALWAYS)
        assert 'libglib2.0-dev' in packages, packages
        assert not [name for name in packages if 'testsuite' in name or 'gbulb' in name], packages
        assert not [name for name in packages if '|' in name or '3.X' in name], packages


def test_optional_package_is_asked_for_where_it_is():
    assert 'python3-gbulb' in asked_for('bench', [*ALWAYS, 'python3-gbulb'])


def test_new_name_is_taken_where_there_is_one():
    old, new = 'libgirepository1.0-dev', 'gir1.2-glib-2.0-dev'
    packages = asked_for('test', ALWAYS)
    assert old in packages and new not in packages, packages
    packages = asked_for('test', [*ALWAYS, new])
    assert new in packages and old not in packages, packages


def test_no_name_has_a_version_of_clang():
    assert 'libclang-rt-dev' in asked_for('fuzz', ALWAYS)


def test_bare_system_knows_what_it_has_after_an_update():
    packages = asked_for('test', [], [*ALWAYS, 'libpython3.13-testsuite', 'gir1.2-glib-2.0-dev'])
    assert 'libpython3.13-testsuite' in packages, packages
    assert 'gir1.2-glib-2.0-dev' in packages, packages


def test_elsewhere_it_says_what_is_needed():
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        shutil.copy(DEV, place)
        (place / 'bin').mkdir()
        for tool in TOOLS:
            (place / 'bin' / tool).symlink_to(shutil.which(tool))
        said = dev(place, 'test')
    assert 'not found: cc meson ninja pkg-config' in said, said
    assert 'GLib 2.74' in said and 'libglib2.0-dev' in said and '|' not in said, said


MESON = '''#!/bin/sh
cp "$3.json" "$3/meson-logs/testlog.json"
exit 1
'''


def test_what_failed_is_listed_before_the_counts():
    programs = {
        'one': [('timer', 'OK', 'ok 1 - /a\nok 2 - /b # SKIP no 3\n'),
                ('gaio:unit+epoll / fork', 'ERROR', 'ok 1 /a\nnot ok /b - GLib:ERROR: c\n'),
                ('python', 'FAIL', 'ok 1 - test_a\nnot ok 2 - test_b\nnot ok 3 - test_c\n'),
                ('probes', 'TIMEOUT', 'ok 1 - test_a\n')],
        'two': [],
    }
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        (place / 'meson').write_text(MESON, encoding='utf-8')
        (place / 'meson').chmod(0o755)
        for build, runs in programs.items():
            (place / build / 'meson-logs').mkdir(parents=True)
            lines = [json.dumps({'name': name, 'result': result, 'stdout': stdout}) + '\n'
                     for name, result, stdout in runs]
            (place / f'{build}.json').write_text(''.join(lines), encoding='utf-8')
        result = subprocess.run([sys.executable, DEV.parent / 'build-aux/run-tests.py', *programs],
                                check=False, text=True, cwd=place, stdout=subprocess.PIPE,
                                env={**os.environ, 'PATH': f'{place}:{os.environ["PATH"]}'})
    assert result.returncode == 1, result.stdout
    assert result.stdout.splitlines() == [
        'failed: one: fork: /b - GLib:ERROR: c',
        'failed: one: python: test_b',
        'failed: one: python: test_c',
        'failed: one: probes: TIMEOUT',
        'failed: two: did not build, or ran no test',
        'one: 4 passed, 4 failed, 1 skipped',
        'two: 0 passed, 1 failed, 0 skipped',
        '4 passed, 5 failed',
    ], result.stdout


if __name__ == '__main__':
    tap.run(globals())
