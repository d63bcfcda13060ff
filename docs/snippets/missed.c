/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

#define INTERVAL_US (20 * G_TIME_SPAN_MILLISECOND)

static gboolean
on_tick (gpointer n_ticks)
{
  (*(guint *) n_ticks)++;
  return G_SOURCE_CONTINUE;
}

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint n_ticks = 0;
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timeout (context, INTERVAL_US, on_tick, &n_ticks, NULL);
  gint64 first = gaio_timer_get_deadline (timer);

  g_usleep (5 * INTERVAL_US);
  gaio_context_iterate (context, 0);
  g_print ("%u tick\n", n_ticks);
  g_print ("off by %" G_GINT64_FORMAT " us\n",
           (gaio_timer_get_deadline (timer) - first) % INTERVAL_US);
  gaio_context_close (context);
  return 0;
}
