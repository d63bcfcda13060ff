/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/gaio-list-private.h"

typedef struct
{
  guint number;
  GaioLink link;
} Node;

static void
fill (GaioList *list, Node *nodes, guint n)
{
  gaio_list_init (list);
  for (guint i = 0; i < n; i++)
    {
      nodes[i] = (Node){ .number = i };
      gaio_list_push (list, &nodes[i].link);
    }
}

/* Reads it in both directions. */
static void
assert_list (const GaioList *list, const char *numbers)
{
  g_autoptr (GString) forwards = g_string_new (NULL);
  g_autoptr (GString) backwards = g_string_new (NULL);

  gaio_list_foreach (list, l)
    g_string_append_printf (forwards, "%u", gaio_link_entry (l, Node, link)->number);
  for (GaioLink *l = list->head.prev; l != &list->head; l = l->prev)
    g_string_prepend_c (backwards, '0' + gaio_link_entry (l, Node, link)->number);
  g_assert_cmpstr (forwards->str, ==, numbers);
  g_assert_cmpstr (backwards->str, ==, numbers);
  g_assert_cmpint (gaio_list_is_empty (list), ==, *numbers == 0);
}

static void
new_list_is_empty (void)
{
  GaioList list;

  gaio_list_init (&list);
  assert_list (&list, "");
  g_assert_null (gaio_list_first (&list));
  g_assert_null (gaio_list_pop (&list));
}

static void
first_in_is_first_out (void)
{
  Node nodes[4];
  GaioList list;

  fill (&list, nodes, 4);
  assert_list (&list, "0123");
  for (guint i = 0; i < 4; i++)
    {
      GaioLink *link = gaio_list_pop (&list);

      g_assert_true (link == &nodes[i].link);
      g_assert_false (gaio_link_is_linked (link));
    }
  g_assert_null (gaio_list_pop (&list));
}

static void
unlinking_works_anywhere_and_twice (void)
{
  Node nodes[5];
  GaioList list;

  fill (&list, nodes, 5);
  gaio_link_unlink (&nodes[2].link);
  assert_list (&list, "0134");
  gaio_link_unlink (&nodes[0].link);
  gaio_link_unlink (&nodes[4].link);
  assert_list (&list, "13");
  g_assert_false (gaio_link_is_linked (&nodes[2].link));
  g_assert_true (gaio_link_is_linked (&nodes[1].link));
  gaio_link_unlink (&nodes[2].link);
  gaio_link_unlink (&nodes[0].link);
  assert_list (&list, "13");
  gaio_link_unlink (&nodes[1].link);
  gaio_link_unlink (&nodes[3].link);
  assert_list (&list, "");
  gaio_list_push (&list, &nodes[2].link);
  assert_list (&list, "2");
}

static void
unlinking_needs_no_list (void)
{
  Node nodes[3];
  GaioList list, other;

  fill (&list, nodes, 3);
  gaio_list_init (&other);
  gaio_link_unlink (&nodes[1].link);
  gaio_list_push (&other, &nodes[1].link);
  assert_list (&list, "02");
  assert_list (&other, "1");
  gaio_link_unlink (&nodes[1].link);
  assert_list (&other, "");
  assert_list (&list, "02");
}

static void
inserting_goes_before_its_position (void)
{
  Node nodes[3];
  Node late[3] = { { .number = 7 }, { .number = 8 }, { .number = 9 } };
  GaioList list;

  fill (&list, nodes, 3);
  gaio_link_insert_before (&late[0].link, &nodes[0].link);
  gaio_link_insert_before (&late[1].link, &nodes[2].link);
  gaio_link_insert_before (&late[2].link, &list.head);
  assert_list (&list, "701829");
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/list/new-list-is-empty", new_list_is_empty);
  g_test_add_func ("/list/first-in-is-first-out", first_in_is_first_out);
  g_test_add_func ("/list/unlinking-works-anywhere-and-twice", unlinking_works_anywhere_and_twice);
  g_test_add_func ("/list/unlinking-needs-no-list", unlinking_needs_no_list);
  g_test_add_func ("/list/inserting-goes-before-its-position", inserting_goes_before_its_position);
  return g_test_run ();
}
