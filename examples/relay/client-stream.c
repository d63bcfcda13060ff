/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --watch=gio and --watch=gaio-gio: asynchronous calls of GIO on the streams of a connection.
 *
 * With GSocketService all of them complete in the default main context, whose every iteration walks
 * the sources of all connections. With GaioSocketService each connection has a main context, where
 * what is begun there completes. What differs is which service is made, and that what one
 * connection begins for another is begun in the main context of the other: see begin_in_its_own().
 */
#include "relay.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

/* A read that waits has a buffer. */
#define READ_SIZE 1024
/* What is open beside the clients. */
#define SPARE_FDS 16

typedef struct
{
  GSocketService *service;
  guint n_clients; /* also those that are closed, and wait for what is under way */
  guint max_clients;
} Listener;

/* (g_rc_box) What is under way holds a reference. */
typedef struct
{
  Client client;
  GSocketConnection *connection;
  GMainContext *main_context; /* of the connection; NULL with --watch=gio */
  GBytes *writing;            /* what a write is under way for, or NULL */
  GString *out;               /* what comes after that */
  gboolean closed;
  char buffer[READ_SIZE];
} StreamClient;

static void
stream_client_free (gpointer data)
{
  StreamClient *self = data;
  Relay *relay = self->client.relay;
  Listener *listener = relay->listener;

  g_object_unref (self->connection);
  g_clear_pointer (&self->writing, g_bytes_unref);
  g_string_free (self->out, TRUE);
  listener->n_clients--;
  relay_resume_accepting (relay);
}

static void
stream_client_unref (StreamClient *self)
{
  g_rc_box_release_full (self, stream_client_free);
}

static GSocket *
get_socket (StreamClient *self)
{
  return g_socket_connection_get_socket (self->connection);
}

/* What GIO is asked for completes in the main context in which it is asked. */
static void
begin_in_its_own (StreamClient *self, GSourceOnceFunc func)
{
  if (self->main_context == g_main_context_get_thread_default ())
    func (self);
  else
    gaio_context_call_in (self->client.relay->gaio, self->main_context, func, self);
}

/* Writing */

static void begin_write (gpointer data);

static void
on_written (GObject *stream, GAsyncResult *result, gpointer data)
{
  StreamClient *self = data;
  gsize length = g_bytes_get_size (self->writing);
  gssize n_written = g_output_stream_write_bytes_finish (G_OUTPUT_STREAM (stream), result, NULL);
  GBytes *rest = NULL;

  if (n_written >= 0 && n_written < (gssize) length)
    rest = g_bytes_new_from_bytes (self->writing, n_written, length - n_written);
  g_bytes_unref (self->writing);
  self->writing = rest;
  if (!self->closed)
    {
      self->client.n_queued -= MAX (n_written, 0);
      if (n_written < 0 || client_is_done (&self->client))
        client_close (&self->client);
      else
        begin_write (self);
    }
  stream_client_unref (self);
}

/* Writes what is next. After the last words comes the end of file. */
static void
begin_write (gpointer data)
{
  StreamClient *self = data;
  GOutputStream *stream = g_io_stream_get_output_stream (G_IO_STREAM (self->connection));

  if (self->writing == NULL && self->out->len > 0)
    {
      self->writing = g_string_free_to_bytes (self->out);
      self->out = g_string_new (NULL);
    }
  if (self->writing != NULL)
    g_output_stream_write_bytes_async (stream, self->writing, G_PRIORITY_DEFAULT, NULL, on_written,
                                       g_rc_box_acquire (self));
  else if (self->client.leaving)
    g_socket_shutdown (get_socket (self), FALSE, TRUE, NULL);
}

static void
stream_client_send (Client *client, const char *line)
{
  StreamClient *self = (StreamClient *) client;

  g_string_append (self->out, line);
  client->n_queued += strlen (line);
  if (self->writing == NULL)
    begin_in_its_own (self, begin_write);
}

/* Reading */

static void begin_read (StreamClient *self);

static void
on_read (GObject *stream, GAsyncResult *result, gpointer data)
{
  StreamClient *self = data;
  gssize n_read = g_input_stream_read_finish (G_INPUT_STREAM (stream), result, NULL);

  if (!self->closed)
    {
      if (n_read >= 0)
        client_receive (&self->client, self->buffer, n_read);
      if (n_read < 0 || client_is_done (&self->client))
        client_close (&self->client);
      else if (n_read > 0)
        begin_read (self);
    }
  stream_client_unref (self);
}

static void
begin_read (StreamClient *self)
{
  GInputStream *stream = g_io_stream_get_input_stream (G_IO_STREAM (self->connection));

  g_input_stream_read_async (stream, self->buffer, sizeof self->buffer, G_PRIORITY_DEFAULT, NULL,
                             on_read, g_rc_box_acquire (self));
}

/* Connections */

/* In the main context of the connection. */
Client *
client_new_for_connection (Relay *relay, GSocketConnection *connection)
{
  StreamClient *self = g_rc_box_new0 (StreamClient);
  Listener *listener = relay->listener;

  self->connection = g_object_ref (connection);
  self->main_context = g_main_context_get_thread_default ();
  self->out = g_string_new (NULL);
  client_init (&self->client, relay);
  g_socket_set_option (get_socket (self), IPPROTO_TCP, TCP_NODELAY, TRUE, NULL);
  begin_read (self);
  if (++listener->n_clients >= listener->max_clients)
    relay_pause_accepting (relay);
  return &self->client;
}

/* What is under way ends when the socket is shut down. */
static void
stream_client_close (Client *client)
{
  StreamClient *self = (StreamClient *) client;

  self->closed = TRUE;
  g_socket_shutdown (get_socket (self), TRUE, TRUE, NULL);
  stream_client_unref (self);
}

/* GSocketService::incoming */
static gboolean
on_incoming (GSocketService *service,
             GSocketConnection *connection,
             GObject *source_object,
             gpointer relay)
{
  client_new_for_connection (relay, connection);
  return FALSE;
}

/* GaioSocketService::connection */
static void
on_connection (GSocketService *service,
               GSocketConnection *connection,
               GObject *source_object,
               gpointer relay)
{
  client_new_for_connection (relay, connection);
}

static void
stream_set_accepting (Relay *relay, gboolean accepting)
{
  Listener *listener = relay->listener;

  if (accepting)
    g_socket_service_start (listener->service);
  else
    g_socket_service_stop (listener->service);
}

/* A service that finds no fd left would only say so, over and over again. */
static guint
count_possible_clients (Relay *relay)
{
  glong n_fds = MAX (sysconf (_SC_OPEN_MAX) - SPARE_FDS, 0);

  return MAX (relay->gaio != NULL ? n_fds / 2 : n_fds, 1);
}

static void
stream_listen (Relay *relay, int listen_fd)
{
  Listener *listener = g_new0 (Listener, 1);
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = g_socket_new_from_fd (listen_fd, &error);

  listener->max_clients = count_possible_clients (relay);
  if (relay->gaio != NULL)
    {
      listener->service = gaio_socket_service_new (relay->gaio);
      g_signal_connect (listener->service, "connection", G_CALLBACK (on_connection), relay);
    }
  else
    {
      listener->service = g_socket_service_new ();
      g_signal_connect (listener->service, "incoming", G_CALLBACK (on_incoming), relay);
    }
  relay->listener = listener;
  if (socket == NULL ||
      !g_socket_listener_add_socket (G_SOCKET_LISTENER (listener->service), socket, NULL, &error))
    g_printerr ("relay: %s\n", error->message);
}

static void
stream_end (Relay *relay)
{
  Listener *listener = relay->listener;

  while (listener->n_clients > 0)
    g_main_context_iteration (NULL, TRUE);
  g_socket_service_stop (listener->service);
  g_socket_listener_close (G_SOCKET_LISTENER (listener->service));
  g_object_unref (listener->service);
  g_free (listener);
}

const Transport stream_transport = {
  .listen = stream_listen,
  .set_accepting = stream_set_accepting,
  .end = stream_end,
  .send = stream_client_send,
  .close = stream_client_close,
};
