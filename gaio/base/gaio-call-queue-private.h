/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* Calls to be made, first in, first out. They are in blocks, because allocating each one would cost
 * more than all the rest. The last block is kept when it is empty. An empty queue is all zero. */

typedef struct
{
  GSourceOnceFunc func; /* or NULL */
  gpointer user_data;
  GDestroyNotify notify;
  guint64 seq; /* its place among what is in other queues */
} GaioCall;

typedef struct _GaioCallBlock GaioCallBlock;

typedef struct
{
  GaioCallBlock *first; /* NULL if there is none; only the last may be empty */
  GaioCallBlock *last;
  guint n_calls;
} GaioCallQueue;

void gaio_call_queue_clear (GaioCallQueue *queue);
void gaio_call_queue_push (GaioCallQueue *queue, const GaioCall *call);
const GaioCall *gaio_call_queue_first (const GaioCallQueue *queue);
gboolean gaio_call_queue_pop (GaioCallQueue *queue, GaioCall *call);
void gaio_call_queue_prepend_all (GaioCallQueue *queue, GaioCallQueue *from);
