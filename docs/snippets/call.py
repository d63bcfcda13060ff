# SPDX-License-Identifier: LGPL-2.1-or-later
import threading

from gi.repository import Gaio, GLib

context = Gaio.Context.get_default()
loop = GLib.MainLoop()


def work(n):
    context.defer(on_result, sum(range(n)))


def on_result(result):
    print(result, threading.current_thread() is threading.main_thread())
    loop.quit()


threading.Thread(target=work, args=[1001]).start()
loop.run()
