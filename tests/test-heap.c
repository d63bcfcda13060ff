/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/gaio-heap-private.h"

typedef struct
{
  GaioHeapNode node;
  gint64 key;
  guint64 order; /* when it was set last */
  gboolean inside;
} Item;

static void
reserve (GaioHeap *heap, guint n)
{
  for (guint i = 0; i < n; i++)
    gaio_heap_reserve (heap);
}

static void
empty_heap_has_no_first (void)
{
  GaioHeap heap = { 0 };
  GaioHeapNode node = { 0 };

  g_assert_null (gaio_heap_first (&heap));
  /* Removing what is not in it does nothing. */
  gaio_heap_remove (&heap, &node);
  g_assert_null (gaio_heap_first (&heap));
  gaio_heap_reserve (&heap);
  g_assert_null (gaio_heap_first (&heap));
  gaio_heap_clear (&heap);
}

static void
first_is_the_earliest (void)
{
  const gint64 keys[] = { 5, -3, 9, G_MAXINT64, 0, G_MININT64, 7 };
  const gint64 sorted[] = { G_MININT64, -3, 0, 5, 7, 9, G_MAXINT64 };
  GaioHeapNode nodes[G_N_ELEMENTS (keys)] = { 0 };
  GaioHeap heap = { 0 };

  reserve (&heap, G_N_ELEMENTS (keys));
  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    gaio_heap_set (&heap, &nodes[i], keys[i]);
  for (guint i = 0; i < G_N_ELEMENTS (sorted); i++)
    {
      GaioHeapNode *first = gaio_heap_first (&heap);

      g_assert_cmpint (gaio_heap_first_key (&heap), ==, sorted[i]);
      g_assert_cmpint (keys[first - nodes], ==, sorted[i]);
      gaio_heap_remove (&heap, first);
      gaio_heap_remove (&heap, first);
    }
  g_assert_null (gaio_heap_first (&heap));
  gaio_heap_clear (&heap);
}

static void
equal_keys_come_out_in_the_order_they_were_set (void)
{
  GaioHeapNode nodes[50] = { 0 };
  GaioHeap heap = { 0 };

  reserve (&heap, G_N_ELEMENTS (nodes));
  for (guint i = 0; i < G_N_ELEMENTS (nodes); i++)
    gaio_heap_set (&heap, &nodes[i], 1);
  /* Set once more, it goes behind all the others. */
  gaio_heap_set (&heap, &nodes[0], 1);
  for (guint i = 1; i <= G_N_ELEMENTS (nodes); i++)
    {
      GaioHeapNode *first = gaio_heap_first (&heap);

      g_assert_cmpint (first - nodes, ==, i % G_N_ELEMENTS (nodes));
      gaio_heap_remove (&heap, first);
    }
  gaio_heap_clear (&heap);
}

static void
moving_goes_both_ways (void)
{
  GaioHeapNode nodes[20] = { 0 };
  GaioHeap heap = { 0 };

  reserve (&heap, G_N_ELEMENTS (nodes));
  for (guint i = 0; i < G_N_ELEMENTS (nodes); i++)
    gaio_heap_set (&heap, &nodes[i], i * 10);
  gaio_heap_set (&heap, &nodes[19], -1);
  g_assert_true (gaio_heap_first (&heap) == &nodes[19]);
  gaio_heap_set (&heap, &nodes[19], 1000);
  g_assert_true (gaio_heap_first (&heap) == &nodes[0]);
  gaio_heap_set (&heap, &nodes[0], 15);
  g_assert_true (gaio_heap_first (&heap) == &nodes[1]);
  gaio_heap_remove (&heap, &nodes[1]);
  g_assert_true (gaio_heap_first (&heap) == &nodes[0]);
  gaio_heap_clear (&heap);
}

static void
setting_never_allocates (void)
{
  const guint n = 1000;
  g_autofree GaioHeapNode *nodes = g_new0 (GaioHeapNode, n);
  GaioHeap heap = { 0 };
  gpointer items;

  reserve (&heap, n);
  items = heap.items;
  for (guint turn = 0; turn < 3; turn++)
    {
      for (guint i = 0; i < n; i++)
        gaio_heap_set (&heap, &nodes[i], n - i);
      for (guint i = 0; i < n; i++)
        gaio_heap_remove (&heap, &nodes[i]);
    }
  g_assert_true (heap.items == items);
  /* Room that was given back is there for the next. */
  for (guint i = 0; i < n; i++)
    gaio_heap_unreserve (&heap);
  reserve (&heap, n);
  g_assert_true (heap.items == items);
  gaio_heap_clear (&heap);
}

/* --- At random, beside a list that is searched --- */

static Item *
find_earliest (Item *items, guint n)
{
  Item *earliest = NULL;

  for (guint i = 0; i < n; i++)
    {
      Item *item = &items[i];

      if (!item->inside)
        continue;
      if (earliest == NULL || item->key < earliest->key ||
          (item->key == earliest->key && item->order < earliest->order))
        earliest = item;
    }
  return earliest;
}

static void
change_one_at_random (GaioHeap *heap, Item *item, guint64 order)
{
  if (g_test_rand_int_range (0, 3) > 0)
    {
      item->key = g_test_rand_int_range (0, 60);
      item->order = order;
      item->inside = TRUE;
      gaio_heap_set (heap, &item->node, item->key);
    }
  else
    {
      item->inside = FALSE;
      gaio_heap_remove (heap, &item->node);
    }
}

static void
agrees_with_a_plain_search (void)
{
  const guint n = 150;
  g_autofree Item *items = g_new0 (Item, n);
  GaioHeap heap = { 0 };

  reserve (&heap, n);
  for (guint step = 0; step < 20000; step++)
    {
      Item *earliest;

      change_one_at_random (&heap, &items[g_test_rand_int_range (0, n)], step);
      earliest = find_earliest (items, n);
      if (earliest == NULL)
        {
          g_assert_null (gaio_heap_first (&heap));
          continue;
        }
      g_assert_true (gaio_heap_first (&heap) == &earliest->node);
      g_assert_cmpint (gaio_heap_first_key (&heap), ==, earliest->key);
    }
  gaio_heap_clear (&heap);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/heap/empty-heap-has-no-first", empty_heap_has_no_first);
  g_test_add_func ("/heap/first-is-the-earliest", first_is_the_earliest);
  g_test_add_func ("/heap/equal-keys-come-out-in-the-order-they-were-set",
                   equal_keys_come_out_in_the_order_they_were_set);
  g_test_add_func ("/heap/moving-goes-both-ways", moving_goes_both_ways);
  g_test_add_func ("/heap/setting-never-allocates", setting_never_allocates);
  g_test_add_func ("/heap/agrees-with-a-plain-search", agrees_with_a_plain_search);
  return g_test_run ();
}
