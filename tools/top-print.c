/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "top-print.h"

#include "top-figures.h"
#include "top-text.h"

#define INDENT 8
#define MAX_PROGRAM 24
#define MAX_WORD 12
#define MAX_NAME 40
#define MAX_NOTE 160

enum
{
  COLUMN_PID,
  COLUMN_PROGRAM,
  COLUMN_MONITOR,
  COLUMN_HANDLERS,
  COLUMN_TIMERS,
  COLUMN_SERVED,
  COLUMN_ROUNDS,
  COLUMN_CALLBACKS,
  COLUMN_WAKEUPS,
  COLUMN_TIME,
  N_COLUMNS,
};

static const char *const headings[N_COLUMNS + 1] = {
  "PID",    "PROGRAM",  "MONITOR",     "HANDLERS",  "TIMERS",
  "SERVED", "ROUNDS/s", "CALLBACKS/s", "WAKEUPS/s", "TIME %",
};

/* Strings of other processes */

/* Owned by the caller, and no wider than @max_width. */
static char *
make_cell (const char *text, guint max_width)
{
  gboolean utf8 = g_get_charset (NULL);
  char *cell = top_text_escape (text != NULL ? text : "-", !utf8);

  cell[top_text_fit (cell, max_width)] = '\0';
  return cell;
}

/* Cells */

static char *
format_figure (const TopLoop *loop, TopFigure figure)
{
  guint64 value;

  if (!top_loop_get_figure (loop, figure, &value))
    return g_strdup ("-");
  return g_strdup_printf ("%" G_GUINT64_FORMAT, value);
}

static char *
format_handlers (const TopLoop *loop)
{
  g_autofree char *handlers = format_figure (loop, TOP_FIGURE_HANDLERS);
  guint64 dormant;

  if (!top_loop_get_figure (loop, TOP_FIGURE_DORMANT_HANDLERS, &dormant) || dormant == 0)
    return g_steal_pointer (&handlers);
  return g_strdup_printf ("%s (%" G_GUINT64_FORMAT " dormant)", handlers, dormant);
}

static char *
format_rate (const TopLoop *loop, TopFigure figure, double factor)
{
  double rate;

  if (!top_loop_get_rate (loop, figure, &rate))
    return g_strdup ("-");
  return g_strdup_printf (rate * factor < 1000 ? "%.1f" : "%.0f", rate * factor);
}

static char *
format_time (guint64 us)
{
  if (us < 10000)
    return g_strdup_printf ("%" G_GUINT64_FORMAT " us", us);
  if (us < 10 * G_USEC_PER_SEC)
    return g_strdup_printf ("%" G_GUINT64_FORMAT " ms", us / 1000);
  return g_strdup_printf ("%" G_GUINT64_FORMAT " s", us / G_USEC_PER_SEC);
}

static char *
format_program (const TopLoop *loop, gboolean one_of_several)
{
  g_autofree char *program = make_cell (loop->program, MAX_PROGRAM);

  if (!one_of_several)
    return g_steal_pointer (&program);
  return g_strdup_printf ("%s #%u", program, loop->number);
}

/* A line has N_COLUMNS cells, or a single one that belongs to no column. */

static char **
make_row (const TopLoop *loop, gboolean one_of_several)
{
  char **row = g_new0 (char *, N_COLUMNS + 1);

  row[COLUMN_PID] = format_figure (loop, TOP_FIGURE_PID);
  row[COLUMN_PROGRAM] = format_program (loop, one_of_several);
  row[COLUMN_MONITOR] = make_cell (loop->monitor, MAX_WORD);
  row[COLUMN_HANDLERS] = format_handlers (loop);
  row[COLUMN_TIMERS] = format_figure (loop, TOP_FIGURE_TIMERS);
  row[COLUMN_SERVED] = format_figure (loop, TOP_FIGURE_MAIN_CONTEXTS);
  row[COLUMN_ROUNDS] = format_rate (loop, TOP_FIGURE_ROUNDS, 1);
  row[COLUMN_CALLBACKS] = format_rate (loop, TOP_FIGURE_CALLBACKS, 1);
  row[COLUMN_WAKEUPS] = format_rate (loop, TOP_FIGURE_WAKEUPS, 1);
  row[COLUMN_TIME] = format_rate (loop, TOP_FIGURE_CALLBACK_TIME, 100.0 / G_USEC_PER_SEC);
  return row;
}

static char **
make_note (char *text)
{
  char **note = g_new0 (char *, 2);

  note[0] = text;
  return note;
}

static char **
make_slow (const TopSlow *slow)
{
  g_autofree char *fd = g_strdup_printf (slow->fd < 0 ? "-" : "fd %d", slow->fd);
  g_autofree char *kind = make_cell (slow->kind, MAX_WORD);
  g_autofree char *name = make_cell (slow->name[0] != '\0' ? slow->name : fd, MAX_NAME);
  g_autofree char *mean = format_time (slow->calls > 0 ? slow->total_us / slow->calls : 0);
  g_autofree char *longest = format_time (slow->longest_us);
  GString *line = g_string_new (NULL);

  top_text_append_padded (line, kind, MAX_WORD, FALSE);
  g_string_append_c (line, ' ');
  top_text_append_padded (line, name, MAX_PROGRAM, FALSE);
  g_string_append_printf (line, " %" G_GUINT64_FORMAT " calls, mean %s, longest %s", slow->calls,
                          mean, longest);
  return make_note (g_string_free (line, FALSE));
}

static void
add_loop (GPtrArray *lines, const TopLoop *loop, gboolean one_of_several)
{
  g_ptr_array_add (lines, make_row (loop, one_of_several));
  if (!loop->answers)
    g_ptr_array_add (lines, make_note (g_strdup ("does not answer")));
  if (loop->monitor_note != NULL)
    g_ptr_array_add (lines, make_note (make_cell (loop->monitor_note, MAX_NOTE)));
  for (guint i = 0; i < loop->slowest->len; i++)
    g_ptr_array_add (lines, make_slow (&g_array_index (loop->slowest, TopSlow, i)));
}

/* The loops are sorted, so that those of one connection are neighbours. */
static gboolean
is_one_of_several (const GPtrArray *loops, guint i)
{
  const TopLoop *loop = loops->pdata[i];
  const TopLoop *previous = i > 0 ? loops->pdata[i - 1] : NULL;
  const TopLoop *next = i + 1 < loops->len ? loops->pdata[i + 1] : NULL;

  return (previous != NULL && g_str_equal (previous->bus_name, loop->bus_name)) ||
         (next != NULL && g_str_equal (next->bus_name, loop->bus_name));
}

static void
append_line (GString *out, char **line, const guint *widths)
{
  if (line[1] == NULL)
    {
      g_string_append_printf (out, "%*s%s\n", INDENT, "", line[0]);
      return;
    }
  for (guint i = 0; i < N_COLUMNS; i++)
    {
      if (i > 0)
        g_string_append (out, "  ");
      top_text_append_padded (out, line[i], widths[i], i != COLUMN_PROGRAM && i != COLUMN_MONITOR);
    }
  g_string_append_c (out, '\n');
}

void
top_print_table (GString *out, const GPtrArray *loops)
{
  g_autoptr (GPtrArray) lines = g_ptr_array_new_with_free_func ((GDestroyNotify) g_strfreev);
  guint widths[N_COLUMNS] = { [COLUMN_PID] = INDENT - 2 };

  g_ptr_array_add (lines, g_strdupv ((char **) headings));
  for (guint i = 0; i < loops->len; i++)
    add_loop (lines, loops->pdata[i], is_one_of_several (loops, i));
  for (guint i = 0; i < lines->len; i++)
    {
      char **line = lines->pdata[i];

      for (guint j = 0; line[1] != NULL && j < N_COLUMNS; j++)
        widths[j] = MAX (widths[j], top_text_get_width (line[j]));
    }
  for (guint i = 0; i < lines->len; i++)
    append_line (out, lines->pdata[i], widths);
}

/* JSON, where null means unknown. */

static void
append_key (GString *out, const char *key)
{
  g_string_append_printf (out, ", \"%s\": ", key);
}

static void
append_string (GString *out, const char *key, const char *text)
{
  append_key (out, key);
  if (text != NULL)
    top_text_append_json (out, text);
  else
    g_string_append (out, "null");
}

static void
append_double (GString *out, const char *key, gboolean known, double value)
{
  char buffer[G_ASCII_DTOSTR_BUF_SIZE];

  append_key (out, key);
  g_string_append (out, known ? g_ascii_dtostr (buffer, sizeof buffer, value) : "null");
}

static void
append_unsigned (GString *out, const char *key, gboolean known, guint64 value)
{
  append_key (out, key);
  if (known)
    g_string_append_printf (out, "%" G_GUINT64_FORMAT, value);
  else
    g_string_append (out, "null");
}

static void
append_rates (GString *out, const TopLoop *loop)
{
  static const TopFigure rates[] = { TOP_FIGURE_ROUNDS, TOP_FIGURE_CALLBACKS, TOP_FIGURE_WAKEUPS };
  gboolean known;
  double value;

  known = top_loop_get_seconds (loop, &value);
  append_double (out, "seconds", known, value);
  for (guint i = 0; i < G_N_ELEMENTS (rates); i++)
    {
      g_autofree char *key = g_strconcat (top_figure_get_key (rates[i]), "-per-second", NULL);

      known = top_loop_get_rate (loop, rates[i], &value);
      append_double (out, key, known, value);
    }
  known = top_loop_get_rate (loop, TOP_FIGURE_CALLBACK_TIME, &value);
  append_double (out, "time-percent", known, value * 100 / G_USEC_PER_SEC);
}

static void
append_slow (GString *out, const TopSlow *slow)
{
  g_string_append (out, "{\"kind\": ");
  top_text_append_json (out, slow->kind);
  append_string (out, "name", slow->name);
  g_string_append_printf (out, ", \"fd\": %d", slow->fd);
  append_unsigned (out, "calls", TRUE, slow->calls);
  append_unsigned (out, "total-us", TRUE, slow->total_us);
  append_unsigned (out, "longest-us", TRUE, slow->longest_us);
  g_string_append_c (out, '}');
}

static void
append_loop (GString *out, const TopLoop *loop)
{
  g_string_append (out, "{\"bus-name\": ");
  top_text_append_json (out, loop->bus_name);
  append_unsigned (out, "object", TRUE, loop->number);
  append_key (out, "answers");
  g_string_append (out, loop->answers ? "true" : "false");
  append_string (out, "program", loop->program);
  append_string (out, "monitor", loop->monitor);
  append_string (out, "monitor-note", loop->monitor_note);
  for (TopFigure i = 0; i < TOP_N_FIGURES; i++)
    {
      guint64 value;
      gboolean known = top_loop_get_figure (loop, i, &value);

      append_unsigned (out, top_figure_get_key (i), known, value);
    }
  append_rates (out, loop);
  append_key (out, "slowest");
  g_string_append_c (out, '[');
  for (guint i = 0; i < loop->slowest->len; i++)
    {
      if (i > 0)
        g_string_append (out, ", ");
      append_slow (out, &g_array_index (loop->slowest, TopSlow, i));
    }
  g_string_append (out, "]}");
}

void
top_print_json (GString *out, const GPtrArray *loops, gint64 real_time_us)
{
  g_string_append_printf (out, "{\"time-us\": %" G_GINT64_FORMAT ", \"loops\": [", real_time_us);
  for (guint i = 0; i < loops->len; i++)
    {
      if (i > 0)
        g_string_append (out, ", ");
      append_loop (out, loops->pdata[i]);
    }
  g_string_append (out, "]}\n");
}
