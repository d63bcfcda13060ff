/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-socket-service.h>

#include <gaio/gaio-bottom-half.h>
#include <gaio/gaio-context.h>
#include <gaio/gaio-error.h>
#include <gaio/gaio-serve.h>
#include <gaio/gaio-shared.h>
#include <gaio/gaio-timer.h>

#include "gaio-inner-life-private.h"
#include "gaio-serve-private.h"

/* How soon to try again where it cannot accept. */
#define RETRY_US 100000
/* Where fds come and go, each that goes lets one more client in: that is no end of the trouble. */
#define QUIET_US (10 * G_USEC_PER_SEC)
/* Iterations: a turn accepts about as many connections. */
#define MAX_MORE 256

/**
 * SECTION:gaio-socket-service
 * @title: GaioSocketService
 * @short_description: a GSocketService for many connections
 *
 * A #GaioSocketService is a #GSocketService, as #GThreadedSocketService is one. But where that has
 * a thread for each connection, this has a main context for each connection, which its #GaioContext
 * serves: see gaio_context_create_main_context(). #GaioSocketService::connection is emitted in the
 * main context of the new connection. What its handlers begin with GIO completes there, at a cost
 * that does not depend on how many other connections wait.
 *
 * It accepts connections while its #GaioContext is running, and keeps itself alive for that, as any
 * #GSocketService does: call g_socket_service_stop() before you drop the last reference. It stops
 * for good when the #GaioContext is closed. Sockets that are passed to
 * g_socket_listener_add_socket() should be non-blocking, in case somebody else accepts from them,
 * too.
 *
 * If a connection cannot be accepted, because no fd is left, say, it warns, and tries again every
 * 100 milliseconds; meanwhile clients wait in the backlog, see g_socket_listener_set_backlog(). It
 * warns again only after it has been able to accept for ten seconds. A connection takes two fds:
 * its own, and that of its main context.
 *
 * The main context of a connection that has gone may become that of a later one. So what is still
 * pending in it, such as a #GTask that runs in a thread, may return there, or never: before you
 * drop the connection, cancel it and wait for its end.
 */

/**
 * GaioSocketService:
 *
 * A #GSocketService that has a main context for each connection.
 *
 * Since: 1.0
 */

typedef struct
{
  GaioContext *context;   /* (const) */
  GaioBottomHalf *update; /* (const) calls update() */
  GaioTimer *retry;       /* (const) likewise */
  GMainContext *place;    /* (owner) where it accepts */
  GMainContext *next;     /* (owner) for the next connection */
  gboolean in_a_row;      /* (owner) accept_more() runs */
  gint64 row_began;       /* (owner) when the first of the row was accepted */
  gint64 last_failure;    /* (owner) when it could not accept, or 0 */
  gint is_listening;      /* (atomic) there are sockets */
  GMutex mutex;
  GCancellable *accepting; /* (mutex) ends the accept that is under way */
  gboolean is_held;        /* (mutex) by itself, until it accepts */
  gint is_parked;          /* (atomic) the base class is, see park_base() */
  GMainContext *parked;
  guint n_parked_references;
} GaioSocketServicePrivate;

G_DEFINE_TYPE_WITH_PRIVATE (GaioSocketService, gaio_socket_service, G_TYPE_SOCKET_SERVICE)

enum
{
  PROP_CONTEXT = 1,
  N_PROPS,
};

static GParamSpec *properties[N_PROPS];
static guint connection_signal;

static GaioSocketServicePrivate *
get_private (gpointer self)
{
  return gaio_socket_service_get_instance_private (self);
}

/* --- The base class --- */

/* GSocketService accepts in the main context of whoever starts it, and does so over and over again
 * where no fd is left. It does not while it waits for an earlier accept: so it has one that waits
 * in a main context that nobody iterates. */

/* Ends what the base class waits for in @parked, which is the thread-default main context. */
static void
finish_accept (GSocketService *service, GMainContext *parked)
{
  g_socket_service_stop (service);
  while (g_main_context_iteration (parked, FALSE))
    ;
}

/* An accept holds references to the service: how many is GLib's business. */
static guint
count_references_of_accept (GMainContext *parked)
{
  g_autoptr (GSocketService) probe = g_socket_service_new ();
  guint n;

  g_socket_service_stop (probe);
  g_socket_listener_close (G_SOCKET_LISTENER (probe));
  g_socket_service_start (probe);
  n = G_OBJECT (probe)->ref_count - 1;
  finish_accept (probe, parked);
  return n;
}

/* The references of that accept must not keep @self alive: unpark_base() gives them back. */
static void
park_base (GaioSocketService *self)
{
  GaioSocketServicePrivate *priv = get_private (self);
  GSocketService *service = G_SOCKET_SERVICE (self);
  gboolean is_active = g_socket_service_is_active (service);

  priv->parked = g_main_context_new ();
  g_main_context_push_thread_default (priv->parked);
  priv->n_parked_references = count_references_of_accept (priv->parked);
  g_object_freeze_notify (G_OBJECT (self));
  g_socket_service_stop (service);
  g_socket_service_start (service);
  if (!is_active)
    g_socket_service_stop (service);
  g_object_thaw_notify (G_OBJECT (self));
  g_main_context_pop_thread_default (priv->parked);
  for (guint i = 0; i < priv->n_parked_references; i++)
    g_object_unref (self);
}

/* Once there are sockets, as what waits for none never ends. FALSE if no fd is left. */
static gboolean
ensure_parked (GaioSocketService *self, GError **error)
{
  GaioSocketServicePrivate *priv = get_private (self);

  if (!g_atomic_int_compare_and_exchange (&priv->is_parked, FALSE, TRUE))
    return TRUE;
  if (!gaio_serve_check_fds (error))
    {
      g_atomic_int_set (&priv->is_parked, FALSE);
      return FALSE;
    }
  park_base (self);
  return TRUE;
}

static void
unpark_base (GaioSocketService *self)
{
  GaioSocketServicePrivate *priv = get_private (self);
  g_autoptr (GMainContext) parked = g_steal_pointer (&priv->parked);

  if (parked == NULL)
    return;
  for (guint i = 0; i < priv->n_parked_references; i++)
    g_object_ref (self);
  g_main_context_push_thread_default (parked);
  finish_accept (G_SOCKET_SERVICE (self), parked);
  g_main_context_pop_thread_default (parked);
}

/* --- Accepting --- */

static gboolean
ensure_place (GaioSocketService *self, GError **error)
{
  GaioSocketServicePrivate *priv = get_private (self);

  if (priv->place == NULL)
    priv->place = gaio_context_create_main_context (priv->context, NULL, error);
  return priv->place != NULL;
}

static gboolean
ensure_next (GaioSocketService *self, GError **error)
{
  GaioSocketServicePrivate *priv = get_private (self);

  if (priv->next == NULL)
    priv->next = gaio_serve_create_reusable (priv->context, error);
  return priv->next != NULL;
}

static void
drop_main_context (GaioSocketService *self, GMainContext **main_context)
{
  GaioSocketServicePrivate *priv = get_private (self);

  if (*main_context == NULL)
    return;
  gaio_context_stop_serving (priv->context, *main_context);
  g_clear_pointer (main_context, g_main_context_unref);
}

static void
try_later (GaioSocketService *self, const GError *error)
{
  GaioSocketServicePrivate *priv = get_private (self);
  gint64 now = g_get_monotonic_time ();

  if (priv->last_failure == 0 || now - priv->last_failure > QUIET_US)
    g_warning ("Cannot accept connections: %s", error->message);
  priv->last_failure = now;
  gaio_timer_arm (priv->retry, RETRY_US);
}

static void accepted (GObject *object, GAsyncResult *result, gpointer user_data);

/* In the main context where it accepts. */
static void
accept_one (gpointer user_data)
{
  GaioSocketService *self = user_data;
  GaioSocketServicePrivate *priv = get_private (self);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();

  g_mutex_lock (&priv->mutex);
  priv->accepting = g_object_ref (cancellable);
  g_mutex_unlock (&priv->mutex);
  g_socket_listener_accept_async (G_SOCKET_LISTENER (self), cancellable, accepted, NULL);
}

/* All that a connection takes is there before it is accepted. */
static void
begin (GaioSocketService *self)
{
  GaioSocketServicePrivate *priv = get_private (self);
  g_autoptr (GError) error = NULL;

  if (!g_atomic_int_get (&priv->is_listening) ||
      !g_socket_service_is_active (G_SOCKET_SERVICE (self)))
    return;
  if (ensure_parked (self, &error) && ensure_place (self, &error) && ensure_next (self, &error))
    gaio_context_call_in (priv->context, priv->place, accept_one, self);
  else if (!g_error_matches (error, GAIO_ERROR, GAIO_ERROR_CLOSED) &&
           !g_error_matches (error, GAIO_ERROR, GAIO_ERROR_FORKED))
    try_later (self, error);
}

static void
hand_over (GaioSocketService *self, GSocketConnection *connection, GObject *source_object)
{
  gboolean handled;

  g_signal_emit_by_name (self, "incoming", connection, source_object, &handled);
}

static gboolean
is_final (const GError *error)
{
  return g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CLOSED);
}

static gboolean
is_harmless (const GError *error)
{
  return g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
         g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
}

/* Whether accept_more() has done as much as a round may. */
static gboolean
is_over_limits (GaioSocketServicePrivate *priv, guint n)
{
  GaioCore *core = priv->context->core;
  guint max_callbacks = atomic_load_explicit (&core->max_callbacks, memory_order_relaxed);
  gint64 max_time_us = atomic_load_explicit (&core->max_time_us, memory_order_relaxed);

  return n >= MAX_MORE || (max_callbacks > 0 && n >= max_callbacks) ||
         (max_time_us > 0 && g_get_monotonic_time () - priv->row_began >= max_time_us);
}

/* Also those who wait meanwhile: while many connections are ready, the next turn is far away. */
static void
accept_more (gpointer data)
{
  g_autoptr (GaioSocketService) self = data;
  GaioSocketServicePrivate *priv = get_private (self);
  g_autoptr (GMainContext) place = NULL;

  if (priv->place == NULL || priv->in_a_row)
    return;
  place = g_main_context_ref (priv->place);
  priv->in_a_row = TRUE;
  for (guint n = 1; !is_over_limits (priv, n) && priv->place == place; n++)
    if (!g_main_context_iteration (place, FALSE))
      break;
  priv->in_a_row = FALSE;
}

/* Until the task of @result is gone, an accept by several sockets still watches all of them: GLib
 * would take a client of another one, and lose it. */
static void
accept_more_after (GaioSocketService *self, GAsyncResult *result)
{
  g_object_set_data_full (G_OBJECT (result), "gaio-accept-more", g_object_ref (self), accept_more);
}

static void
accepted (GObject *object, GAsyncResult *result, gpointer user_data)
{
  GaioSocketService *self = GAIO_SOCKET_SERVICE (object);
  GaioSocketServicePrivate *priv = get_private (self);
  g_autoptr (GSocketConnection) connection = NULL;
  g_autoptr (GError) error = NULL;
  GObject *source_object;

  connection =
      g_socket_listener_accept_finish (G_SOCKET_LISTENER (self), result, &source_object, &error);
  g_mutex_lock (&priv->mutex);
  g_clear_object (&priv->accepting);
  g_mutex_unlock (&priv->mutex);
  priv->row_began = priv->in_a_row ? priv->row_began : g_get_monotonic_time ();
  if (connection != NULL)
    hand_over (self, connection, source_object);
  if (error != NULL && !is_harmless (error))
    {
      if (!is_final (error))
        try_later (self, error);
      return;
    }
  begin (self);
  /* Nobody may keep it: then it ends now. */
  g_clear_object (&connection);
  if (error == NULL && !priv->in_a_row)
    accept_more_after (self, result);
}

/* The bottom half and the timer refer to the service with this: it may go in another thread. */
static GWeakRef *
weak_ref_new (GaioSocketService *self)
{
  GWeakRef *ref = g_new (GWeakRef, 1);

  g_weak_ref_init (ref, self);
  return ref;
}

static void
weak_ref_free (gpointer data)
{
  g_weak_ref_clear (data);
  g_free (data);
}

/* What is under way holds the service, and so does what is about to be. From any thread. */
static void
hold (GaioSocketService *self, gboolean is_held)
{
  GaioSocketServicePrivate *priv = get_private (self);
  gboolean was_held;

  g_mutex_lock (&priv->mutex);
  was_held = priv->is_held;
  priv->is_held = is_held;
  g_mutex_unlock (&priv->mutex);
  if (is_held && !was_held)
    g_object_ref (self);
  else if (!is_held && was_held)
    g_object_unref (self);
}

static void
update (gpointer data)
{
  g_autoptr (GaioSocketService) self = g_weak_ref_get (data);
  GaioSocketServicePrivate *priv;
  gboolean is_accepting;

  if (self == NULL)
    return;
  priv = get_private (self);
  g_mutex_lock (&priv->mutex);
  is_accepting = priv->accepting != NULL;
  g_mutex_unlock (&priv->mutex);
  if (!is_accepting)
    begin (self);
  hold (self, FALSE);
}

/* What is under way refers to the sockets of before, or is not to be any more. From any thread. */
static void
end_accept (GaioSocketService *self)
{
  GaioSocketServicePrivate *priv = get_private (self);
  g_autoptr (GCancellable) accepting = NULL;

  g_mutex_lock (&priv->mutex);
  if (priv->accepting != NULL)
    accepting = g_object_ref (priv->accepting);
  g_mutex_unlock (&priv->mutex);
  g_cancellable_cancel (accepting);
}

/* From any thread. */
static void
reconsider (GaioSocketService *self)
{
  GaioSocketServicePrivate *priv = get_private (self);
  GSocketService *service = G_SOCKET_SERVICE (self);

  if (priv->update == NULL)
    return;
  end_accept (self);
  if (gaio_context_is_closed (priv->context) && g_socket_service_is_active (service))
    {
      g_socket_service_stop (service);
      return;
    }
  hold (self, g_atomic_int_get (&priv->is_listening) && g_socket_service_is_active (service));
  gaio_bottom_half_schedule (priv->update);
}

/* The context is closed, or the service goes. What is under way holds references to the service,
 * and nobody else would end it. */
static void
context_gone (gpointer data)
{
  g_autoptr (GaioSocketService) self = g_weak_ref_get (data);
  GaioSocketServicePrivate *priv = self != NULL ? get_private (self) : NULL;

  weak_ref_free (data);
  if (priv == NULL)
    return;
  g_atomic_int_set (&priv->is_listening, FALSE);
  hold (self, FALSE);
  g_socket_service_stop (G_SOCKET_SERVICE (self));
  while (priv->place != NULL && g_main_context_iteration (priv->place, FALSE))
    ;
  drop_main_context (self, &priv->place);
  drop_main_context (self, &priv->next);
}

/* --- Connections --- */

typedef struct
{
  GaioSocketService *service;
  GSocketConnection *connection;
  GObject *source_object;
} Emission;

static void
emit_connection (gpointer data)
{
  Emission *emission = data;

  g_signal_emit (emission->service, connection_signal, 0, emission->connection,
                 emission->source_object);
}

/* The default handler of GSocketService::incoming. The owner is the socket: the streams and what
 * waits for them hold that, and not the connection. */
static gboolean
gaio_socket_service_incoming (GSocketService *service,
                              GSocketConnection *connection,
                              GObject *source_object)
{
  GaioSocketService *self = GAIO_SOCKET_SERVICE (service);
  GaioSocketServicePrivate *priv = get_private (self);
  Emission emission = { self, connection, source_object };
  g_autoptr (GMainContext) main_context = g_steal_pointer (&priv->next);
  GaioInner *inner = main_context != NULL ? gaio_inner_lookup (main_context) : NULL;

  if (inner == NULL)
    return FALSE;
  gaio_inner_set_owner (inner, G_OBJECT (g_socket_connection_get_socket (connection)));
  gaio_entry_unref (&inner->entry);
  gaio_context_call_in (priv->context, main_context, emit_connection, &emission);
  return FALSE;
}

/* --- The object --- */

static void
gaio_socket_service_changed (GSocketListener *listener)
{
  GaioSocketService *self = GAIO_SOCKET_SERVICE (listener);
  GaioSocketServicePrivate *priv = get_private (self);

  ensure_parked (self, NULL);
  g_atomic_int_set (&priv->is_listening, TRUE);
  reconsider (self);
}

/* An accept that finds nobody, because another process was quicker, must not wait in a turn. */
static void
gaio_socket_service_event (GSocketListener *listener, GSocketListenerEvent event, GSocket *socket)
{
  if (event == G_SOCKET_LISTENER_LISTENED)
    g_socket_set_blocking (socket, FALSE);
}

static void
gaio_socket_service_notify (GObject *object, GParamSpec *pspec)
{
  if (g_str_equal (pspec->name, "active"))
    reconsider (GAIO_SOCKET_SERVICE (object));
}

static void
gaio_socket_service_constructed (GObject *object)
{
  GaioSocketService *self = GAIO_SOCKET_SERVICE (object);
  GaioSocketServicePrivate *priv = get_private (self);

  G_OBJECT_CLASS (gaio_socket_service_parent_class)->constructed (object);
  if (priv->context == NULL)
    priv->context = gaio_context_ref_thread_default ();
  priv->update =
      gaio_context_add_bottom_half (priv->context, update, weak_ref_new (self), weak_ref_free);
  priv->retry = gaio_context_add_timer (priv->context, update, weak_ref_new (self), context_gone);
}

/* What is under way holds references to the service: so nothing is. */
static void
gaio_socket_service_dispose (GObject *object)
{
  GaioSocketService *self = GAIO_SOCKET_SERVICE (object);
  GaioSocketServicePrivate *priv = get_private (self);

  gaio_clear_bottom_half (&priv->update);
  gaio_clear_timer (&priv->retry);
  unpark_base (self);
  drop_main_context (self, &priv->place);
  drop_main_context (self, &priv->next);
  G_OBJECT_CLASS (gaio_socket_service_parent_class)->dispose (object);
}

static void
gaio_socket_service_finalize (GObject *object)
{
  GaioSocketServicePrivate *priv = get_private (object);

  g_mutex_clear (&priv->mutex);
  g_clear_object (&priv->context);
  G_OBJECT_CLASS (gaio_socket_service_parent_class)->finalize (object);
}

static void
gaio_socket_service_get_property (GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
  GaioSocketServicePrivate *priv = get_private (object);

  if (id == PROP_CONTEXT)
    g_value_set_object (value, priv->context);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
gaio_socket_service_set_property (GObject *object, guint id, const GValue *value, GParamSpec *pspec)
{
  GaioSocketServicePrivate *priv = get_private (object);

  if (id == PROP_CONTEXT)
    priv->context = g_value_dup_object (value);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
gaio_socket_service_init (GaioSocketService *self)
{
  GaioSocketServicePrivate *priv = get_private (self);

  g_mutex_init (&priv->mutex);
}

static void
gaio_socket_service_class_init (GaioSocketServiceClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->constructed = gaio_socket_service_constructed;
  object_class->dispose = gaio_socket_service_dispose;
  object_class->finalize = gaio_socket_service_finalize;
  object_class->get_property = gaio_socket_service_get_property;
  object_class->set_property = gaio_socket_service_set_property;
  object_class->notify = gaio_socket_service_notify;
  G_SOCKET_LISTENER_CLASS (klass)->changed = gaio_socket_service_changed;
  G_SOCKET_LISTENER_CLASS (klass)->event = gaio_socket_service_event;
  G_SOCKET_SERVICE_CLASS (klass)->incoming = gaio_socket_service_incoming;

  /**
   * GaioSocketService:context:
   *
   * The context that serves the main contexts of the connections. The default is the one that
   * gaio_context_ref_thread_default() returns.
   *
   * Since: 1.0
   */
  properties[PROP_CONTEXT] =
      g_param_spec_object ("context", "Context", "What serves the connections", GAIO_TYPE_CONTEXT,
                           G_PARAM_READWRITE | G_PARAM_CONSTRUCT_ONLY | G_PARAM_STATIC_STRINGS);
  g_object_class_install_properties (object_class, N_PROPS, properties);

  /**
   * GaioSocketService::connection:
   * @self: the service
   * @connection: a new connection
   * @source_object: (nullable): what was passed to g_socket_listener_add_address(), say
   *
   * A client has connected. This is emitted on the thread that runs #GaioSocketService:context,
   * with the main context of @connection as the thread-default one, after
   * #GSocketService::incoming, unless a handler of that has returned %TRUE.
   *
   * The main context is served until the #GSocket of @connection is finalized, and may then be that
   * of another connection. Take a reference to
   * @connection for as long as you use it, as with #GSocketService::incoming.
   *
   * Objects that the handlers of one connection create belong to that connection: do not begin
   * anything with them from another.
   *
   * Since: 1.0
   */
  connection_signal =
      g_signal_new ("connection", G_TYPE_FROM_CLASS (klass), G_SIGNAL_RUN_LAST,
                    G_STRUCT_OFFSET (GaioSocketServiceClass, connection), NULL, NULL, NULL,
                    G_TYPE_NONE, 2, G_TYPE_SOCKET_CONNECTION, G_TYPE_OBJECT);
}

/**
 * gaio_socket_service_new:
 * @context: (nullable): the context that is to serve the main contexts of the connections, or %NULL
 *   for the one that gaio_context_ref_thread_default() returns
 *
 * Creates a service that listens nowhere yet, as g_threaded_socket_service_new() does. Add sockets
 * with g_socket_listener_add_inet_port(), say. The service is active from the start.
 *
 * Returns: (transfer full) (type Gaio.SocketService): a new service
 *
 * Since: 1.0
 */
GSocketService *
gaio_socket_service_new (GaioContext *context)
{
  g_return_val_if_fail (context == NULL || GAIO_IS_CONTEXT (context), NULL);

  return g_object_new (GAIO_TYPE_SOCKET_SERVICE, "context", context, NULL);
}

/**
 * gaio_socket_service_get_context:
 * @self: a service
 *
 * Returns the context that serves the main contexts of the connections. May be called from any
 * thread.
 *
 * Returns: (transfer none): the context
 *
 * Since: 1.0
 */
GaioContext *
gaio_socket_service_get_context (GaioSocketService *self)
{
  g_return_val_if_fail (GAIO_IS_SOCKET_SERVICE (self), NULL);

  return ((GaioSocketServicePrivate *) get_private (self))->context;
}
