/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --watch=glib and --watch=gaio: a callback when an fd can be read or written, and system calls.
 * watch_set() and watch_clear() are all the difference between the two.
 */
#include "relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <glib-unix.h>

#define ACCEPTS_PER_WAKEUP 256

typedef struct
{
  guint source_id;      /* --watch=glib */
  GaioHandler *handler; /* --watch=gaio */
} Watch;

typedef struct
{
  int fd;
  Watch watch;
} Listener;

typedef struct
{
  Client client;
  int fd;
  Watch watch;
  GIOCondition condition;
  GString *out; /* what the socket has not taken yet */
} FdClient;

/* Watching */

static void
watch_clear (Watch *watch)
{
  g_clear_handle_id (&watch->source_id, g_source_remove);
  gaio_clear_handler (&watch->handler);
}

static gboolean
watch_set (Relay *relay,
           Watch *watch,
           int fd,
           GIOCondition condition,
           GaioFdFunc func,
           gpointer user_data)
{
  g_autoptr (GError) error = NULL;

  if (relay->gaio == NULL)
    {
      watch_clear (watch);
      if (condition != 0)
        watch->source_id = g_unix_fd_add (fd, condition, func, user_data);
    }
  else if (watch->handler == NULL)
    watch->handler =
        gaio_context_add_fd (relay->gaio, fd, condition, func, user_data, NULL, &error);
  else
    gaio_handler_set_condition (watch->handler, condition, &error);

  if (error != NULL)
    g_printerr ("relay: %s\n", error->message);
  return error == NULL;
}

/* Reading and writing. A connection that breaks is left to its watch (HUP). */

static gboolean on_client_ready (gint fd, GIOCondition condition, gpointer user_data);

/* Brings the watch, and the end of what is sent, in line with the client's state. */
static gboolean
settle (FdClient *self)
{
  Client *client = &self->client;
  GIOCondition condition = 0;

  client->n_queued = self->out->len;
  if (client->leaving && self->out->len == 0)
    shutdown (self->fd, SHUT_WR);
  if (!client->at_eof)
    condition |= G_IO_IN;
  if (self->out->len > 0)
    condition |= G_IO_OUT;
  if (condition == self->condition)
    return TRUE;

  self->condition = condition;
  return watch_set (client->relay, &self->watch, self->fd, condition, on_client_ready, self);
}

static void
fd_client_send (Client *client, const char *line)
{
  FdClient *self = (FdClient *) client;
  gssize n_sent = 0;

  if (self->out->len == 0)
    n_sent = send (self->fd, line, strlen (line), 0);
  g_string_append (self->out, line + MAX (n_sent, 0));
  settle (self);
}

static gboolean
flush (FdClient *self)
{
  gssize n_sent = send (self->fd, self->out->str, self->out->len, 0);

  if (n_sent < 0)
    return errno == EAGAIN;
  g_string_erase (self->out, 0, n_sent);
  /* A GString never shrinks: else each client would keep the longest queue it ever had. */
  if (self->out->len == 0)
    {
      g_string_free (self->out, TRUE);
      self->out = g_string_new (NULL);
    }
  return settle (self);
}

/* Reads once: what is left is reported again, after the other connections have had their turn. */
static gboolean
receive (FdClient *self)
{
  char buffer[MAX_LINE];
  gssize n_read = recv (self->fd, buffer, sizeof buffer, 0);

  if (n_read < 0)
    return errno == EAGAIN;
  client_receive (&self->client, buffer, n_read);
  return n_read > 0 || settle (self);
}

static gboolean
on_client_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  FdClient *self = user_data;
  gboolean alive = (condition & (G_IO_HUP | G_IO_ERR)) == 0;

  if (alive && (condition & G_IO_OUT) != 0)
    alive = flush (self);
  if (alive && (condition & G_IO_IN) != 0)
    alive = receive (self);
  if (alive && !client_is_done (&self->client))
    return G_SOURCE_CONTINUE;

  client_close (&self->client);
  return G_SOURCE_REMOVE;
}

/* Returns NULL if it cannot be watched. */
Client *
client_new_for_fd (Relay *relay, int fd)
{
  FdClient *self = g_new0 (FdClient, 1);

  self->fd = fd;
  self->out = g_string_new (NULL);
  client_init (&self->client, relay);
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof (int));
  if (settle (self))
    return &self->client;
  client_close (&self->client);
  return NULL;
}

static void
fd_client_close (Client *client)
{
  FdClient *self = (FdClient *) client;
  Relay *relay = client->relay;

  watch_clear (&self->watch);
  close (self->fd);
  g_string_free (self->out, TRUE);
  g_free (self);
  relay_resume_accepting (relay);
}

/* Accepting */

static gboolean
on_listener_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Relay *relay = user_data;

  for (guint i = 0; i < ACCEPTS_PER_WAKEUP; i++)
    {
      int client_fd = accept4 (fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

      if (client_fd >= 0)
        client_new_for_fd (relay, client_fd);
      else if (errno == EAGAIN)
        break;
      else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        {
          /* The connection stays in the backlog and keeps the listener readable: look away. */
          relay_pause_accepting (relay);
          break;
        }
    }
  return G_SOURCE_CONTINUE;
}

static void
fd_set_accepting (Relay *relay, gboolean accepting)
{
  Listener *listener = relay->listener;

  watch_set (relay, &listener->watch, listener->fd, accepting ? G_IO_IN : 0, on_listener_ready,
             relay);
}

static void
fd_listen (Relay *relay, int listen_fd)
{
  Listener *listener = g_new0 (Listener, 1);

  listener->fd = listen_fd;
  relay->listener = listener;
  fd_set_accepting (relay, TRUE);
}

static void
fd_end (Relay *relay)
{
  Listener *listener = relay->listener;

  watch_clear (&listener->watch);
  close (listener->fd);
  g_free (listener);
}

const Transport fd_transport = {
  .listen = fd_listen,
  .set_accepting = fd_set_accepting,
  .end = fd_end,
  .send = fd_client_send,
  .close = fd_client_close,
};
