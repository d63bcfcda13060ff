/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/gaio-slots-private.h"

/* As large as a cache line. */
typedef struct
{
  guint number;
  char rest[60];
} Slot;

static Slot *
lookup (GaioSlots *slots, guint index)
{
  return gaio_slots_lookup (slots, index, sizeof (Slot));
}

static Slot *
get (GaioSlots *slots, guint index)
{
  return gaio_slots_get (slots, index, sizeof (Slot));
}

static void
unknown_index_has_no_slot (void)
{
  GaioSlots slots = { 0 };

  g_assert_null (lookup (&slots, 0));
  g_assert_null (lookup (&slots, G_MAXUINT));
  g_assert_cmpuint (gaio_slots_size (&slots), ==, 0);
  g_assert_nonnull (get (&slots, 1000));
  /* Nor have those that come before, a page away. */
  g_assert_null (lookup (&slots, 0));
  g_assert_null (lookup (&slots, 1000 - GAIO_SLOTS_PER_PAGE));
  g_assert_null (lookup (&slots, 1000 + GAIO_SLOTS_PER_PAGE));
  g_assert_null (lookup (&slots, G_MAXUINT));
  gaio_slots_clear (&slots);
}

static void
new_slot_is_all_zero (void)
{
  static const Slot zero;
  GaioSlots slots = { 0 };

  for (guint i = 0; i < 3 * GAIO_SLOTS_PER_PAGE; i++)
    g_assert_cmpmem (get (&slots, i), sizeof (Slot), &zero, sizeof zero);
  gaio_slots_clear (&slots);
}

static void
slot_begins_with_a_cache_line (void)
{
  GaioSlots slots = { 0 };

  for (guint i = 0; i < 3 * GAIO_SLOTS_PER_PAGE; i++)
    g_assert_cmpuint ((gsize) get (&slots, i) % sizeof (Slot), ==, 0);
  gaio_slots_clear (&slots);
}

static void
each_index_has_a_slot_of_its_own (void)
{
  const guint n = 1000;
  GaioSlots slots = { 0 };

  for (guint i = 0; i < n; i++)
    get (&slots, i)->number = i;
  for (guint i = 0; i < n; i++)
    {
      g_assert_cmpuint (lookup (&slots, i)->number, ==, i);
      g_assert_true (get (&slots, i) == lookup (&slots, i));
    }
  gaio_slots_clear (&slots);
}

static void
slots_never_move (void)
{
  GaioSlots slots = { 0 };
  Slot *first = get (&slots, 0);
  Slot *hundredth = get (&slots, 100);

  first->number = 7;
  for (guint i = 1; i < 20000; i += 37)
    get (&slots, i);
  g_assert_true (get (&slots, 0) == first);
  g_assert_true (lookup (&slots, 100) == hundredth);
  g_assert_cmpuint (first->number, ==, 7);
  gaio_slots_clear (&slots);
}

static void
size_covers_every_index (void)
{
  GaioSlots slots = { 0 };
  const guint indices[] = { 0, GAIO_SLOTS_PER_PAGE - 1, GAIO_SLOTS_PER_PAGE, 19999 };

  for (guint i = 0; i < G_N_ELEMENTS (indices); i++)
    {
      get (&slots, indices[i]);
      g_assert_cmpuint (gaio_slots_size (&slots), >, indices[i]);
    }
  for (guint i = 0; i < gaio_slots_size (&slots); i++)
    lookup (&slots, i);
  g_assert_null (lookup (&slots, gaio_slots_size (&slots)));
  gaio_slots_clear (&slots);
}

static void
cleared_table_begins_anew (void)
{
  GaioSlots slots = { 0 };

  get (&slots, 300)->number = 7;
  gaio_slots_clear (&slots);
  g_assert_null (lookup (&slots, 300));
  g_assert_cmpuint (gaio_slots_size (&slots), ==, 0);
  g_assert_cmpuint (get (&slots, 300)->number, ==, 0);
  gaio_slots_clear (&slots);
  gaio_slots_clear (&slots);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/slots/unknown-index-has-no-slot", unknown_index_has_no_slot);
  g_test_add_func ("/slots/new-slot-is-all-zero", new_slot_is_all_zero);
  g_test_add_func ("/slots/slot-begins-with-a-cache-line", slot_begins_with_a_cache_line);
  g_test_add_func ("/slots/each-index-has-a-slot-of-its-own", each_index_has_a_slot_of_its_own);
  g_test_add_func ("/slots/slots-never-move", slots_never_move);
  g_test_add_func ("/slots/size-covers-every-index", size_covers_every_index);
  g_test_add_func ("/slots/cleared-table-begins-anew", cleared_table_begins_anew);
  return g_test_run ();
}
