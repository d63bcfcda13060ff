# SPDX-License-Identifier: LGPL-2.1-or-later
"""Draws the results of a benchmark, as SVG files."""

import re

import matplotlib

matplotlib.use('Agg')
# Small, and the same from the same numbers.
matplotlib.rcParams.update({'svg.hashsalt': 'gaio', 'svg.fonttype': 'none'})
from matplotlib import pyplot

# Gaio is thick, a limit without a library is dotted.
STYLES = {
    'gaio-served': {'color': 'tab:pink', 'linewidth': 2.5},
    'gaio-nested': {'color': 'tab:red', 'linewidth': 2.5},
    'gaio-alone': {'color': 'tab:orange', 'linewidth': 2.5},
    'gaio-host': {'color': 'tab:pink', 'linewidth': 2.5},
    'raw-epoll': {'color': 'black', 'linestyle': ':'},
    'raw-uring': {'color': 'tab:brown', 'linestyle': ':'},
    'hand-written': {'color': 'tab:gray', 'linestyle': ':'},
    'glib': {'color': 'tab:blue'},
    'libuv': {'color': 'tab:green'},
    'libevent': {'color': 'tab:purple'},
    'libev': {'color': 'tab:cyan'},
    'sd-event': {'color': 'tab:olive'},
    'gaio': {'color': 'tab:red', 'linewidth': 2.5},
    'asyncio': {'color': 'black', 'linestyle': ':'},
    'uvloop': {'color': 'tab:green'},
    'gaio-run': {'color': 'tab:red', 'linewidth': 2.5},
    'gaio-installed': {'color': 'tab:orange', 'linewidth': 2.5},
    'gbulb': {'color': 'tab:purple'},
    'gi.events': {'color': 'tab:cyan'},
    'gaio+3168': {'color': 'tab:pink'},
    'glib+3168': {'color': 'tab:blue'},
    'gio': {'color': 'tab:blue'},
}


def lines(results, regex):
    """{contender: [(x, {median, low, high})...]}, where the regex has a group that is x."""
    found = {}
    for row in results['rows']:
        match = re.fullmatch(regex, row['name'])
        if match:
            for name, value in row['values'].items():
                found.setdefault(name, []).append((float(match[1]), value))
    return found


def draw_lines(axes, results, regex, base=None, **settings):
    """Medians, and the quartiles as a band; with a base, as multiples of its median."""
    found = lines(results, regex)
    for name, points in found.items():
        xs = [x for x, _ in points]
        unit = [value['median'] for _, value in found[base]] if base else [1] * len(points)
        median, low, high = ([value[key] / one for (_, value), one in zip(points, unit)]
                             for key in ('median', 'low', 'high'))
        style = STYLES.get(name, {})
        axes.plot(xs, median, marker='.', label=name, **style)
        axes.fill_between(xs, low, high, color=style.get('color'), alpha=0.15, linewidth=0)
    axes.set(xscale='log', **settings)
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def save(figure, directory, name, results):
    """With the machine under it."""
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='center right', frameon=False)
    where = '{cpu}, {processors} processors, {kernel}, load {load}, {date}, {commit}'.format(
        **results['machine'])
    figure.text(0.01, 0.01, f'{where}, {results["rounds"]} rounds', fontsize=7, color='gray')
    figure.tight_layout(rect=(0, 0.03, 0.86, 1))
    figure.savefig(directory / f'{name}.svg', metadata={'Date': None})
    pyplot.close(figure)


def draw_panels(directory, name, results, panels, yscale='log', **settings):
    figure, grid = pyplot.subplots(1, len(panels), figsize=(1.8 + 4.2 * len(panels), 4),
                                   sharey=True, squeeze=False)
    for axes, (title, regex) in zip(grid[0], panels.items()):
        draw_lines(axes, results, regex, title=title, yscale=yscale, **settings)
    grid[0][0].set_ylabel('times raw epoll' if 'base' in settings else results['unit'])
    save(figure, directory, name, results)


def draw_loop(directory, results):
    over_n = {f'{k} ready at once': rf'fd=EVENTFD N=(\d+) live K={k}' for k in (1, 16, 256)}
    draw_panels(directory, 'events-over-n', results, over_n, xlabel='fds watched (N)')
    # What is far above is cut off.
    draw_panels(directory, 'events-over-limit', results, over_n, yscale='linear',
                xlabel='fds watched (N)', base='raw-epoll', ylim=(0.8, 2.4))
    draw_panels(directory, 'events-over-k', results,
                {'write, loop, read': r'fd=EVENTFD N=1000 live K=(\d+)',
                 'the loop alone': r'fd=EVENTFD N=1000 dry K=(\d+)'},
                xlabel='ready at once (K) of 1,000')


def draw_timers(directory, results):
    draw_panels(directory, 'timers', results,
                {what: rf'N=(\d+) {what}' for what in ('make and arm', 're-arm', 'fire all')},
                xlabel='timers')


def draw_churn(directory, results):
    draw_panels(directory, 'churn', results,
                {'remove and add': r'N=(\d+) add and remove',
                 'another condition': r'N=(\d+) modify'},
                xlabel='fds watched (N)')


def draw_memory(directory, results):
    bars = {row['name']: {name: value['median'] for name, value in row['values'].items()}
            for row in results['rows'] if row['name'] in ('fd N=10000', 'timer N=10000')}
    figure, grid = pyplot.subplots(1, len(bars), figsize=(5 * len(bars), 4), squeeze=False)
    for axes, (title, values) in zip(grid[0], bars.items()):
        for y, (name, value) in enumerate(reversed(values.items())):
            axes.barh(y, value, color=STYLES[name]['color'])
            axes.text(value, y, f' {value:.0f}', va='center')
        axes.set_yticks(range(len(values)), list(reversed(values)))
        axes.set(title=f'one {title.partition(" ")[0]} of 10,000', xlabel=results['unit'])
        axes.margins(x=0.15)
    save(figure, directory, 'memory', results)


def draw_threads(directory, results):
    figure, grid = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axes, cpus in zip(grid, (1, 2)):
        for name, points in lines(results, rf'wake-up by call cpus={cpus} p=([\d.]+)').items():
            axes.plot([value['median'] for _, value in points], [p for p, _ in points], marker='.',
                      label=name, **STYLES[name])
        axes.set(title=f'threads on {cpus} processor{"s" * (cpus > 1)}', xscale='log',
                 xlabel='ns from a deferred call to its callback')
        axes.grid(alpha=0.3)
    grid[0].set_ylabel('% within')
    save(figure, directory, 'latency', results)


def draw_asyncio(directory, results):
    draw_panels(directory, 'asyncio', results,
                {f'{way}s, {k} at once': rf'{way} N=(\d+) K={k}'
                 for way in ('callback', 'coroutine') for k in (1, 10)},
                xlabel='connections that are idle (N)')


def draw_gio(directory, results):
    draw_panels(directory, 'gio', results,
                {'echo, 1 at once': r'echo N=(\d+) K=1',
                 'echo, 16 at once': r'echo N=(\d+) K=16',
                 'libsoup, 1 at once': r'soup N=(\d+) K=1',
                 'libsoup with TLS, 1 at once': r'soup-tls N=(\d+) K=1',
                 "asyncio's streams, 1 at once": r'streams N=(\d+) K=1',
                 'aiohttp, 1 at once': r'aiohttp N=(\d+) K=1'},
                xlabel='connections that are idle (N)')


def draw_file(directory, results):
    figure, grid = pyplot.subplots(1, len(results['rows']), squeeze=False,
                                   figsize=(1 + 3.6 * len(results['rows']), 4))
    for axes, row in zip(grid[0], results['rows']):
        names = list(reversed(row['values']))
        for y, name in enumerate(names):
            value = row['values'][name]
            median = value['median']
            axes.barh(y, median, color=STYLES.get(name, {}).get('color', 'tab:gray'),
                      xerr=[[median - value['low']], [value['high'] - median]], ecolor='black')
            axes.text(value['high'], y, f' {median:.0f}', va='center')
        axes.set_yticks(range(len(names)), names)
        axes.set(title=row['name'], xlabel=results['unit'])
        axes.margins(x=0.3)
        axes.locator_params(axis='x', nbins=4)
    save(figure, directory, 'file', results)


def draw_neighbours(directory, results):
    draw_panels(directory, 'neighbours', results,
                {name: rf'{name} N=(\d+) K=1' for name in ('redis', 'curl', 'postgres', 'dbus')},
                xlabel='connections, of which one is active (N)')


DRAWERS = {'asyncio': draw_asyncio, 'churn': draw_churn, 'file': draw_file, 'gio': draw_gio,
           'loop': draw_loop, 'memory': draw_memory, 'neighbours': draw_neighbours,
           'threads': draw_threads,
           'timers': draw_timers}


def draw(directory, results):
    """Nothing, where the table says it all."""
    if results['benchmark'] in DRAWERS:
        DRAWERS[results['benchmark']](directory, results)
