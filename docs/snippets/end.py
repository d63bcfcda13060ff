# SPDX-License-Identifier: LGPL-2.1-or-later
import asyncio

import gaio
from gi.repository import GLib


async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        print('tidied up')


main_loop = GLib.MainLoop()
with asyncio.Runner(loop_factory=gaio.install):
    gaio.create_task(work())
    GLib.timeout_add(100, main_loop.quit)
    main_loop.run()
