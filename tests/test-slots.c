/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-slots-private.h"

static void
unknown_index_has_no_slot (void)
{
  GaioSlots slots = { 0 };

  g_assert_null (gaio_slots_lookup (&slots, 0));
  g_assert_null (gaio_slots_lookup (&slots, G_MAXUINT));
  g_assert_cmpuint (gaio_slots_size (&slots), ==, 0);
  g_assert_nonnull (gaio_slots_get (&slots, 1000));
  /* Nor have those that come before, a page away. */
  g_assert_null (gaio_slots_lookup (&slots, 0));
  g_assert_null (gaio_slots_lookup (&slots, 1000 - GAIO_SLOTS_PER_PAGE));
  g_assert_null (gaio_slots_lookup (&slots, 1000 + GAIO_SLOTS_PER_PAGE));
  g_assert_null (gaio_slots_lookup (&slots, G_MAXUINT));
  gaio_slots_clear (&slots);
}

static void
new_slot_is_empty (void)
{
  GaioSlots slots = { 0 };

  for (guint i = 0; i < 3 * GAIO_SLOTS_PER_PAGE; i++)
    {
      GaioSlot *slot = gaio_slots_get (&slots, i);

      g_assert_true (gaio_list_is_empty (&slot->members));
      g_assert_cmpuint (slot->generation, ==, 0);
      g_assert_cmpuint (slot->mask, ==, 0);
      g_assert_cmpuint (slot->state, ==, 0);
    }
  gaio_slots_clear (&slots);
}

static void
each_index_has_a_slot_of_its_own (void)
{
  const guint n = 1000;
  GaioSlots slots = { 0 };

  for (guint i = 0; i < n; i++)
    gaio_slots_get (&slots, i)->mask = i;
  for (guint i = 0; i < n; i++)
    {
      g_assert_cmpuint (gaio_slots_lookup (&slots, i)->mask, ==, i);
      g_assert_true (gaio_slots_get (&slots, i) == gaio_slots_lookup (&slots, i));
    }
  gaio_slots_clear (&slots);
}

static void
slots_never_move (void)
{
  GaioSlots slots = { 0 };
  GaioSlot *first = gaio_slots_get (&slots, 0);
  GaioSlot *hundredth = gaio_slots_get (&slots, 100);
  GaioLink link = { NULL, NULL };

  gaio_list_push (&first->members, &link);
  for (guint i = 1; i < 20000; i += 37)
    gaio_slots_get (&slots, i);
  g_assert_true (gaio_slots_get (&slots, 0) == first);
  g_assert_true (gaio_slots_lookup (&slots, 100) == hundredth);
  g_assert_true (gaio_list_first (&first->members) == &link);
  gaio_slots_clear (&slots);
}

static void
size_covers_every_index (void)
{
  GaioSlots slots = { 0 };
  const guint indices[] = { 0, GAIO_SLOTS_PER_PAGE - 1, GAIO_SLOTS_PER_PAGE, 19999 };

  for (guint i = 0; i < G_N_ELEMENTS (indices); i++)
    {
      gaio_slots_get (&slots, indices[i]);
      g_assert_cmpuint (gaio_slots_size (&slots), >, indices[i]);
    }
  for (guint i = 0; i < gaio_slots_size (&slots); i++)
    gaio_slots_lookup (&slots, i);
  g_assert_null (gaio_slots_lookup (&slots, gaio_slots_size (&slots)));
  gaio_slots_clear (&slots);
}

static void
cleared_table_begins_anew (void)
{
  GaioSlots slots = { 0 };

  gaio_slots_get (&slots, 300)->generation = 7;
  gaio_slots_clear (&slots);
  g_assert_null (gaio_slots_lookup (&slots, 300));
  g_assert_cmpuint (gaio_slots_size (&slots), ==, 0);
  g_assert_cmpuint (gaio_slots_get (&slots, 300)->generation, ==, 0);
  gaio_slots_clear (&slots);
  gaio_slots_clear (&slots);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/slots/unknown-index-has-no-slot", unknown_index_has_no_slot);
  g_test_add_func ("/slots/new-slot-is-empty", new_slot_is_empty);
  g_test_add_func ("/slots/each-index-has-a-slot-of-its-own", each_index_has_a_slot_of_its_own);
  g_test_add_func ("/slots/slots-never-move", slots_never_move);
  g_test_add_func ("/slots/size-covers-every-index", size_covers_every_index);
  g_test_add_func ("/slots/cleared-table-begins-anew", cleared_table_begins_anew);
  return g_test_run ();
}
