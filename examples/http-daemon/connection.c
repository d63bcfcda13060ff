/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All of it happens in the main context of the connection, which exists as long as its stream.
 *
 * Each connection has a SoupServer of its own. One for all would go through lists of all
 * connections for each request, and could end them only together.
 */
#include "connection.h"

#include <errno.h>
#include <sys/socket.h>

#include <gaio.h>
#include <libsoup/soup.h>

#define SERVER_NAME "gaio-http-daemon " /* to which libsoup adds itself */

struct _HttpdConnection
{
  HttpdServer *server;
  GSocketConnection *stream;
  GSocket *socket;
  SoupServer *soup; /* after the handshake */
  GSource *watch;   /* for the end */
  GaioTimer *idle;
};

GSocket *
httpd_connection_get_socket (HttpdConnection *self)
{
  return self->socket;
}

/* It may be idle as long as it likes. */
void
httpd_connection_stay (HttpdConnection *self)
{
  gaio_timer_disarm (self->idle);
}

/* --- The end --- */

static void
unwatch (HttpdConnection *self)
{
  if (self->watch != NULL)
    g_source_destroy (self->watch);
  g_clear_pointer (&self->watch, g_source_unref);
}

static void
connection_free (HttpdConnection *self)
{
  httpd_server_forget (self->server, self);
  unwatch (self);
  gaio_clear_timer (&self->idle);
  if (self->soup != NULL)
    soup_server_disconnect (self->soup);
  g_clear_object (&self->soup);
  g_object_unref (self->stream);
  g_free (self);
}

/* Without a farewell: the client may never read it, and TLS would wait for that. A handshake fails,
 * and then the connection goes. Not to be called by libsoup. */
void
httpd_connection_end (HttpdConnection *self)
{
  g_socket_shutdown (self->socket, TRUE, TRUE, NULL);
  if (self->soup != NULL)
    connection_free (self);
}

static void
on_idle (gpointer self)
{
  httpd_connection_end (self);
}

static gboolean
is_at_end (GSocket *socket)
{
  gssize n;

  if (g_socket_is_closed (socket))
    return TRUE;
  n = recv (g_socket_get_fd (socket), &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR);
}

/* libsoup comes first: it has closed the socket, or does not read what is there. If that is a
 * request, it will, later. If it is the end of file, libsoup before 3.4 has seen it, and keeps the
 * connection for ever. */
static gboolean
on_readable (GSocket *socket, GIOCondition condition, gpointer user_data)
{
  HttpdConnection *self = user_data;

  unwatch (self);
  if (is_at_end (socket))
    httpd_connection_end (self);
  return G_SOURCE_REMOVE;
}

static void
watch (HttpdConnection *self)
{
  if (self->watch != NULL)
    return;
  self->watch = g_socket_create_source (self->socket, G_IO_IN, NULL);
  g_source_set_priority (self->watch, G_PRIORITY_LOW);
  g_source_set_callback (self->watch, G_SOURCE_FUNC (on_readable), self, NULL);
  g_source_attach (self->watch, g_main_context_get_thread_default ());
}

/* --- Requests --- */

static void
on_request (SoupServer *soup,
            SoupServerMessage *message,
            const char *path,
            GHashTable *query,
            gpointer user_data)
{
  HttpdConnection *self = user_data;

  httpd_server_answer (self->server, self, message, path);
}

/* If libsoup closes the connection now, TLS waits until there is room for its farewell. */
static void
on_request_end (HttpdConnection *self)
{
  httpd_server_count_request (self->server);
  gaio_timer_arm (self->idle, httpd_server_get_timeout (self->server));
  if (!g_socket_is_closed (self->socket) && g_socket_condition_check (self->socket, G_IO_OUT) == 0)
    g_socket_shutdown (self->socket, TRUE, TRUE, NULL);
  watch (self);
}

/* --- The beginning --- */

static SoupServer *
create_soup (HttpdConnection *self)
{
  SoupServer *soup = soup_server_new ("server-header", SERVER_NAME, NULL);

  soup_server_add_handler (soup, NULL, on_request, self, NULL);
  g_signal_connect_swapped (soup, "request-finished", G_CALLBACK (on_request_end), self);
  g_signal_connect_swapped (soup, "request-aborted", G_CALLBACK (on_request_end), self);
  return soup;
}

/* libsoup keeps a connection alive only while it listens somewhere: so it listens to this socket,
 * to which nobody will connect. */
static void
serve (HttpdConnection *self, GIOStream *stream)
{
  g_autoptr (GSocketAddress) local = g_socket_get_local_address (self->socket, NULL);
  g_autoptr (GSocketAddress) remote = g_socket_get_remote_address (self->socket, NULL);

  self->soup = create_soup (self);
  if (local == NULL || remote == NULL ||
      !soup_server_listen_socket (self->soup, self->socket, 0, NULL))
    {
      connection_free (self);
      return;
    }
  watch (self);
  soup_server_accept_iostream (self->soup, stream, local, remote, NULL);
}

static void
on_handshake (GObject *tls, GAsyncResult *result, gpointer user_data)
{
  HttpdConnection *self = user_data;

  if (g_tls_connection_handshake_finish (G_TLS_CONNECTION (tls), result, NULL))
    serve (self, G_IO_STREAM (tls));
  else
    connection_free (self);
}

/* Without a database: glib-networking would load all certificates that the system trusts, for each
 * connection, to check those of clients, of which we ask none. */
static void
begin_handshake (HttpdConnection *self, GTlsCertificate *certificate)
{
  GType type = g_tls_backend_get_server_connection_type (g_tls_backend_get_default ());
  g_autoptr (GTlsConnection) tls =
      g_initable_new (type, NULL, NULL, "base-io-stream", self->stream, "certificate", certificate,
                      "database", NULL, "require-close-notify", FALSE, NULL);

  if (tls != NULL)
    g_tls_connection_handshake_async (tls, G_PRIORITY_DEFAULT, NULL, on_handshake, self);
  else
    connection_free (self);
}

/* Serves a client until it goes, or is idle too long. */
void
httpd_connection_start (HttpdServer *server, GSocketConnection *stream)
{
  GTlsCertificate *certificate = httpd_server_get_certificate (server);
  HttpdConnection *self = g_new0 (HttpdConnection, 1);

  self->server = server;
  self->stream = g_object_ref (stream);
  self->socket = g_socket_connection_get_socket (stream);
  self->idle = gaio_context_add_timer (gaio_context_get_default (), on_idle, self, NULL);
  gaio_timer_arm (self->idle, httpd_server_get_timeout (server));
  httpd_server_remember (server, self);
  if (certificate != NULL)
    begin_handshake (self, certificate);
  else
    serve (self, G_IO_STREAM (stream));
}
