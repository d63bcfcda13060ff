/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-monitor-ops-private.h"

/* What ends a wait besides the caller's fds: the eventfd at once, the timerfd at its time. */

void gaio_monitor_wake (int wake_fd);
void gaio_monitor_open_timer (GaioMonitor *mon);
gboolean gaio_monitor_arm (GaioMonitor *mon, gint64 deadline);

/* Whether the wait of GLib ends at @deadline anyhow, or earlier. */
static inline gboolean
gaio_monitor_is_armed (const GaioMonitor *mon, gint64 deadline)
{
  return mon->armed >= 0 && mon->armed <= deadline;
}
