/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GaioSocketService: each story over a context alone and under GLib. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <gio/gio.h>

#include "test-serve.h"

#define N_CLIENTS 8

typedef struct
{
  Stage stage;
  GSocketService *service;
  guint16 port;
  gint clients[N_CLIENTS];
  guint n_clients;
  GPtrArray *connections;   /* that were told of */
  GPtrArray *main_contexts; /* what was the thread-default one then */
  GObject *source_object;
  gboolean refuses;
} Server;

static void
keep_connection (GSocketService *service,
                 GSocketConnection *connection,
                 GObject *source_object,
                 Server *server)
{
  GMainContext *main_context = g_main_context_get_thread_default ();

  g_assert_true (service == server->service);
  g_assert_true (G_IS_SOCKET_CONNECTION (connection));
  g_assert_true (g_main_context_is_owner (main_context));
  server->source_object = source_object;
  g_ptr_array_add (server->connections, g_object_ref (connection));
  g_ptr_array_add (server->main_contexts, g_main_context_ref (main_context));
}

static gboolean
refuse (GSocketService *service,
        GSocketConnection *connection,
        GObject *source_object,
        Server *server)
{
  return server->refuses;
}

static guint16
listen_on (GSocketService *service, GObject *source_object)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GInetAddress) loopback = g_inet_address_new_loopback (G_SOCKET_FAMILY_IPV4);
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new (loopback, 0);
  g_autoptr (GSocketAddress) bound = NULL;

  g_socket_listener_add_address (G_SOCKET_LISTENER (service), address, G_SOCKET_TYPE_STREAM,
                                 G_SOCKET_PROTOCOL_TCP, source_object, &bound, &error);
  g_assert_no_error (error);
  return g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (bound));
}

static void
server_begin (Server *server, gconstpointer nested)
{
  *server = (Server){ .connections = g_ptr_array_new_with_free_func (g_object_unref) };
  server->main_contexts = g_ptr_array_new_with_free_func ((GDestroyNotify) g_main_context_unref);
  stage_begin (&server->stage, nested);
  server->service = gaio_socket_service_new (server->stage.context);
  g_signal_connect (server->service, "incoming", G_CALLBACK (refuse), server);
  g_signal_connect (server->service, "connection", G_CALLBACK (keep_connection), server);
  server->port = listen_on (server->service, NULL);
}

static void
let_connections_go (Server *server)
{
  g_ptr_array_set_size (server->connections, 0);
  g_ptr_array_set_size (server->main_contexts, 0);
}

static void
server_end (Server *server)
{
  GObject *service = G_OBJECT (server->service);

  for (guint i = 0; i < server->n_clients; i++)
    close (server->clients[i]);
  g_ptr_array_unref (server->connections);
  g_ptr_array_unref (server->main_contexts);
  if (service != NULL)
    {
      g_object_add_weak_pointer (service, (gpointer *) &server->service);
      g_socket_service_stop (server->service);
      g_object_unref (service);
      until (&server->stage, server->service == NULL);
    }
  stage_end (&server->stage);
}

static void
connect_client_to (Server *server, guint16 port)
{
  struct sockaddr_in address = { .sin_family = AF_INET,
                                 .sin_port = htons (port),
                                 .sin_addr = { htonl (INADDR_LOOPBACK) } };
  gint fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  g_assert_cmpint (fd, >=, 0);
  while (connect (fd, (struct sockaddr *) &address, sizeof address) == -1 && errno != EISCONN)
    g_assert_true (errno == EINTR || errno == EALREADY);
  g_assert_cmpuint (server->n_clients, <, N_CLIENTS);
  server->clients[server->n_clients++] = fd;
}

static void
connect_client (Server *server)
{
  connect_client_to (server, server->port);
}

/* The service itself has two, and the stage one. */
static guint
count_connections (Server *server)
{
  return count_served (&server->stage) - 3;
}

/* --- Connections --- */

static void
test_own_main_context (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  connect_client (&server);
  connect_client (&server);
  until (&server.stage, server.connections->len == 2);
  g_assert_true (server.main_contexts->pdata[0] != server.main_contexts->pdata[1]);
  g_assert_true (server.main_contexts->pdata[0] != server.stage.outer);
  server_end (&server);
}

static void
test_main_context_goes_with_the_connection (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  connect_client (&server);
  connect_client (&server);
  until (&server.stage, server.connections->len == 2);
  g_assert_cmpuint (count_connections (&server), ==, 2);
  let_connections_go (&server);
  until (&server.stage, count_connections (&server) == 0);
  server_end (&server);
}

static void
have_read (GObject *stream, GAsyncResult *result, gpointer data)
{
  g_autoptr (GSocketConnection) connection = data;
  g_autoptr (GBytes) bytes = NULL;
  GMainContext *main_context = g_object_get_data (G_OBJECT (connection), "main-context");

  g_assert_true (g_main_context_get_thread_default () == main_context);
  bytes = g_input_stream_read_bytes_finish (G_INPUT_STREAM (stream), result, NULL);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 5);
}

static void
read_some (GSocketService *service,
           GSocketConnection *connection,
           GObject *source_object,
           gpointer data)
{
  g_object_set_data (G_OBJECT (connection), "main-context", g_main_context_get_thread_default ());
  g_input_stream_read_bytes_async (g_io_stream_get_input_stream (G_IO_STREAM (connection)), 10,
                                   G_PRIORITY_DEFAULT, NULL, have_read, g_object_ref (connection));
}

static void
test_begun_completes_there (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  g_signal_handlers_disconnect_by_data (server.service, &server);
  g_signal_connect (server.service, "connection", G_CALLBACK (read_some), NULL);
  connect_client (&server);
  until (&server.stage, count_connections (&server) == 1);
  g_assert_cmpint (write (server.clients[0], "hello", 5), ==, 5);
  until (&server.stage, count_connections (&server) == 0);
  g_assert_cmpint (read (server.clients[0], &(char){ 0 }, 1), ==, 0);
  server_end (&server);
}

static void
have_read_alone (GObject *stream, GAsyncResult *result, gpointer data)
{
  g_autoptr (GBytes) bytes = NULL;

  bytes = g_input_stream_read_bytes_finish (G_INPUT_STREAM (stream), result, NULL);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 5);
  ++*(guint *) data;
}

static void
read_without_reference (GSocketService *service,
                        GSocketConnection *connection,
                        GObject *source_object,
                        gpointer data)
{
  g_input_stream_read_bytes_async (g_io_stream_get_input_stream (G_IO_STREAM (connection)), 10,
                                   G_PRIORITY_DEFAULT, NULL, have_read_alone, data);
}

/* The stream that is read from holds the socket, but not the connection. */
static void
test_read_outlives_the_connection (gconstpointer nested)
{
  Server server;
  guint calls = 0;

  server_begin (&server, nested);
  g_signal_handlers_disconnect_by_data (server.service, &server);
  g_signal_connect (server.service, "connection", G_CALLBACK (read_without_reference), &calls);
  connect_client (&server);
  until (&server.stage, count_connections (&server) == 1);
  g_assert_cmpint (write (server.clients[0], "hello", 5), ==, 5);
  until (&server.stage, calls == 1);
  until (&server.stage, count_connections (&server) == 0);
  server_end (&server);
}

static void
test_nobody_keeps_it (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  g_signal_handlers_disconnect_by_data (server.service, &server);
  connect_client (&server);
  fcntl (server.clients[0], F_SETFL, O_NONBLOCK);
  until (&server.stage, read (server.clients[0], &(char){ 0 }, 1) == 0);
  until (&server.stage, count_connections (&server) == 0);
  server_end (&server);
}

static void
test_source_object (gconstpointer nested)
{
  Server server;
  g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);

  server_begin (&server, nested);
  connect_client_to (&server, listen_on (server.service, object));
  until (&server.stage, server.connections->len == 1);
  g_assert_true (server.source_object == object);
  server_end (&server);
}

static void
test_more_sockets (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  connect_client (&server);
  until (&server.stage, server.connections->len == 1);
  connect_client_to (&server, listen_on (server.service, NULL));
  until (&server.stage, server.connections->len == 2);
  connect_client (&server);
  until (&server.stage, server.connections->len == 3);
  server_end (&server);
}

static void
keep_socket (GSocketListener *listener, GSocketListenerEvent event, GSocket *socket, gpointer data)
{
  if (event == G_SOCKET_LISTENER_LISTENED)
    g_set_object ((GSocket **) data, socket);
}

/* Or a turn would wait for a client that another process has accepted. */
static void
test_accept_never_waits (gconstpointer nested)
{
  Server server;
  g_autoptr (GSocket) socket = NULL;

  server_begin (&server, nested);
  g_signal_connect (server.service, "event", G_CALLBACK (keep_socket), &socket);
  listen_on (server.service, NULL);
  g_assert_nonnull (socket);
  g_assert_false (g_socket_get_blocking (socket));
  server_end (&server);
}

static void
test_all_that_wait (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  settle (&server.stage);
  for (guint i = 0; i < N_CLIENTS; i++)
    connect_client (&server);
  until (&server.stage, server.connections->len > 0);
  g_assert_cmpuint (server.connections->len, ==, N_CLIENTS);
  server_end (&server);
}

/* Both are ready in the same turn. */
static void
test_several_sockets (gconstpointer nested)
{
  Server server;
  guint16 other;

  server_begin (&server, nested);
  other = listen_on (server.service, NULL);
  settle (&server.stage);
  for (guint i = 0; i < N_CLIENTS; i++)
    connect_client_to (&server, i % 2 == 0 ? server.port : other);
  until (&server.stage, server.connections->len == N_CLIENTS);
  server_end (&server);
}

static void
work_for_long (void)
{
  gint64 since = g_get_monotonic_time ();

  while (g_get_monotonic_time () - since < 1000)
    ;
}

static void
check_one_at_a_time (gconstpointer nested, guint max_callbacks, gint64 max_time_us)
{
  Server server;

  server_begin (&server, nested);
  g_signal_connect (server.service, "connection", G_CALLBACK (work_for_long), NULL);
  gaio_context_set_dispatch_limits (server.stage.context, max_callbacks, max_time_us);
  settle (&server.stage);
  for (guint i = 0; i < N_CLIENTS; i++)
    connect_client (&server);
  until (&server.stage, server.connections->len > 0);
  g_assert_cmpuint (server.connections->len, ==, 1);
  until (&server.stage, server.connections->len == N_CLIENTS);
  server_end (&server);
}

static void
test_dispatch_limits (gconstpointer nested)
{
  check_one_at_a_time (nested, 1, 0);
  check_one_at_a_time (nested, 0, 1);
}

static void
test_incoming_may_refuse (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  server.refuses = TRUE;
  connect_client (&server);
  fcntl (server.clients[0], F_SETFL, O_NONBLOCK);
  until (&server.stage, read (server.clients[0], &(char){ 0 }, 1) == 0);
  g_assert_cmpuint (server.connections->len, ==, 0);
  server.refuses = FALSE;
  connect_client (&server);
  until (&server.stage, server.connections->len == 1);
  server_end (&server);
}

/* --- Main contexts that are used again --- */

/* The main context of a connection that comes and goes: a number, as it may not exist any more. */
static guintptr
come_and_go (Server *server)
{
  guintptr number;

  connect_client (server);
  until (&server->stage, server->connections->len == 1);
  number = (guintptr) server->main_contexts->pdata[0];
  let_connections_go (server);
  close (server->clients[--server->n_clients]);
  until (&server->stage, count_connections (server) == 0);
  return number;
}

/* One is in use, one is ready for the next connection, one is spare. */
static void
test_used_again (gconstpointer nested)
{
  Server server;
  guintptr three[3];

  server_begin (&server, nested);
  for (guint i = 0; i < G_N_ELEMENTS (three); i++)
    three[i] = come_and_go (&server);
  for (guint i = 0; i < 10; i++)
    {
      guintptr number = come_and_go (&server);

      g_assert_true (number == three[0] || number == three[1] || number == three[2]);
    }
  server_end (&server);
}

static void
attach_timeout (GSocketService *service,
                GSocketConnection *connection,
                GObject *source_object,
                gpointer source)
{
  g_source_attach (source, g_main_context_get_thread_default ());
  g_signal_handlers_disconnect_by_data (service, source);
}

/* What is attached to one must not go on in another. */
static void
test_not_used_again_with_sources (gconstpointer nested)
{
  Server server;
  g_autoptr (GSource) source = g_timeout_source_new_seconds (3600);

  server_begin (&server, nested);
  g_signal_connect (server.service, "connection", G_CALLBACK (attach_timeout), source);
  come_and_go (&server);
  g_assert_true (g_source_is_destroyed (source));
  server_end (&server);
}

static gboolean
not_reached (gpointer data)
{
  g_assert_not_reached ();
}

/* The main context of a connection that has gone, which would be the next but one. */
static GMainContext *
ref_spare (Server *server)
{
  GMainContext *main_context;

  connect_client (server);
  until (&server->stage, server->connections->len == 1);
  main_context = g_main_context_ref (server->main_contexts->pdata[0]);
  let_connections_go (server);
  until (&server->stage, count_connections (server) == 0);
  settle (&server->stage);
  return main_context;
}

/* Whoever has kept a reference must not disturb the next connection. */
static void
test_not_used_again_when_touched (gconstpointer nested)
{
  Server server;
  g_autoptr (GMainContext) spare = NULL;
  g_autoptr (GSource) source = g_idle_source_new ();

  server_begin (&server, nested);
  spare = ref_spare (&server);
  g_source_set_callback (source, not_reached, NULL, NULL);
  g_source_attach (source, spare);
  for (guint i = 1; i < 4; i++)
    {
      connect_client (&server);
      until (&server.stage, server.connections->len == i);
      g_assert_true (server.main_contexts->pdata[i - 1] != spare);
    }
  settle (&server.stage);
  server_end (&server);
}

static gpointer
own (gpointer main_context)
{
  g_assert_true (g_main_context_acquire (main_context));
  return NULL;
}

static void
test_not_used_again_when_owned (gconstpointer nested)
{
  Server server;
  g_autoptr (GMainContext) spare = NULL;

  server_begin (&server, nested);
  spare = ref_spare (&server);
  g_thread_join (g_thread_new ("owner", own, spare));
  for (guint i = 1; i < 4; i++)
    {
      connect_client (&server);
      until (&server.stage, server.connections->len == i);
      g_assert_true (server.main_contexts->pdata[i - 1] != spare);
    }
  server_end (&server);
}

static void
stop_serving_first (Server *server)
{
  gaio_context_stop_serving (server->stage.context, server->main_contexts->pdata[0]);
}

/* In a turn of its main context. */
static gboolean
take_away_before (gpointer data)
{
  stop_serving_first (data);
  g_ptr_array_set_size (((Server *) data)->connections, 0);
  return G_SOURCE_REMOVE;
}

static gboolean
take_away_after (gpointer data)
{
  g_ptr_array_set_size (((Server *) data)->connections, 0);
  stop_serving_first (data);
  return G_SOURCE_REMOVE;
}

static void
check_not_used_again_when_taken_away (gconstpointer nested, GSourceFunc take_away)
{
  Server server;

  server_begin (&server, nested);
  connect_client (&server);
  until (&server.stage, server.connections->len == 1);
  attach_idle (server.main_contexts->pdata[0], 0, take_away, &server);
  until (&server.stage, count_connections (&server) == 0);
  settle (&server.stage);
  for (guint i = 1; i < 4; i++)
    {
      connect_client (&server);
      until (&server.stage, server.connections->len == i);
      g_assert_true (server.main_contexts->pdata[i] != server.main_contexts->pdata[0]);
    }
  server_end (&server);
}

/* It is the program's, which may iterate it. */
static void
test_not_used_again_when_taken_away (gconstpointer nested)
{
  check_not_used_again_when_taken_away (nested, take_away_before);
  check_not_used_again_when_taken_away (nested, take_away_after);
}

static void
use_context (gpointer context)
{
  g_assert_true (gaio_context_is_closed (context));
  g_variant_unref (gaio_context_dup_stats (context));
}

static void
test_spare_destroyed_without_the_lock (gconstpointer nested)
{
  Server server;
  GMainContext *spare;
  g_autoptr (GSource) source = g_idle_source_new ();

  server_begin (&server, nested);
  spare = ref_spare (&server);
  g_source_set_callback (source, not_reached, server.stage.context, use_context);
  g_source_attach (source, spare);
  g_main_context_unref (spare);
  gaio_context_close (server.stage.context);
  g_assert_true (g_source_is_destroyed (source));
  server_end (&server);
}

/* --- Stop and start --- */

static void
test_stopped_lets_clients_wait (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  settle (&server.stage);
  g_socket_service_stop (server.service);
  settle (&server.stage);
  connect_client (&server);
  settle (&server.stage);
  g_assert_cmpuint (server.connections->len, ==, 0);
  g_socket_service_start (server.service);
  until (&server.stage, server.connections->len == 1);
  server_end (&server);
}

static void
stop_at_once (GSocketService *service,
              GSocketConnection *connection,
              GObject *source_object,
              Server *server)
{
  g_socket_service_stop (service);
}

static void
test_stopped_by_a_handler (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  g_signal_connect (server.service, "connection", G_CALLBACK (stop_at_once), &server);
  connect_client (&server);
  connect_client (&server);
  until (&server.stage, server.connections->len == 1);
  settle (&server.stage);
  g_assert_cmpuint (server.connections->len, ==, 1);
  g_socket_service_start (server.service);
  until (&server.stage, server.connections->len == 2);
  server_end (&server);
}

/* The base class would accept here, in the main context of whoever starts it. */
static void
test_starts_where_it_was (gconstpointer nested)
{
  Server server;
  g_autoptr (GMainContext) elsewhere = g_main_context_new ();

  server_begin (&server, nested);
  settle (&server.stage);
  g_main_context_push_thread_default (elsewhere);
  g_socket_service_stop (server.service);
  settle (&server.stage);
  g_socket_service_start (server.service);
  connect_client (&server);
  g_assert_false (g_main_context_iteration (elsewhere, FALSE));
  g_main_context_pop_thread_default (elsewhere);
  until (&server.stage, server.connections->len == 1);
  server_end (&server);
}

static void
test_made_inactive (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  g_socket_service_stop (server.service);
  g_object_unref (server.service);
  server.service = g_object_new (GAIO_TYPE_SOCKET_SERVICE, "context", server.stage.context,
                                 "active", FALSE, NULL);
  g_signal_connect (server.service, "connection", G_CALLBACK (keep_connection), &server);
  server.port = listen_on (server.service, NULL);
  g_assert_false (g_socket_service_is_active (server.service));
  connect_client (&server);
  settle (&server.stage);
  g_assert_cmpuint (server.connections->len, ==, 0);
  g_socket_service_start (server.service);
  until (&server.stage, server.connections->len == 1);
  server_end (&server);
}

static void
test_listener_closed (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  connect_client (&server);
  until (&server.stage, server.connections->len == 1);
  g_socket_service_stop (server.service);
  g_socket_listener_close (G_SOCKET_LISTENER (server.service));
  settle (&server.stage);
  g_socket_service_start (server.service);
  settle (&server.stage);
  server_end (&server);
}

/* --- Its life --- */

static void
test_unref_of_one_that_never_listened (gconstpointer nested)
{
  Stage stage;
  GSocketService *service;

  stage_begin (&stage, nested);
  service = gaio_socket_service_new (stage.context);
  g_object_add_weak_pointer (G_OBJECT (service), (gpointer *) &service);
  g_object_unref (service);
  g_assert_null (service);
  stage_end (&stage);
}

static void
test_unref_keeps_it_alive (gconstpointer nested)
{
  Server server;
  GSocketService *service;

  server_begin (&server, nested);
  service = g_steal_pointer (&server.service);
  g_object_add_weak_pointer (G_OBJECT (service), (gpointer *) &service);
  g_object_unref (service);
  g_assert_nonnull (service);
  connect_client (&server);
  server.service = service;
  until (&server.stage, server.connections->len == 1);
  server.service = NULL;
  g_socket_service_stop (service);
  until (&server.stage, service == NULL);
  server_end (&server);
}

static void
test_stop_of_one_that_never_ran (gconstpointer nested)
{
  Server server;
  GSocketService *service;

  server_begin (&server, nested);
  service = g_steal_pointer (&server.service);
  g_object_add_weak_pointer (G_OBJECT (service), (gpointer *) &service);
  g_socket_service_stop (service);
  g_object_unref (service);
  g_assert_null (service);
  server_end (&server);
}

static gpointer
unref_it (gpointer object)
{
  g_object_unref (object);
  return NULL;
}

static void
test_unref_by_another_thread (gconstpointer nested)
{
  Server server;
  GSocketService *service;

  server_begin (&server, nested);
  settle (&server.stage);
  service = g_steal_pointer (&server.service);
  g_socket_service_stop (service);
  settle (&server.stage);
  g_object_add_weak_pointer (G_OBJECT (service), (gpointer *) &service);
  g_thread_join (g_thread_new ("unref", unref_it, service));
  g_assert_null (service);
  server_end (&server);
}

static void
test_context_closed (gconstpointer nested)
{
  Server server;
  GSocketService *service;

  server_begin (&server, nested);
  connect_client (&server);
  until (&server.stage, server.connections->len == 1);
  gaio_context_close (server.stage.context);
  service = g_steal_pointer (&server.service);
  g_assert_false (g_socket_service_is_active (service));
  g_socket_service_start (service);
  g_assert_false (g_socket_service_is_active (service));
  g_object_add_weak_pointer (G_OBJECT (service), (gpointer *) &service);
  g_object_unref (service);
  g_assert_null (service);
  server_end (&server);
}

static void
test_made_on_a_closed_context (gconstpointer nested)
{
  Stage stage;
  GSocketService *service;

  stage_begin (&stage, nested);
  gaio_context_close (stage.context);
  service = gaio_socket_service_new (stage.context);
  listen_on (service, NULL);
  g_object_add_weak_pointer (G_OBJECT (service), (gpointer *) &service);
  g_object_unref (service);
  g_assert_null (service);
  stage_end (&stage);
}

static void
test_default_context (void)
{
  g_autoptr (GMainContext) main_context = g_main_context_new ();
  g_autoptr (GaioContext) context = NULL;
  g_autoptr (GSocketService) service = NULL;

  g_main_context_push_thread_default (main_context);
  service = gaio_socket_service_new (NULL);
  context = gaio_context_ref_thread_default ();
  g_main_context_pop_thread_default (main_context);
  g_assert_true (gaio_socket_service_get_context (GAIO_SOCKET_SERVICE (service)) == context);
}

/* --- Limits --- */

static guint64
count_rounds (Server *server)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (server->stage.context);
  guint64 n = 0;

  g_assert_true (g_variant_lookup (stats, "rounds", "t", &n));
  return n;
}

/* Takes all fds but @n_left. */
static GArray *
take_fds (guint n_left)
{
  GArray *fds = g_array_new (FALSE, FALSE, sizeof (gint));
  struct rlimit limit;
  gint fd;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 300;
  setrlimit (RLIMIT_NOFILE, &limit);
  while ((fd = eventfd (0, EFD_CLOEXEC)) != -1)
    g_array_append_val (fds, fd);
  for (; n_left > 0; n_left--)
    {
      close (g_array_index (fds, gint, fds->len - 1));
      g_array_set_size (fds, fds->len - 1);
    }
  return fds;
}

static void
give_fds_back (GArray *fds, struct rlimit *limit)
{
  for (guint i = 0; i < fds->len; i++)
    close (g_array_index (fds, gint, i));
  g_array_unref (fds);
  setrlimit (RLIMIT_NOFILE, limit);
}

static void
run_for (Server *server, gint64 us)
{
  guint over = 0;
  GaioTimer *timer = gaio_context_add_timer (server->stage.context, count_once, &over, NULL);

  gaio_timer_arm (timer, us);
  until (&server->stage, over == 1);
  gaio_clear_timer (&timer);
}

static void
count_warning (const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
  g_assert_true (g_str_has_prefix (message, "Cannot accept connections: "));
  ++*(guint *) data;
}

static gboolean
is_fatal (const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
  return FALSE;
}

/* @n_left fds are left when a client comes: none of the cases may spin, and none may lose it. */
static void
run_out_of_fds (Server *server, guint n_left, guint n_warnings)
{
  struct rlimit limit;
  GArray *fds;
  guint64 rounds;
  guint n = server->connections->len, warnings = 0, handler;

  getrlimit (RLIMIT_NOFILE, &limit);
  g_test_message ("%u fds are left", n_left);
  connect_client (server);
  fds = take_fds (n_left);
  g_test_log_set_fatal_handler (is_fatal, NULL);
  handler =
      g_log_set_handler ("Gaio", G_LOG_LEVEL_WARNING | G_LOG_FLAG_FATAL, count_warning, &warnings);
  until (&server->stage, warnings == n_warnings);
  rounds = count_rounds (server);
  run_for (server, 350000);
  g_assert_cmpuint (warnings, ==, n_warnings);
  /* A few for each time that it tries again, and the sweep's. */
  g_assert_cmpuint (count_rounds (server) - rounds, <, 60);
  g_assert_cmpuint (server->connections->len, <=, n + 1);
  give_fds_back (fds, &limit);
  g_log_remove_handler ("Gaio", handler);
  until (&server->stage, server->connections->len == n + 1);
}

static void
test_no_fd_left (gconstpointer nested)
{
  Server server;

  if (!test_may_open (400))
    return;
  for (guint n_left = 0; n_left < 3; n_left++)
    {
      server_begin (&server, nested);
      connect_client (&server);
      until (&server.stage, server.connections->len == 1);
      run_out_of_fds (&server, n_left, 1);
      /* It has only just been able to accept. */
      run_out_of_fds (&server, n_left, 0);
      server_end (&server);
    }
}

static void
test_no_fd_left_from_the_start (gconstpointer nested)
{
  Server server;

  if (!test_may_open (400))
    return;
  server_begin (&server, nested);
  run_out_of_fds (&server, 0, 1);
  server_end (&server);
}

static void
test_backlog (gconstpointer nested)
{
  Server server;

  server_begin (&server, nested);
  for (guint i = 0; i < N_CLIENTS; i++)
    connect_client (&server);
  until (&server.stage, server.connections->len == N_CLIENTS);
  server_end (&server);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/socket-service/each-connection-has-a-main-context", test_own_main_context);
  add_both ("/socket-service/main-context-goes-with-the-connection",
            test_main_context_goes_with_the_connection);
  add_both ("/socket-service/what-a-handler-begins-completes-there", test_begun_completes_there);
  add_both ("/socket-service/read-outlives-the-connection", test_read_outlives_the_connection);
  add_both ("/socket-service/what-nobody-keeps-is-closed", test_nobody_keeps_it);
  add_both ("/socket-service/source-object", test_source_object);
  add_both ("/socket-service/all-that-wait-are-accepted-in-one-turn", test_all_that_wait);
  add_both ("/socket-service/several-sockets-lose-nobody", test_several_sockets);
  add_both ("/socket-service/accepts-no-more-than-the-dispatch-limits", test_dispatch_limits);
  add_both ("/socket-service/accept-never-waits", test_accept_never_waits);
  add_both ("/socket-service/more-sockets-while-active", test_more_sockets);
  add_both ("/socket-service/incoming-may-refuse", test_incoming_may_refuse);
  add_both ("/socket-service/backlog", test_backlog);
  add_both ("/socket-service/main-contexts-are-used-again", test_used_again);
  add_both ("/socket-service/not-used-again-with-sources", test_not_used_again_with_sources);
  add_both ("/socket-service/not-used-again-when-touched", test_not_used_again_when_touched);
  add_both ("/socket-service/not-used-again-when-owned", test_not_used_again_when_owned);
  add_both ("/socket-service/not-used-again-when-taken-away", test_not_used_again_when_taken_away);
  add_both ("/socket-service/spare-destroyed-without-the-lock",
            test_spare_destroyed_without_the_lock);
  add_both ("/socket-service/stopped-lets-clients-wait", test_stopped_lets_clients_wait);
  add_both ("/socket-service/stopped-by-a-handler", test_stopped_by_a_handler);
  add_both ("/socket-service/accepts-in-its-context-wherever-started", test_starts_where_it_was);
  add_both ("/socket-service/made-inactive", test_made_inactive);
  add_both ("/socket-service/listener-closed", test_listener_closed);
  add_both ("/socket-service/unref-of-one-that-never-listened",
            test_unref_of_one_that_never_listened);
  add_both ("/socket-service/keeps-itself-alive-from-the-start", test_unref_keeps_it_alive);
  add_both ("/socket-service/stop-of-one-that-never-ran", test_stop_of_one_that_never_ran);
  add_both ("/socket-service/unref-by-another-thread", test_unref_by_another_thread);
  add_both ("/socket-service/context-closed", test_context_closed);
  add_both ("/socket-service/made-on-a-closed-context", test_made_on_a_closed_context);
  g_test_add_func ("/socket-service/default-context", test_default_context);
  add_both ("/socket-service/no-fd-left-neither-spins-nor-loses", test_no_fd_left);
  add_both ("/socket-service/no-fd-left-from-the-start", test_no_fd_left_from_the_start);
  return g_test_run ();
}
