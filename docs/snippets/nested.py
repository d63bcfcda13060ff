# SPDX-License-Identifier: LGPL-2.1-or-later
import asyncio

import gaio
from gi.repository import GLib


async def main():
    inner = GLib.MainLoop()
    task = asyncio.create_task(asyncio.sleep(0))

    def on_timeout():
        print('GLib goes on; asyncio has gone on:', task.done())
        inner.quit()

    GLib.timeout_add(20, on_timeout)
    inner.run()
    await task
    print('asyncio has gone on:', task.done())


gaio.run(main())
