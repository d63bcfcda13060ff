# SPDX-License-Identifier: LGPL-2.1-or-later
import asyncio

import gaio
from gi.repository import Gio


async def work():
    for number in range(3):
        await asyncio.sleep(0.01)
        print('work', number)


def on_activate(application):
    gaio.create_task(work(), application=application)


loop = gaio.install()
application = Gio.Application(flags=Gio.ApplicationFlags.NON_UNIQUE)
application.connect('activate', on_activate)
application.run()
loop.close()
