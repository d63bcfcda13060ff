#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Draws each NAME.dot in this folder as NAME.svg, with Graphviz, in the style of the other drawings.
set -eu
cd "$(dirname "$0")"
for text in *.dot; do
  {
    sed -n '1s,// \(.*\),<!-- \1 -->,p' "$text"
    echo "<!-- Made from $text by draw.sh. -->"
    dot -Tsvg -Gbgcolor='#f4f6f7' -Gpad=0.15 -Gfontname=sans-serif -Gfontsize=10.5 \
      -Gfontcolor='#1c2833' -Gcolor='#85929e' \
      -Nshape=box -Nstyle=filled -Nfillcolor=white -Ncolor='#34495e' -Npenwidth=1.1 \
      -Nfontname=sans-serif -Nfontsize=10.5 -Nfontcolor='#1c2833' -Nmargin=0.1,0.06 -Nheight=0.3 \
      -Ecolor='#34495e' -Epenwidth=1.1 -Earrowsize=0.6 -Efontname=sans-serif -Efontsize=9 \
      -Efontcolor='#1c2833' "$text" | sed -n '/^<svg/,$p'
  } >"${text%.dot}.svg"
done
