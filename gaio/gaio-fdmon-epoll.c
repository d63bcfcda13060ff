/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fdmon-epoll-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "gaio-error-private.h"

#define USEC_PER_MSEC 1000
/* One wait is no longer than a day: far from the overflow of every unit in between. */
#define LONGEST_WAIT_US (G_GINT64_CONSTANT (86400) * G_USEC_PER_SEC)

/* Cleared once the kernel, or its sandbox, has refused epoll_pwait2(). */
static atomic_bool have_pwait2 = true;

void
gaio_fdmon_epoll_init (GaioFdmonEpoll *mon)
{
  mon->epoll_fd = mon->wake_fd = mon->timer_fd = -1;
  mon->armed = -1;
}

static int
control (int set, int operation, int fd, guint32 mask, guint64 key)
{
  /* Nothing asked for is an edge-triggered nothing: a hang-up, which epoll always reports, is told
   * once instead of for ever, and the set still knows which file it was. */
  struct epoll_event event = { .events = mask != 0 ? mask : EPOLLET, .data.u64 = key };

  return epoll_ctl (set, operation, fd, &event) == 0 ? 0 : errno;
}

/* Edge-triggered, our own two fds need never be read. */
static int
add_own (int set, int wake_fd, int timer_fd)
{
  int errsv = control (set, EPOLL_CTL_ADD, wake_fd, EPOLLIN | EPOLLET, GAIO_FDMON_KEY_WAKE);

  if (errsv == 0 && timer_fd >= 0)
    errsv = control (set, EPOLL_CTL_ADD, timer_fd, EPOLLIN | EPOLLET, GAIO_FDMON_KEY_TIMER);
  return errsv;
}

static int
open_timer (void)
{
  return timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
}

/* Returns 0 or an errno. All at once: an fd of ours that is opened later could get the number of an
 * fd that was closed without removing its handler, and be taken for it. */
static int
open_all (GaioFdmonEpoll *mon)
{
  mon->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
  if (mon->epoll_fd < 0)
    return errno;
  mon->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (mon->wake_fd < 0)
    return errno;
  mon->timer_fd = open_timer ();
  /* Where it is forbidden, one can live without. */
  if (mon->timer_fd < 0 && errno != ENOSYS && errno != EPERM && errno != EACCES)
    return errno;
  return add_own (mon->epoll_fd, mon->wake_fd, mon->timer_fd);
}

gboolean
gaio_fdmon_epoll_open (GaioFdmonEpoll *mon, GError **error)
{
  int errsv;

  if (mon->epoll_fd >= 0)
    return TRUE;
  errsv = open_all (mon);
  if (errsv == 0)
    return TRUE;
  gaio_fdmon_epoll_close (mon);
  gaio_error_set_for_own (error, errsv, "Cannot make an epoll set");
  return FALSE;
}

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

void
gaio_fdmon_epoll_close (GaioFdmonEpoll *mon)
{
  close_fd (&mon->timer_fd);
  close_fd (&mon->wake_fd);
  close_fd (&mon->epoll_fd);
  mon->armed = -1;
}

int
gaio_fdmon_epoll_add (GaioFdmonEpoll *mon, int fd, guint32 mask, guint64 key)
{
  return control (mon->epoll_fd, EPOLL_CTL_ADD, fd, mask, key);
}

int
gaio_fdmon_epoll_modify (GaioFdmonEpoll *mon, int fd, guint32 mask, guint64 key)
{
  return control (mon->epoll_fd, EPOLL_CTL_MOD, fd, mask, key);
}

int
gaio_fdmon_epoll_delete (GaioFdmonEpoll *mon, int fd)
{
  return epoll_ctl (mon->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : errno;
}

static int
wait_with_timespec (GaioFdmonEpoll *mon, int max_events, gint64 timeout_us)
{
  struct timespec ts = { .tv_sec = timeout_us / G_USEC_PER_SEC,
                         .tv_nsec = timeout_us % G_USEC_PER_SEC * 1000 };

  return epoll_pwait2 (mon->epoll_fd, mon->events, max_events, &ts, NULL);
}

int
gaio_fdmon_epoll_wait_limited (GaioFdmonEpoll *mon, int max_events, gint64 timeout_us)
{
  timeout_us = MIN (timeout_us, LONGEST_WAIT_US);
  if (atomic_load_explicit (&have_pwait2, memory_order_relaxed))
    {
      int n = wait_with_timespec (mon, max_events, timeout_us);

      if (n >= 0 || (errno != ENOSYS && errno != EPERM))
        return n;
      atomic_store_explicit (&have_pwait2, false, memory_order_relaxed);
    }
  /* Rounded up: a wait may be late, not early. */
  return epoll_wait (mon->epoll_fd, mon->events, max_events,
                     (timeout_us + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

void
gaio_fdmon_epoll_wake (GaioFdmonEpoll *mon)
{
  guint64 one = 1;

  while (write (mon->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
    ;
}

gboolean
gaio_fdmon_epoll_arm (GaioFdmonEpoll *mon, gint64 deadline)
{
  /* All zero would disarm it. */
  gint64 at = MAX (deadline, 1);
  struct itimerspec spec = { .it_value = { .tv_sec = at / G_USEC_PER_SEC,
                                           .tv_nsec = at % G_USEC_PER_SEC * 1000 } };

  if (mon->armed >= 0 && mon->armed <= deadline)
    return TRUE;
  if (timerfd_settime (mon->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) != 0)
    return FALSE;
  mon->armed = deadline;
  return TRUE;
}

static void
reopen_timer (GaioFdmonEpoll *mon)
{
  if (mon->timer_fd >= 0)
    return;
  mon->timer_fd = open_timer ();
  control (mon->epoll_fd, EPOLL_CTL_ADD, mon->timer_fd, EPOLLIN | EPOLLET, GAIO_FDMON_KEY_TIMER);
}

gboolean
gaio_fdmon_epoll_rebuild_begin (GaioFdmonEpoll *mon, GaioFdmonRebuild *rebuild)
{
  rebuild->new_set = epoll_create1 (EPOLL_CLOEXEC);
  /* At the limit of fds the timerfd makes room for the time being. */
  if (rebuild->new_set < 0 && errno == EMFILE && mon->timer_fd >= 0)
    {
      close_fd (&mon->timer_fd);
      mon->armed = -1;
      rebuild->new_set = epoll_create1 (EPOLL_CLOEXEC);
    }
  if (rebuild->new_set < 0)
    reopen_timer (mon);
  return rebuild->new_set >= 0;
}

gboolean
gaio_fdmon_epoll_rebuild_carry (GaioFdmonRebuild *rebuild, int fd, guint32 mask, guint64 key)
{
  return control (rebuild->new_set, EPOLL_CTL_ADD, fd, mask, key) == 0;
}

gboolean
gaio_fdmon_epoll_rebuild_end (GaioFdmonEpoll *mon, GaioFdmonRebuild *rebuild, gboolean complete)
{
  /* Under the old number, so that GLib's pollfd stays valid. */
  complete = complete && add_own (rebuild->new_set, mon->wake_fd, mon->timer_fd) == 0 &&
             dup3 (rebuild->new_set, mon->epoll_fd, O_CLOEXEC) >= 0;
  close (rebuild->new_set);
  reopen_timer (mon);
  return complete;
}
