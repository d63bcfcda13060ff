/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <signal.h>

static GaioNotifier *notifier;

static void
on_signal (int number)
{
  gaio_notifier_set (notifier);
}

static void
on_notified (gpointer stop)
{
  *(gboolean *) stop = TRUE;
}

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = NULL;
  gboolean stop = FALSE;

  notifier = gaio_notifier_new (&error);
  if (notifier != NULL)
    handler = gaio_context_add_notifier (context, notifier, on_notified, &stop, NULL, &error);
  if (handler == NULL)
    g_error ("%s", error->message);
  signal (SIGTERM, on_signal);
  raise (SIGTERM);
  while (!stop)
    gaio_context_iterate (context, -1);
  signal (SIGTERM, SIG_DFL);
  gaio_clear_handler (&handler);
  gaio_context_close (context);
  gaio_notifier_unref (notifier);
  return 0;
}
