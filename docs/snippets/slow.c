/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <sys/eventfd.h>

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer loop)
{
  g_usleep (30000);
  g_main_loop_quit (loop);
  return G_SOURCE_REMOVE;
}

static void
print_stats (GaioContext *context)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  guint64 rounds, callbacks;

  g_variant_lookup (stats, "rounds", "t", &rounds);
  g_variant_lookup (stats, "callbacks", "t", &callbacks);
  g_print ("rounds: %d, callbacks: %d\n", (int) rounds, (int) callbacks);
}

int
main (void)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GaioHandler) handler =
      gaio_context_add_fd (context, eventfd (1, 0), G_IO_IN, on_ready, loop, NULL, NULL);

  gaio_handler_set_name (handler, "client-17");
  g_main_loop_run (loop);
  print_stats (context);
  return 0;
}
