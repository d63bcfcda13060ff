/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench-gio-echo.h"

typedef struct
{
  GSocketConnection *connection;
  GInputStream *input;
  GOutputStream *output;
  gboolean at_once;
  char buffer[BENCH_GIO_READ_SIZE];
} Echo;

typedef struct
{
  GSocketConnection *connection;
  BenchGioStart start;
} Accepted;

static guint n_echoes;
static guint64 n_reads;

static void on_read (GObject *input, GAsyncResult *result, gpointer user_data);

static void
echo_free (Echo *self)
{
  n_echoes--;
  g_object_unref (self->connection);
  g_free (self);
}

static void
read_next (Echo *self)
{
  n_reads++;
  g_input_stream_read_async (self->input, self->buffer, sizeof self->buffer, G_PRIORITY_DEFAULT,
                             NULL, on_read, self);
}

static void
on_written (GObject *output, GAsyncResult *result, gpointer user_data)
{
  Echo *self = user_data;

  if (g_output_stream_write_all_finish (self->output, result, NULL, NULL))
    read_next (self);
  else
    echo_free (self);
}

static void
on_read (GObject *input, GAsyncResult *result, gpointer user_data)
{
  Echo *self = user_data;
  gssize n = g_input_stream_read_finish (self->input, result, NULL);

  if (n <= 0)
    echo_free (self);
  else if (!self->at_once)
    g_output_stream_write_all_async (self->output, self->buffer, n, G_PRIORITY_DEFAULT, NULL,
                                     on_written, self);
  else if (g_output_stream_write_all (self->output, self->buffer, n, NULL, NULL, NULL))
    read_next (self);
  else
    echo_free (self);
}

static void
echo (GSocketConnection *connection, gboolean at_once)
{
  Echo *self = g_new (Echo, 1);

  self->connection = connection;
  self->input = g_io_stream_get_input_stream (G_IO_STREAM (connection));
  self->output = g_io_stream_get_output_stream (G_IO_STREAM (connection));
  self->at_once = at_once;
  n_echoes++;
  read_next (self);
}

void
bench_gio_echo (GSocketConnection *connection)
{
  echo (connection, FALSE);
}

void
bench_gio_echo_at_once (GSocketConnection *connection)
{
  echo (connection, TRUE);
}

guint
bench_gio_n_echoes (void)
{
  return n_echoes;
}

guint64
bench_gio_n_reads (void)
{
  return n_reads;
}

static void
start (gpointer user_data)
{
  Accepted *accepted = user_data;

  accepted->start (accepted->connection);
}

GSocketConnection *
bench_gio_connection_new (int fd)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, &error);

  if (socket == NULL)
    g_error ("%s", error->message);
  return g_socket_connection_factory_create_connection (socket);
}

void
bench_gio_accept (GaioContext *context, int fd, BenchGioStart func)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GMainContext) main_context = NULL;
  Accepted accepted = { bench_gio_connection_new (fd), func };

  if (context == NULL)
    {
      start (&accepted);
      return;
    }
  main_context = gaio_context_create_main_context (context, G_OBJECT (accepted.connection), &error);
  if (main_context == NULL)
    g_error ("%s", error->message);
  gaio_context_call_in (context, main_context, start, &accepted);
}
