#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws what `bench-loop --csv FILE` has written: time per event over the number of fds."""

import argparse
import collections
import csv
import statistics

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def read_medians(path):
    """{(kind, k): {contender: {n: median ns per event}}}"""
    rounds = collections.defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            key = row["kind"], int(row["k"]), row["contender"], int(row["n"])
            rounds[key].append(float(row["ns_per_event"]))
    panels = {}
    for (kind, k, contender, n), values in sorted(rounds.items()):
        lines = panels.setdefault((kind, k), {})
        lines.setdefault(contender, {})[n] = statistics.median(values)
    return panels


def draw_panel(axes, title, lines):
    for contender, points in lines.items():
        axes.plot(list(points), list(points.values()), marker="o", label=contender)
    axes.set(title=title, xlabel="fds watched", ylabel="ns per event", xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()


def draw(panels, path):
    kinds = sorted({kind for kind, _ in panels})
    ks = sorted({k for _, k in panels})
    figure, grid = pyplot.subplots(
        len(kinds), len(ks), squeeze=False, figsize=(5 * len(ks), 4 * len(kinds))
    )
    for row, kind in zip(grid, kinds):
        for axes, k in zip(row, ks):
            draw_panel(axes, f"{kind}, {k} ready at once", panels.get((kind, k), {}))
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv")
    parser.add_argument("png")
    arguments = parser.parse_args()
    draw(read_medians(arguments.csv), arguments.png)


if __name__ == "__main__":
    main()
