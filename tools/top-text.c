/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "top-text.h"

#define INVALID ((gunichar) -1)

/* Steps over one character, or over one byte that belongs to no character. */
static gunichar
next_char (const char **text)
{
  gunichar c = g_utf8_get_char_validated (*text, -1);

  if (c == (gunichar) -1 || c == (gunichar) -2)
    {
      (*text)++;
      return INVALID;
    }
  *text = g_utf8_next_char (*text);
  return c;
}

/* A character is printed if it has a width (otherwise a line could grow without end), does not
 * reorder others, as the marks for the writing direction do, and does not end a line. */
static gboolean
is_harmless (gunichar c)
{
  return c != INVALID && g_unichar_isprint (c) && !g_unichar_iszerowidth (c) && c != 0x2028 &&
         c != 0x2029;
}

/* Backslashes are doubled, so that an escape sequence can be told from text that looks like one. */
char *
top_text_escape (const char *text, gboolean ascii_only)
{
  GString *out = g_string_new (NULL);

  while (*text != '\0')
    {
      const char *start = text;
      gunichar c = next_char (&text);

      if (c == '\\')
        g_string_append (out, "\\\\");
      else if (is_harmless (c) && (c < 0x80 || !ascii_only))
        g_string_append_unichar (out, c);
      else if (c < 0x80 || c == INVALID)
        g_string_append_printf (out, "\\x%02x", (guchar) *start);
      else
        g_string_append_printf (out, "\\u%04x", c);
    }
  return g_string_free (out, FALSE);
}

static void
append_json_escape (GString *out, gunichar c)
{
  if (c == INVALID)
    c = 0xfffd;
  if (c < 0x10000)
    g_string_append_printf (out, "\\u%04x", c);
  else
    g_string_append_printf (out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                            0xdc00 + ((c - 0x10000) & 0x3ff));
}

/* Control characters of any kind are escaped, because the reader may be a terminal. */
void
top_text_append_json (GString *out, const char *text)
{
  g_string_append_c (out, '"');
  while (*text != '\0')
    {
      gunichar c = next_char (&text);

      if (c == '"' || c == '\\')
        g_string_append_printf (out, "\\%c", (char) c);
      else if (is_harmless (c))
        g_string_append_unichar (out, c);
      else
        append_json_escape (out, c);
    }
  g_string_append_c (out, '"');
}

/* The width of escaped text, in columns. */
guint
top_text_get_width (const char *text)
{
  guint width = 0;

  for (; *text != '\0'; text = g_utf8_next_char (text))
    width += g_unichar_iswide (g_utf8_get_char (text)) ? 2 : 1;
  return width;
}

/* How many bytes of escaped text fit into so many columns. */
gsize
top_text_fit (const char *text, guint width)
{
  const char *p = text;

  while (*p != '\0')
    {
      guint columns = g_unichar_iswide (g_utf8_get_char (p)) ? 2 : 1;

      if (columns > width)
        break;
      width -= columns;
      p = g_utf8_next_char (p);
    }
  return p - text;
}

void
top_text_append_padded (GString *out, const char *text, guint width, gboolean to_the_right)
{
  int padding = MAX (0, (int) width - (int) top_text_get_width (text));

  if (to_the_right)
    g_string_append_printf (out, "%*s%s", padding, "", text);
  else
    g_string_append_printf (out, "%s%*s", text, padding, "");
}
