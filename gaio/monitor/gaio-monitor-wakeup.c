/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-monitor-wakeup-private.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

void
gaio_monitor_wake (int wake_fd)
{
  guint64 one = 1;

  while (write (wake_fd, &one, sizeof one) < 0 && errno == EINTR)
    ;
}

void
gaio_monitor_open_timer (GaioMonitor *mon)
{
  mon->timer_fd = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

/* Makes the wait of GLib end at @deadline, if it would not end earlier anyhow. */
gboolean
gaio_monitor_arm (GaioMonitor *mon, gint64 deadline)
{
  /* All zero would disarm it. */
  gint64 at = MAX (deadline, 1);
  struct itimerspec spec = { .it_value = { .tv_sec = at / G_USEC_PER_SEC,
                                           .tv_nsec = at % G_USEC_PER_SEC * 1000 } };

  if (gaio_monitor_is_armed (mon, deadline))
    return TRUE;
  if (timerfd_settime (mon->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) != 0)
    return FALSE;
  mon->armed = deadline;
  return TRUE;
}
