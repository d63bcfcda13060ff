/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <glib-unix.h>
#include <unistd.h>

typedef struct
{
  int fd;
  GaioHandler *handler;
  guint n_bytes;
} Connection;

/* In the thread of the loop. */
static gboolean
connection_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Connection *connection = user_data;
  char buffer[256];
  gssize length = read (fd, buffer, sizeof buffer);

  if (length <= 0)
    return G_SOURCE_REMOVE;
  connection->n_bytes += length;
  return G_SOURCE_CONTINUE;
}

/* In another thread. */
static void
connection_free (Connection *connection)
{
  gaio_handler_remove_sync (connection->handler);
  gaio_handler_unref (connection->handler);
  close (connection->fd);
  g_free (connection);
}

int
main (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioThread) thread = gaio_thread_new ("network", &error);
  Connection *connection = g_new0 (Connection, 1);
  int fds[2];

  if (thread == NULL || !g_unix_open_pipe (fds, FD_CLOEXEC, &error))
    g_error ("%s", error->message);
  connection->fd = fds[0];
  connection->handler = gaio_context_add_fd (gaio_thread_get_context (thread), connection->fd,
                                             G_IO_IN, connection_ready, connection, NULL, &error);
  if (connection->handler == NULL)
    g_error ("%s", error->message);
  if (write (fds[1], "x", 1) != 1)
    return 1;
  connection_free (connection);
  gaio_thread_stop (thread);
  close (fds[1]);
  return 0;
}
