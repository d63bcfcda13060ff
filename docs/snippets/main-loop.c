/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "shout.h"

#include <glib-unix.h>

static gboolean
quit (gpointer loop)
{
  g_main_loop_quit (loop);
  return G_SOURCE_REMOVE;
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  GaioHandler *listener = shout_start ("shout.sock");

  g_unix_signal_add (SIGTERM, quit, loop);
  g_main_loop_run (loop);
  gaio_clear_handler (&listener);
  g_print ("done\n");
  return 0;
}
