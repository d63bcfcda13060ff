/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "shout.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static gboolean
on_client (gint fd, GIOCondition condition, gpointer user_data)
{
  char buffer[4096];
  gssize length = recv (fd, buffer, sizeof buffer, 0);

  for (gssize i = 0; i < length; i++)
    buffer[i] = g_ascii_toupper (buffer[i]);
  if (length <= 0 || send (fd, buffer, length, MSG_NOSIGNAL) != length)
    return G_SOURCE_REMOVE;
  return G_SOURCE_CONTINUE;
}

static void
close_client (gpointer fd)
{
  close (GPOINTER_TO_INT (fd));
}

static gboolean
on_connection (gint listener, GIOCondition condition, gpointer user_data)
{
  int fd = accept (listener, NULL, NULL);
  g_autoptr (GaioHandler) handler = NULL;
  g_autoptr (GError) error = NULL;

  if (fd == -1)
    return G_SOURCE_CONTINUE;
  handler = gaio_context_add_fd (gaio_context_get_default (), fd, G_IO_IN, on_client,
                                 GINT_TO_POINTER (fd), close_client, &error);
  if (handler == NULL)
    g_warning ("%s", error->message);
  return G_SOURCE_CONTINUE;
}

GaioHandler *
shout_start (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);
  g_autoptr (GError) error = NULL;
  GaioHandler *handler;

  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  unlink (path);
  if (bind (fd, (struct sockaddr *) &address, sizeof address) != 0 || listen (fd, SOMAXCONN) != 0)
    g_error ("%s: %s", path, g_strerror (errno));
  handler = gaio_context_add_fd (gaio_context_get_default (), fd, G_IO_IN, on_connection, NULL,
                                 NULL, &error);
  if (handler == NULL)
    g_error ("%s", error->message);
  g_print ("listening on %s\n", path);
  return handler;
}
