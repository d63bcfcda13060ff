/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-monitor-mixed-private.h"

#include "gaio-monitor-epoll-private.h"
#include "gaio-monitor-poll-private.h"

/* An epoll set, and beside it a table of the few fds whose files report only once that they are
 * ready, see gaio_reports_once(). Polling an epoll fd, as GLib does, polls the files in the set,
 * and the next poll of these files finds nothing, so they are kept out of the set. The epoll fd is
 * also in the table, for the wait. */

static void
monitor_mixed_close (GaioMonitor *mon)
{
  gaio_monitor_epoll_ops.close (mon);
}

/* Of a file that anybody may poll. */
static int
monitor_mixed_add (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  return gaio_monitor_epoll_ops.add (mon, fd, mask, key);
}

static int
monitor_mixed_modify (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  return gaio_monitor_poll_has (mon, fd) ? gaio_monitor_poll_modify (mon, fd, mask, key)
                                         : gaio_monitor_epoll_ops.modify (mon, fd, mask, key);
}

static int
monitor_mixed_remove (GaioMonitor *mon, int fd)
{
  return gaio_monitor_poll_has (mon, fd) ? gaio_monitor_poll_remove (mon, fd)
                                         : gaio_monitor_epoll_ops.remove (mon, fd);
}

/* Replaces the event that says that the set has events with these events. That event may be the
 * wake-up for events for which there was no room. */
static int
expand_set (GaioMonitor *mon, int n, int max_events)
{
  for (int i = 0; i < n; i++)
    if (mon->events[i].data.u64 == GAIO_MONITOR_KEY_SET)
      {
        int n_more;

        mon->events[i] = mon->events[--n];
        n_more = epoll_wait (mon->fd, mon->events + n, MAX (max_events - n, 1), 0);
        gaio_monitor_poll_wake_for_reported (mon);
        return n_more >= 0 ? n + n_more : n_more;
      }
  return n;
}

static int
monitor_mixed_end_wait (GaioMonitor *mon, int n, int max_events)
{
  return expand_set (mon, gaio_monitor_poll_end_wait (mon, n, max_events), max_events);
}

static const GaioMonitorOps mixed_ops = {
  .name = "epoll",
  .lazy = TRUE,
  .close = monitor_mixed_close,
  .clear = gaio_monitor_poll_clear,
  .add = monitor_mixed_add,
  .modify = monitor_mixed_modify,
  .remove = monitor_mixed_remove,
  .before_glib_poll = gaio_monitor_poll_before_glib_poll,
  .after_glib_poll = gaio_monitor_poll_after_glib_poll,
  .begin_wait = gaio_monitor_poll_begin_wait,
  .wait = gaio_monitor_poll_wait,
  .end_wait = monitor_mixed_end_wait,
};

/* Turns @mon, an epoll monitor, into a mixed one. Returns 0 or an errno. */
static int
become_mixed (GaioMonitor *mon)
{
  int errsv;

  gaio_monitor_poll_make (mon);
  errsv = gaio_monitor_poll_add (mon, mon->fd, EPOLLIN, GAIO_MONITOR_KEY_SET);
  if (errsv == 0)
    mon->ops = &mixed_ops;
  else
    gaio_monitor_poll_clear (mon);
  return errsv;
}

/* For a file that reports once. Returns 0 or an errno. */
int
gaio_monitor_mixed_add_apart (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  int errsv = gaio_monitor_is_epoll (mon) ? become_mixed (mon) : 0;

  return errsv != 0 ? errsv : gaio_monitor_poll_add (mon, fd, mask, key);
}
