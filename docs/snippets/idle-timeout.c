/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <glib-unix.h>
#include <unistd.h>

#define LONGEST_SILENCE_US (50 * G_TIME_SPAN_MILLISECOND)

typedef struct
{
  GaioHandler *handler;
  GaioTimer *silence;
} Connection;

static void
on_silence (gpointer user_data)
{
  Connection *connection = user_data;

  gaio_handler_remove (connection->handler);
}

static gboolean
on_data (gint fd, GIOCondition condition, gpointer user_data)
{
  Connection *connection = user_data;
  char buffer[256];

  if (read (fd, buffer, sizeof buffer) <= 0)
    return G_SOURCE_REMOVE;
  gaio_timer_arm (connection->silence, LONGEST_SILENCE_US);
  return G_SOURCE_CONTINUE;
}

int
main (void)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GError) error = NULL;
  Connection connection;
  int fds[2];

  if (!g_unix_open_pipe (fds, FD_CLOEXEC, &error))
    g_error ("%s", error->message);
  connection.silence = gaio_context_add_timer (context, on_silence, &connection, NULL);
  connection.handler =
      gaio_context_add_fd (context, fds[0], G_IO_IN, on_data, &connection, NULL, &error);
  if (connection.handler == NULL)
    g_error ("%s", error->message);
  if (write (fds[1], "x", 1) != 1)
    return 1;
  while (!gaio_handler_is_removed (connection.handler))
    g_main_context_iteration (NULL, TRUE);
  gaio_clear_handler (&connection.handler);
  gaio_clear_timer (&connection.silence);
  close (fds[0]);
  close (fds[1]);
  return 0;
}
