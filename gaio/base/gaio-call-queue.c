/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-call-queue-private.h"

#define CALLS_PER_BLOCK 31

struct _GaioCallBlock
{
  GaioCallBlock *next;
  guint begin;
  guint end;
  GaioCall calls[CALLS_PER_BLOCK];
};

G_STATIC_ASSERT (sizeof (GaioCallBlock) <= 1024);

/* Makes no call. */
void
gaio_call_queue_clear (GaioCallQueue *queue)
{
  for (GaioCallBlock *block = queue->first, *next; block != NULL; block = next)
    {
      next = block->next;
      g_free (block);
    }
  *queue = (GaioCallQueue){ 0 };
}

static void
add_block (GaioCallQueue *queue)
{
  GaioCallBlock *block = g_new (GaioCallBlock, 1);

  block->next = NULL;
  block->begin = block->end = 0;
  if (queue->last != NULL)
    queue->last->next = block;
  else
    queue->first = block;
  queue->last = block;
}

void
gaio_call_queue_push (GaioCallQueue *queue, const GaioCall *call)
{
  if (queue->last == NULL || queue->last->end == CALLS_PER_BLOCK)
    add_block (queue);
  queue->last->calls[queue->last->end++] = *call;
  queue->n_calls++;
}

/* Returns the first call, which is valid until the queue changes, or NULL. */
const GaioCall *
gaio_call_queue_first (const GaioCallQueue *queue)
{
  return queue->n_calls > 0 ? &queue->first->calls[queue->first->begin] : NULL;
}

static void
remove_first_block (GaioCallQueue *queue)
{
  GaioCallBlock *block = queue->first;

  if (block == queue->last)
    block->begin = block->end = 0;
  else
    {
      queue->first = block->next;
      g_free (block);
    }
}

/* Takes the first one out. FALSE if there is none. */
gboolean
gaio_call_queue_pop (GaioCallQueue *queue, GaioCall *call)
{
  GaioCallBlock *block = queue->first;

  if (queue->n_calls == 0)
    return FALSE;
  *call = block->calls[block->begin++];
  queue->n_calls--;
  if (block->begin == block->end)
    remove_first_block (queue);
  return TRUE;
}

static void
swap (GaioCallQueue *a, GaioCallQueue *b)
{
  GaioCallQueue other = *a;

  *a = *b;
  *b = other;
}

/* Moves all calls in @from to the front of @queue. */
void
gaio_call_queue_prepend_all (GaioCallQueue *queue, GaioCallQueue *from)
{
  if (from->n_calls == 0)
    return;
  if (queue->n_calls == 0)
    {
      swap (queue, from);
      return;
    }
  from->last->next = queue->first;
  queue->first = from->first;
  queue->n_calls += from->n_calls;
  *from = (GaioCallQueue){ 0 };
}
