/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "shout.h"

#include <gio/gio.h>
#include <glib-unix.h>

static void
on_activate (GApplication *application, GaioHandler **listener)
{
  *listener = shout_start ("shout.sock");
  g_application_hold (application);
}

static void
on_shutdown (GApplication *application, GaioHandler **listener)
{
  gaio_clear_handler (listener);
}

static gboolean
quit (gpointer application)
{
  g_application_quit (application);
  return G_SOURCE_REMOVE;
}

int
main (int argc, char **argv)
{
  g_autoptr (GApplication) application =
      g_application_new ("org.example.Shout", G_APPLICATION_NON_UNIQUE);
  GaioHandler *listener = NULL;

  g_signal_connect (application, "activate", G_CALLBACK (on_activate), &listener);
  g_signal_connect (application, "shutdown", G_CALLBACK (on_shutdown), &listener);
  g_unix_signal_add (SIGTERM, quit, application);
  return g_application_run (application, argc, argv);
}
