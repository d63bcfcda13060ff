/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

/* Only the newest client stays. */
typedef struct
{
  GaioContext *context;
  GIOStream *stream;          /* of the newest */
  GMainContext *main_context; /* where it reads */
  GMainLoop *loop;
} Server;

static void
on_read (GObject *stream, GAsyncResult *result, gpointer user_data)
{
  Server *server = user_data;
  g_autoptr (GError) error = NULL;

  if (g_input_stream_read_finish (G_INPUT_STREAM (stream), result, &error) < 0)
    g_print ("the older one: %s\n", error->message);
  g_main_loop_quit (server->loop);
}

static void
close_stream (gpointer stream)
{
  g_io_stream_close (stream, NULL, NULL);
}

static void
on_connection (GSocketService *service, GIOStream *stream, GObject *source_object, Server *server)
{
  static char buffer[100];

  if (server->stream != NULL)
    gaio_context_call_in (server->context, server->main_context, close_stream, server->stream);
  g_set_object (&server->stream, stream);
  g_clear_pointer (&server->main_context, g_main_context_unref);
  server->main_context = g_main_context_ref_thread_default ();
  g_input_stream_read_async (g_io_stream_get_input_stream (stream), buffer, sizeof buffer,
                             G_PRIORITY_DEFAULT, NULL, on_read, server);
}

int
main (void)
{
  g_autoptr (GSocketService) service = gaio_socket_service_new (NULL);
  g_autoptr (GSocketClient) client = g_socket_client_new ();
  guint16 port = g_socket_listener_add_any_inet_port (G_SOCKET_LISTENER (service), NULL, NULL);
  g_autoptr (GSocketConnection) older =
      g_socket_client_connect_to_host (client, "127.0.0.1", port, NULL, NULL);
  g_autoptr (GSocketConnection) newer =
      g_socket_client_connect_to_host (client, "127.0.0.1", port, NULL, NULL);
  Server server = { .context = gaio_socket_service_get_context (GAIO_SOCKET_SERVICE (service)),
                    .loop = g_main_loop_new (NULL, FALSE) };

  g_signal_connect (service, "connection", G_CALLBACK (on_connection), &server);
  g_main_loop_run (server.loop);
  return 0;
}
