/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the glue of libdbus has to stand. test-neighbours.py runs it, with that of a bus in
 * ADDRESS. */
#include "../examples/neighbours/gaio-libdbus.h"

static GMainLoop *loop;

static void
ask (DBusConnection *connection, DBusPendingCallNotifyFunction func, gpointer data)
{
  DBusMessage *message = dbus_message_new_method_call (DBUS_SERVICE_DBUS, DBUS_PATH_DBUS,
                                                       DBUS_INTERFACE_DBUS, "Hello");
  DBusPendingCall *pending = NULL;

  dbus_connection_send_with_reply (connection, message, &pending, DBUS_TIMEOUT_INFINITE);
  dbus_pending_call_set_notify (pending, func, data, NULL);
  dbus_pending_call_unref (pending);
  dbus_message_unref (message);
}

static DBusConnection *
join (void)
{
  DBusConnection *connection = dbus_connection_open_private (g_getenv ("ADDRESS"), NULL);

  g_assert_nonnull (connection);
  g_assert_true (gaio_dbus_attach (gaio_context_get_default (), connection));
  return connection;
}

static void
leave (DBusConnection *connection)
{
  dbus_connection_close (connection);
  dbus_connection_unref (connection);
}

static void
free_it (DBusPendingCall *pending, void *connection)
{
  leave (connection);
  g_main_loop_quit (loop);
}

static void
test_freed_by_a_reply (void)
{
  DBusConnection *connection = join ();

  ask (connection, free_it, connection);
  g_main_loop_run (loop);
}

static void
count (DBusPendingCall *pending, void *n)
{
  ++*(int *) n;
}

typedef struct
{
  DBusConnection *connection;
  int n_own;
} Nested;

static void
count_and_quit (DBusPendingCall *pending, void *n)
{
  count (pending, n);
  g_main_loop_quit (loop);
}

/* The connection itself has more to dispatch meanwhile, and does so when this has returned. */
static void
run_main_loop (DBusPendingCall *pending, void *user_data)
{
  Nested *nested = user_data;
  DBusConnection *other;
  int n = 0;

  ask (nested->connection, count_and_quit, &nested->n_own);
  other = join ();
  ask (other, count, &n);
  while (n == 0)
    g_main_context_iteration (NULL, TRUE);
  leave (other);
  g_assert_cmpint (nested->n_own, ==, 0);
}

static void
test_main_loop_in_a_reply (void)
{
  Nested nested = { join (), 0 };

  ask (nested.connection, run_main_loop, &nested);
  g_main_loop_run (loop);
  g_assert_cmpint (nested.n_own, ==, 1);
  leave (nested.connection);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  loop = g_main_loop_new (NULL, FALSE);
  g_test_add_func ("/neighbours/dbus/freed-by-a-reply", test_freed_by_a_reply);
  g_test_add_func ("/neighbours/dbus/main-loop-in-a-reply", test_main_loop_in_a_reply);
  return g_test_run ();
}
