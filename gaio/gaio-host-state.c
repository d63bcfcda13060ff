/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-host-state-private.h"

#include <errno.h>

void
gaio_host_state_init (GaioHostState *self)
{
  sem_init (&self->wait_ended, 0, 0);
  self->glib_fd = -1;
  self->n_events = -1;
}

/* Not in a forked child. */
void
gaio_host_state_clear (GaioHostState *self)
{
  sem_destroy (&self->wait_ended);
}

/* By a thread other than the host, with the lock held. */
static void
cancel_wait (GaioHostState *self, int wake_fd)
{
  int started = GAIO_HOST_WAIT_STARTED;

  /* Pairs with gaio_host_state_end_wait (), even if the wait has ended: the events have been stored
   * by then. */
  if (!atomic_compare_exchange_strong_explicit (&self->wait, &started, GAIO_HOST_WAIT_CANCELLED,
                                                memory_order_acq_rel, memory_order_acquire))
    return;
  gaio_monitor_wake (wake_fd);
  while (sem_wait (&self->wait_ended) == -1 && errno == EINTR)
    ;
}

/* By the host, which must not take the lock before this: another thread may hold it, and wait in
 * cancel_wait (). The events are those of the wait, for the dispatch at @depth. If @n_events is not
 * positive, the round polls the kernel again. */
void
gaio_host_state_end_wait (GaioHostState *self, int n_events, int depth)
{
  self->n_events = n_events > 0 ? n_events : -1;
  self->events_depth = depth;
  if (atomic_exchange_explicit (&self->wait, GAIO_HOST_WAIT_NONE, memory_order_acq_rel) ==
      GAIO_HOST_WAIT_CANCELLED)
    sem_post (&self->wait_ended);
}

/* Makes everything that wakes GLib also end the wait of the host. Edge-triggered, because only GLib
 * may read the fd. FALSE if the kernel refuses. With the lock held, with the epoll monitor. */
gboolean
gaio_host_state_watch_glib (GaioHostState *self, GaioMonitor *monitor, int fd)
{
  if (self->glib_fd == fd)
    return TRUE;
  gaio_host_state_unwatch_glib (self, monitor);
  if (monitor->ops->add (monitor, fd, EPOLLIN | EPOLLET, GAIO_MONITOR_KEY_HOST) != 0)
    return FALSE;
  self->glib_fd = fd;
  return TRUE;
}

/* Also ends the wait of the host, if another thread is in it. With the lock held. */
void
gaio_host_state_unwatch_glib (GaioHostState *self, GaioMonitor *monitor)
{
  cancel_wait (self, monitor->wake_fd);
  if (self->glib_fd >= 0 && gaio_monitor_is_open (monitor))
    monitor->ops->remove (monitor, self->glib_fd);
  self->glib_fd = -1;
}
