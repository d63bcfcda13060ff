/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "../tools/top-text.h"

static void
assert_escaped (const char *text, const char *expected)
{
  g_autofree char *escaped = top_text_escape (text, FALSE);

  g_assert_cmpstr (escaped, ==, expected);
}

static void
assert_json (const char *text, const char *expected)
{
  g_autoptr (GString) out = g_string_new (NULL);

  top_text_append_json (out, text);
  g_assert_cmpstr (out->str, ==, expected);
}

static void
good_text_is_itself (void)
{
  assert_escaped ("", "");
  assert_escaped ("a ~\"'", "a ~\"'");
  assert_escaped ("\xc3\xa4\xe6\xbc\xa2\xf0\x9f\x98\x80", "\xc3\xa4\xe6\xbc\xa2\xf0\x9f\x98\x80");
}

static void
controls_are_escaped (void)
{
  assert_escaped ("\x1b[m\x7f\n", "\\x1b[m\\x7f\\x0a");
  assert_escaped ("\xc2\x9b\xe2\x80\xae\xf3\xa0\x80\x81", "\\u009b\\u202e\\ue0001");
}

static void
what_is_escaped_can_be_told (void)
{
  assert_escaped ("\\x1b", "\\\\x1b");
}

/* Stray, cut off, overlong, a surrogate. */
static void
bytes_that_are_no_character_are_escaped (void)
{
  assert_escaped ("a\x9b"
                  "b",
                  "a\\x9bb");
  assert_escaped ("\xff\xe6\xbc", "\\xff\\xe6\\xbc");
  assert_escaped ("\xc0\x9b", "\\xc0\\x9b");
  assert_escaped ("\xed\xa0\x80", "\\xed\\xa0\\x80");
}

static void
ascii_alone_where_the_terminal_has_no_more (void)
{
  g_autofree char *escaped = top_text_escape ("a\xc3\xa4", TRUE);

  g_assert_cmpstr (escaped, ==, "a\\u00e4");
}

static void
json_is_valid_whatever_comes (void)
{
  assert_json ("a\"\\/\xc3\xa4", "\"a\\\"\\\\/\xc3\xa4\"");
  assert_json ("\x01\xc2\x9b\xf3\xa0\x80\x81", "\"\\u0001\\u009b\\udb40\\udc01\"");
  assert_json ("\xff\xe6\xbc", "\"\\ufffd\\ufffd\\ufffd\"");
}

static void
wide_characters_are_not_cut_in_half (void)
{
  const char *text = "a\xe6\xbc\xa2\xe6\xbc\xa2"
                     "b";

  g_assert_cmpuint (top_text_get_width (text), ==, 6);
  g_assert_cmpuint (top_text_fit (text, 0), ==, 0);
  g_assert_cmpuint (top_text_fit (text, 2), ==, 1);
  g_assert_cmpuint (top_text_fit (text, 3), ==, 4);
  g_assert_cmpuint (top_text_fit (text, 6), ==, 8);
  g_assert_cmpuint (top_text_fit (text, G_MAXUINT), ==, 8);
}

static void
padding_is_to_a_width (void)
{
  g_autoptr (GString) out = g_string_new (NULL);

  top_text_append_padded (out, "\xe6\xbc\xa2", 4, FALSE);
  top_text_append_padded (out, "\xe6\xbc\xa2", 4, TRUE);
  top_text_append_padded (out, "\xe6\xbc\xa2", 1, TRUE);
  g_assert_cmpstr (out->str, ==, "\xe6\xbc\xa2    \xe6\xbc\xa2\xe6\xbc\xa2");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/top-text/good-text-is-itself", good_text_is_itself);
  g_test_add_func ("/top-text/controls-are-escaped", controls_are_escaped);
  g_test_add_func ("/top-text/what-is-escaped-can-be-told", what_is_escaped_can_be_told);
  g_test_add_func ("/top-text/bytes-that-are-no-character-are-escaped",
                   bytes_that_are_no_character_are_escaped);
  g_test_add_func ("/top-text/ascii-alone-where-the-terminal-has-no-more",
                   ascii_alone_where_the_terminal_has_no_more);
  g_test_add_func ("/top-text/json-is-valid-whatever-comes", json_is_valid_whatever_comes);
  g_test_add_func ("/top-text/wide-characters-are-not-cut-in-half",
                   wide_characters_are_not_cut_in_half);
  g_test_add_func ("/top-text/padding-is-to-a-width", padding_is_to_a_width);
  return g_test_run ();
}
