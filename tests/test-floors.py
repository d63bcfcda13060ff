#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-floors.py SOURCE: the files of the library include each other as CONTRIBUTING.md says."""

import graphlib
import pathlib
import re
import sys

import tap

SOURCE = pathlib.Path(sys.argv[1])
# Where the table is read that the picture is drawn from.
sys.dont_write_bytecode = True
sys.path.insert(0, str(SOURCE / 'docs/images'))
import floors  # noqa: E402

FILES = {path.name: path for path in sorted((SOURCE / 'gaio').rglob('*.[ch]'))}
# All that base/ and monitor/ may take from gaio/ itself.
PUBLIC_TYPES = {'gaio-types.h', 'gaio-error.h'}


def unit(name):
    """What the table calls a file: a header and what it declares are one."""
    return re.sub(r'(-private)?\.[ch]$', '', name)


def folder(name):
    return f'{FILES[name].parent.relative_to(SOURCE)}/'


def includes(name):
    """The files of ours that it includes; what the build makes is not among them."""
    text = FILES[name].read_text(encoding='utf-8')
    found = re.findall(r'^ *# *include +["<](?:[\w-]+/)*(gaio[\w-]*\.h)[">]', text, re.M)
    for header in found:
        assert header in FILES or not header.endswith('-private.h'), f'{name} includes {header}'
    return [header for header in found if header in FILES]


def places():
    """The floor of each unit, and how far to the left it is there."""
    return {name: (floor.number, place)
            for floor in floors.read_table() for place, name in enumerate(floor.files[::-1])}


def test_the_floors_are_numbered_from_the_ground():
    numbers = [floor.number for floor in floors.read_table()]
    assert numbers and numbers == list(reversed(range(len(numbers)))), numbers


def test_each_file_is_on_one_floor():
    drawn = [(floor.folder, name) for floor in floors.read_table() for name in floor.files]
    there = {(folder(name), unit(name)) for name in FILES}
    assert len(drawn) == len(set(drawn)), sorted(drawn)
    assert set(drawn) == there, f'missing: {there - set(drawn)}, not there: {set(drawn) - there}'


def test_private_headers_are_included_from_above_or_from_the_left():
    place = places()
    for name in FILES:
        for header in includes(name):
            if header.endswith('-private.h') and unit(header) != unit(name):
                assert place[unit(header)] < place[unit(name)], f'{name} includes {header}'


def test_lower_folders_know_only_public_types():
    for name in FILES:
        if folder(name) != 'gaio/':
            for header in includes(name):
                assert folder(header) != 'gaio/' or header in PUBLIC_TYPES, \
                    f'{name} includes {header}'


def test_includes_form_no_cycle():
    graph = {name: includes(name) for name in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(error.args[1]) from None


def test_the_picture_is_that_of_the_table():
    assert floors.PICTURE.read_text(encoding='utf-8') == floors.draw(), \
        'docs/images/floors.py draws it anew'


if __name__ == '__main__':
    tap.run(globals())
