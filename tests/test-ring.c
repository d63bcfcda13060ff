/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/gaio-ring-private.h"

#include <string.h>

#define N 4

typedef struct
{
  guint number;
  GaioLink link;
} Node;

static void
fill (GaioRing *ring, Node *nodes)
{
  *ring = (GaioRing){ NULL };
  for (guint i = 0; i < N; i++)
    {
      nodes[i] = (Node){ .number = i };
      gaio_ring_push (ring, &nodes[i].link);
    }
}

/* Reads it in both directions. */
static void
assert_ring (const GaioRing *ring, const char *numbers)
{
  g_autoptr (GString) forwards = g_string_new (NULL);
  gsize n = strlen (numbers);

  gaio_ring_foreach (ring, l)
    {
      g_string_append_printf (forwards, "%u", gaio_link_entry (l, Node, link)->number);
      g_assert_true (l->next->prev == l);
    }
  g_assert_cmpstr (forwards->str, ==, numbers);
  g_assert_cmpint (ring->first == NULL, ==, n == 0);
  g_assert_cmpint (gaio_ring_is_shared (ring), ==, n > 1);
}

static void
all_zero_is_empty (void)
{
  assert_ring (&(GaioRing){ NULL }, "");
}

static void
keeps_the_order_in_which_they_came (void)
{
  Node nodes[N];
  GaioRing ring;

  fill (&ring, nodes);
  assert_ring (&ring, "0123");
}

static void
removes_any (void)
{
  static const char *left[N] = { "123", "023", "013", "012" };

  for (guint i = 0; i < N; i++)
    {
      Node nodes[N];
      GaioRing ring;

      fill (&ring, nodes);
      gaio_ring_remove (&ring, &nodes[i].link);
      assert_ring (&ring, left[i]);
      g_assert_false (gaio_link_is_linked (&nodes[i].link));
    }
}

static void
removes_all_and_begins_anew (void)
{
  static const char *left[N] = { "123", "23", "3", "" };
  Node nodes[N];
  GaioRing ring;

  fill (&ring, nodes);
  for (guint i = 0; i < N; i++)
    {
      gaio_ring_remove (&ring, &nodes[i].link);
      assert_ring (&ring, left[i]);
    }
  gaio_ring_push (&ring, &nodes[2].link);
  assert_ring (&ring, "2");
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/ring/all-zero-is-empty", all_zero_is_empty);
  g_test_add_func ("/ring/keeps-the-order-in-which-they-came", keeps_the_order_in_which_they_came);
  g_test_add_func ("/ring/removes-any", removes_any);
  g_test_add_func ("/ring/removes-all-and-begins-anew", removes_all_and_begins_anew);
  return g_test_run ();
}
