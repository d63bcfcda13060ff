# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Python 3.16 no longer has."""

import asyncio

from ._child_watcher import use_pidfds
from ._loop import EventLoop


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """For code that still gets its loop from the policy: pass it to
    asyncio.set_event_loop_policy()."""

    def __init__(self):
        super().__init__()
        use_pidfds(self)

    def new_event_loop(self):
        return EventLoop()
