/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

static void
on_deferred (gpointer data)
{
  g_print ("Gaio\n");
}

static gboolean
on_idle (gpointer data)
{
  g_print ("GLib\n");
  return G_SOURCE_CONTINUE;
}

int
main (void)
{
  GaioContext *context = gaio_context_get_default ();

  gaio_context_set_dispatch_limits (context, 2, 0);
  g_idle_add_full (G_PRIORITY_DEFAULT, on_idle, NULL, NULL);
  for (int i = 0; i < 4; i++)
    gaio_context_defer (context, on_deferred, NULL, NULL);
  for (int i = 0; i < 2; i++)
    g_main_context_iteration (NULL, TRUE);
  return 0;
}
