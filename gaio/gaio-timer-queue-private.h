/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/gaio-heap-private.h"
#include "base/gaio-list-private.h"

/* The timers of a context. All of it is (lock), as gaio-core-private.h calls it. */

typedef struct
{
  GaioHeap heap; /* armed, and not found due */
  gint64 floor;  /* timers that are armed come after what was due by then; or 0 */
  GaioList due;  /* whose deadline has passed, to be called */
  GaioList all;
} GaioTimerQueue;

static inline void
gaio_timer_queue_init (GaioTimerQueue *self)
{
  gaio_list_init (&self->due);
  gaio_list_init (&self->all);
}
