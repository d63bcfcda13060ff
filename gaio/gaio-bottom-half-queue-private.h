/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/gaio-call-queue-private.h"
#include "base/gaio-list-private.h"

/* The bottom halves and deferred calls of a context. The marks are those of gaio-core-private.h. */

typedef struct
{
  GaioList scheduled;   /* (lock) bottom halves, first in, first out */
  guint n_urgent;       /* (lock) how many of these keep the loop awake */
  gint64 idle_deadline; /* (lock) when the others have to be called at the latest, or -1 */
  GaioList all;         /* (lock) bottom halves */

  GaioCallQueue calls;       /* (lock) deferred */
  GaioCallQueue taken_calls; /* (owner) to be called without the lock; empty outside of a round */
  guint64 taken_calls_end;   /* (owner) before it comes a bottom half */

  guint64 seq; /* (lock) that of the last one scheduled or deferred: they share one order */
} GaioBottomHalfQueue;

static inline void
gaio_bottom_half_queue_init (GaioBottomHalfQueue *self)
{
  gaio_list_init (&self->scheduled);
  self->idle_deadline = -1;
  gaio_list_init (&self->all);
}

/* How many there are to call soon. With the lock held. */
static inline guint
gaio_bottom_half_queue_get_n_urgent (const GaioBottomHalfQueue *self)
{
  return self->n_urgent + self->calls.n_calls;
}
