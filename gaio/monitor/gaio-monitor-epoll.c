/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-monitor-epoll-private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "gaio-monitor-wakeup-private.h"

#define USEC_PER_MSEC 1000

/* Cleared once the kernel, or its sandbox, has refused epoll_pwait2(). */
static atomic_bool have_pwait2 = true;

static int
control (int set, int operation, int fd, guint32 mask, guint64 key)
{
  /* An empty mask is registered edge-triggered: a hang-up, which epoll always reports, is reported
   * once instead of forever, and the set still knows which file it was. */
  struct epoll_event event = { .events = mask != 0 ? mask : EPOLLET, .data.u64 = key };

  return epoll_ctl (set, operation, fd, &event) == 0 ? 0 : errno;
}

/* Edge-triggered, so that our own two fds need never be read. */
static int
add_own (int set, int wake_fd, int timer_fd)
{
  int errsv = control (set, EPOLL_CTL_ADD, wake_fd, EPOLLIN | EPOLLET, GAIO_MONITOR_KEY_WAKE);

  if (errsv == 0 && timer_fd >= 0)
    errsv = control (set, EPOLL_CTL_ADD, timer_fd, EPOLLIN | EPOLLET, GAIO_MONITOR_KEY_TIMER);
  return errsv;
}

/* Later, a failure would mean that somebody has closed the set. */
static int
try_wait (GaioMonitor *mon)
{
  return epoll_wait (mon->fd, mon->events, 1, 0) >= 0 || errno == EINTR ? 0 : errno;
}

static int
monitor_epoll_open (GaioMonitor *mon)
{
  int errsv;

  mon->fd = epoll_create1 (EPOLL_CLOEXEC);
  if (mon->fd < 0)
    return errno;
  errsv = add_own (mon->fd, mon->wake_fd, mon->timer_fd);
  return errsv != 0 ? errsv : try_wait (mon);
}

static void
monitor_epoll_close (GaioMonitor *mon)
{
  if (mon->fd >= 0)
    close (mon->fd);
  mon->fd = -1;
}

static int
monitor_epoll_add (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  return control (mon->fd, EPOLL_CTL_ADD, fd, mask, key);
}

static int
monitor_epoll_modify (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  int errsv = control (mon->fd, EPOLL_CTL_MOD, fd, mask, key);

  /* A file that epoll refuses is not the one that it accepted. */
  return errsv == EPERM ? ENOENT : errsv;
}

static int
monitor_epoll_remove (GaioMonitor *mon, int fd)
{
  return epoll_ctl (mon->fd, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : errno;
}

const GaioMonitorOps gaio_monitor_epoll_ops = {
  .name = "epoll",
  .open = monitor_epoll_open,
  .close = monitor_epoll_close,
  .add = monitor_epoll_add,
  .modify = monitor_epoll_modify,
  .remove = monitor_epoll_remove,
};

static int
wait_with_timespec (GaioMonitor *mon, int max_events, gint64 timeout_us)
{
  struct timespec ts = { .tv_sec = timeout_us / G_USEC_PER_SEC,
                         .tv_nsec = timeout_us % G_USEC_PER_SEC * 1000 };

  return epoll_pwait2 (mon->fd, mon->events, max_events, &ts, NULL);
}

/* Rounded up: a wait may be late, not early. */
static int
wait_with_milliseconds (GaioMonitor *mon, int max_events, gint64 timeout_us)
{
  return epoll_wait (mon->fd, mon->events, max_events,
                     (timeout_us + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

/* A sandbox refuses with whatever error it likes, even with one that says that this is not an epoll
 * set: epoll_wait() knows. */
int
gaio_monitor_epoll_wait_limited (GaioMonitor *mon, int max_events, gint64 timeout_us)
{
  int n;

  timeout_us = MIN (timeout_us, GAIO_MONITOR_LONGEST_WAIT_US);
  if (!atomic_load_explicit (&have_pwait2, memory_order_relaxed))
    return wait_with_milliseconds (mon, max_events, timeout_us);
  n = wait_with_timespec (mon, max_events, timeout_us);
  if (n >= 0 || errno == EINTR || errno == EBADF)
    return n;
  n = wait_with_milliseconds (mon, max_events, timeout_us);
  if (n >= 0 || errno == EINTR)
    atomic_store_explicit (&have_pwait2, false, memory_order_relaxed);
  return n;
}

static void
reopen_timer (GaioMonitor *mon)
{
  if (mon->timer_fd >= 0)
    return;
  gaio_monitor_open_timer (mon);
  /* Outside the set it would end no wait. */
  if (mon->timer_fd >= 0 && control (mon->fd, EPOLL_CTL_ADD, mon->timer_fd, EPOLLIN | EPOLLET,
                                     GAIO_MONITOR_KEY_TIMER) != 0)
    {
      close (mon->timer_fd);
      mon->timer_fd = -1;
    }
}

gboolean
gaio_monitor_epoll_rebuild_begin (GaioMonitor *mon, GaioMonitorRebuild *rebuild)
{
  rebuild->suspect = FALSE;
  rebuild->new_set = epoll_create1 (EPOLL_CLOEXEC);
  /* At the limit of fds, the timerfd makes room for the time being. */
  if (rebuild->new_set < 0 && errno == EMFILE && mon->timer_fd >= 0)
    {
      close (mon->timer_fd);
      mon->timer_fd = -1;
      mon->armed = -1;
      rebuild->new_set = epoll_create1 (EPOLL_CLOEXEC);
    }
  if (rebuild->new_set < 0)
    reopen_timer (mon);
  return rebuild->new_set >= 0;
}

int
gaio_monitor_epoll_rebuild_add (GaioMonitorRebuild *rebuild, int fd, guint32 mask, guint64 key)
{
  return control (rebuild->new_set, EPOLL_CTL_ADD, fd, mask, key);
}

void
gaio_monitor_epoll_rebuild_remove (GaioMonitorRebuild *rebuild, int fd)
{
  if (epoll_ctl (rebuild->new_set, EPOLL_CTL_DEL, fd, NULL) != 0)
    rebuild->suspect = TRUE;
}

gboolean
gaio_monitor_epoll_rebuild_end (GaioMonitor *mon, GaioMonitorRebuild *rebuild, gboolean complete)
{
  /* Keep the old number, so that GLib's pollfd stays valid. */
  complete = complete && add_own (rebuild->new_set, mon->wake_fd, mon->timer_fd) == 0 &&
             dup3 (rebuild->new_set, mon->fd, O_CLOEXEC) >= 0;
  close (rebuild->new_set);
  reopen_timer (mon);
  return complete;
}
