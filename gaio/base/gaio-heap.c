/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-heap-private.h"

#define ARITY 4

void
gaio_heap_clear (GaioHeap *heap)
{
  g_clear_pointer (&heap->items, g_free);
  heap->length = heap->capacity = heap->reserved = 0;
}

/* Makes room for one more node to exist. */
void
gaio_heap_reserve (GaioHeap *heap)
{
  heap->reserved++;
  if (heap->reserved <= heap->capacity)
    return;
  heap->capacity = MAX (16, heap->capacity * 2);
  heap->items = g_renew (GaioHeapItem, heap->items, heap->capacity);
}

void
gaio_heap_unreserve (GaioHeap *heap)
{
  heap->reserved--;
}

static gboolean
item_is_before (const GaioHeapItem *a, const GaioHeapItem *b)
{
  return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void
put (GaioHeap *heap, guint index, GaioHeapItem item)
{
  heap->items[index] = item;
  item.node->position = index + 1;
}

static void
sift_up (GaioHeap *heap, guint index, GaioHeapItem item)
{
  while (index > 0)
    {
      guint parent = (index - 1) / ARITY;

      if (!item_is_before (&item, &heap->items[parent]))
        break;
      put (heap, index, heap->items[parent]);
      index = parent;
    }
  put (heap, index, item);
}

static void
sift_down (GaioHeap *heap, guint index, GaioHeapItem item)
{
  for (;;)
    {
      guint first = index * ARITY + 1;
      guint end = MIN (first + ARITY, heap->length);
      guint best = first;

      if (first >= heap->length)
        break;
      for (guint child = first + 1; child < end; child++)
        if (item_is_before (&heap->items[child], &heap->items[best]))
          best = child;
      if (!item_is_before (&heap->items[best], &item))
        break;
      put (heap, index, heap->items[best]);
      index = best;
    }
  put (heap, index, item);
}

/* Fills the hole at @index with @item, and moves it up or down as needed. */
static void
settle (GaioHeap *heap, guint index, GaioHeapItem item)
{
  if (index > 0 && item_is_before (&item, &heap->items[(index - 1) / ARITY]))
    sift_up (heap, index, item);
  else
    sift_down (heap, index, item);
}

/* Inserts or moves @node, which then comes after all nodes with the same key. */
void
gaio_heap_set (GaioHeap *heap, GaioHeapNode *node, gint64 key)
{
  GaioHeapItem item = { key, heap->next_order++, node };

  if (node->position > 0)
    {
      settle (heap, node->position - 1, item);
      return;
    }
  g_assert (heap->length < heap->capacity);
  sift_up (heap, heap->length++, item);
}

void
gaio_heap_remove (GaioHeap *heap, GaioHeapNode *node)
{
  guint index = node->position - 1;
  GaioHeapItem last;

  if (node->position == 0)
    return;
  node->position = 0;
  last = heap->items[--heap->length];
  if (last.node != node)
    settle (heap, index, last);
}
