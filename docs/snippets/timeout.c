/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

static gboolean
tick (gpointer n_ticks)
{
  return --*(int *) n_ticks > 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

int
main (void)
{
  int n_ticks = 3;
  gint64 interval_us = 2 * G_TIME_SPAN_MILLISECOND;
  GaioTimer *timer =
      gaio_context_add_timeout (gaio_context_get_default (), interval_us, tick, &n_ticks, NULL);

  while (n_ticks > 0)
    g_main_context_iteration (NULL, TRUE);
  gaio_clear_timer (&timer);
  return 0;
}
