#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-install.py SOURCE: a release of what is in git, as it is now, and what others do with it.

What is installed is used when the folder that it was built in is gone, and with a prefix that is no
distribution's.
"""

import difflib
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import tap

tap.DEADLINE = 300
# For a program that ends at once. One that is broken may say so for ever.
TIMEOUT = 60

SOURCE = pathlib.Path(sys.argv[1])
PROMISED = SOURCE / 'tests/contract/installed.txt'
EXAMPLES = SOURCE / 'examples'
BATCH = '3 are ready\ntoken 30\ntoken 60\ntoken 90\n'
STRICT = ['-Werror', '-Wall', '-Wextra', '-pedantic']
# What the library may be built without.
PLAIN = ['introspection', 'vapi', 'usdt']

# In C and in C++.
PROGRAM = '''
#include <gaio.h>

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GaioTimer *timer = gaio_context_add_timer (context, g_free, NULL, NULL);

  gaio_timer_arm (timer, 0);
  while (!gaio_context_iterate (context, -1))
    ;
  gaio_clear_timer (&timer);
  return gaio_context_is_closed (context) || !GAIO_CHECK_VERSION (1, 0, 0);
}
'''

ASYNCIO = '''
import asyncio
import gaio
from gi.repository import GLib

async def main():
    served = asyncio.get_running_loop().create_future()
    GLib.idle_add(lambda: served.set_result(None))
    await served
    print('served')

gaio.run(main())
'''

EMBEDDER = '''
project('embedder', 'c', default_options: ['warning_level=3', 'werror=true'])
program = executable('program', 'program.c', dependencies: dependency('gaio-1.0', fallback: 'gaio'))
test('program', program)
'''


def run(*command, **options):
    """What a command says, if it succeeds."""
    result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, **options)
    assert result.returncode == 0, f'{command}: {result.returncode}\n{result.stdout}'
    return result.stdout


def tool(name):
    """A program without which there is no test."""
    found = shutil.which(name)
    if found is None:
        raise tap.Skip(f'{name} is not installed')
    return found


def configure(build, source, *options):
    return run('meson', 'setup', build, source, *options)


def once(build):
    """What it returns. If it fails, then in the first test that needs it, and not in all."""
    results = []

    @functools.wraps(build)
    def wrapper():
        if not results:
            results.append(None)
            results[0] = build()
        if results[0] is None:
            raise tap.Skip(f'{build.__name__}() has failed')
        return results[0]

    return wrapper


def is_git():
    return (SOURCE / '.git').exists() and shutil.which('git') is not None


@once
def snapshot():
    """The files that git tracks, in a repository of their own. Without git, all there is."""
    if not is_git():
        return SOURCE
    copy = WORK / 'snapshot'
    for name in run('git', '-C', SOURCE, 'ls-files', '-z').split('\0'):
        if (SOURCE / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, copy / name, follow_symlinks=False)
    git = ['git', '-C', copy, '-c', 'user.name=test', '-c', 'user.email=test@example.org']
    run(*git, 'init', '--quiet', '--initial-branch=main')
    run(*git, 'add', '--all', '--force')
    run(*git, 'commit', '--quiet', '--no-gpg-sign', '--no-verify', '--message=snapshot')
    return copy


@once
def plain():
    """A build without all that is optional."""
    build = WORK / 'plain'
    configure(build, snapshot(), '--werror', '-Dtests=false', '-Dexamples=false',
              *(f'-D{option}=disabled' for option in PLAIN))
    run('meson', 'compile', '-C', build)
    return build


@once
def release():
    """The source as others get it."""
    if not is_git():
        return SOURCE
    run('meson', 'dist', '-C', plain(), '--no-tests', '--formats=gztar')
    tarball, = (plain() / 'meson-dist').glob('*.tar.gz')
    shutil.unpack_archive(tarball, WORK / 'release')
    source, = (WORK / 'release').iterdir()
    return source


@once
def prefix():
    """Where it is installed."""
    build, place = WORK / 'build', WORK / 'prefix'
    configure(build, release(), '--buildtype=release', '-Dtests=false', '-Dexamples=false',
              f'--prefix={place}', '--libdir=lib', '-Dpython.purelibdir=python')
    run('meson', 'install', '-C', build)
    shutil.rmtree(build)
    return place


def installed(name):
    path = prefix() / name
    if not path.exists():
        raise tap.Skip(f'built without {name}')
    return path


def environment():
    """What finds the prefix."""
    place = prefix()
    return os.environ | {
        'LD_LIBRARY_PATH': f'{place}/lib',
        'PKG_CONFIG_PATH': f'{place}/lib/pkgconfig',
        'GI_TYPELIB_PATH': f'{place}/lib/girepository-1.0',
        'PYTHONPATH': f'{place}/python',
        'XDG_DATA_DIRS': f'{place}/share:/usr/local/share:/usr/share',
    }


def readme(language):
    """The first program in that language."""
    text = (SOURCE / 'README.md').read_text(encoding='utf-8')
    return re.search(rf'^```{language}\n(.*?)^```', text, re.M | re.S)[1]


def compile_and_run(compiler, name, text, *options, **run_options):
    """Outside of the tree, with what pkg-config says and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, name).write_text(text, encoding='utf-8')
        flags = run('pkg-config', '--cflags', '--libs', 'gaio-1.0', env=environment()).split()
        run(compiler, *options, name, *flags, '-o', 'program', cwd=folder)
        return run(f'{folder}/program', env=environment(), timeout=TIMEOUT, **run_options)


def test_builds_without_what_is_optional():
    plain()


def test_dist_makes_a_release_that_builds():
    if not is_git():
        raise tap.Skip('it is made of what is in git')
    prefix()


def test_installs_what_is_promised_and_no_more():
    installed('share/vala/vapi/gaio-1.0.vapi')
    promised = [line for line in PROMISED.read_text(encoding='utf-8').splitlines()
                if not line.startswith('#')]
    # Newer versions of meson compile for Python what they install.
    found = sorted(re.sub(r'\.so\.0\..*', '.so.0.MINOR.MICRO', str(path.relative_to(prefix())))
                   for path in prefix().rglob('*')
                   if not path.is_dir() and path.parent.name != '__pycache__')
    differences = list(difflib.unified_diff(promised, found, 'promised', 'installed', lineterm=''))
    assert not differences, '\n'.join(differences)


def test_nothing_installed_knows_where_it_was_built():
    folders = [str(folder).encode() for folder in (SOURCE, WORK / 'build', release())]
    for path in prefix().rglob('*'):
        if path.is_file():
            content = path.read_bytes()
            assert not any(folder in content for folder in folders), path


def test_library_is_found_without_a_run_path():
    dynamic = run(tool('readelf'), '--dynamic', prefix() / 'lib/libgaio-1.so')
    assert 'SONAME' in dynamic and 'PATH)' not in dynamic, dynamic


def test_c_program_of_the_readme_runs():
    assert compile_and_run('cc', 'hello.c', readme('c'), input='hello') == '5 bytes\n'


def test_headers_are_strict_c11():
    assert compile_and_run('cc', 'program.c', PROGRAM, '-std=c11', *STRICT) == ''


def knows(compiler, standard):
    """Older compilers do not know the newest."""
    return subprocess.run([compiler, f'-std={standard}', '-x', 'c++', '-fsyntax-only', '/dev/null'],
                          check=False, stderr=subprocess.DEVNULL).returncode == 0


def test_headers_are_strict_cpp():
    for compiler in [tool('g++'), *filter(shutil.which, ['clang++'])]:
        for standard in ['c++17', 'c++20', 'c++23', 'c++26']:
            if standard == 'c++17' or knows(compiler, standard):
                assert compile_and_run(compiler, 'program.cc', PROGRAM, f'-std={standard}',
                                       *STRICT) == ''


def build_c(name, *options, **more):
    """All that is C."""
    build = WORK / name
    run('meson', 'setup', build, release(), '--werror', '--buildtype=plain',
        '-Dintrospection=disabled', '-Dvapi=disabled', *options, env=os.environ | more)
    run('meson', 'compile', '-C', build)
    shutil.rmtree(build)


def test_clang_warns_of_nothing():
    build_c('clang', CC=tool('clang'))


def test_c23_builds_without_a_warning():
    """The default of gcc 15, by the name that older ones know as well. What others compile."""
    build_c('c23', '-Dc_std=gnu2x', '-Dtests=false')


def test_vala_program_runs():
    vapi = installed('share/vala/vapi/gaio-1.0.vapi')
    with tempfile.TemporaryDirectory() as folder:
        run(tool('valac'), f'--vapidir={vapi.parent}', '--pkg=gaio-1.0', '--Xcc=-w',
            '-o', 'program', EXAMPLES / 'vala/batch.vala', cwd=folder, env=environment())
        assert run(f'{folder}/program', env=environment(), timeout=TIMEOUT) == BATCH


def run_python(program, **options):
    with tempfile.TemporaryDirectory() as folder:
        return run(sys.executable, '-c', program, cwd=folder, env=environment(), timeout=TIMEOUT,
                   **options)


def test_python_program_of_the_readme_runs():
    """Its 'r' is what only the override understands."""
    installed('python/gi/overrides/Gaio.py')
    assert run_python(readme('python'), input='hello') == '5 bytes\n'


def test_asyncio_program_runs():
    installed('python/gaio')
    if sys.version_info < (3, 11):
        raise tap.Skip('it needs Python 3.11')
    assert run_python(ASYNCIO) == 'served\n'


def test_python_looks_where_the_guide_has_it_installed():
    guide = (SOURCE / 'docs/install.md').read_text(encoding='utf-8')
    option, = re.findall(r'-Dpython\.purelibdir=(\S.*)', guide)
    folder = run('sh', '-c', f'echo "{option}"').strip()
    python = '/usr/bin/python3'
    if not pathlib.Path(python).exists():
        raise tap.Skip(f'there is no {python}')
    places = run(python, '-c', 'import site; print(*site.getsitepackages())').split()
    assert folder in places, (folder, places)


def test_gjs_program_runs():
    """Its loop over the ready set is what only the override understands."""
    installed('share/gjs-1.0/overrides/Gaio.js')
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(EXAMPLES / 'js/batch.js', folder)
        said = run(tool('gjs'), '-m', 'batch.js', cwd=folder, env=environment(), timeout=TIMEOUT)
    assert said == BATCH, said


def test_gaio_top_runs():
    assert run(installed('bin/gaio-top'), '--version', env=environment(), timeout=TIMEOUT)


def test_subproject_builds_without_a_warning():
    """The library alone, with what is left at its default."""
    embedder, build = WORK / 'embedder', WORK / 'embedder/build'
    (embedder / 'subprojects').mkdir(parents=True)
    (embedder / 'subprojects/gaio').symlink_to(release())
    (embedder / 'meson.build').write_text(EMBEDDER, encoding='utf-8')
    (embedder / 'program.c').write_text(PROGRAM, encoding='utf-8')
    said = configure(build, embedder, '--force-fallback-for=gaio')
    said += run('meson', 'compile', '-C', build)
    assert 'warning' not in said.lower(), said
    tests = json.loads(run('meson', 'introspect', '--tests', build))
    assert [test['name'] for test in tests] == ['program'], tests
    run('meson', 'test', '-C', build)


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as work:
        WORK = pathlib.Path(work)
        tap.run(globals())
