/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* A 4-ary heap of deadlines. A node knows its place, so moving and removing it takes O(log n) time.
 * Equal deadlines come out in the order in which they went in. Room is reserved once for each node
 * that exists, so inserting never allocates. */

typedef struct
{
  guint position; /* 1 + index in the heap; 0 is not in it */
} GaioHeapNode;

typedef struct
{
  gint64 key;
  guint64 order;
  GaioHeapNode *node;
} GaioHeapItem;

typedef struct
{
  GaioHeapItem *items;
  guint length;
  guint capacity;
  guint reserved;
  guint64 next_order;
} GaioHeap;

void gaio_heap_clear (GaioHeap *heap);
void gaio_heap_reserve (GaioHeap *heap);
void gaio_heap_unreserve (GaioHeap *heap);
void gaio_heap_set (GaioHeap *heap, GaioHeapNode *node, gint64 key);
void gaio_heap_remove (GaioHeap *heap, GaioHeapNode *node);

static inline GaioHeapNode *
gaio_heap_first (const GaioHeap *heap)
{
  return heap->length > 0 ? heap->items[0].node : NULL;
}

/* Its number among all that were ever set; only when the heap is not empty. */
static inline guint64
gaio_heap_first_order (const GaioHeap *heap)
{
  return heap->items[0].order;
}

/* The earliest key; only when the heap is not empty. */
static inline gint64
gaio_heap_first_key (const GaioHeap *heap)
{
  return heap->items[0].key;
}
