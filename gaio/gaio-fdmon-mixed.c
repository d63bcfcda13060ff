/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fdmon-mixed-private.h"
#include "gaio-fdmon-poll-private.h"

/* An epoll set, and beside it a table of those few fds that tell only once that they are ready, see
 * gaio_tells_once(). Whoever polls an epoll fd, as GLib does, asks the files in the set, and the
 * next who asks them hears nothing: so they are asked by themselves. The epoll fd is in the table
 * as well, for the wait. */

/* @mon, which is an epoll monitor, becomes one of these. Returns 0 or an errno. */
static int
become_mixed (GaioFdmon *mon)
{
  int errsv;

  gaio_fdmon_poll_make (mon);
  errsv = gaio_fdmon_poll_add (mon, mon->fd, EPOLLIN, GAIO_FDMON_KEY_SET);
  if (errsv == 0)
    mon->ops = &gaio_fdmon_mixed_ops;
  else
    gaio_fdmon_poll_clear (mon);
  return errsv;
}

/* For one that tells once. Returns 0 or an errno. */
int
gaio_fdmon_mixed_add_apart (GaioFdmon *mon, int fd, guint32 mask, guint64 key)
{
  int errsv = gaio_fdmon_is_epoll (mon) ? become_mixed (mon) : 0;

  return errsv != 0 ? errsv : gaio_fdmon_poll_add (mon, fd, mask, key);
}

static void
fdmon_mixed_close (GaioFdmon *mon)
{
  gaio_fdmon_epoll_ops.close (mon);
}

/* Of a file that may be asked by anybody. */
static int
fdmon_mixed_add (GaioFdmon *mon, int fd, guint32 mask, guint64 key)
{
  return gaio_fdmon_epoll_ops.add (mon, fd, mask, key);
}

static int
fdmon_mixed_modify (GaioFdmon *mon, int fd, guint32 mask, guint64 key)
{
  return gaio_fdmon_poll_has (mon, fd) ? gaio_fdmon_poll_modify (mon, fd, mask, key)
                                       : gaio_fdmon_epoll_ops.modify (mon, fd, mask, key);
}

static int
fdmon_mixed_remove (GaioFdmon *mon, int fd)
{
  return gaio_fdmon_poll_has (mon, fd) ? gaio_fdmon_poll_remove (mon, fd)
                                       : gaio_fdmon_epoll_ops.remove (mon, fd);
}

/* Puts what the set has to say in the place of the event that it has something to say. That may be
 * the wake-up for what there was no room for. */
static int
look_into_set (GaioFdmon *mon, int n, int max_events)
{
  for (int i = 0; i < n; i++)
    if (mon->events[i].data.u64 == GAIO_FDMON_KEY_SET)
      {
        int n_more;

        mon->events[i] = mon->events[--n];
        n_more = epoll_wait (mon->fd, mon->events + n, MAX (max_events - n, 1), 0);
        gaio_fdmon_poll_wake_for_told (mon);
        return n_more >= 0 ? n + n_more : n_more;
      }
  return n;
}

static int
fdmon_mixed_end_wait (GaioFdmon *mon, int n, int max_events)
{
  return look_into_set (mon, gaio_fdmon_poll_end_wait (mon, n, max_events), max_events);
}

const GaioFdmonOps gaio_fdmon_mixed_ops = {
  .name = "epoll",
  .lazy = TRUE,
  .close = fdmon_mixed_close,
  .clear = gaio_fdmon_poll_clear,
  .add = fdmon_mixed_add,
  .modify = fdmon_mixed_modify,
  .remove = fdmon_mixed_remove,
  .show = gaio_fdmon_poll_show,
  .see_glib = gaio_fdmon_poll_see_glib,
  .begin_wait = gaio_fdmon_poll_begin_wait,
  .wait = gaio_fdmon_poll_wait,
  .end_wait = fdmon_mixed_end_wait,
};
