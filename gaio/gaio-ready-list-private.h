/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

#include "base/gaio-list-private.h"
#include "monitor/gaio-monitor-private.h"

/* What is ready and will be called, first in, first out. By the owner. */

/* In nearly every round, there are only a few handlers to call. For each of them, an array costs a
 * fifth less than the list. */
typedef struct
{
  guint next;
  guint end;
  GaioHandler *handlers[GAIO_MONITOR_MAX_EVENTS];
} GaioBatch;

typedef struct
{
  guint64 gather_seq; /* which gathering this is of */
  GaioBatch batch;    /* to call first; empty outside of a round */
  GaioList entries;   /* handlers and functions of ready sets to call then */
} GaioReadyList;

static inline void
gaio_ready_list_init (GaioReadyList *self)
{
  gaio_list_init (&self->entries);
}

/* The stamp of an entry that has been gathered: as much of the number of the gathering as there is
 * room for. An entry that has been silent for exactly 2^32 gatherings seems to be gathered already;
 * it comes in the next gathering, because what is ready stays ready. */
static inline guint32
gaio_ready_list_get_stamp (const GaioReadyList *self)
{
  return (guint32) self->gather_seq;
}
