/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-monitor-epoll-private.h"
#include "gaio-monitor-wakeup-private.h"

/* The monitor of a context: the best one that the kernel has. What is called for each event is
 * inline, and knows epoll, which nearly all of them are. */

void gaio_monitor_init (GaioMonitor *mon, GaioMonitorType requested);
int gaio_monitor_open (GaioMonitor *mon);
void gaio_monitor_close (GaioMonitor *mon);
void gaio_monitor_lose (GaioMonitor *mon);
void gaio_monitor_clear (GaioMonitor *mon);
const char *gaio_monitor_get_name (const GaioMonitor *mon);
int gaio_monitor_add (GaioMonitor *mon, int fd, guint32 mask, guint64 key);
gboolean gaio_monitor_reports_once (const GaioMonitor *mon, int fd);
gboolean gaio_monitor_is_still (const GaioMonitor *mon, int fd);

/* Returns the operations to wait with: meanwhile, another thread may change those of the
 * monitor. */
static inline const GaioMonitorOps *
gaio_monitor_begin_wait (GaioMonitor *mon)
{
  if (!gaio_monitor_is_epoll (mon))
    mon->ops->begin_wait (mon);
  return mon->ops;
}

/* -1 us waits forever. Inline, because a system call makes the processor forget where to return to,
 * so each level of calls around it costs a misprediction. */
static inline int
gaio_monitor_wait (GaioMonitor *mon, const GaioMonitorOps *ops, int max_events, gint64 timeout_us)
{
  if (G_UNLIKELY (ops != &gaio_monitor_epoll_ops))
    return ops->wait (mon, max_events, timeout_us);
  if (timeout_us > 0)
    return gaio_monitor_epoll_wait_limited (mon, max_events, timeout_us);
  return epoll_wait (mon->fd, mon->events, max_events, timeout_us);
}

static inline int
gaio_monitor_end_wait (GaioMonitor *mon, const GaioMonitorOps *ops, int n, int max_events)
{
  return G_LIKELY (ops == &gaio_monitor_epoll_ops) ? n : ops->end_wait (mon, n, max_events);
}

/* All three parts, for a wait that does not wait. */
static inline int
gaio_monitor_poll_now (GaioMonitor *mon, int max_events)
{
  if (gaio_monitor_is_epoll (mon))
    return epoll_wait (mon->fd, mon->events, max_events, 0);
  mon->ops->begin_wait (mon);
  return mon->ops->end_wait (mon, mon->ops->wait (mon, max_events, 0), max_events);
}
