/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "figures.h"

#include <time.h>

/* What counts on: a figure of the page is by how much, in a second. */
typedef struct
{
  guint64 time_us;
  guint64 cpu_us;
  guint64 requests;
  guint64 rounds;
  guint64 callbacks;
  guint64 wakeups;
} Sample;

struct _HttpdFigures
{
  GaioContext *context;
  guint64 n_events;
  Sample last;
};

static guint64
get_cpu_us (void)
{
  struct timespec time;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &time);
  return (guint64) time.tv_sec * G_USEC_PER_SEC + time.tv_nsec / 1000;
}

static Sample
take_sample (GVariant *stats, guint64 n_requests)
{
  Sample sample = { .time_us = g_get_monotonic_time (),
                    .cpu_us = get_cpu_us (),
                    .requests = n_requests };

  g_variant_lookup (stats, "rounds", "t", &sample.rounds);
  g_variant_lookup (stats, "callbacks", "t", &sample.callbacks);
  g_variant_lookup (stats, "wakeups", "t", &sample.wakeups);
  return sample;
}

HttpdFigures *
httpd_figures_new (GaioContext *context)
{
  HttpdFigures *self = g_new0 (HttpdFigures, 1);
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);

  self->context = g_object_ref (context);
  self->last = take_sample (stats, 0);
  return self;
}

void
httpd_figures_free (HttpdFigures *self)
{
  g_object_unref (self->context);
  g_free (self);
}

static guint64
get_rate (guint64 count, guint64 last, guint64 elapsed_us)
{
  return ((count - last) * G_USEC_PER_SEC + elapsed_us / 2) / elapsed_us;
}

static void
add_figure (GString *json, const char *name, guint64 value)
{
  g_string_append_printf (json, "%s\"%s\":%" G_GUINT64_FORMAT, json->str[0] == '\0' ? "" : ",",
                          name, value);
}

/* The figures since the last call, as an event for EventSource: JSON, and a number that counts on
 * by one. */
GBytes *
httpd_figures_next_event (HttpdFigures *self, const HttpdCounts *counts)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (self->context);
  g_autoptr (GString) json = g_string_new (NULL);
  Sample last = self->last, now = take_sample (stats, counts->n_requests);
  guint64 elapsed_us = MAX (now.time_us - last.time_us, 1);
  guint n_main_contexts = 0;
  char *event;

  g_variant_lookup (stats, "main-contexts", "u", &n_main_contexts);
  add_figure (json, "requests", get_rate (now.requests, last.requests, elapsed_us));
  add_figure (json, "callbacks", get_rate (now.callbacks, last.callbacks, elapsed_us));
  add_figure (json, "rounds", get_rate (now.rounds, last.rounds, elapsed_us));
  add_figure (json, "wakeups", get_rate (now.wakeups, last.wakeups, elapsed_us));
  add_figure (json, "cpuPermille", (now.cpu_us - last.cpu_us) * 1000 / elapsed_us);
  add_figure (json, "connections", counts->n_connections);
  add_figure (json, "subscribers", counts->n_subscribers);
  add_figure (json, "mainContexts", n_main_contexts);
  self->last = now;
  event =
      g_strdup_printf ("id: %" G_GUINT64_FORMAT "\ndata: {%s}\n\n", ++self->n_events, json->str);
  return g_bytes_new_take (event, strlen (event));
}
