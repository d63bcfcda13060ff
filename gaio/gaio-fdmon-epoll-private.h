/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <sys/epoll.h>

/* The epoll monitor: an epoll set in which, beside the fds, sit an eventfd that wakes whoever waits
 * and a timerfd that ends the wait under GLib. It knows numbers, masks and keys; what they mean is
 * the caller's. Everything is under the caller's lock except gaio_fdmon_epoll_wait() and
 * gaio_fdmon_epoll_wake(). */

#define GAIO_FDMON_EPOLL_MAX_EVENTS 128

/* Keys of our own; all others are the caller's and must not have the upper bit of their lower half.
 */
#define GAIO_FDMON_KEY_WAKE G_GUINT64_CONSTANT (0xfffffffe)
#define GAIO_FDMON_KEY_TIMER G_GUINT64_CONSTANT (0xffffffff)

typedef struct
{
  int epoll_fd; /* -1 until first needed */
  int wake_fd;
  int timer_fd;
  gint64 armed; /* what the timerfd is set to, -1 when it is not */
  struct epoll_event events[GAIO_FDMON_EPOLL_MAX_EVENTS];
} GaioFdmonEpoll;

void gaio_fdmon_epoll_init (GaioFdmonEpoll *mon);
gboolean gaio_fdmon_epoll_open (GaioFdmonEpoll *mon, GError **error);
void gaio_fdmon_epoll_close (GaioFdmonEpoll *mon);

static inline gboolean
gaio_fdmon_epoll_owns (const GaioFdmonEpoll *mon, int fd)
{
  return fd == mon->epoll_fd || fd == mon->wake_fd || fd == mon->timer_fd;
}

/* Each returns 0 or an errno. A mask of 0 keeps the fd in the set, silent. */
int gaio_fdmon_epoll_add (GaioFdmonEpoll *mon, int fd, guint32 mask, guint64 key);
int gaio_fdmon_epoll_modify (GaioFdmonEpoll *mon, int fd, guint32 mask, guint64 key);
int gaio_fdmon_epoll_delete (GaioFdmonEpoll *mon, int fd);

/* Fills mon->events; -1 us waits for ever. Returns how many, or -1 with errno. */
int gaio_fdmon_epoll_wait_limited (GaioFdmonEpoll *mon, int max_events, gint64 timeout_us);

/* Inline: a system call spoils the processor's memory of where to return to, so each level of calls
 * around it costs a misprediction. */
static inline int
gaio_fdmon_epoll_wait (GaioFdmonEpoll *mon, int max_events, gint64 timeout_us)
{
  if (timeout_us > 0)
    return gaio_fdmon_epoll_wait_limited (mon, max_events, timeout_us);
  return epoll_wait (mon->epoll_fd, mon->events, max_events, timeout_us);
}

void gaio_fdmon_epoll_wake (GaioFdmonEpoll *mon);

/* Makes the wait of GLib end at @deadline, if it would not end earlier anyhow. */
gboolean gaio_fdmon_epoll_arm (GaioFdmonEpoll *mon, gint64 deadline);

/* Between begin and end the caller carries each of its fds over into a new set, which then, if that
 * is complete, takes the place and the number of the old one. Each FALSE leaves the old one in
 * place. */
typedef struct
{
  int new_set;
} GaioFdmonRebuild;

gboolean gaio_fdmon_epoll_rebuild_begin (GaioFdmonEpoll *mon, GaioFdmonRebuild *rebuild);
gboolean
gaio_fdmon_epoll_rebuild_carry (GaioFdmonRebuild *rebuild, int fd, guint32 mask, guint64 key);
gboolean
gaio_fdmon_epoll_rebuild_end (GaioFdmonEpoll *mon, GaioFdmonRebuild *rebuild, gboolean complete);
