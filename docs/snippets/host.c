/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

static gboolean
stop (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
  return G_SOURCE_REMOVE;
}

int
main (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;

  g_timeout_add (10, stop, cancellable);
  if (!gaio_context_run (gaio_context_get_default (), NULL, cancellable, &error))
    g_error ("%s", error->message);
  return 0;
}
