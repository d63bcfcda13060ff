/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <glib-unix.h>
#include <unistd.h>

static void
on_ready (GaioReadySet *set, guint n_ready, gpointer user_data)
{
  gsize length;
  g_autofree guint8 *bytes = gaio_ready_set_take (set, &length);
  const GaioReadyRecord *records = (const GaioReadyRecord *) (void *) bytes;

  for (gsize i = 0; i < length / sizeof *records; i++)
    {
      char buffer[256];

      if (read (records[i].fd, buffer, sizeof buffer) > 0)
        *(guint64 *) user_data += records[i].token;
    }
}

int
main (void)
{
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (gaio_context_get_default ());
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = NULL;
  guint64 sum = 0;
  int fds[2];

  if (!g_unix_open_pipe (fds, FD_CLOEXEC, NULL))
    return 1;
  gaio_ready_set_set_func (set, on_ready, &sum, NULL);
  handler = gaio_ready_set_add_fd (set, fds[0], G_IO_IN, 42, &error);
  if (handler == NULL || write (fds[1], "x", 1) != 1)
    return 1;
  while (sum == 0)
    g_main_context_iteration (NULL, TRUE);
  gaio_clear_handler (&handler);
  close (fds[0]);
  close (fds[1]);
  return sum == 42 ? 0 : 1;
}
