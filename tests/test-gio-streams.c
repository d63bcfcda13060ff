/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets over GLib alone and over main contexts that a context serves. */
#include "test-gio-sockets.h"

/* --- Lines --- */

static void
begin_lines (Run *run)
{
  for (guint i = 0; i < 10; i++)
    {
      Party *client, *server;

      add_pair (run, i % 2 == 0 ? AF_UNIX : AF_INET, &client, &server);
      party_call (client, client_say);
      party_call (server, server_read_line);
    }
}

/* --- Much at once, in both directions --- */

#define MUCH 1000000

static void
much_read (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) all = NULL;
  g_autofree char *sum = NULL;

  g_output_stream_splice_finish (G_OUTPUT_STREAM (input), result, &error);
  party_log_result (self, "read", error);
  all = g_memory_output_stream_steal_as_bytes (G_MEMORY_OUTPUT_STREAM (input));
  sum = g_compute_checksum_for_bytes (G_CHECKSUM_SHA256, all);
  party_log (self, "%" G_GSIZE_FORMAT " bytes %s", g_bytes_get_size (all), sum);
  if (++self->step == 2)
    party_end (self);
}

static void
much_written (GObject *output, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gsize n = 0;

  g_output_stream_write_all_finish (G_OUTPUT_STREAM (output), result, &n, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (n, ==, MUCH);
  g_socket_shutdown (party_get_socket (self), FALSE, TRUE, &error);
  g_assert_no_error (error);
  /* Which comes first is a matter of speed. */
  if (++self->step == 2)
    party_end (self);
}

static void
much_begin (Party *self)
{
  g_autoptr (GOutputStream) memory = g_memory_output_stream_new_resizable ();
  char *bytes = g_malloc (MUCH);

  for (guint i = 0; i < MUCH; i++)
    bytes[i] = i * 7 + i / 251 + self->name[0];
  self->bytes = g_bytes_new_take (bytes, MUCH);
  g_output_stream_write_all_async (g_io_stream_get_output_stream (self->stream), bytes, MUCH,
                                   G_PRIORITY_DEFAULT, NULL, much_written, self);
  g_output_stream_splice_async (memory, g_io_stream_get_input_stream (self->stream),
                                G_OUTPUT_STREAM_SPLICE_CLOSE_TARGET, G_PRIORITY_DEFAULT, NULL,
                                much_read, self);
}

static void
begin_much (Run *run)
{
  for (guint i = 0; i < 3; i++)
    {
      Party *a, *b;

      add_pair (run, i == 0 ? AF_UNIX : AF_INET, &a, &b);
      party_call (a, much_begin);
      party_call (b, much_begin);
    }
}

/* --- A source that takes less than there is --- */

static gboolean
nibble (GObject *input, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gssize n = g_pollable_input_stream_read_nonblocking (G_POLLABLE_INPUT_STREAM (input),
                                                       self->buffer, 3, NULL, &error);

  party_log_result (self, "nibble", error);
  if (n > 0)
    {
      party_log (self, "%.*s", (int) n, self->buffer);
      return G_SOURCE_CONTINUE;
    }
  party_end (self);
  return G_SOURCE_REMOVE;
}

static void
nibble_begin (Party *self)
{
  GInputStream *input = g_io_stream_get_input_stream (self->stream);
  g_autoptr (GSource) source =
      g_pollable_input_stream_create_source (G_POLLABLE_INPUT_STREAM (input), NULL);

  g_source_set_callback (source, G_SOURCE_FUNC (nibble), self, NULL);
  g_source_attach (source, self->inner);
}

static void
begin_nibble (Run *run)
{
  for (guint i = 0; i < 4; i++)
    {
      Party *party = add_solo (run, "nibbler", i % 2 == 0 ? AF_UNIX : AF_INET);

      party_call (party, nibble_begin);
      peer_send (party, "0123456789");
      peer_hang_up (party);
    }
}

/* --- Conditions --- */

typedef struct
{
  const char *name;
  gint family; /* 0 for a pipe */
  PartyFunc make;
} State;

static void
stay (Party *self)
{
}

static void
send_hello (Party *self)
{
  g_autofree char *text = g_strdup_printf ("hello %u", self->step);

  peer_send (self, text);
}

static void
send_urgently (Party *self)
{
  g_assert_cmpint (send (self->fd, "!", 1, MSG_OOB), ==, 1);
}

static void
close_half (Party *self)
{
  g_assert_cmpint (shutdown (self->fd, SHUT_WR), ==, 0);
}

static const State states[] = {
  { "nothing", AF_UNIX, stay },         { "sent", AF_UNIX, send_hello },
  { "urgent", AF_INET, send_urgently }, { "half closed", AF_UNIX, close_half },
  { "hung up", AF_UNIX, peer_hang_up }, { "reset", AF_INET, peer_reset },
  { "end of pipe", 0, peer_hang_up },
};

static gboolean
log_condition (gint fd, GIOCondition condition, gpointer data)
{
  party_log (data, "condition %x", condition);
  party_end (data);
  return G_SOURCE_REMOVE;
}

static void
watch_conditions (Party *self)
{
  g_autoptr (GSource) source = g_unix_fd_source_new (party_get_fd (self), self->step);

  g_source_set_callback (source, G_SOURCE_FUNC (log_condition), self, NULL);
  g_source_attach (source, self->inner);
}

/* A pipe has no socket: its reading end takes the place of one. */
static Party *
add_in_state (Run *run, const State *state)
{
  Party *self = add_solo (run, state->name, state->family != 0 ? state->family : AF_UNIX);
  GPollFD poll_fd = { -1, G_IO_IN | G_IO_PRI, 0 };
  gint fds[2];

  if (state->family == 0)
    {
      g_assert_cmpint (pipe2 (fds, O_CLOEXEC | O_NONBLOCK), ==, 0);
      g_assert_cmpint (dup3 (fds[0], party_get_fd (self), O_CLOEXEC), >=, 0);
      g_assert_cmpint (dup3 (fds[1], self->fd, O_CLOEXEC), >=, 0);
      close (fds[0]);
      close (fds[1]);
    }
  state->make (self);
  poll_fd.fd = party_get_fd (self);
  while (state->make != stay && g_poll (&poll_fd, 1, -1) != 1)
    continue;
  return self;
}

/* Where there is nothing to tell, the peer resets. */
static void
begin_conditions (Run *run)
{
  static const GIOCondition conditions[] = { 0, G_IO_IN, G_IO_OUT, G_IO_PRI, G_IO_IN | G_IO_OUT };

  for (guint i = 0; i < G_N_ELEMENTS (states); i++)
    for (guint j = 0; j < G_N_ELEMENTS (conditions); j++)
      {
        Party *self = add_in_state (run, &states[i]);
        GPollFD poll_fd = { party_get_fd (self), conditions[j], 0 };

        self->step = conditions[j];
        party_call (self, watch_conditions);
        if (TEMP_FAILURE_RETRY (g_poll (&poll_fd, 1, 0)) == 0)
          party_outside (self, peer_reset);
      }
}

/* --- Two sources on one fd --- */

static gboolean
can_read (gint fd, GIOCondition condition, gpointer data)
{
  party_log (data, "can read: %x", condition);
  party_end (data);
  return G_SOURCE_REMOVE;
}

static gboolean
can_write (gint fd, GIOCondition condition, gpointer data)
{
  party_log (data, "can write: %x", condition);
  party_outside (data, send_hello);
  return G_SOURCE_REMOVE;
}

static void
watch_both (Party *self)
{
  g_autoptr (GSource) in = g_unix_fd_source_new (party_get_fd (self), G_IO_IN);
  g_autoptr (GSource) out = g_unix_fd_source_new (party_get_fd (self), G_IO_OUT);

  g_source_set_callback (in, G_SOURCE_FUNC (can_read), self, NULL);
  g_source_set_callback (out, G_SOURCE_FUNC (can_write), self, NULL);
  g_source_attach (in, self->inner);
  g_source_attach (out, self->inner);
}

static void
begin_both (Run *run)
{
  for (guint i = 0; i < 3; i++)
    party_call (add_solo (run, "both", i == 0 ? AF_INET : AF_UNIX), watch_both);
}

/* --- What has been read, while other sources go on --- */

static gboolean
tick (gpointer data)
{
  Party *self = data;

  party_log (self, "tick %u", ++self->step);
  if (self->step == 3)
    send_hello (self);
  return self->step < 3;
}

static gboolean
read_all (gint fd, GIOCondition condition, gpointer data)
{
  Party *self = data;
  ssize_t n = read (fd, self->buffer, sizeof self->buffer);

  party_log (self, "%x: %d bytes", condition, (int) n);
  if (self->step < 3)
    return G_SOURCE_CONTINUE;
  party_end (self);
  return G_SOURCE_REMOVE;
}

static void
read_and_tick (Party *self)
{
  g_autoptr (GSource) source = g_unix_fd_source_new (party_get_fd (self), G_IO_IN);
  g_autoptr (GSource) timeout = g_timeout_source_new (1);

  g_source_set_callback (source, G_SOURCE_FUNC (read_all), self, NULL);
  g_source_set_callback (timeout, tick, self, NULL);
  g_source_set_priority (timeout, G_PRIORITY_LOW);
  g_source_attach (source, self->inner);
  g_source_attach (timeout, self->inner);
}

static void
begin_read_and_tick (Run *run)
{
  for (guint i = 0; i < 3; i++)
    {
      Party *self = add_solo (run, "reader", AF_UNIX);

      send_hello (self);
      party_call (self, read_and_tick);
    }
}

/* --- What is ready at once, by priority --- */

/* As often as it likes, before what is of a lower priority. */
static void
log_high (Party *self)
{
  party_log (self, "high");
  if (++self->step < 3)
    party_later (self, G_PRIORITY_HIGH, log_high);
}

static void
log_default (Party *self)
{
  party_log (self, "default");
}

static void
log_idle (Party *self)
{
  party_log (self, "idle");
  party_end (self);
}

static void
read_in_order (GObject *input, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  party_log_result (data, "read", error);
  party_log (data, "%d bytes", (int) n);
}

static void
order_begin (Party *self)
{
  party_later (self, G_PRIORITY_LOW, log_idle);
  party_later (self, G_PRIORITY_DEFAULT, log_default);
  party_later (self, G_PRIORITY_HIGH, log_high);
  party_later (self, G_PRIORITY_DEFAULT, log_default);
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_HIGH + 10, NULL, read_in_order, self);
}

static void
begin_order (Run *run)
{
  for (guint i = 0; i < 3; i++)
    {
      Party *party = add_solo (run, "reader", AF_UNIX);

      peer_send (party, "first");
      party_call (party, order_begin);
    }
}

/* --- A relay: one main context for two connections --- */

static void
relayed (GObject *stream, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_io_stream_splice_finish (result, &error);
  party_log_result (data, "relayed", error);
  party_end (data);
}

static void
relay_begin (Party *self)
{
  g_io_stream_splice_async (self->stream, G_IO_STREAM (self->owner),
                            G_IO_STREAM_SPLICE_CLOSE_STREAM1 | G_IO_STREAM_SPLICE_CLOSE_STREAM2,
                            G_PRIORITY_DEFAULT, NULL, relayed, self);
}

static void
begin_relay (Run *run)
{
  gint fds[2];
  g_autoptr (GIOStream) client = NULL, front = NULL, back = NULL, server = NULL;
  Party *party;

  fd_pair (AF_INET, fds);
  client = stream_new (fds[0]);
  front = stream_new (fds[1]);
  fd_pair (AF_UNIX, fds);
  back = stream_new (fds[0]);
  server = stream_new (fds[1]);
  party = party_new (run, "relay", back);
  party->stream = g_object_ref (front);
  party_call (party, relay_begin);
  party_call (party_new_for_stream (run, "client", client), client_say);
  party_call (party_new_for_stream (run, "server", server), server_read_line);
}

/* --- The same number, another connection --- */

#define N_REUSES 6

static void reuse_read (Party *self);

/* Another one under the number of the first. */
static void
reopen (Party *self)
{
  gint fds[2], number = party_get_fd (self), moved;

  g_io_stream_close (self->stream, NULL, NULL);
  g_clear_object (&self->stream);
  close (self->fd);
  fd_pair (AF_UNIX, fds);
  moved = number;
  if (fds[0] != number)
    {
      moved = fcntl (fds[0], F_DUPFD_CLOEXEC, number);
      close (fds[0]);
    }
  g_assert_cmpint (moved, ==, number);
  self->stream = stream_new (moved);
  self->fd = fds[1];
  party_log (self, "reopened");
  reuse_read (self);
  party_outside (self, send_hello);
}

static void
reopen_outside (Party *self)
{
  party_call (self, reopen);
}

/* In this callback, or between two. */
static void
reuse_got (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  party_log_result (self, "read", error);
  party_log (self, "%.*s", (int) n, self->buffer);
  if (++self->step == N_REUSES)
    party_end (self);
  else if (self->step % 3 == 0)
    party_outside (self, reopen_outside);
  else
    reopen (self);
}

static void
reuse_read (Party *self)
{
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, NULL, reuse_got, self);
}

static void
begin_reuse (Run *run)
{
  Party *party = add_solo (run, "reuser", AF_UNIX);

  party_call (party, reuse_read);
  send_hello (party);
}

int
main (int argc, char **argv)
{
  static Scenario scenarios[] = {
    { "/gio-streams/lines-are-answered-in-order", begin_lines },
    { "/gio-streams/much-at-once-arrives-whole", begin_much },
    { "/gio-streams/what-is-left-is-reported-again", begin_nibble },
    { "/gio-streams/conditions-are-those-of-poll", begin_conditions },
    { "/gio-streams/two-sources-on-one-fd", begin_both },
    { "/gio-streams/what-was-read-is-not-reported-again", begin_read_and_tick },
    { "/gio-streams/priorities-order-what-is-ready", begin_order },
    { "/gio-streams/relay-has-two-connections", begin_relay },
    { "/gio-streams/same-number-other-connection", begin_reuse },
  };

  g_test_init (&argc, &argv, NULL);
  return run_scenarios (scenarios, G_N_ELEMENTS (scenarios));
}
