/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/gaio-list-private.h"

/* What has been removed from a context, but has not ended yet. The marks are those of
 * gaio-core-private.h. */

typedef struct
{
  GaioList pending_notifies; /* (lock) removed entries whose destroy notify has not run yet */
  atomic_bool has_pending_notifies; /* whether there are any; a hint that saves the lock */
  guint n_sync_waiters;             /* (lock) threads in gaio_handler_remove_sync () */
  pthread_cond_t callback_ended;    /* for these */
} GaioRemoval;

static inline void
gaio_removal_init (GaioRemoval *self)
{
  gaio_list_init (&self->pending_notifies);
  pthread_cond_init (&self->callback_ended, NULL);
}

/* Its destroy notify has to run. With the lock held. */
static inline void
gaio_removal_add_pending (GaioRemoval *self, GaioLink *siblings)
{
  gaio_list_push (&self->pending_notifies, siblings);
  atomic_store_explicit (&self->has_pending_notifies, true, memory_order_relaxed);
}
