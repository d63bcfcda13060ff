/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watches a hundred files, and gets all that are ready in one batch. */
#include <gaio.h>
#include <sys/eventfd.h>

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (context);
  g_autofree GaioReadyRecord *records = NULL;
  gsize length;

  for (guint i = 0; i < 100; i++)
    {
      g_autoptr (GError) error = NULL;
      gint fd = eventfd (i == 30 || i == 60 || i == 90, EFD_CLOEXEC);
      g_autoptr (GaioHandler) handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, i, &error);

      if (handler == NULL)
        g_error ("%s", error->message);
    }

  gaio_context_iterate (context, -1);
  records = (gpointer) gaio_ready_set_take (set, &length);
  g_print ("%u are ready\n", (guint) (length / sizeof *records));
  for (guint i = 0; i < length / sizeof *records; i++)
    g_print ("token %u\n", (guint) records[i].token);
}
