/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <sys/eventfd.h>

static void
on_next_round (gpointer data)
{
  g_print ("what was asked for in a round\n");
}

static void
on_deferred (gpointer context)
{
  g_print ("bottom half\n");
  gaio_context_defer (context, on_next_round, NULL, NULL);
}

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer data)
{
  g_print ("handler\n");
  return G_SOURCE_REMOVE;
}

static void
on_timer (gpointer data)
{
  g_print ("timer\n");
}

int
main (void)
{
  GaioContext *context = gaio_context_new ();
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, on_timer, NULL, NULL);
  g_autoptr (GaioHandler) handler = NULL;

  gaio_timer_arm (timer, 0);
  handler = gaio_context_add_fd (context, eventfd (1, 0), G_IO_IN, on_ready, NULL, NULL, NULL);
  gaio_context_defer (context, on_deferred, context, NULL);
  for (int round = 1; round <= 2; round++)
    {
      g_print ("round %d\n", round);
      gaio_context_iterate (context, 0);
    }
  gaio_context_close (context);
  return handler == NULL;
}
