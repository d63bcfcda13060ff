/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "test-gio-oracle.h"

/* --- Connections --- */

static inline void
tcp_pair (gint fds[2])
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl (INADDR_LOOPBACK) } };
  socklen_t length = sizeof address;
  gint listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  g_assert_cmpint (bind (listener, (struct sockaddr *) &address, length), ==, 0);
  g_assert_cmpint (listen (listener, 1), ==, 0);
  g_assert_cmpint (getsockname (listener, (struct sockaddr *) &address, &length), ==, 0);
  fds[0] = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  while (connect (fds[0], (struct sockaddr *) &address, length) == -1)
    g_assert_cmpint (errno, ==, EINTR);
  fds[1] = TEMP_FAILURE_RETRY (accept4 (listener, NULL, NULL, SOCK_CLOEXEC));
  g_assert_cmpint (fds[1], >=, 0);
  close (listener);
}

static inline void
fd_pair (gint family, gint fds[2])
{
  if (family == AF_INET)
    tcp_pair (fds);
  else
    g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
}

static inline GIOStream *
stream_new (gint fd)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, &error);

  g_assert_no_error (error);
  return G_IO_STREAM (g_socket_connection_factory_create_connection (socket));
}

static inline GSocket *
party_get_socket (Party *self)
{
  return g_socket_connection_get_socket (G_SOCKET_CONNECTION (self->stream));
}

static inline gint
party_get_fd (Party *self)
{
  return g_socket_get_fd (party_get_socket (self));
}

/* Two parties that are connected. */
static inline void
add_pair (Run *run, gint family, Party **a, Party **b)
{
  gint fds[2];
  g_autoptr (GIOStream) stream = NULL, other = NULL;
  g_autofree char *name = g_strdup_printf ("a%u", run->parties->len);
  g_autofree char *other_name = g_strdup_printf ("b%u", run->parties->len);

  fd_pair (family, fds);
  stream = stream_new (fds[0]);
  other = stream_new (fds[1]);
  *a = party_new_for_stream (run, name, stream);
  *b = party_new_for_stream (run, other_name, other);
}

/* A party, and as its peer an fd. */
static inline Party *
add_solo (Run *run, const char *name, gint family)
{
  gint fds[2];
  g_autoptr (GIOStream) stream = NULL;
  Party *self;

  fd_pair (family, fds);
  stream = stream_new (fds[0]);
  self = party_new_for_stream (run, name, stream);
  self->cancellable = g_cancellable_new ();
  self->fd = fds[1];
  return self;
}

static inline void
peer_send (Party *self, const char *text)
{
  g_assert_cmpint (send (self->fd, text, strlen (text), MSG_NOSIGNAL), ==, strlen (text));
}

static inline void
peer_hang_up (Party *self)
{
  close (self->fd);
  self->fd = -1;
}

/* Without a good-bye. */
static inline void
peer_reset (Party *self)
{
  struct linger linger = { .l_onoff = 1 };

  g_assert_cmpint (setsockopt (self->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), ==, 0);
  peer_hang_up (self);
}

/* --- Lines, one after the other, on many connections --- */

static const char *const said[] = { "hello", "", "a longer line, with a comma", "\r", "last" };

static inline void server_read_line (Party *self);

static inline void
party_closed (GObject *stream, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_io_stream_close_finish (G_IO_STREAM (stream), result, &error);
  party_log_result (data, "closed", error);
  party_end (data);
}

static inline void
server_written (GObject *output, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_output_stream_write_all_finish (G_OUTPUT_STREAM (output), result, NULL, &error);
  party_log_result (data, "answered", error);
  server_read_line (data);
}

static inline void
server_got_line (GObject *lines, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gsize length = 0;
  g_autofree char *line =
      g_data_input_stream_read_line_finish (G_DATA_INPUT_STREAM (lines), result, &length, &error);

  if (line == NULL)
    {
      party_log_result (self, "no more lines", error);
      g_io_stream_close_async (self->stream, G_PRIORITY_DEFAULT, NULL, party_closed, self);
      return;
    }
  party_log (self, "heard %" G_GSIZE_FORMAT " bytes: %s", length, line);
  g_snprintf (self->buffer, sizeof self->buffer, "%u: %s\n", self->step++, line);
  g_output_stream_write_all_async (g_io_stream_get_output_stream (self->stream), self->buffer,
                                   strlen (self->buffer), G_PRIORITY_DEFAULT, NULL, server_written,
                                   self);
}

static inline void
server_read_line (Party *self)
{
  if (self->lines == NULL)
    self->lines = g_data_input_stream_new (g_io_stream_get_input_stream (self->stream));
  g_data_input_stream_read_line_async (self->lines, G_PRIORITY_DEFAULT, NULL, server_got_line,
                                       self);
}

static inline void client_say (Party *self);

static inline void
client_got_line (GObject *lines, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  g_autofree char *line =
      g_data_input_stream_read_line_finish (G_DATA_INPUT_STREAM (lines), result, NULL, &error);

  if (line == NULL)
    {
      party_log_result (self, "hung up", error);
      party_end (self);
      return;
    }
  party_log (self, "answer %s", line);
  client_say (self);
}

static inline void
client_read_line (Party *self)
{
  if (self->lines == NULL)
    self->lines = g_data_input_stream_new (g_io_stream_get_input_stream (self->stream));
  g_data_input_stream_read_line_async (self->lines, G_PRIORITY_DEFAULT, NULL, client_got_line,
                                       self);
}

static inline void
client_said (GObject *output, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_output_stream_write_all_finish (G_OUTPUT_STREAM (output), result, NULL, &error);
  party_log_result (data, "said", error);
  client_read_line (data);
}

/* Only a socket can be closed by half. */
static inline void
client_said_all (Party *self)
{
  g_autoptr (GError) error = NULL;

  if (!G_IS_SOCKET_CONNECTION (self->stream))
    {
      g_io_stream_close_async (self->stream, G_PRIORITY_DEFAULT, NULL, party_closed, self);
      return;
    }
  g_socket_shutdown (party_get_socket (self), FALSE, TRUE, &error);
  party_log_result (self, "said all", error);
  client_read_line (self);
}

static inline void
client_say (Party *self)
{
  if (self->step == G_N_ELEMENTS (said))
    {
      client_said_all (self);
      return;
    }
  g_snprintf (self->buffer, sizeof self->buffer, "%s\n", said[self->step++]);
  g_output_stream_write_all_async (g_io_stream_get_output_stream (self->stream), self->buffer,
                                   strlen (self->buffer), G_PRIORITY_DEFAULT, NULL, client_said,
                                   self);
}
