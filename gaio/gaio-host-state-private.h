/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

#include <semaphore.h>
#include <stdatomic.h>

#include "monitor/gaio-monitor-private.h"

/* What gaio_context_run () and gaio_ready_set_wait () keep in a context between their wait and the
 * round that follows. The thread that is inside one of them is the host.
 *
 * The host waits for GLib and for the context with one epoll_wait(2), without the lock: GLib's
 * wake-up fd is in the epoll set too. The host stores the events, and the dispatch of our source
 * takes them instead of polling the kernel again.
 *
 * Another thread may detach the source during the wait, and nothing in GLib would end the wait
 * afterwards. It does so under the lock, and cancels the wait first: it changes @wait from STARTED
 * to CANCELLED, writes to the eventfd and waits for @wait_ended, still with the lock. So the host
 * stores its events and changes @wait back to NONE before it takes the lock, and posts @wait_ended
 * if it was cancelled. Once the other thread has waited for @wait_ended, or has found NONE, it sees
 * all that the host has stored, and may drop it. tests/models/host.pml shows that this suffices.
 *
 * Each field says who may touch it, as in gaio-core-private.h. Only the functions here do. */

typedef enum
{
  GAIO_HOST_WAIT_NONE,
  GAIO_HOST_WAIT_STARTED,   /* or about to start */
  GAIO_HOST_WAIT_CANCELLED, /* another thread waits for its end */
} GaioHostWait;

typedef struct
{
  atomic_int wait;          /* a GaioHostWait; (owner), but STARTED and CANCELLED are set (lock) */
  sem_t wait_ended;         /* posted by the host, waited for under the lock */
  int glib_fd;              /* (lock) GLib's wake-up fd, if it is in the epoll set, or -1 */
  gboolean glib_woken;      /* (owner) reported by the set, but not yet to GLib */
  gboolean timer_expired;   /* (owner) the timerfd, but the monitor does not know yet */
  int n_events;             /* (owner) how many are stored in the monitor, or -1: poll the kernel */
  int events_depth;         /* (owner) g_main_depth () of the dispatch that they are for */
  GMainContext *running;    /* (lock) what gaio_context_run () iterates, or NULL */
  GaioReadySet *target_set; /* (owner) for which this round gathers, or NULL */
} GaioHostState;

void gaio_host_state_init (GaioHostState *self);
void gaio_host_state_clear (GaioHostState *self);
gboolean gaio_host_state_watch_glib (GaioHostState *self, GaioMonitor *monitor, int fd);
void gaio_host_state_unwatch_glib (GaioHostState *self, GaioMonitor *monitor);
void gaio_host_state_end_wait (GaioHostState *self, int n_events, int depth);

/* With the lock held: GLib's wake-up fd, if it is in the epoll set, or -1. */
static inline int
gaio_host_state_get_glib_fd (const GaioHostState *self)
{
  return self->glib_fd;
}

/* With the lock held: the epoll set is a new one, which does not have it. */
static inline void
gaio_host_state_set_rebuilt (GaioHostState *self)
{
  self->glib_fd = -1;
}

/* With the lock held: gaio_context_run () iterates @main_context from now on, or NULL. Returns what
 * it iterated before. */
static inline GMainContext *
gaio_host_state_set_running (GaioHostState *self, GMainContext *main_context)
{
  GMainContext *before = self->running;

  self->running = main_context;
  return before;
}

/* With the lock held: ends the wait of gaio_context_run (), even if the context is no longer nested
 * there. */
static inline void
gaio_host_state_wake_running (GaioHostState *self)
{
  if (self->running != NULL)
    g_main_context_wakeup (self->running);
}

/* With the lock held, which the host then releases for the wait. */
static inline void
gaio_host_state_begin_wait (GaioHostState *self)
{
  atomic_store_explicit (&self->wait, GAIO_HOST_WAIT_STARTED, memory_order_relaxed);
}

/* By the owner, as all that follows. */
static inline void
gaio_host_state_set_glib_woken (GaioHostState *self)
{
  self->glib_woken = TRUE;
}

static inline gboolean
gaio_host_state_is_glib_woken (const GaioHostState *self)
{
  return self->glib_woken;
}

/* For the caller that tells GLib. */
static inline gboolean
gaio_host_state_take_glib_woken (GaioHostState *self)
{
  gboolean woken = self->glib_woken;

  self->glib_woken = FALSE;
  return woken;
}

static inline void
gaio_host_state_set_timer_expired (GaioHostState *self)
{
  self->timer_expired = TRUE;
}

/* With the lock held: updates @monitor with what was seen without the lock. */
static inline void
gaio_host_state_update_timer (GaioHostState *self, GaioMonitor *monitor)
{
  if (G_LIKELY (!self->timer_expired))
    return;
  self->timer_expired = FALSE;
  monitor->armed = -1;
}

static inline gboolean
gaio_host_state_has_events (const GaioHostState *self)
{
  return self->n_events >= 0;
}

static inline void
gaio_host_state_drop_events (GaioHostState *self)
{
  self->n_events = -1;
}

/* Before a dispatch at @depth, which may be that of a main loop inside the host. */
static inline void
gaio_host_state_drop_events_for_others (GaioHostState *self, int depth)
{
  if (self->events_depth != depth)
    gaio_host_state_drop_events (self);
}

/* Returns how many, if there are any stored. */
static inline int
gaio_host_state_take_events (GaioHostState *self)
{
  int n = self->n_events;

  gaio_host_state_drop_events (self);
  return n;
}

static inline void
gaio_host_state_set_target_set (GaioHostState *self, GaioReadySet *target_set)
{
  self->target_set = target_set;
}

static inline gboolean
gaio_host_state_is_target_set (const GaioHostState *self, const GaioReadySet *set)
{
  return self->target_set == set;
}
