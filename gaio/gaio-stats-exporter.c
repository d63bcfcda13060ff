/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-stats-exporter.h>

#include <unistd.h>

#include <gaio/gaio-context.h>
#include <gaio/gaio-error.h>

#include "gaio-core-private.h"
#include "gaio-trace-private.h"

#define ROOT "/org/gaio/Stats"
#define INTERFACE "org.gaio.Stats1"
/* How long callbacks are timed after a call. */
#define TIMING_SECONDS 10

/**
 * SECTION:gaio-stats-exporter
 * @title: GaioStatsExporter
 * @short_description: the statistics of a context, on D-Bus
 *
 * A #GaioStatsExporter publishes statistics on a #GDBusConnection: what gaio_context_dup_stats()
 * returns for a #GaioContext, and how long its callbacks take. The object path is
 * <literal>/org/gaio/Stats/N</literal>, where N numbers the exporters of the connection from 0;
 * introspecting <literal>/org/gaio/Stats</literal> finds them all. Its interface is
 * <literal>org.gaio.Stats1</literal>:
 *
 * - `GetStats () -> a{sv}`: what gaio_context_dup_stats() returns, `program` (s), `pid` (u), and,
 *   while callbacks are timed, `callback-time` (t): how many microseconds they took
 * - `GetSlowest (u max) -> a(ssittt)`: the callbacks whose longest calls took the most time, at
 *   most `max` of them. Each has its kind (`handler`, `ready set`, `timer`, `bottom half`, `main
 *   context`), the name of the handler or an empty string, its fd or -1, the number of calls, the
 *   total time in microseconds, and the time of the longest call in microseconds. A call of the
 *   kind `main context` is a turn of one that the context serves; its name is the address of the
 *   #GMainContext and the type of its owner. There is one row for each name, or for each fd without
 *   a name; after 256 rows, everything else is in one row of the kind `others`
 *
 * After either call, callbacks are timed for the next 10 seconds, so the first answer contains no
 * times. After these 10 seconds, the times are discarded. While nobody calls, this costs nothing.
 * The time of a callback includes that of a main loop nested in it.
 *
 * Once the context has been closed, the calls fail with
 * <literal>org.gaio.Stats1.Error.Closed</literal>. The exporter does not keep its context alive.
 *
 * Calls are answered in the #GMainContext that was the thread-default one when the exporter was
 * created.
 */

static const char introspection[] = "<node>"
                                    "  <interface name='" INTERFACE "'>"
                                    "    <method name='GetStats'>"
                                    "      <arg name='stats' type='a{sv}' direction='out'/>"
                                    "    </method>"
                                    "    <method name='GetSlowest'>"
                                    "      <arg name='max' type='u' direction='in'/>"
                                    "      <arg name='callbacks' type='a(ssittt)' direction='out'/>"
                                    "    </method>"
                                    "  </interface>"
                                    "</node>";

/* Answers the calls. It holds no reference to the object, because dropping the last one stops
 * it. */
typedef struct
{
  GaioRefCount ref_count;
  GaioCore *core; /* (const) */
  pthread_mutex_t mutex;
  GSource *timeout; /* (mutex) ends the timing, or NULL while nothing is timed */
  gboolean stopped; /* (mutex) */
} Export;

/**
 * GaioStatsExporter:
 *
 * Publishes the statistics of a context on D-Bus.
 *
 * Since: 1.0
 */
struct _GaioStatsExporter
{
  GObject parent_instance;

  GaioCore *core;
  GDBusConnection *connection;
  Export *export; /* (const) once it has been made */
  char *path;     /* (const) once it has been made */
  guint id;       /* (const) once it has been made */
};

enum
{
  PROP_0,
  PROP_CONTEXT,
  PROP_CONNECTION,
  N_PROPS
};

static GParamSpec *properties[N_PROPS];

static void gaio_stats_exporter_initable_iface_init (GInitableIface *iface);

G_DEFINE_FINAL_TYPE_WITH_CODE (GaioStatsExporter,
                               gaio_stats_exporter,
                               G_TYPE_OBJECT,
                               G_IMPLEMENT_INTERFACE (G_TYPE_INITABLE,
                                                      gaio_stats_exporter_initable_iface_init))

static Export *
export_new (GaioCore *core)
{
  Export *export = g_new0 (Export, 1);

  gaio_ref_count_init (&export->ref_count, 1);
  export->core = gaio_core_ref (core);
  pthread_mutex_init (&export->mutex, NULL);
  return export;
}

static Export *
export_ref (Export *export)
{
  gaio_ref_count_inc (&export->ref_count);
  return export;
}

static void
export_unref (gpointer data)
{
  Export *export = data;

  if (!gaio_ref_count_dec (&export->ref_count))
    return;
  pthread_mutex_destroy (&export->mutex);
  gaio_core_unref (export->core);
  g_free (export);
}

/* A connection gets an id, not a pointer, because GLib versions differ in whether and when they
 * call the destroy notify after a refusal. Id -> Export, with a reference. */
static pthread_mutex_t exports_mutex = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *exports;

static void
lock_exports (void)
{
  pthread_mutex_lock (&exports_mutex);
}

static void
unlock_exports (void)
{
  pthread_mutex_unlock (&exports_mutex);
}

/* A child must not inherit it locked, because it may export contexts of its own. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (lock_exports, unlock_exports, unlock_exports);
}

/* Returns an id that is never used again. */
static gpointer
exports_add (Export *export)
{
  static gsize last;
  gpointer id;

  lock_exports ();
  if (exports == NULL)
    exports = g_hash_table_new (NULL, NULL);
  id = GSIZE_TO_POINTER (++last);
  g_hash_table_insert (exports, id, export_ref (export));
  unlock_exports ();
  return id;
}

/* Returns a new reference, or NULL if it has been removed from its connection. */
static Export *
exports_lookup (gpointer id)
{
  Export *export;

  lock_exports ();
  export = g_hash_table_lookup (exports, id);
  if (export != NULL)
    export_ref (export);
  unlock_exports ();
  return export;
}

/* Does nothing the second time. */
static void
exports_remove (gpointer id)
{
  gpointer export = NULL;

  lock_exports ();
  g_hash_table_steal_extended (exports, id, NULL, &export);
  unlock_exports ();
  g_clear_pointer (&export, export_unref);
}

/* With the mutex held. */
static void
end_timing (Export *export)
{
  if (export->timeout == NULL)
    return;
  g_source_destroy (export->timeout);
  g_clear_pointer (&export->timeout, g_source_unref);
  gaio_trace_stop_profile (&export->core->profile);
}

static gboolean
on_timeout (gpointer data)
{
  Export *export = data;

  pthread_mutex_lock (&export->mutex);
  end_timing (export);
  pthread_mutex_unlock (&export->mutex);
  return G_SOURCE_REMOVE;
}

static GSource *
timeout_new (Export *export)
{
  GSource *timeout = g_timeout_source_new_seconds (TIMING_SECONDS);

  g_source_set_static_name (timeout, "[gaio] end of timing");
  g_source_set_callback (timeout, on_timeout, export_ref (export), export_unref);
  g_source_attach (timeout, g_source_get_context (g_main_current_source ()));
  return timeout;
}

/* Times callbacks from now on, until nobody has called for a while. Called by a source of the main
 * context that answers. */
static void
time_callbacks (Export *export)
{
  pthread_mutex_lock (&export->mutex);
  if (!export->stopped)
    {
      /* Before the old timeout ends the timing, so that nothing is discarded. */
      gaio_trace_start_profile (&export->core->profile);
      end_timing (export);
      export->timeout = timeout_new (export);
    }
  pthread_mutex_unlock (&export->mutex);
}

/* A call may be in progress. */
static void
export_stop (Export *export)
{
  pthread_mutex_lock (&export->mutex);
  export->stopped = TRUE;
  end_timing (export);
  pthread_mutex_unlock (&export->mutex);
}

static GVariant *
get_stats (GaioContext *context)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  g_autofree char *program = g_utf8_make_valid (g_get_prgname () ? g_get_prgname () : "", -1);
  gint64 callback_us = gaio_profile_get_total (&context->core->profile);
  g_auto (GVariantDict) dict = G_VARIANT_DICT_INIT (stats);

  g_variant_dict_insert (&dict, "program", "s", program);
  g_variant_dict_insert (&dict, "pid", "u", (guint32) getpid ());
  if (callback_us >= 0)
    g_variant_dict_insert (&dict, "callback-time", "t", (guint64) callback_us);
  return g_variant_dict_end (&dict);
}

static GVariant *
get_slowest (GaioContext *context, GVariant *parameters)
{
  guint32 max;

  g_variant_get (parameters, "(u)", &max);
  return gaio_profile_get_slowest (&context->core->profile, max);
}

static void
answer_call (Export *export,
             const char *method,
             GVariant *parameters,
             GDBusMethodInvocation *invocation)
{
  g_autoptr (GaioContext) context = export != NULL ? gaio_core_dup_context (export->core) : NULL;
  GVariant *answer;

  if (context == NULL || gaio_context_is_closed (context))
    {
      g_dbus_method_invocation_return_dbus_error (invocation, INTERFACE ".Error.Closed",
                                                  "The context is closed");
      return;
    }
  if (g_str_equal (method, "GetStats"))
    answer = get_stats (context);
  else
    answer = get_slowest (context, parameters);
  time_callbacks (export);
  g_dbus_method_invocation_return_value (invocation, g_variant_new_tuple (&answer, 1));
}

static void
on_method_call (GDBusConnection *connection,
                const char *sender,
                const char *path,
                const char *interface,
                const char *method,
                GVariant *parameters,
                GDBusMethodInvocation *invocation,
                gpointer id)
{
  /* Another thread may have stopped it just now. */
  Export *export = exports_lookup (id);

  answer_call (export, method, parameters, invocation);
  g_clear_pointer (&export, export_unref);
}

static GDBusInterfaceInfo *
get_interface (void)
{
  static GDBusNodeInfo *node;

  if (g_once_init_enter (&node))
    g_once_init_leave (&node, g_dbus_node_info_new_for_xml (introspection, NULL));
  return node->interfaces[0];
}

static guint
register_at (GaioStatsExporter *self, const char *path, GError **error)
{
  static const GDBusInterfaceVTable vtable = { on_method_call };
  gpointer key = exports_add (self->export);
  guint id = g_dbus_connection_register_object (self->connection, path, get_interface (), &vtable,
                                                key, exports_remove, error);

  if (id == 0)
    exports_remove (key);
  return id;
}

/* At the first path that is free. */
static gboolean
register_object (GaioStatsExporter *self, GError **error)
{
  g_autoptr (GError) cause = NULL;

  for (guint n = 0; self->id == 0; n++)
    {
      g_clear_error (&cause);
      g_free (self->path);
      self->path = g_strdup_printf (ROOT "/%u", n);
      self->id = register_at (self, self->path, &cause);
      if (self->id == 0 && !g_error_matches (cause, G_IO_ERROR, G_IO_ERROR_EXISTS))
        {
          g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "%s: %s", self->path, cause->message);
          return FALSE;
        }
    }
  return TRUE;
}

static gboolean
check_context (GaioCore *core, GError **error)
{
  gboolean locked = gaio_core_lock (core);
  gboolean usable = gaio_core_check (core, error);

  if (locked)
    gaio_core_unlock (core);
  return usable;
}

static gboolean
check_connection (GDBusConnection *connection, GError **error)
{
  if (!g_dbus_connection_is_closed (connection))
    return TRUE;
  g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "The D-Bus connection is closed");
  return FALSE;
}

static gboolean
gaio_stats_exporter_initable_init (GInitable *initable, GCancellable *cancellable, GError **error)
{
  GaioStatsExporter *self = GAIO_STATS_EXPORTER (initable);

  g_return_val_if_fail (self->core != NULL, FALSE);
  g_return_val_if_fail (self->connection != NULL, FALSE);

  if (self->export != NULL)
    return TRUE;
  if (!check_context (self->core, error) || !check_connection (self->connection, error))
    return FALSE;
  self->export = export_new (self->core);
  return register_object (self, error);
}

static void
gaio_stats_exporter_initable_iface_init (GInitableIface *iface)
{
  iface->init = gaio_stats_exporter_initable_init;
}

static void
gaio_stats_exporter_finalize (GObject *object)
{
  GaioStatsExporter *self = GAIO_STATS_EXPORTER (object);

  if (self->export != NULL)
    gaio_stats_exporter_stop (self);
  g_clear_pointer (&self->export, export_unref);
  g_clear_pointer (&self->core, gaio_core_unref);
  g_clear_object (&self->connection);
  g_free (self->path);
  G_OBJECT_CLASS (gaio_stats_exporter_parent_class)->finalize (object);
}

static void
gaio_stats_exporter_get_property (GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
  GaioStatsExporter *self = GAIO_STATS_EXPORTER (object);

  if (id == PROP_CONTEXT)
    g_value_take_object (value, self->core != NULL ? gaio_core_dup_context (self->core) : NULL);
  else if (id == PROP_CONNECTION)
    g_value_set_object (value, self->connection);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
gaio_stats_exporter_set_property (GObject *object, guint id, const GValue *value, GParamSpec *pspec)
{
  GaioStatsExporter *self = GAIO_STATS_EXPORTER (object);
  GaioContext *context;

  if (id == PROP_CONTEXT)
    {
      context = g_value_get_object (value);
      self->core = context != NULL ? gaio_core_ref (context->core) : NULL;
    }
  else if (id == PROP_CONNECTION)
    self->connection = g_value_dup_object (value);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
gaio_stats_exporter_class_init (GaioStatsExporterClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  const GParamFlags flags = G_PARAM_READWRITE | G_PARAM_CONSTRUCT_ONLY | G_PARAM_STATIC_STRINGS;

  object_class->finalize = gaio_stats_exporter_finalize;
  object_class->get_property = gaio_stats_exporter_get_property;
  object_class->set_property = gaio_stats_exporter_set_property;

  /**
   * GaioStatsExporter:context:
   *
   * The context whose statistics are published; %NULL once it no longer exists.
   *
   * Since: 1.0
   */
  properties[PROP_CONTEXT] =
      g_param_spec_object ("context", "Context", "What it reports on", GAIO_TYPE_CONTEXT, flags);

  /**
   * GaioStatsExporter:connection:
   *
   * The connection on which calls are answered.
   *
   * Since: 1.0
   */
  properties[PROP_CONNECTION] =
      g_param_spec_object ("connection", "Connection", "What it answers on", G_TYPE_DBUS_CONNECTION,
                           flags);
  g_object_class_install_properties (object_class, N_PROPS, properties);
}

static void
gaio_stats_exporter_init (GaioStatsExporter *self)
{
}

/**
 * gaio_stats_exporter_new:
 * @context: a context
 * @connection: the connection on which to answer
 * @error: return location for a #GError
 *
 * Publishes the statistics of @context until gaio_stats_exporter_stop() is called or the last
 * reference is dropped. Calls are answered in the calling thread's default #GMainContext. May be
 * called from any thread.
 *
 * Fails with %GAIO_ERROR_CLOSED or %GAIO_ERROR_FORKED if @context is closed or was inherited from a
 * parent process, and with %GAIO_ERROR_FAILED if @connection is closed.
 *
 * Returns: (transfer full): a new exporter, or %NULL on error
 *
 * Since: 1.0
 */
GaioStatsExporter *
gaio_stats_exporter_new (GaioContext *context, GDBusConnection *connection, GError **error)
{
  g_return_val_if_fail (GAIO_IS_CONTEXT (context), NULL);
  g_return_val_if_fail (G_IS_DBUS_CONNECTION (connection), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return g_initable_new (GAIO_TYPE_STATS_EXPORTER, NULL, error, "context", context, "connection",
                         connection, NULL);
}

/**
 * gaio_stats_exporter_get_object_path:
 * @self: an exporter
 *
 * Returns the object path of @self, or the one it had until it was stopped. May be called from any
 * thread.
 *
 * Returns: an object path, valid as long as @self exists
 *
 * Since: 1.0
 */
const char *
gaio_stats_exporter_get_object_path (GaioStatsExporter *self)
{
  g_return_val_if_fail (GAIO_IS_STATS_EXPORTER (self), NULL);
  g_return_val_if_fail (self->export != NULL, NULL);
  return self->path;
}

/**
 * gaio_stats_exporter_stop:
 * @self: an exporter
 *
 * Removes the object of @self from the connection. Does nothing if @self has already been stopped,
 * or in a forked child. Dropping the last reference does the same. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_stats_exporter_stop (GaioStatsExporter *self)
{
  g_return_if_fail (GAIO_IS_STATS_EXPORTER (self));
  g_return_if_fail (self->export != NULL);

  if (gaio_core_is_forked (self->core))
    return;
  export_stop (self->export);
  g_dbus_connection_unregister_object (self->connection, self->id);
}
