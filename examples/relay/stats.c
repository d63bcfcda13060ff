/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The heartbeat, which shows how long the loop keeps others waiting, and the answer to STATS. */
#include "relay.h"

#include <stdlib.h>
#include <sys/resource.h>

#define HEARTBEAT_MS 20

gboolean
relay_on_heartbeat (gpointer user_data)
{
  Relay *relay = user_data;
  gint64 now = g_get_monotonic_time ();

  relay->late_us[relay->n_ticks++ % MAX_TICKS] = MAX (now - relay->tick_due_us, 0);
  /* From here GLib counts the next interval. */
  relay->tick_due_us = g_source_get_time (g_main_current_source ()) + HEARTBEAT_MS * 1000;

  relay_close_overdue (relay, now);
  if (g_hash_table_size (relay->clients) == 0)
    relay_resume_accepting (relay);
  return G_SOURCE_CONTINUE;
}

void
relay_start_heartbeat (Relay *relay)
{
  relay->tick_due_us = g_get_monotonic_time () + HEARTBEAT_MS * 1000;
  g_timeout_add (HEARTBEAT_MS, relay_on_heartbeat, relay);
}

static int
compare_times (gconstpointer a, gconstpointer b)
{
  gint64 first = *(const gint64 *) a, second = *(const gint64 *) b;

  return (first > second) - (first < second);
}

static gint64
cpu_time_us (void)
{
  struct rusage usage;

  getrusage (RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * (gint64) G_USEC_PER_SEC +
         usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static gsize
count_queued_bytes (Relay *relay)
{
  GHashTableIter iter;
  gpointer client;
  gsize n = 0;

  g_hash_table_iter_init (&iter, relay->clients);
  while (g_hash_table_iter_next (&iter, &client, NULL))
    n += ((Client *) client)->n_queued;
  return n;
}

char *
relay_take_stats (Relay *relay)
{
  guint n = MIN (relay->n_ticks, MAX_TICKS);
  g_autofree char *heartbeat = NULL;

  qsort (relay->late_us, n, sizeof relay->late_us[0], compare_times);
  heartbeat = g_strdup_printf ("ticks=%u late_p50_us=%" G_GINT64_FORMAT
                               " late_p99_us=%" G_GINT64_FORMAT " late_max_us=%" G_GINT64_FORMAT,
                               relay->n_ticks, n > 0 ? relay->late_us[(n - 1) / 2] : 0,
                               n > 0 ? relay->late_us[(n - 1) * 99 / 100] : 0,
                               n > 0 ? relay->late_us[n - 1] : 0);
  relay->n_ticks = 0;

  return g_strdup_printf ("STATS watch=%s connections=%u topics=%u published=%" G_GUINT64_FORMAT
                          " delivered=%" G_GUINT64_FORMAT " queued_bytes=%" G_GSIZE_FORMAT
                          " dropped=%" G_GUINT64_FORMAT " accept_pauses=%" G_GUINT64_FORMAT
                          " cpu_us=%" G_GINT64_FORMAT " %s\n",
                          relay->watch, g_hash_table_size (relay->clients),
                          g_hash_table_size (relay->topics), relay->n_published, relay->n_delivered,
                          count_queued_bytes (relay), relay->n_dropped, relay->n_accept_pauses,
                          cpu_time_us (), heartbeat);
}
