/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-monitor-private.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/gaio-refusal-private.h"
#include "gaio-monitor-mixed-private.h"
#include "gaio-monitor-poll-private.h"
#include "gaio-reports-once-private.h"

void
gaio_monitor_init (GaioMonitor *mon, GaioMonitorType requested)
{
  mon->ops = NULL;
  mon->requested = requested;
  mon->fd = mon->wake_fd = mon->timer_fd = -1;
  mon->armed = -1;
  mon->glib_source = NULL;
}

/* The one to begin with. */
static const GaioMonitorOps *
requested_ops (const GaioMonitor *mon)
{
  return mon->requested == GAIO_MONITOR_TYPE_POLL ? &gaio_monitor_poll_ops
                                                  : &gaio_monitor_epoll_ops;
}

static int
try_open (GaioMonitor *mon, const GaioMonitorOps *ops)
{
  int errsv = ops->open (mon);

  if (errsv == 0)
    mon->ops = ops;
  else
    ops->close (mon);
  return errsv;
}

/* poll(2) where the kernel refuses epoll. */
static int
open_best (GaioMonitor *mon)
{
  const GaioMonitorOps *ops = requested_ops (mon);
  int errsv = try_open (mon, ops);

  if (gaio_is_refusal (errsv) && ops == &gaio_monitor_epoll_ops)
    {
      mon->note = "the kernel refuses epoll";
      errsv = try_open (mon, &gaio_monitor_poll_ops);
    }
  return errsv;
}

/* Opens all fds at once: if we opened one later, it could get the number of an fd that was closed
 * without removing its handler, and be taken for that. */
static int
open_all (GaioMonitor *mon)
{
  mon->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (mon->wake_fd < 0)
    return errno;
  gaio_monitor_open_timer (mon);
  /* If it is forbidden, we can do without it. */
  if (mon->timer_fd < 0 && !gaio_is_refusal (errno))
    return errno;
  return open_best (mon);
}

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

static void
close_own (GaioMonitor *mon)
{
  close_fd (&mon->timer_fd);
  close_fd (&mon->wake_fd);
  mon->armed = -1;
  mon->glib_source = NULL;
}

/* Unless it is open already. Returns 0 or an errno. */
int
gaio_monitor_open (GaioMonitor *mon)
{
  int errsv = gaio_monitor_is_open (mon) ? 0 : open_all (mon);

  if (errsv != 0)
    close_own (mon);
  return errsv;
}

void
gaio_monitor_close (GaioMonitor *mon)
{
  if (mon->ops != NULL)
    mon->ops->close (mon);
  gaio_monitor_clear (mon);
  close_own (mon);
}

/* Somebody has closed our fds: nobody knows what their numbers refer to now. */
void
gaio_monitor_lose (GaioMonitor *mon)
{
  mon->fd = mon->wake_fd = mon->timer_fd = -1;
}

/* Forgets everything, without telling the kernel. */
void
gaio_monitor_clear (GaioMonitor *mon)
{
  if (mon->ops != NULL && mon->ops->clear != NULL)
    mon->ops->clear (mon);
  mon->ops = NULL;
}

/* As GaioMonitorOps.add. */
int
gaio_monitor_add (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  if (mon->ops != &gaio_monitor_poll_ops && G_UNLIKELY (gaio_reports_once (fd)))
    return gaio_monitor_mixed_add_apart (mon, fd, mask, key);
  return mon->ops->add (mon, fd, mask, key);
}

/* Whether the file of @fd, which has been added, reports only once that it is ready. */
gboolean
gaio_monitor_reports_once (const GaioMonitor *mon, int fd)
{
  return mon->ops->after_glib_poll != NULL && gaio_monitor_poll_reports_once (mon, fd);
}

/* Whether @fd, of a file that reports once, still means the file that was added. */
gboolean
gaio_monitor_is_still (const GaioMonitor *mon, int fd)
{
  return gaio_monitor_poll_is_still (mon, fd);
}

/* The name of the monitor in use or, before that is known, of the one that will be tried. */
const char *
gaio_monitor_get_name (const GaioMonitor *mon)
{
  return mon->ops != NULL ? mon->ops->name : requested_ops (mon)->name;
}
