/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ends with the first Ctrl-C: a notifier may be set in a signal handler. */
#include <gaio.h>
#include <signal.h>

static GaioNotifier *notifier;

static void
on_signal (int number)
{
  gaio_notifier_set (notifier);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioHandler) handler = NULL;

  notifier = gaio_notifier_new (&error);
  if (notifier != NULL)
    handler = gaio_context_add_notifier (gaio_context_get_default (), notifier,
                                         (GSourceOnceFunc) g_main_loop_quit, loop, NULL, &error);
  if (handler == NULL)
    g_error ("%s", error->message);
  signal (SIGINT, on_signal);
  g_print ("waiting\n");
  g_main_loop_run (loop);
}
