/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "connection.h"
#include "figures.h"
#include "subscribers.h"

/* Clients that wait for us to accept them. The kernel has a limit of its own. */
#define BACKLOG 4096
#define PAGE "/org/gaio/HttpDaemon/page.html"
/* The page has its style and its script inside, and asks nobody else for anything. */
#define POLICY                                                                                     \
  "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; "            \
  "style-src 'unsafe-inline'"

struct _HttpdServer
{
  HttpdSettings settings;
  GSocketService *service;
  GHashTable *connections; /* a set of HttpdConnection */
  gint n_streams;          /* of connections; atomic */
  guint64 n_requests;
  GBytes *page;
  GaioTimer *tick;
  HttpdFigures *figures;
  HttpdSubscribers *subscribers;
};

/* --- What clients get --- */

static void
answer_error (SoupServerMessage *message, guint status)
{
  g_autofree char *text = g_strdup_printf ("%s\n", soup_status_get_phrase (status));

  soup_server_message_set_status (message, status, NULL);
  soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_COPY, text, strlen (text));
}

static void
answer_page (HttpdServer *self, SoupServerMessage *message)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message);

  soup_message_headers_set_content_type (headers, "text/html; charset=utf-8", NULL);
  soup_message_headers_append (headers, "Content-Security-Policy", POLICY);
  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_message_body_append_bytes (soup_server_message_get_response_body (message), self->page);
}

static void
answer_events (HttpdServer *self, HttpdConnection *connection, SoupServerMessage *message)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message);

  soup_message_headers_set_content_type (headers, "text/event-stream", NULL);
  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  if (soup_server_message_get_method (message) != SOUP_METHOD_GET)
    return;
  httpd_connection_stay (connection);
  httpd_subscribers_add (self->subscribers, message, httpd_connection_get_socket (connection));
}

void
httpd_server_answer (HttpdServer *self,
                     HttpdConnection *connection,
                     SoupServerMessage *message,
                     const char *path)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message);
  const char *method = soup_server_message_get_method (message);

  soup_message_headers_append (headers, "Cache-Control", "no-cache");
  if (method != SOUP_METHOD_GET && method != SOUP_METHOD_HEAD)
    {
      soup_message_headers_append (headers, "Allow", "GET, HEAD");
      answer_error (message, SOUP_STATUS_METHOD_NOT_ALLOWED);
    }
  else if (g_str_equal (path, "/"))
    answer_page (self, message);
  else if (g_str_equal (path, "/events"))
    answer_events (self, connection, message);
  else
    answer_error (message, SOUP_STATUS_NOT_FOUND);
}

void
httpd_server_count_request (HttpdServer *self)
{
  self->n_requests++;
}

static gboolean
on_tick (gpointer user_data)
{
  HttpdServer *self = user_data;
  HttpdCounts counts = { g_hash_table_size (self->connections),
                         httpd_subscribers_count (self->subscribers), self->n_requests };
  g_autoptr (GBytes) event = httpd_figures_next_event (self->figures, &counts);

  httpd_subscribers_tell (self->subscribers, event);
  return G_SOURCE_CONTINUE;
}

/* --- Connections --- */

GTlsCertificate *
httpd_server_get_certificate (HttpdServer *self)
{
  return self->settings.certificate;
}

gint64
httpd_server_get_timeout (HttpdServer *self)
{
  return self->settings.timeout_us;
}

void
httpd_server_remember (HttpdServer *self, HttpdConnection *connection)
{
  g_hash_table_add (self->connections, connection);
}

void
httpd_server_forget (HttpdServer *self, HttpdConnection *connection)
{
  g_hash_table_remove (self->connections, connection);
}

/* The thread in which a handshake was made may be the last that uses a stream. */
static void
on_stream_gone (gpointer user_data, GObject *stream)
{
  HttpdServer *self = user_data;

  g_atomic_int_add (&self->n_streams, -1);
  g_main_context_wakeup (NULL);
}

static void
on_connection (GaioSocketService *service,
               GSocketConnection *stream,
               GObject *source_object,
               HttpdServer *self)
{
  g_socket_set_option (g_socket_connection_get_socket (stream), IPPROTO_TCP, TCP_NODELAY, TRUE,
                       NULL);
  g_atomic_int_inc (&self->n_streams);
  g_object_weak_ref (G_OBJECT (stream), on_stream_gone, self);
  httpd_connection_start (self, stream);
}

static void
end_connections (HttpdServer *self)
{
  g_autofree gpointer *connections = g_hash_table_get_keys_as_array (self->connections, NULL);

  for (guint i = 0; connections[i] != NULL; i++)
    httpd_connection_end (connections[i]);
  while (g_atomic_int_get (&self->n_streams) > 0)
    g_main_context_iteration (NULL, TRUE);
}

/* --- The server --- */

static GSocket *
listen_at (guint16 port, GError **error)
{
  g_autoptr (GInetAddress) loopback = g_inet_address_new_loopback (G_SOCKET_FAMILY_IPV4);
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new (loopback, port);
  g_autoptr (GSocket) socket =
      g_socket_new (G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, error);

  if (socket == NULL)
    return NULL;
  g_socket_set_listen_backlog (socket, BACKLOG);
  if (!g_socket_bind (socket, address, TRUE, error) || !g_socket_listen (socket, error))
    return NULL;
  return g_steal_pointer (&socket);
}

static gboolean
start (HttpdServer *self, GError **error)
{
  g_autoptr (GSocket) socket = listen_at (self->settings.port, error);
  g_autoptr (GSocketAddress) address = NULL;

  if (socket == NULL ||
      !g_socket_listener_add_socket (G_SOCKET_LISTENER (self->service), socket, NULL, error))
    return FALSE;
  address = g_socket_get_local_address (socket, error);
  if (address == NULL)
    return FALSE;
  self->settings.port = g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (address));
  return TRUE;
}

HttpdServer *
httpd_server_new (const HttpdSettings *settings, GError **error)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (HttpdServer) self = g_new0 (HttpdServer, 1);

  self->settings = *settings;
  self->connections = g_hash_table_new (NULL, NULL);
  self->page = g_resources_lookup_data (PAGE, 0, NULL);
  self->figures = httpd_figures_new (context);
  self->subscribers = httpd_subscribers_new (context);
  self->tick = gaio_context_add_timeout (context, settings->interval_us, on_tick, self, NULL);
  self->service = gaio_socket_service_new (context);
  g_signal_connect (self->service, "connection", G_CALLBACK (on_connection), self);
  if (!start (self, error))
    return NULL;
  return g_steal_pointer (&self);
}

char *
httpd_server_dup_uri (HttpdServer *self)
{
  const char *scheme = self->settings.certificate != NULL ? "https" : "http";

  return g_strdup_printf ("%s://127.0.0.1:%u/", scheme, self->settings.port);
}

/* Cuts off whoever is still connected. */
void
httpd_server_free (HttpdServer *self)
{
  g_socket_service_stop (self->service);
  g_socket_listener_close (G_SOCKET_LISTENER (self->service));
  gaio_clear_timer (&self->tick);
  end_connections (self);
  g_object_unref (self->service);
  httpd_subscribers_free (self->subscribers);
  httpd_figures_free (self->figures);
  g_bytes_unref (self->page);
  g_hash_table_unref (self->connections);
  g_clear_object (&self->settings.certificate);
  g_free (self);
}
