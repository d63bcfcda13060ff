/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * neighbour-dbus: a service and a client, with libdbus.
 *
 *   neighbour-dbus --serve ADDRESS
 *   neighbour-dbus [--listen] [--idle=N] [--timeout=MS] ADDRESS
 *
 * ADDRESS is that of a bus. The service answers Say() with what it was told, unless that is
 * "nothing", and emits the signal Said() with it. The client calls Say() with each line of stdin,
 * does not wait for an answer before it calls again, and prints the answers. With --listen, it also
 * prints the signals, until SIGTERM or SIGINT. --idle makes N more connections that are idle.
 *
 *   $ neighbour-dbus --serve "$DBUS_SESSION_BUS_ADDRESS" &
 *   serving
 *   $ echo hello | neighbour-dbus "$DBUS_SESSION_BUS_ADDRESS"
 *   hello
 *
 * For a call that fails, also because it takes longer than --timeout, stderr has a line, and the
 * status is 1. If the bus is lost, all calls have failed, and the program ends.
 */
#include "gaio-libdbus.h"
#include "lines.h"

#define NAME "org.gaio.Neighbour"
#define PATH "/org/gaio/Neighbour"
#define INTERFACE "org.gaio.Neighbour1"

/* That is not answered. */
#define NOTHING "nothing"

typedef struct
{
  GMainLoop *loop;
  GaioContext *context;
  const char *address;
  gboolean serve;
  gboolean listen;
  int n_idle;
  int timeout_ms;
  DBusConnection *connection; /* that is not idle */
  guint n_not_ready;          /* of all connections */
  GQueue unanswered;          /* of Call */
  gboolean at_end;
  int status;
} Peer;

typedef struct
{
  Peer *peer;
  char *text;
} Call;

static void
end_if_done (Peer *self)
{
  if (self->at_end && self->unanswered.length == 0 && !self->listen)
    g_main_loop_quit (self->loop);
}

static void
fail (Peer *self, const char *what, const char *reason)
{
  g_printerr ("%s: %s\n", what, reason);
  self->status = 1;
}

static void
fail_and_end (Peer *self, const char *what, const char *reason)
{
  fail (self, what, reason);
  g_main_loop_quit (self->loop);
}

/* Takes @message over. FALSE if the connection is lost, of which on_message() tells. */
static gboolean
ask (Peer *self,
     DBusConnection *connection,
     DBusMessage *message,
     DBusPendingCallNotifyFunction func,
     gpointer data,
     DBusFreeFunction free_data)
{
  DBusPendingCall *pending = NULL;

  dbus_connection_send_with_reply (connection, message, &pending, self->timeout_ms);
  dbus_message_unref (message);
  if (pending == NULL)
    return FALSE;
  dbus_pending_call_set_notify (pending, func, data, free_data);
  dbus_pending_call_unref (pending);
  return TRUE;
}

static const char *
get_text (DBusMessage *message)
{
  const char *text = NULL;

  dbus_message_get_args (message, NULL, DBUS_TYPE_STRING, &text, DBUS_TYPE_INVALID);
  return text != NULL ? text : "";
}

static gboolean
is_error (DBusMessage *reply)
{
  return dbus_message_get_type (reply) == DBUS_MESSAGE_TYPE_ERROR;
}

/* --- The client --- */

static void
call_free (void *data)
{
  Call *call = data;

  /* When the connection is lost, this is all that libdbus does. */
  if (g_queue_remove (&call->peer->unanswered, call))
    fail (call->peer, call->text, "not answered");
  g_free (call->text);
  g_free (call);
}

static void
on_answer (DBusPendingCall *pending, void *data)
{
  Call *call = data;
  Peer *self = call->peer;
  DBusMessage *reply = dbus_pending_call_steal_reply (pending);

  if (is_error (reply))
    fail (self, call->text, get_text (reply));
  else
    g_print ("%s\n", get_text (reply));
  dbus_message_unref (reply);
  g_queue_remove (&self->unanswered, call);
  end_if_done (self);
}

static void
say (Peer *self, const char *text)
{
  DBusMessage *message = dbus_message_new_method_call (NAME, PATH, INTERFACE, "Say");
  Call *call = g_new (Call, 1);

  *call = (Call){ self, g_utf8_make_valid (text, -1) };
  dbus_message_append_args (message, DBUS_TYPE_STRING, &call->text, DBUS_TYPE_INVALID);
  g_queue_push_tail (&self->unanswered, call);
  if (!ask (self, self->connection, message, on_answer, call, call_free))
    call_free (call);
}

static void
on_line (const char *line, gpointer user_data)
{
  Peer *self = user_data;

  if (line != NULL)
    {
      say (self, line);
      return;
    }
  self->at_end = TRUE;
  end_if_done (self);
}

/* --- The service --- */

static void
answer (Peer *self, DBusMessage *message)
{
  const char *text = get_text (message);
  DBusMessage *reply = dbus_message_new_method_return (message);
  DBusMessage *signal = dbus_message_new_signal (PATH, INTERFACE, "Said");

  dbus_message_append_args (reply, DBUS_TYPE_STRING, &text, DBUS_TYPE_INVALID);
  dbus_message_append_args (signal, DBUS_TYPE_STRING, &text, DBUS_TYPE_INVALID);
  if (!g_str_equal (text, NOTHING))
    dbus_connection_send (self->connection, reply, NULL);
  dbus_connection_send (self->connection, signal, NULL);
  dbus_message_unref (reply);
  dbus_message_unref (signal);
}

static void
on_name (DBusPendingCall *pending, void *data)
{
  Peer *self = data;
  DBusMessage *reply = dbus_pending_call_steal_reply (pending);
  dbus_uint32_t result = 0;

  dbus_message_get_args (reply, NULL, DBUS_TYPE_UINT32, &result, DBUS_TYPE_INVALID);
  if (is_error (reply))
    fail_and_end (self, NAME, get_text (reply));
  else if (result != DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER)
    fail_and_end (self, NAME, "is taken");
  else
    g_print ("serving\n");
  dbus_message_unref (reply);
}

/* --- The bus --- */

static DBusMessage *
new_bus_call (const char *method)
{
  return dbus_message_new_method_call (DBUS_SERVICE_DBUS, DBUS_PATH_DBUS, DBUS_INTERFACE_DBUS,
                                       method);
}

static void
begin_to_serve (Peer *self)
{
  DBusMessage *message = new_bus_call ("RequestName");
  const char *name = NAME;
  dbus_uint32_t flags = DBUS_NAME_FLAG_DO_NOT_QUEUE;

  dbus_message_append_args (message, DBUS_TYPE_STRING, &name, DBUS_TYPE_UINT32, &flags,
                            DBUS_TYPE_INVALID);
  ask (self, self->connection, message, on_name, self, NULL);
}

static void
begin_to_call (Peer *self)
{
  DBusMessage *message = new_bus_call ("AddMatch");
  const char *rule = "type='signal',interface='" INTERFACE "'";

  dbus_message_append_args (message, DBUS_TYPE_STRING, &rule, DBUS_TYPE_INVALID);
  if (self->listen)
    dbus_connection_send (self->connection, message, NULL);
  dbus_message_unref (message);
  read_lines (self->context, on_line, self);
}

static void
on_welcome (DBusPendingCall *pending, void *data)
{
  Peer *self = data;
  DBusMessage *reply = dbus_pending_call_steal_reply (pending);

  if (is_error (reply))
    fail_and_end (self, self->address, get_text (reply));
  else if (--self->n_not_ready == 0)
    {
      if (self->n_idle > 0)
        g_print ("%d idle connections\n", self->n_idle);
      self->serve ? begin_to_serve (self) : begin_to_call (self);
    }
  dbus_message_unref (reply);
}

static DBusHandlerResult
on_message (DBusConnection *connection, DBusMessage *message, void *data)
{
  Peer *self = data;

  if (dbus_message_is_signal (message, DBUS_INTERFACE_LOCAL, "Disconnected"))
    fail_and_end (self, self->address, "the connection is lost");
  else if (dbus_message_is_method_call (message, INTERFACE, "Say"))
    answer (self, message);
  else if (dbus_message_is_signal (message, INTERFACE, "Said"))
    g_print ("said: %s\n", get_text (message));
  else
    return DBUS_HANDLER_RESULT_NOT_YET_HANDLED;
  return DBUS_HANDLER_RESULT_HANDLED;
}

/* NULL if it cannot. */
static DBusConnection *
join (Peer *self)
{
  DBusError error = DBUS_ERROR_INIT;
  DBusConnection *connection = dbus_connection_open_private (self->address, &error);

  if (connection == NULL)
    {
      fail (self, self->address, error.message);
      dbus_error_free (&error);
      return NULL;
    }
  if (!gaio_dbus_attach (self->context, connection))
    g_error ("libdbus cannot be run");
  dbus_connection_add_filter (connection, on_message, self, NULL);
  ask (self, connection, new_bus_call ("Hello"), on_welcome, self, NULL);
  return connection;
}

static void
leave (gpointer connection)
{
  dbus_connection_close (connection);
  dbus_connection_unref (connection);
}

/* --- The beginning and the end --- */

static void
run (Peer *self)
{
  GPtrArray *connections = g_ptr_array_new_with_free_func (leave);

  self->loop = create_main_loop ();
  self->context = gaio_context_get_default ();
  self->n_not_ready = self->n_idle + 1;
  for (int i = 0; i <= self->n_idle && self->status == 0; i++)
    {
      self->connection = join (self);
      if (self->connection != NULL)
        g_ptr_array_add (connections, self->connection);
    }
  if (self->status == 0)
    g_main_loop_run (self->loop);
  g_ptr_array_unref (connections);
  g_main_loop_unref (self->loop);
}

int
main (int argc, char **argv)
{
  Peer peer = { .timeout_ms = 25000 };
  const GOptionEntry entries[] = {
    { "serve", 0, 0, G_OPTION_ARG_NONE, &peer.serve, "Be the service", NULL },
    { "listen", 0, 0, G_OPTION_ARG_NONE, &peer.listen, "Print the signals", NULL },
    { "idle", 0, 0, G_OPTION_ARG_INT, &peer.n_idle, "How many idle connections to add", "N" },
    { "timeout", 0, 0, G_OPTION_ARG_INT, &peer.timeout_ms, "How long to wait for an answer", "MS" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new ("ADDRESS");
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || argc != 2)
    {
      g_printerr ("neighbour-dbus: %s\n", error != NULL ? error->message : "ADDRESS?");
      return 2;
    }
  peer.address = argv[1];
  run (&peer);
  dbus_shutdown ();
  return peer.status;
}
