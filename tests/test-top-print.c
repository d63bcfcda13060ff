/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib.h>

static char **strdupv_within (char **strings, gsize size);

/* What the program hands to GLib, and how much memory that is, as far as the compiler knows: what
 * lies behind it is nobody's to read. */
#define g_strdupv(strings) strdupv_within (strings, __builtin_object_size (strings, 0))
#include "../tools/top-print.c"
#undef g_strdupv

static guint n_copied;

static char **
strdupv_within (char **strings, gsize size)
{
  gsize length = 0;

  g_assert_cmpuint (size, !=, (gsize) -1);
  while (length < size / sizeof *strings && strings[length] != NULL)
    length++;
  g_assert_cmpuint (length, <, size / sizeof *strings);
  n_copied++;
  return g_strdupv (strings);
}

static void
test_headings_end (void)
{
  g_autoptr (GPtrArray) loops = g_ptr_array_new ();
  g_autoptr (GString) out = g_string_new (NULL);

  top_print_table (out, loops);
  g_assert_cmpuint (n_copied, ==, 1);
  g_assert_true (g_str_has_prefix (out->str, "   PID  PROGRAM  MONITOR  HANDLERS"));
  g_assert_true (g_str_has_suffix (out->str, "  TIME %\n"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/top-print/vector-of-headings-ends-with-null", test_headings_end);
  return g_test_run ();
}
