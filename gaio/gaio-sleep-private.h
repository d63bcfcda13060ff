/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdatomic.h>

#include "base/gaio-ref-count-private.h"

/* Whether the owner of a context sleeps: only then does a thread have to write to the eventfd. The
 * marks are those of gaio-core-private.h. */

typedef enum
{
  GAIO_AWAKE,             /* the next round looks at everything before it sleeps */
  GAIO_ASLEEP_IN_GLIB,    /* GLib has been told to sleep: the epoll fd has to become readable */
  GAIO_ASLEEP_IN_ITERATE, /* in our own wait */
  GAIO_POLLING,           /* busy, until this is no longer so */
} GaioSleepState;

typedef struct
{
  atomic_int state; /* a GaioSleepState; (lock), but busy polling looks without */
  /* (lock) FALSE if nothing is pending besides ready fds, and no deadline is set: most rounds have
   * nothing else to do, and need not look for it. */
  gboolean has_other_work;
  atomic_bool wake_requested;
  /* Whoever drops the last of these references closes the eventfd, so its number cannot refer to
   * another file while a thread without the lock is about to write to it. One reference is the
   * context's, until its fds are closed. Grows under the lock. */
  GaioRefCount wake_users;
} GaioSleep;

static inline void
gaio_sleep_init (GaioSleep *self)
{
  self->has_other_work = TRUE;
  gaio_ref_count_init (&self->wake_users, 1);
}

static inline GaioSleepState
gaio_sleep_get (GaioSleep *self)
{
  return atomic_load_explicit (&self->state, memory_order_relaxed);
}

static inline void
gaio_sleep_set (GaioSleep *self, GaioSleepState state)
{
  atomic_store_explicit (&self->state, state, memory_order_relaxed);
}

/* There is something to do. TRUE if the owner sleeps, and a write to the eventfd is necessary to
 * wake it. With the lock held: the owner has looked at everything under the lock before it said
 * that it sleeps. */
static inline gboolean
gaio_sleep_end (GaioSleep *self)
{
  GaioSleepState state = gaio_sleep_get (self);

  self->has_other_work = TRUE;
  if (state == GAIO_AWAKE)
    return FALSE;
  gaio_sleep_set (self, GAIO_AWAKE);
  return state != GAIO_POLLING;
}
