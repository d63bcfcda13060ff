/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How operations end that do not succeed, over GLib alone and over main contexts that a context
 * serves. */
#include "test-gio-sockets.h"

/* --- What waits --- */

static void
read_ended (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  party_log_result (self, "read", error);
  party_log (self, "%d bytes", (int) n);
  party_end (self);
}

static void
read_until_end (Party *self)
{
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, self->cancellable, read_ended,
                             self);
}

static void
write_ended (GObject *output, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;

  g_output_stream_write_all_finish (G_OUTPUT_STREAM (output), result, NULL, &error);
  party_log_result (self, "written", error);
  party_end (self);
}

/* More than there is room for. */
static void
write_until_end (Party *self)
{
  self->bytes = g_bytes_new_take (g_malloc0 (16 << 20), 16 << 20);
  g_output_stream_write_all_async (g_io_stream_get_output_stream (self->stream),
                                   g_bytes_get_data (self->bytes, NULL),
                                   g_bytes_get_size (self->bytes), G_PRIORITY_DEFAULT,
                                   self->cancellable, write_ended, self);
}

static gboolean
condition_ended (GSocket *socket, GIOCondition condition, gpointer data)
{
  Party *self = data;

  party_log (self, "condition %x%s%s", condition, g_socket_is_closed (socket) ? " closed" : "",
             g_cancellable_is_cancelled (self->cancellable) ? " cancelled" : "");
  party_end (self);
  return G_SOURCE_REMOVE;
}

static void
watch_until_end (Party *self)
{
  g_autoptr (GSource) source =
      g_socket_create_source (party_get_socket (self), G_IO_IN, self->cancellable);

  g_source_set_callback (source, G_SOURCE_FUNC (condition_ended), self, NULL);
  g_source_attach (source, self->inner);
}

static const struct
{
  const char *name;
  PartyFunc wait;
} waits[] = {
  { "read", read_until_end },
  { "write", write_until_end },
  { "watch", watch_until_end },
};

/* --- Where from it is ended --- */

static void
cancel (Party *self)
{
  g_cancellable_cancel (self->cancellable);
}

static void
close_stream (Party *self)
{
  g_io_stream_close (self->stream, NULL, NULL);
}

static gpointer
cancel_in_thread (gpointer data)
{
  g_cancellable_cancel (data);
  g_object_unref (data);
  return NULL;
}

static void
start_canceller (Party *self)
{
  g_thread_unref (g_thread_new ("canceller", cancel_in_thread, g_object_ref (self->cancellable)));
}

/* Of another party. */
static void
cancel_other (Party *self)
{
  g_cancellable_cancel (self->other->cancellable);
  party_end (self);
}

static void
close_other (Party *self)
{
  g_io_stream_close (self->other->stream, NULL, NULL);
  party_end (self);
}

static void
end_in_own_turn (Party *self, PartyFunc end)
{
  party_later (self, G_PRIORITY_LOW, end);
}

static void
end_in_a_call (Party *self, PartyFunc end)
{
  party_call (self, end);
}

typedef void (*EndFunc) (Party *self, PartyFunc end);

/* Each way to wait, each way to be ended. */
static void
add_waiting (Run *run, const char *how, EndFunc end, PartyFunc what)
{
  for (guint i = 0; i < G_N_ELEMENTS (waits); i++)
    {
      g_autofree char *name = g_strconcat (waits[i].name, " ", how, NULL);
      Party *self = add_solo (run, name, AF_UNIX);

      party_call (self, waits[i].wait);
      end (self, what);
    }
}

static void
end_by_another (Party *self, PartyFunc end)
{
  g_autofree char *name = g_strconcat ("ends ", self->name, NULL);
  Party *other = party_new (self->run, name, NULL);

  other->other = self;
  party_later (other, G_PRIORITY_LOW, end);
}

static void
begin_cancel (Run *run)
{
  Party *before = add_solo (run, "before", AF_UNIX);

  g_cancellable_cancel (before->cancellable);
  party_call (before, read_until_end);
  add_waiting (run, "in its own turn", end_in_own_turn, cancel);
  add_waiting (run, "in a call", end_in_a_call, cancel);
  add_waiting (run, "from outside", party_outside, cancel);
  add_waiting (run, "by another", end_by_another, cancel_other);
}

static void
start_canceller_now (Party *self, PartyFunc end)
{
  end (self);
}

static void
begin_cancel_in_thread (Run *run)
{
  for (guint i = 0; i < 5; i++)
    add_waiting (run, "in a thread", start_canceller_now, start_canceller);
}

static void
begin_close (Run *run)
{
  add_waiting (run, "in its own turn", end_in_own_turn, close_stream);
  add_waiting (run, "in a call", end_in_a_call, close_stream);
  add_waiting (run, "from outside", party_outside, close_stream);
  add_waiting (run, "by another", end_by_another, close_other);
}

/* --- What the peer does --- */

static void
write_after (GObject *output, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;

  g_output_stream_write_finish (G_OUTPUT_STREAM (output), result, &error);
  party_log_result (self, "written", error);
  party_end (self);
}

static void
read_then_write (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  party_log_result (self, "read", error);
  party_log (self, "%d bytes", (int) n);
  g_output_stream_write_async (g_io_stream_get_output_stream (self->stream), "after", 5,
                               G_PRIORITY_DEFAULT, NULL, write_after, self);
}

static void
wait_for_peer (Party *self)
{
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, NULL, read_then_write, self);
}

static void
shut_down (Party *self)
{
  g_assert_cmpint (shutdown (self->fd, SHUT_WR), ==, 0);
}

static void
begin_peer (Run *run)
{
  static const struct
  {
    const char *name;
    gint family;
    PartyFunc end;
  } ends[] = {
    { "reset", AF_INET, peer_reset },
    { "hung up", AF_UNIX, peer_hang_up },
    { "half closed", AF_UNIX, shut_down },
    { "half closed by TCP", AF_INET, shut_down },
  };

  for (guint i = 0; i < G_N_ELEMENTS (ends); i++)
    {
      Party *self = add_solo (run, ends[i].name, ends[i].family);

      party_call (self, wait_for_peer);
      party_outside (self, ends[i].end);
    }
  for (guint i = 0; i < G_N_ELEMENTS (waits); i++)
    {
      g_autofree char *name = g_strconcat (waits[i].name, " is reset", NULL);
      Party *self = add_solo (run, name, AF_INET);

      party_call (self, waits[i].wait);
      party_outside (self, peer_reset);
    }
}

/* --- Time --- */

static void
read_timed_out (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  party_log_result (self, "read", error);
  party_log (self, "%d bytes", (int) n);
  /* The connection is as good as before. */
  g_socket_set_timeout (party_get_socket (self), 0);
  read_until_end (self);
  peer_send (self, "late");
}

static void
read_with_timeout (Party *self)
{
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, NULL, read_timed_out, self);
}

static void
begin_timeout (Run *run)
{
  for (guint i = 0; i <= G_N_ELEMENTS (waits); i++)
    {
      Party *self = add_solo (run, i == 0 ? "goes on" : waits[i - 1].name, AF_UNIX);

      g_socket_set_timeout (party_get_socket (self), 1);
      party_call (self, i == 0 ? read_with_timeout : waits[i - 1].wait);
    }
}

/* --- Two at a time --- */

static void
second_ended (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;

  g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);
  party_log_result (self, "second", error);
  peer_send (self, "enough");
}

static void
closed_while_pending (GObject *stream, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_io_stream_close_finish (G_IO_STREAM (stream), result, &error);
  party_log_result (data, "closed", error);
}

static void
read_twice (Party *self)
{
  read_until_end (self);
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, NULL, second_ended, self);
}

static void
read_and_close (Party *self)
{
  read_until_end (self);
  g_io_stream_close_async (self->stream, G_PRIORITY_DEFAULT, NULL, closed_while_pending, self);
}

static void
begin_pending (Run *run)
{
  party_call (add_solo (run, "two reads", AF_UNIX), read_twice);
  party_call (add_solo (run, "read and close", AF_UNIX), read_and_close);
}

/* --- Connecting --- */

static void
connected (GObject *client, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  GSocketConnection *connection =
      g_socket_client_connect_finish (G_SOCKET_CLIENT (client), result, &error);

  party_log_result (self, "connected", error);
  if (connection == NULL)
    {
      party_end (self);
      return;
    }
  self->stream = G_IO_STREAM (connection);
  read_until_end (self);
}

static void
connect_to (Party *self)
{
  GSocketClient *client = G_SOCKET_CLIENT (self->owner);
  g_autoptr (GSocketAddress) address =
      g_inet_socket_address_new_from_string ("127.0.0.1", self->step);

  g_socket_client_set_enable_proxy (client, FALSE);
  g_socket_client_connect_async (client, G_SOCKET_CONNECTABLE (address), self->cancellable,
                                 connected, self);
}

static Party *
add_client (Run *run, const char *name, guint16 port)
{
  g_autoptr (GSocketClient) client = g_socket_client_new ();
  Party *self = party_new (run, name, client);

  self->step = port;
  return self;
}

static void
accepted (GObject *listener, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocketConnection) connection =
      g_socket_listener_accept_finish (G_SOCKET_LISTENER (listener), result, NULL, &error);

  party_log_result (self, "accepted", error);
  if (connection == NULL)
    {
      party_end (self);
      return;
    }
  g_io_stream_close (G_IO_STREAM (connection), NULL, NULL);
  g_socket_listener_accept_async (G_SOCKET_LISTENER (listener), self->cancellable, accepted, self);
  if (++self->step == 3)
    g_cancellable_cancel (self->cancellable);
}

static void
accept_all (Party *self)
{
  g_socket_listener_accept_async (G_SOCKET_LISTENER (self->owner), self->cancellable, accepted,
                                  self);
}

static void
close_listener (Party *self)
{
  g_socket_listener_close (G_SOCKET_LISTENER (self->owner));
}

static Party *
add_listener (Run *run, const char *name, guint16 *port)
{
  g_autoptr (GSocketListener) listener = g_socket_listener_new ();
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string ("127.0.0.1", 0);
  g_autoptr (GSocketAddress) effective = NULL;
  g_autoptr (GError) error = NULL;
  Party *self;

  g_socket_listener_add_address (listener, address, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP,
                                 NULL, &effective, &error);
  g_assert_no_error (error);
  *port = g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (effective));
  self = party_new (run, name, listener);
  self->cancellable = g_cancellable_new ();
  return self;
}

static void
begin_connect (Run *run)
{
  guint16 port = 0, other_port = 0;
  Party *listener = add_listener (run, "listener", &port);
  Party *closed = add_listener (run, "closed", &other_port);
  Party *cancelled = add_client (run, "cancelled client", port);

  party_call (listener, accept_all);
  for (guint i = 0; i < 3; i++)
    party_call (add_client (run, "client", port), connect_to);
  cancelled->cancellable = g_cancellable_new ();
  g_cancellable_cancel (cancelled->cancellable);
  party_call (cancelled, connect_to);
  party_call (closed, accept_all);
  party_outside (closed, close_listener);
}

static void
begin_refused (Run *run)
{
  guint16 port = 0;
  Party *listener = add_listener (run, "listener", &port);

  party_call (listener, close_listener);
  party_call (add_client (run, "client", port), connect_to);
  party_call (listener, accept_all);
}

int
main (int argc, char **argv)
{
  static Scenario scenarios[] = {
    { "/gio-ends/cancelled", begin_cancel },
    { "/gio-ends/cancelled-in-a-thread", begin_cancel_in_thread },
    { "/gio-ends/closed-with-an-operation-pending", begin_close },
    { "/gio-ends/ended-by-the-peer", begin_peer },
    { "/gio-ends/timed-out", begin_timeout },
    { "/gio-ends/already-pending", begin_pending },
    { "/gio-ends/connecting-and-accepting", begin_connect },
    { "/gio-ends/connection-refused", begin_refused },
  };

  g_test_init (&argc, &argv, NULL);
  return run_scenarios (scenarios, G_N_ELEMENTS (scenarios));
}
