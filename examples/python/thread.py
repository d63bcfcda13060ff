# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thread hands its result to the main loop, where a timer draws a dot each millisecond."""
import threading

import gi

gi.require_version('Gaio', '1.0')
from gi.repository import Gaio, GLib

context = Gaio.Context.get_default()
loop = GLib.MainLoop()


def work(n):
    context.defer(on_result, n, sum(i * i for i in range(n)))


def on_result(n, result):
    print(f'\nthe squares below {n} sum up to {result}')
    loop.quit()


def on_tick():
    print('.', end='', flush=True)
    return GLib.SOURCE_CONTINUE


with context.add_timeout(1000, on_tick):
    threading.Thread(target=work, args=[3000000]).start()
    loop.run()
