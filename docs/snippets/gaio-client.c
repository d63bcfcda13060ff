/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <glib-unix.h>
#include <unistd.h>

typedef struct
{
  int fd;
  GaioHandler *watch;
} Client;

static gboolean
client_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  char buffer[256];

  return read (fd, buffer, sizeof buffer) > 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean
client_start (Client *client, GError **error)
{
  client->watch = gaio_context_add_fd (gaio_context_get_default (), client->fd, G_IO_IN,
                                       client_ready, client, NULL, error);
  return client->watch != NULL;
}

static void
client_stop (Client *client)
{
  gaio_clear_handler (&client->watch);
  close (client->fd);
}

int
main (void)
{
  Client client = { -1, NULL };
  g_autoptr (GError) error = NULL;
  int fds[2];

  if (!g_unix_open_pipe (fds, FD_CLOEXEC, NULL))
    return 1;
  client.fd = fds[0];
  if (!client_start (&client, &error))
    g_error ("%s", error->message);
  close (fds[1]);
  while (!gaio_handler_is_removed (client.watch))
    g_main_context_iteration (NULL, TRUE);
  client_stop (&client);
  return 0;
}
