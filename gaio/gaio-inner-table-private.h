/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

#include <stdatomic.h>

#include "base/gaio-heap-private.h"
#include "base/gaio-list-private.h"

/* The main contexts that a context serves. The marks are those of gaio-core-private.h. */

/* See gaio-sweep.c. */
typedef struct
{
  GaioTimer *timer; /* (lock) set once, with the first inner context */
  guint left;       /* (owner) how many are still to be looked at in this pass */
  guint n_passes;   /* (owner) how many have begun */
  gboolean again;   /* (owner) a callback of ours has run since the pass began */
  guint64 n_calls;  /* (owner) how many callbacks there were before the last wait */
  guint n_ticks;    /* (owner) how many of those since then were the timer's */
  guint seen_ticks; /* (owner) how many ticks there were in this thread before the last wait */
  guint seen_ends;  /* (owner) and how many ends of a sweep */
} GaioSweep;

typedef struct
{
  GaioList all;       /* (lock) */
  atomic_uint n;      /* how many; changed under the lock */
  GaioList turns;     /* (lock) those that have a turn in the next round */
  GaioList parked;    /* (lock) those that wait until GLib has a turn for their priority */
  GaioHeap deadlines; /* (lock) and those that have one then */
  bool first;         /* (owner) limits have left @turns over: they come before what is gathered */
  bool were_first;    /* (owner) they did in this round */
  GArray *spare;      /* (lock) see gaio-inner-spare.c; NULL as long as there was none */
  GaioSweep sweep;
} GaioInnerTable;

static inline void
gaio_inner_table_init (GaioInnerTable *self)
{
  gaio_list_init (&self->all);
  gaio_list_init (&self->turns);
  gaio_list_init (&self->parked);
}

static inline gboolean
gaio_inner_table_is_used (GaioInnerTable *self)
{
  return atomic_load_explicit (&self->n, memory_order_relaxed) > 0;
}

static inline guint
gaio_inner_table_count (GaioInnerTable *self)
{
  return atomic_load_explicit (&self->n, memory_order_relaxed);
}
