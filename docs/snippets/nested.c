/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <sys/eventfd.h>

/* Its fd is ready all the time. */
static gboolean
on_ready (gint fd, GIOCondition condition, gpointer loop)
{
  g_print ("in\n");
  g_main_loop_run (loop);
  g_print ("out\n");
  return G_SOURCE_REMOVE;
}

static void
on_timer (gpointer loop)
{
  g_print ("timer\n");
  g_main_loop_quit (loop);
}

int
main (void)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, on_timer, loop, NULL);
  g_autoptr (GaioHandler) handler =
      gaio_context_add_fd (context, eventfd (1, 0), G_IO_IN, on_ready, loop, NULL, NULL);

  gaio_timer_arm (timer, 10000);
  while (!gaio_handler_is_removed (handler))
    g_main_context_iteration (NULL, TRUE);
  return 0;
}
