#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws floors.svg from the table in CONTRIBUTING.md. Run it when the table has changed."""

import collections
import html
import pathlib
import re

PICTURE = pathlib.Path(__file__).resolve().with_suffix('.svg')
TABLE = PICTURE.parents[2] / 'CONTRIBUTING.md'

WIDTH = 720
MARGIN = 16
PADDING = 12
HEAD = 26
BOX = 24
GAP = 8
# The average width of a letter of 12 px.
LETTER = 7

Floor = collections.namedtuple('Floor', 'number folder files what')

START = '''\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" \
height="{height}">
  <!-- SPDX-License-Identifier: LGPL-2.1-or-later -->
  <!-- made by floors.py -->
  <title>Floors</title>
  <style>
    text {{ font: 14px sans-serif; fill: #1c2833 }}
    .head {{ font-weight: bold }}
    .small {{ font-size: 12px }}
    .floor {{ fill: #dcebf7; stroke: #1f618d }}
    .box {{ fill: #ffffff; stroke: #34495e; stroke-width: 1.5 }}
  </style>
  <rect width="{width}" height="{height}" rx="8" fill="#f4f6f7"/>
'''


def read_table():
    """Its rows as Floors, from the top down."""
    section = TABLE.read_text(encoding='utf-8').partition('\n## Floors\n')[2].partition('\n## ')[0]
    rows = re.findall(r'^\| (\d+) \| `([\w/]+)` \| (.+) \| (.+) \|$', section, re.M)
    return [Floor(int(number), folder, re.findall(r'`([\w.-]+)`', files), what)
            for number, folder, files, what in rows]


def rows_of_boxes(names):
    """Each name with where its box begins and how wide it is, in as many rows as it takes."""
    rows, x = [[]], MARGIN + PADDING
    for name in names:
        width = round(len(name) * LETTER) + 16
        if x + width > WIDTH - MARGIN - PADDING:
            rows.append([])
            x = MARGIN + PADDING
        rows[-1].append((name, x, width))
        x += width + GAP
    return rows


def draw_floor(floor, y):
    """The lines that draw it, and its height."""
    rows = rows_of_boxes([name.removeprefix('gaio-') for name in floor.files])
    height = HEAD + len(rows) * (BOX + GAP) + 2
    what = html.escape(floor.what, quote=False)
    lines = [
        '',
        f'  <rect class="floor" x="{MARGIN}" y="{y}" width="{WIDTH - 2 * MARGIN}" '
        f'height="{height}" rx="4"/>',
        f'  <text x="{MARGIN + PADDING}" y="{y + 18}">'
        f'<tspan class="head">{floor.number}</tspan><tspan dx="8">{what}</tspan></text>',
        f'  <text class="small" x="{WIDTH - MARGIN - PADDING}" y="{y + 18}" text-anchor="end">'
        f'{floor.folder}</text>',
    ]
    for n, row in enumerate(rows):
        top = y + HEAD + n * (BOX + GAP)
        for name, x, width in row:
            lines += [
                f'  <rect class="box" x="{x}" y="{top}" width="{width}" height="{BOX}" rx="4"/>',
                f'  <text class="small" x="{x + width / 2:g}" y="{top + 16}" '
                f'text-anchor="middle">{name}</text>',
            ]
    return lines, height


def draw():
    """The picture of the table, as text."""
    lines, y = [], MARGIN
    for floor in read_table():
        more, height = draw_floor(floor, y)
        lines += more
        y += height + GAP
    lines += ['', f'  <text class="small" x="{MARGIN + PADDING}" y="{y + 14}">Each file includes '
              'private headers only from lower floors, or from its right.</text>', '</svg>', '']
    return START.format(width=WIDTH, height=y + 28) + '\n'.join(lines)


if __name__ == '__main__':
    PICTURE.write_text(draw(), encoding='utf-8')
