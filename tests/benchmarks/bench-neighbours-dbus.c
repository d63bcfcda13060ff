/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With GLib by the least that works: g_unix_fd_add(), and an idle function that dispatches. The bus
 * itself answers. */
#include <glib-unix.h>

#include "../../examples/neighbours/gaio-libdbus.h"
#include "bench-neighbours.h"

/* --- With GLib --- */

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer watch)
{
  dbus_watch_handle (watch, ((condition & G_IO_IN) != 0 ? DBUS_WATCH_READABLE : 0) |
                                ((condition & G_IO_OUT) != 0 ? DBUS_WATCH_WRITABLE : 0));
  return G_SOURCE_CONTINUE;
}

static void
remove_watch (DBusWatch *watch, void *data)
{
  guint id = GPOINTER_TO_UINT (dbus_watch_get_data (watch));

  dbus_watch_set_data (watch, NULL, NULL);
  g_clear_handle_id (&id, g_source_remove);
}

static dbus_bool_t
add_watch (DBusWatch *watch, void *data)
{
  gboolean reads = (dbus_watch_get_flags (watch) & DBUS_WATCH_READABLE) != 0;
  guint id = 0;

  if (dbus_watch_get_enabled (watch))
    id =
        g_unix_fd_add (dbus_watch_get_unix_fd (watch), reads ? G_IO_IN : G_IO_OUT, on_ready, watch);
  dbus_watch_set_data (watch, GUINT_TO_POINTER (id), NULL);
  return TRUE;
}

static void
toggle_watch (DBusWatch *watch, void *data)
{
  remove_watch (watch, data);
  add_watch (watch, data);
}

static gboolean
on_time (gpointer timeout)
{
  dbus_timeout_handle (timeout);
  return G_SOURCE_CONTINUE;
}

static void
remove_timeout (DBusTimeout *timeout, void *data)
{
  guint id = GPOINTER_TO_UINT (dbus_timeout_get_data (timeout));

  dbus_timeout_set_data (timeout, NULL, NULL);
  g_clear_handle_id (&id, g_source_remove);
}

static dbus_bool_t
add_timeout (DBusTimeout *timeout, void *data)
{
  guint id = 0;

  if (dbus_timeout_get_enabled (timeout))
    id = g_timeout_add (dbus_timeout_get_interval (timeout), on_time, timeout);
  dbus_timeout_set_data (timeout, GUINT_TO_POINTER (id), NULL);
  return TRUE;
}

static void
toggle_timeout (DBusTimeout *timeout, void *data)
{
  remove_timeout (timeout, data);
  add_timeout (timeout, data);
}

static gboolean
on_idle (gpointer connection)
{
  while (dbus_connection_dispatch (connection) == DBUS_DISPATCH_DATA_REMAINS)
    ;
  return G_SOURCE_REMOVE;
}

static void
on_status (DBusConnection *connection, DBusDispatchStatus status, void *data)
{
  if (status == DBUS_DISPATCH_DATA_REMAINS)
    g_idle_add_full (G_PRIORITY_DEFAULT, on_idle, connection, NULL);
}

static void
run_with_glib (DBusConnection *connection)
{
  dbus_connection_set_watch_functions (connection, add_watch, remove_watch, toggle_watch, NULL,
                                       NULL);
  dbus_connection_set_timeout_functions (connection, add_timeout, remove_timeout, toggle_timeout,
                                         NULL, NULL);
  dbus_connection_set_dispatch_status_function (connection, on_status, NULL, NULL);
}

/* --- With either --- */

static void
on_reply (DBusPendingCall *pending, void *connection)
{
  DBusMessage *reply = dbus_pending_call_steal_reply (pending);

  if (dbus_message_get_type (reply) == DBUS_MESSAGE_TYPE_ERROR)
    g_error ("D-Bus: %s", dbus_message_get_error_name (reply));
  dbus_message_unref (reply);
  bench_heard (connection);
}

static void
call (DBusConnection *connection, const char *method)
{
  DBusMessage *message =
      dbus_message_new_method_call (DBUS_SERVICE_DBUS, DBUS_PATH_DBUS, DBUS_INTERFACE_DBUS, method);
  DBusPendingCall *pending = NULL;

  dbus_connection_send_with_reply (connection, message, &pending, G_MAXINT);
  if (pending == NULL)
    g_error ("D-Bus: disconnected");
  dbus_pending_call_set_notify (pending, on_reply, connection, NULL);
  dbus_pending_call_unref (pending);
  dbus_message_unref (message);
}

static void
ask (gpointer connection)
{
  call (connection, "GetId");
}

static gpointer
open_one (GaioContext *context, const char *address, gboolean active)
{
  DBusConnection *connection = dbus_connection_open_private (address, NULL);

  if (connection == NULL)
    g_error ("D-Bus: cannot connect");
  if (context == NULL)
    run_with_glib (connection);
  else if (!gaio_dbus_attach (context, connection))
    g_error ("D-Bus: cannot watch");
  call (connection, "Hello");
  return connection;
}

const BenchNeighbour bench_neighbour = {
  .version = "libdbus " BENCH_NEIGHBOUR_VERSION,
  .open = open_one,
  .ask = ask,
};
