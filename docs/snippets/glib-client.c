/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib-unix.h>
#include <unistd.h>

typedef struct
{
  int fd;
  guint watch;
} Client;

static gboolean
client_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Client *client = user_data;
  char buffer[256];

  if (read (fd, buffer, sizeof buffer) > 0)
    return G_SOURCE_CONTINUE;
  client->watch = 0;
  return G_SOURCE_REMOVE;
}

static void
client_start (Client *client)
{
  client->watch = g_unix_fd_add (client->fd, G_IO_IN, client_ready, client);
}

static void
client_stop (Client *client)
{
  g_clear_handle_id (&client->watch, g_source_remove);
  close (client->fd);
}

int
main (void)
{
  Client client = { -1, 0 };
  int fds[2];

  if (!g_unix_open_pipe (fds, FD_CLOEXEC, NULL))
    return 1;
  client.fd = fds[0];
  client_start (&client);
  close (fds[1]);
  while (client.watch != 0)
    g_main_context_iteration (NULL, TRUE);
  client_stop (&client);
  return 0;
}
