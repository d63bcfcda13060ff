# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must hold, as ratios of two contenders in one round: what disturbs a round disturbs both.

A goal about several rows holds if it does in the worst of them."""

import math
import re
import statistics


def spread(values):
    """The median and the quartiles."""
    if len(values) < 2:
        return values * 3
    low, median, high = statistics.quantiles(values, n=4, method='inclusive')
    return median, low, high


class Rows:
    """The rows of one benchmark that match, in which all of the contenders took part."""

    def __init__(self, results, regex, *contenders):
        self.rows = {row['name']: row['values'] for row in results['rows']
                     if re.search(regex, row['name'])
                     and all(name in row['values'] for name in contenders)}

    def ratios(self, ours, rival):
        """By row. Without a rival, the values themselves."""
        if not rival:
            return {name: values[ours] for name, values in self.rows.items()}
        return {name: [a / b for a, b in zip(values[ours], values[rival])]
                for name, values in self.rows.items()}


def line(holds, text, values, where, limit):
    """One line of the table. None: only reported."""
    verdict = {True: 'ok', False: 'DOES NOT HOLD', None: 'reported'}[holds]
    median, low, high = spread(values)
    return f'{verdict:13}  {text}: {median:.4g} ({low:.4g}-{high:.4g}){limit}, {where}'


def geometric_mean(ratios):
    return math.exp(statistics.fmean(math.log(spread(values)[0]) for values in ratios.values()))


class Ratio:
    """ours / rival, at most or at least."""

    def __init__(self, benchmark, regex, ours, rival, at_most=None, at_least=None):
        self.benchmark, self.regex, self.ours, self.rival = benchmark, regex, ours, rival
        self.at_most, self.at_least = at_most, at_least
        self.text = f'{benchmark}, {ours} / {rival}, {regex}'

    def check(self, results):
        ratios = Rows(results, self.regex, self.ours, self.rival).ratios(self.ours, self.rival)
        if not ratios:
            return
        pick = max if self.at_least is None else min
        worst = pick(ratios, key=lambda name: spread(ratios[name])[0])
        median = spread(ratios[worst])[0]
        if self.at_most is not None:
            holds, limit = median <= self.at_most, f' of at most {self.at_most:g}'
        elif self.at_least is not None:
            holds, limit = median >= self.at_least, f' of at least {self.at_least:g}'
        else:
            holds, limit = None, ''
        where = worst
        if len(ratios) > 1:
            where += f', mean of {len(ratios)} rows {geometric_mean(ratios):.3g}'
        yield line(holds, self.text, ratios[worst], where, limit)


class NeverBehind:
    """In no row slower in three rounds of four, and faster in the geometric mean."""

    def __init__(self, benchmark, regex, ours, rival, report_only=False):
        self.benchmark, self.regex, self.ours, self.rival = benchmark, regex, ours, rival
        self.report_only = report_only
        self.text = f'{benchmark}, {ours} / {rival}, {regex}'

    def check(self, results):
        ratios = Rows(results, self.regex, self.ours, self.rival).ratios(self.ours, self.rival)
        if not ratios:
            return
        behind = sorted((name for name in ratios if spread(ratios[name])[1] > 1),
                        key=lambda name: -spread(ratios[name])[1])
        worst = max(ratios, key=lambda name: spread(ratios[name])[1])
        for name in behind or [worst]:
            yield line(None if self.report_only else name not in behind, self.text, ratios[name],
                       name, ', never behind by more than the spread')
        mean = geometric_mean(ratios)
        verdict = ('reported' if self.report_only else 'ok' if mean < 1 else 'DOES NOT HOLD')
        yield f'{verdict:13}  {self.text}: {mean:.3g} in the geometric mean of {len(ratios)} rows'


class Growth:
    """How ours / rival grows from one row to another, in each round. Without a rival, ours."""

    def __init__(self, benchmark, few, many, ours, rival, at_most):
        self.benchmark, self.few, self.many = benchmark, few, many
        self.ours, self.rival, self.at_most = ours, rival, at_most
        against = f' / {rival}' if rival else ''
        self.text = f'{benchmark}, growth of {ours}{against}, {many}'

    def check(self, results):
        few, many = (list(Rows(results, regex, self.ours, self.rival or self.ours)
                          .ratios(self.ours, self.rival).items())
                     for regex in (self.few, self.many))
        for (name_few, ratios_few), (name_many, ratios_many) in zip(few, many):
            growth = [b / a for a, b in zip(ratios_few, ratios_many)]
            yield line(spread(growth)[0] <= self.at_most, self.text, growth,
                       f'from {name_few} to {name_many}', f' of at most {self.at_most:g}')


class Most:
    """A value itself, at most."""

    def __init__(self, benchmark, regex, ours, at_most):
        self.benchmark, self.regex, self.ours, self.at_most = benchmark, regex, ours, at_most
        self.text = f'{benchmark}, {ours}, {regex}'

    def check(self, results):
        for name, values in Rows(results, self.regex, self.ours).rows.items():
            yield line(spread(values[self.ours])[0] <= self.at_most, self.text, values[self.ours],
                       name, f' of at most {self.at_most:g}')


GOALS = [
    *(Ratio('loop', rf'dry K={k}$', ours, rival, at_most=limit)
      for ours, rival, limit in (('gaio-nested', 'hand-written', 1.05),
                                 ('gaio-alone', 'raw-epoll', 1.10))
      for k in (1, 256)),
    *(NeverBehind(benchmark, kind, 'gaio-alone', rival, report_only=rival == 'libev')
      for rival in ('libuv', 'libevent', 'sd-event', 'libev')
      for benchmark, kind in (('loop', 'live'), ('loop', 'dry'), ('host', 'live'))),
    *(Growth('loop', rf'EVENTFD N=10 {kind} K=1$', rf'EVENTFD N=19000 {kind} K=1$', ours,
             'raw-epoll', 1.05)
      for kind in ('live', 'dry') for ours in ('gaio-nested', 'gaio-alone')),
    Ratio('loop', 'live', 'glib', 'gaio-nested', at_least=1),
    Ratio('loop', 'N=10000 live K=1$', 'glib', 'gaio-nested', at_least=250),
    Ratio('loop', 'N=10000 live K=256$', 'glib', 'gaio-nested', at_least=20),
    Ratio('loop', 'live', 'gaio-alone', 'raw-uring'),
    Ratio('host', 'live K=1$', 'gaio-host', 'gaio-nested', at_most=0.85),
    *(Ratio('churn', 'N=10000 add and remove$', ours, 'raw-epoll', at_most=1.5)
      for ours in ('gaio-nested', 'gaio-alone')),
    *(Most('memory', '^fd N=10000$', ours, 160) for ours in ('gaio-nested', 'gaio-alone')),
    Ratio('timers', 'N=100000 re-arm$', 'gaio-alone', 'libuv', at_most=0.8),
    Ratio('timers', 'N=100000 re-arm$', 'gaio-nested', 'libuv', at_most=0.8),
    Ratio('threads', '^calls', 'glib', 'gaio-nested', at_least=3),
    *(Ratio('threads', f'wake-up by call .* p={p}$', 'gaio-nested', 'glib') for p in (50, 99)),
    Most('python', '^batch', 'gaio-ready-set', 120),
    *(Ratio('python', '^N=10(000)? ', ours, 'asyncio', at_most=1)
      for ours in ('gaio-ready-set', 'gaio-run')),
    *(Growth('python', f'^N=10 K={k}$', f'^N=10000 K={k}$', 'gaio-ready-set', None, 1.1)
      for k in (1, 16, 256)),
    *(Ratio('asyncio', f'K={k}$', 'gaio', 'asyncio', at_most=limit)
      for k, limit in ((1, 1.5), (10, 1.3))),
    *(Ratio('asyncio', f'{row}$', 'gbulb', 'gaio', at_least=200)
      for row in ('callback N=9000 K=1', 'callback N=9000 K=10', 'coroutine N=9000 K=1')),
    # Here asyncio itself is not 200 times as fast.
    *(Ratio('asyncio', 'coroutine N=9000 K=10$', 'gbulb', ours) for ours in ('gaio', 'asyncio')),
    Ratio('daemon', 'talk$', 'gaio', 'glib', at_most=0.1),
    *(Growth('gio', f'^echo N=10 K={k}$', f'^echo N=9000 K={k}$', 'gaio-served', None, 1.05)
      for k in (1, 16)),
    Ratio('gio', '^echo N=9000 K=1$', 'glib', 'gaio-served', at_least=200),
    Ratio('gio', '^soup N=9000 K=1$', 'glib', 'gaio-served', at_least=150),
    Ratio('gio', '^soup-tls N=9000 K=1$', 'glib', 'gaio-served'),
    *(Ratio('gio', f'^{workload} N=10 K={k}$', 'gaio-served', 'glib', at_most=limit)
      for workload in ('echo', 'soup', 'soup-tls') for k, limit in ((1, 1.05), (16, 1.15))),
    *(Growth('gio', f'^{workload} N=10 K={k}$', f'^{workload} N=9000 K={k}$', ours, None, 1.1)
      for workload in ('streams', 'aiohttp')
      for ours in ('gaio-run', 'gaio-installed') for k in (1, 16)),
    *(Ratio('gio', f'^{workload} N=10 K={k}$', ours, 'asyncio', at_most=1.15)
      for workload in ('streams', 'aiohttp')
      for ours in ('gaio-run', 'gaio-installed') for k in (1, 16)),
    *(Ratio('file', 'iodepth=32$', 'gaio', rival, at_least=limit)
      for rival, limit in (('fio-uring', 0.9), ('fio-batch', 0.9), ('qemu-uring', 1),
                           ('qemu-native', 1))),
    Ratio('file', '^cache iodepth=32$', 'gaio', 'gio', at_least=5),
    # Here both wait for the disk.
    Ratio('file', '^direct iodepth=32$', 'gaio', 'gio'),
    Ratio('file', 'iodepth=32$', 'gaio+3168', 'gaio', at_least=0.97),
    *(Ratio('file', f'^{where} iodepth=32$', 'glib+3168', 'gaio') for where in ('cache', 'direct')),
    *(Growth('neighbours', f'N=10 K={k}$', f'N=2000 K={k}$', ours, None, 1.1)
      for ours in ('gaio-nested', 'gaio-host') for k in (1, 8)),
    *(NeverBehind('neighbours', 'N=10 ', ours, 'glib') for ours in ('gaio-nested', 'gaio-host')),
    Ratio('neighbours', 'N=2000 K=1$', 'glib', 'gaio-nested'),
]


def check(results, whole):
    """The lines of one benchmark. Of part of it, those that can be told."""
    for goal in GOALS:
        if goal.benchmark == results['benchmark']:
            lines = list(goal.check(results))
            yield from lines
            if whole and not lines:
                yield f'{"not measured":13}  {goal.text}'
