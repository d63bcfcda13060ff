/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-monitor-ops-private.h"

extern const GaioMonitorOps gaio_monitor_epoll_ops G_GNUC_INTERNAL;

int gaio_monitor_epoll_wait_limited (GaioMonitor *mon, int max_events, gint64 timeout_us);

static inline gboolean
gaio_monitor_is_epoll (const GaioMonitor *mon)
{
  return G_LIKELY (mon->ops == &gaio_monitor_epoll_ops);
}

/* Between begin and end, the caller adds each of its fds to a new set, which then, if it is
 * complete, takes the place and the number of the old one. If any of these returns FALSE, the old
 * one stays in place. Only an epoll set needs this: the others forget what they are told to
 * forget. */
typedef struct
{
  int new_set;
  gboolean suspect; /* it may know a file that nobody can remove from it by its number */
} GaioMonitorRebuild;

gboolean gaio_monitor_epoll_rebuild_begin (GaioMonitor *mon, GaioMonitorRebuild *rebuild);
/* Returns 0 or an errno. */
int gaio_monitor_epoll_rebuild_add (GaioMonitorRebuild *rebuild, int fd, guint32 mask, guint64 key);
void gaio_monitor_epoll_rebuild_remove (GaioMonitorRebuild *rebuild, int fd);
gboolean
gaio_monitor_epoll_rebuild_end (GaioMonitor *mon, GaioMonitorRebuild *rebuild, gboolean complete);
