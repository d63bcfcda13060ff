/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libdbus has a DBusWatch for each direction of an fd, and a DBusTimeout for each call that waits
 * for its answer. It turns them on and off from within calls of ours, and never wants to be called
 * back there: what it has read is dispatched in the next round.
 */
#include "gaio-libdbus.h"

typedef struct
{
  GaioContext *context;
  DBusConnection *connection; /* which owns this */
  GaioBottomHalf *dispatch;
  gboolean dispatching;
} Adapter;

/* The watch may be freed. */
static gboolean
on_ready (gint fd, GIOCondition condition, gpointer watch)
{
  dbus_watch_handle (watch, ((condition & G_IO_IN) != 0 ? DBUS_WATCH_READABLE : 0) |
                                ((condition & G_IO_OUT) != 0 ? DBUS_WATCH_WRITABLE : 0) |
                                ((condition & G_IO_HUP) != 0 ? DBUS_WATCH_HANGUP : 0) |
                                ((condition & G_IO_ERR) != 0 ? DBUS_WATCH_ERROR : 0));
  return G_SOURCE_CONTINUE;
}

static void
remove_watch (DBusWatch *watch, void *data)
{
  GaioHandler *handler = dbus_watch_get_data (watch);

  dbus_watch_set_data (watch, NULL, NULL);
  gaio_clear_handler (&handler);
}

static dbus_bool_t
add_watch (DBusWatch *watch, void *data)
{
  GIOCondition condition = dbus_watch_get_flags (watch) & DBUS_WATCH_READABLE ? G_IO_IN : G_IO_OUT;
  g_autoptr (GError) error = NULL;
  GaioHandler *handler;

  if (!dbus_watch_get_enabled (watch))
    return TRUE;
  handler = gaio_context_add_fd (((Adapter *) data)->context, dbus_watch_get_unix_fd (watch),
                                 condition, on_ready, watch, NULL, &error);
  if (handler == NULL)
    g_warning ("libdbus: %s", error->message);
  dbus_watch_set_data (watch, handler, NULL);
  return handler != NULL;
}

/* One that is off has no handler: a hang-up would be reported to it again and again. */
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
  GaioTimer *timer = dbus_timeout_get_data (timeout);

  dbus_timeout_set_data (timeout, NULL, NULL);
  gaio_clear_timer (&timer);
}

static dbus_bool_t
add_timeout (DBusTimeout *timeout, void *data)
{
  gint64 interval_us = MAX (dbus_timeout_get_interval (timeout), 1) * G_GINT64_CONSTANT (1000);
  GaioContext *context = ((Adapter *) data)->context;

  if (dbus_timeout_get_enabled (timeout))
    dbus_timeout_set_data (timeout,
                           gaio_context_add_timeout (context, interval_us, on_time, timeout, NULL),
                           NULL);
  return TRUE;
}

/* Also when its interval is another. */
static void
toggle_timeout (DBusTimeout *timeout, void *data)
{
  remove_timeout (timeout, data);
  add_timeout (timeout, data);
}

/* A handler of messages may run a main loop: libdbus would wait there for itself to return. */
static void
on_dispatch (gpointer user_data)
{
  Adapter *self = user_data;
  DBusConnection *connection;

  if (self->dispatching)
    return;
  self->dispatching = TRUE;
  connection = dbus_connection_ref (self->connection);
  while (dbus_connection_dispatch (connection) == DBUS_DISPATCH_DATA_REMAINS)
    ;
  self->dispatching = FALSE;
  dbus_connection_unref (connection);
}

static void
on_status (DBusConnection *connection, DBusDispatchStatus status, void *data)
{
  if (status != DBUS_DISPATCH_COMPLETE)
    gaio_bottom_half_schedule (((Adapter *) data)->dispatch);
}

static void
adapter_free (void *data)
{
  gaio_clear_bottom_half (&((Adapter *) data)->dispatch);
  g_rc_box_release (data);
}

gboolean
gaio_dbus_attach (GaioContext *context, DBusConnection *connection)
{
  Adapter *self = g_rc_box_new0 (Adapter);

  self->context = context;
  self->connection = connection;
  self->dispatch = gaio_context_add_bottom_half (context, on_dispatch, g_rc_box_acquire (self),
                                                 (GDestroyNotify) g_rc_box_release);
  if (!dbus_connection_set_watch_functions (connection, add_watch, remove_watch, toggle_watch, self,
                                            adapter_free))
    {
      adapter_free (self);
      return FALSE;
    }
  dbus_connection_set_dispatch_status_function (connection, on_status, self, NULL);
  gaio_bottom_half_schedule (self->dispatch);
  return dbus_connection_set_timeout_functions (connection, add_timeout, remove_timeout,
                                                toggle_timeout, self, NULL);
}
