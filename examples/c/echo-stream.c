/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An echo server of GIO streams: each connection has a main context of its own. */
#include <gaio.h>

typedef struct
{
  GSocketConnection *connection;
  char buffer[4096];
} Client;

static void read_some (Client *client);

static void
hang_up (Client *client)
{
  g_object_unref (client->connection);
  g_free (client);
}

static void
on_written (GObject *stream, GAsyncResult *result, gpointer client)
{
  if (g_output_stream_write_all_finish (G_OUTPUT_STREAM (stream), result, NULL, NULL))
    read_some (client);
  else
    hang_up (client);
}

static void
on_read (GObject *stream, GAsyncResult *result, gpointer user_data)
{
  Client *client = user_data;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (stream), result, NULL);
  GOutputStream *output = g_io_stream_get_output_stream (G_IO_STREAM (client->connection));

  if (n > 0)
    g_output_stream_write_all_async (output, client->buffer, n, 0, NULL, on_written, client);
  else
    hang_up (client);
}

static void
read_some (Client *client)
{
  GInputStream *input = g_io_stream_get_input_stream (G_IO_STREAM (client->connection));

  g_input_stream_read_async (input, client->buffer, sizeof client->buffer, 0, NULL, on_read,
                             client);
}

/* Reading and writing hold no reference on the connection: the client does. */
static void
on_connection (GaioSocketService *service, GSocketConnection *connection)
{
  Client *client = g_new (Client, 1);

  client->connection = g_object_ref (connection);
  read_some (client);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GSocketService) service = gaio_socket_service_new (NULL);
  g_autoptr (GError) error = NULL;
  guint16 port = g_socket_listener_add_any_inet_port (G_SOCKET_LISTENER (service), NULL, &error);

  if (port == 0)
    g_error ("%s", error->message);
  g_signal_connect (service, "connection", G_CALLBACK (on_connection), NULL);
  g_print ("port %u\n", port);
  g_main_loop_run (loop);
}
