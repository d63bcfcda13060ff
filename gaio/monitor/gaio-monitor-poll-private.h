/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-monitor-ops-private.h"

/* A table of fds for poll(2): all those of the poll monitor, and those that the epoll monitor does
 * not put into its set. The operations are those of GaioMonitorOps. */

extern const GaioMonitorOps gaio_monitor_poll_ops G_GNUC_INTERNAL;

void gaio_monitor_poll_make (GaioMonitor *mon);
gboolean gaio_monitor_poll_has (const GaioMonitor *mon, int fd);
gboolean gaio_monitor_poll_reports_once (const GaioMonitor *mon, int fd);
gboolean gaio_monitor_poll_is_still (const GaioMonitor *mon, int fd);
int gaio_monitor_poll_add (GaioMonitor *mon, int fd, guint32 mask, guint64 key);
int gaio_monitor_poll_modify (GaioMonitor *mon, int fd, guint32 mask, guint64 key);
int gaio_monitor_poll_remove (GaioMonitor *mon, int fd);
void gaio_monitor_poll_clear (GaioMonitor *mon);
gboolean gaio_monitor_poll_before_glib_poll (GaioMonitor *mon, GSource *source);
void gaio_monitor_poll_wake_for_reported (GaioMonitor *mon);
gboolean gaio_monitor_poll_after_glib_poll (GaioMonitor *mon, GSource *source);
void gaio_monitor_poll_begin_wait (GaioMonitor *mon);
int gaio_monitor_poll_wait (GaioMonitor *mon, int max_events, gint64 timeout_us);
int gaio_monitor_poll_end_wait (GaioMonitor *mon, int n, int max_events);
