/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Three ticks, 10 ms apart, and then one call. */
#include <gaio.h>

static gboolean
tick (gpointer timer)
{
  static guint ticks = 0;

  g_print ("tick %u\n", ++ticks);
  if (ticks == 3)
    gaio_timer_arm (timer, 5000);
  return ticks < 3 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

int
main (void)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (context, (GSourceOnceFunc) g_main_loop_quit, loop, NULL);
  gaio_timer_unref (gaio_context_add_timeout (context, 10000, tick, timer, NULL));
  g_main_loop_run (loop);
  g_print ("done\n");
}
