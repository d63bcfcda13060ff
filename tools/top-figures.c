/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "top-figures.h"

static const struct
{
  const char *key;
  const char *type;
} figures[TOP_N_FIGURES] = {
  [TOP_FIGURE_PID] = { "pid", "u" },
  [TOP_FIGURE_HANDLERS] = { "handlers", "u" },
  [TOP_FIGURE_DORMANT_HANDLERS] = { "dormant-handlers", "u" },
  [TOP_FIGURE_TIMERS] = { "timers", "u" },
  [TOP_FIGURE_ARMED_TIMERS] = { "armed-timers", "u" },
  [TOP_FIGURE_MAIN_CONTEXTS] = { "main-contexts", "u" },
  [TOP_FIGURE_ROUNDS] = { "rounds", "t" },
  [TOP_FIGURE_CALLBACKS] = { "callbacks", "t" },
  [TOP_FIGURE_WAKEUPS] = { "wakeups", "t" },
  [TOP_FIGURE_REBUILDS] = { "rebuilds", "t" },
  [TOP_FIGURE_CALLBACK_TIME] = { "callback-time", "t" },
};

static void
clear_slow (gpointer data)
{
  TopSlow *slow = data;

  g_free (slow->kind);
  g_free (slow->name);
}

TopLoop *
top_loop_new (const char *bus_name, guint number)
{
  TopLoop *self = g_new0 (TopLoop, 1);

  self->bus_name = g_strdup (bus_name);
  self->number = number;
  self->slowest = g_array_new (FALSE, FALSE, sizeof (TopSlow));
  g_array_set_clear_func (self->slowest, clear_slow);
  return self;
}

void
top_loop_free (TopLoop *self)
{
  g_free (self->bus_name);
  g_free (self->program);
  g_free (self->monitor);
  g_free (self->monitor_note);
  g_array_unref (self->slowest);
  g_free (self);
}

static guint64
get_number (GVariant *value)
{
  if (g_variant_is_of_type (value, G_VARIANT_TYPE_UINT32))
    return g_variant_get_uint32 (value);
  return g_variant_get_uint64 (value);
}

static void
take_string (char **string, GVariant *stats, const char *key)
{
  g_clear_pointer (string, g_free);
  g_variant_lookup (stats, key, "s", string);
}

/* A value that is missing, or of another type, is unknown. */
void
top_loop_take_stats (TopLoop *self, GVariant *stats, gint64 time_us)
{
  self->before = self->now;
  self->now = (TopSample){ .time_us = time_us };
  for (TopFigure i = 0; i < TOP_N_FIGURES; i++)
    {
      g_autoptr (GVariant) value =
          g_variant_lookup_value (stats, figures[i].key, G_VARIANT_TYPE (figures[i].type));

      self->now.known[i] = value != NULL;
      if (value != NULL)
        self->now.values[i] = get_number (value);
    }
  take_string (&self->program, stats, "program");
  take_string (&self->monitor, stats, "monitor");
  take_string (&self->monitor_note, stats, "monitor-note");
}

/* Another process may send more than it was asked for. */
void
top_loop_take_slowest (TopLoop *self, GVariant *slowest, guint max)
{
  GVariantIter iter;
  TopSlow slow;

  g_array_set_size (self->slowest, 0);
  g_variant_iter_init (&iter, slowest);
  while (self->slowest->len < max &&
         g_variant_iter_next (&iter, "(ssittt)", &slow.kind, &slow.name, &slow.fd, &slow.calls,
                              &slow.total_us, &slow.longest_us))
    g_array_append_val (self->slowest, slow);
}

const char *
top_figure_get_key (TopFigure figure)
{
  return figures[figure].key;
}

gboolean
top_loop_get_figure (const TopLoop *self, TopFigure figure, guint64 *value)
{
  *value = self->now.values[figure];
  return self->now.known[figure];
}

/* The real time between the two samples. */
gboolean
top_loop_get_seconds (const TopLoop *self, double *seconds)
{
  *seconds = (self->now.time_us - self->before.time_us) / (double) G_USEC_PER_SEC;
  return self->answers && self->before.time_us != 0 && *seconds > 0;
}

/* The first sample has no callback time, because it starts the measurement. */
gboolean
top_loop_get_rate (const TopLoop *self, TopFigure figure, double *per_second)
{
  guint64 now = self->now.values[figure];
  guint64 before = self->before.values[figure];
  gboolean known_before = self->before.known[figure] || figure == TOP_FIGURE_CALLBACK_TIME;
  double seconds;

  if (!top_loop_get_seconds (self, &seconds) || !self->now.known[figure] || !known_before ||
      now < before)
    return FALSE;
  *per_second = (now - before) / seconds;
  return TRUE;
}

/* Sorts by process, and the loops of one connection by number. */
int
top_loop_compare (gconstpointer a, gconstpointer b)
{
  const TopLoop *one = *(const TopLoop *const *) a;
  const TopLoop *other = *(const TopLoop *const *) b;
  guint64 one_pid = one->now.values[TOP_FIGURE_PID];
  guint64 other_pid = other->now.values[TOP_FIGURE_PID];
  int by_name = g_strcmp0 (one->bus_name, other->bus_name);

  if (one_pid != other_pid)
    return one_pid < other_pid ? -1 : 1;
  if (by_name != 0)
    return by_name;
  return one->number < other->number ? -1 : one->number > other->number;
}
