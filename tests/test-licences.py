#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-licences.py SOURCE: everybody can tell under which licence each file in git is."""

import fnmatch
import functools
import pathlib
import shutil
import subprocess
import sys

import tap

SOURCE = pathlib.Path(sys.argv[1])
# What has no comments, or should be read without them. .reuse/dep5 speaks for it.
WITHOUT = ['.*', '*.md', 'COPYING', 'LICENSES/*', 'NEWS', 'debian/*', 'docs/benchmarks/*',
           'docs/gaio-sections.txt', 'docs/version.xml.in', 'tests/corpus/*']


@functools.cache
def tracked():
    if not (SOURCE / '.git').exists() or shutil.which('git') is None:
        raise tap.Skip('only git knows which files are ours')
    names = subprocess.run(['git', '-C', SOURCE, 'ls-files', '-z'], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    return [name for name in names.split('\0') if (SOURCE / name).is_file()]


def test_each_file_names_its_licence():
    """In its first lines, so that it can be copied alone."""
    for name in tracked():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in WITHOUT):
            start = (SOURCE / name).read_text(encoding='utf-8').splitlines()[:3]
            assert any('SPDX-License-' 'Identifier: ' in line for line in start), name


def test_reuse_finds_no_fault():
    tracked()
    if shutil.which('reuse') is None:
        raise tap.Skip('reuse is not installed')
    lint = subprocess.run(['reuse', '--root', SOURCE, 'lint'], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert lint.returncode == 0 and 'ERROR' not in lint.stdout, lint.stdout


if __name__ == '__main__':
    tap.run(globals())
