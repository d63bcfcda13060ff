/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

/* A monitor finds out from the kernel which fds are ready. It knows numbers, masks and keys; only
 * the caller knows what they mean. Besides the caller's fds, it watches an eventfd that ends the
 * wait and a timerfd that ends the wait of GLib.
 *
 * Everything is under the caller's lock, except gaio_monitor_wake() and, of the operations, wait().
 * Only the owner of the context calls the waits, and what is called around a poll of GLib; any
 * thread may call the rest. */

#define GAIO_MONITOR_MAX_EVENTS 128

/* Our own keys; all others are the caller's, and must not have the highest bit of their lower half
 * set. */
#define GAIO_MONITOR_KEY_WAKE G_GUINT64_CONSTANT (0xfffffffe)
#define GAIO_MONITOR_KEY_TIMER G_GUINT64_CONSTANT (0xffffffff)
#define GAIO_MONITOR_KEY_HOST G_GUINT64_CONSTANT (0xfffffffc)
#define GAIO_MONITOR_KEY_SET G_GUINT64_CONSTANT (0xfffffffb)
/* The lower half of a key whose upper half is an fd that is no longer open. */
#define GAIO_MONITOR_KEY_GONE 0xfffffffdu

/* No wait is longer than a day, so that no time unit along the way can overflow. */
#define GAIO_MONITOR_LONGEST_WAIT_US (G_GINT64_CONSTANT (86400) * G_USEC_PER_SEC)

/* How soon to retry what the kernel has refused. */
#define GAIO_MONITOR_RETRY_US 10000

typedef struct _GaioMonitor GaioMonitor;
typedef struct _GaioMonitorPoll GaioMonitorPoll;

/* What all monitors can do, each in its own way. An int is 0 or an errno. */
typedef struct
{
  const char *name;

  /* Changes reach the kernel only with the next wait, so a loop that sleeps has to be woken. */
  gboolean lazy;

  /* Allocates what it needs from the kernel, and watches mon->wake_fd and, unless that is -1,
   * mon->timer_fd. On error, and at the end, close() releases what has been allocated. */
  int (*open) (GaioMonitor *mon);
  void (*close) (GaioMonitor *mon);
  /* Frees memory, and touches nothing in the kernel, including in a forked child. Or NULL. */
  void (*clear) (GaioMonitor *mon);

  /* @fd is not in the set: EPERM if it is always ready and this monitor cannot say so; EEXIST if it
   * was in the set under a number that has been closed since. A mask of 0 keeps the fd in the set,
   * silent. */
  int (*add) (GaioMonitor *mon, int fd, guint32 mask, guint64 key);
  /* ENOENT if the number refers to another file by now, as far as this can be known. */
  int (*modify) (GaioMonitor *mon, int fd, guint32 mask, guint64 key);
  /* Not 0 if the set may continue to know a file that it should not. */
  int (*remove) (GaioMonitor *mon, int fd);

  /* GLib is about to poll: completes what it polls for @source in addition to
   * gaio_monitor_get_glib_fd(). FALSE if the kernel has refused something, which has to be retried.
   * Or NULL. */
  gboolean (*before_glib_poll) (GaioMonitor *mon, GSource *source);
  /* GLib has polled: keeps what nobody would report again, see gaio_reports_once(). TRUE if there
   * is any. Or NULL. */
  gboolean (*after_glib_poll) (GaioMonitor *mon, GSource *source);

  /* A wait has three parts, of which the middle one is without the lock. end_wait() fills
   * mon->events with at most @max_events and returns how many; each is fresh: the kernel has looked
   * at the fd since begin_wait(). wait() returns -1 with errno on failure, which end_wait() hands
   * on. All three are NULL for epoll, whose system call gaio_monitor_wait() makes itself. */
  void (*begin_wait) (GaioMonitor *mon);
  int (*wait) (GaioMonitor *mon, int max_events, gint64 timeout_us);
  int (*end_wait) (GaioMonitor *mon, int n, int max_events);
} GaioMonitorOps;

struct _GaioMonitor
{
  const GaioMonitorOps *ops; /* NULL until first needed */
  GaioMonitorType requested; /* (const) */
  const char *note;          /* why this is not the requested monitor, or NULL */
  int fd;                    /* of the epoll set; -1 if there is none */
  int wake_fd;
  int timer_fd;
  gint64 armed;         /* what the timerfd is set to, -1 when it is not */
  GSource *glib_source; /* whose pollfds have been set, or NULL */
  GaioMonitorPoll *poll;
  struct epoll_event events[GAIO_MONITOR_MAX_EVENTS];
};

static inline gboolean
gaio_monitor_is_open (const GaioMonitor *mon)
{
  return mon->ops != NULL;
}

/* What GLib has to poll at least: the whole set, or what ends the wait. */
static inline int
gaio_monitor_get_glib_fd (const GaioMonitor *mon)
{
  return mon->fd >= 0 ? mon->fd : mon->wake_fd;
}

static inline gboolean
gaio_monitor_owns (const GaioMonitor *mon, int fd)
{
  return fd == mon->fd || fd == mon->wake_fd || fd == mon->timer_fd;
}
