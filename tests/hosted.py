# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loop of gaio.install(), for tests that run their loop by themselves."""

from gi.repository import GLib

from gaio._hosted import HostedEventLoop
from gaio._loop import EventLoop
from gaio._main_loops import get_installed, set_installed


class InMainLoop(HostedEventLoop):
    """To run it is to run a GLib.MainLoop, which has all the turns. By default in a GMainContext of
    its own: what is to be run while another loop is, is not."""

    def __init__(self, main_context=None):
        super().__init__(main_context or GLib.MainContext())
        self.main_loop = None
        self.error = None
        self.has_stopped = self.is_late = False

    def run_forever(self):
        if self.gaio_selector.hosted:
            super().run_forever()
            return
        self._check_closed()
        self._check_running()
        self.main_loop = GLib.MainLoop(self.gaio_selector.main_context)
        if self.has_stopped or self.is_late:
            self._turn_soon.schedule()
        self.is_late = False
        outer = get_installed()
        set_installed(self)
        try:
            self.main_loop.run()
        finally:
            set_installed(outer)
            self.main_loop = None
            self.has_stopped = False
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def _check_running(self):
        super()._check_running()
        if self.main_loop is not None and not self.gaio_selector.hosted:
            raise RuntimeError('This event loop is already running')

    def stop(self):
        self.has_stopped = True
        if self.is_in_run():
            EventLoop.stop(self)
        if self.main_loop is not None:
            self.main_loop.quit()

    def _turn(self):
        """Which is the last one when the loop was stopped in it."""
        if self.main_loop is None or (self.has_stopped and not self.main_loop.is_running()):
            self.is_late = True
            return
        try:
            super()._turn()
        except BaseException as error:
            # It would end in C.
            self.error = error
            self.has_stopped = True
        if self.has_stopped:
            self.main_loop.quit()
