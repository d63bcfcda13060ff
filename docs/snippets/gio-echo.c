/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <gio/gunixsocketaddress.h>

static void read_more (GSocketConnection *connection);

static void
on_read (GObject *stream, GAsyncResult *result, gpointer data)
{
  g_autoptr (GSocketConnection) connection = data;
  GOutputStream *out = g_io_stream_get_output_stream (G_IO_STREAM (connection));
  g_autoptr (GBytes) bytes = NULL;
  gsize size = 0;
  const void *text;

  bytes = g_input_stream_read_bytes_finish (G_INPUT_STREAM (stream), result, NULL);
  text = bytes != NULL ? g_bytes_get_data (bytes, &size) : NULL;
  if (size > 0 && g_output_stream_write_all (out, text, size, NULL, NULL, NULL))
    read_more (g_steal_pointer (&connection));
}

/* Takes over the reference to @connection: reading holds none. */
static void
read_more (GSocketConnection *connection)
{
  GInputStream *in = g_io_stream_get_input_stream (G_IO_STREAM (connection));

  g_input_stream_read_bytes_async (in, 4096, G_PRIORITY_DEFAULT, NULL, on_read, connection);
}

static void
on_connection (GSocketService *service, GSocketConnection *connection)
{
  read_more (g_object_ref (connection));
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GSocketService) service = gaio_socket_service_new (NULL);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new ("echo.sock");
  g_autoptr (GError) error = NULL;

  g_signal_connect (service, "connection", G_CALLBACK (on_connection), NULL);
  if (!g_socket_listener_add_address (G_SOCKET_LISTENER (service), address, G_SOCKET_TYPE_STREAM, 0,
                                      NULL, NULL, &error))
    g_error ("%s", error->message);
  g_print ("listening on echo.sock\n");
  g_main_loop_run (loop);
  return 0;
}
