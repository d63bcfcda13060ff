/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/socket.h>

#include <gio/gio.h>

#include "test-loop.h"
#include "test-clock.h"

#define ROOT "/org/gaio/Stats"
#define INTERFACE "org.gaio.Stats1"

#ifdef __SANITIZE_THREAD__
const char *__tsan_default_options (void);

/* What GDBus passes from its thread to ours is GLib's, whose locks ThreadSanitizer does not see. */
const char *
__tsan_default_options (void)
{
  return "ignore_noninstrumented_modules=1";
}
#endif

/* --- What comes in between while a call is answered: stands in for GLib's --- */

static GaioStatsExporter *to_stop;

const char *
g_get_prgname (void)
{
  if (to_stop != NULL)
    gaio_stats_exporter_stop (g_steal_pointer (&to_stop));
  return NEXT (g_get_prgname) ();
}

/* --- Who takes a mutex: stands in for the C library's --- */

static gboolean counts_locks;
static guint n_locks;

int
pthread_mutex_lock (pthread_mutex_t *mutex)
{
  if (counts_locks)
    n_locks++;
  return NEXT (pthread_mutex_lock) (mutex);
}

/* --- How many this thread destroys: likewise --- */

static _Thread_local guint n_mutexes_destroyed;

int
pthread_mutex_destroy (pthread_mutex_t *mutex)
{
  n_mutexes_destroyed++;
  return NEXT (pthread_mutex_destroy) (mutex);
}

/* --- When the timing ends: stands in for GLib's --- */

static GSource *timing_end;

GSource *
g_timeout_source_new_seconds (guint interval)
{
  g_assert_cmpuint (interval, ==, 10);
  g_clear_pointer (&timing_end, g_source_unref);
  timing_end = g_timeout_source_new (G_MAXINT);
  return g_source_ref (timing_end);
}

static void
let_timing_end (void)
{
  g_source_set_ready_time (timing_end, 0);
  main_context_until (NULL, g_source_is_destroyed (timing_end));
}

/* --- A connection that refuses the next path, and what becomes of the notify then: stands in for
 * GLib's --- */

typedef enum
{
  ACCEPTS,
  REFUSES,                 /* and leaves it at that, as GLib before 2.81 */
  REFUSES_AND_NOTIFIES,    /* as GLib since */
  REFUSES_AND_WILL_NOTIFY, /* as any may whose notify has to run in another thread */
} Register;

static Register next_register;
static gpointer refused_data;
static GDestroyNotify refused_notify;

static void
notify_refused (void)
{
  g_steal_pointer (&refused_notify) (g_steal_pointer (&refused_data));
}

guint
g_dbus_connection_register_object (GDBusConnection *connection,
                                   const char *path,
                                   GDBusInterfaceInfo *info,
                                   const GDBusInterfaceVTable *vtable,
                                   gpointer data,
                                   GDestroyNotify notify,
                                   GError **error)
{
  Register how = next_register;

  next_register = ACCEPTS;
  if (how == ACCEPTS)
    return NEXT (g_dbus_connection_register_object) (connection, path, info, vtable, data, notify,
                                                     error);
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "%s is taken", path);
  refused_data = data;
  refused_notify = notify;
  if (how == REFUSES_AND_NOTIFIES)
    notify_refused ();
  return 0;
}

/* --- Two ends of a D-Bus connection, both served by this thread --- */

typedef struct
{
  GDBusConnection *server;
  GDBusConnection *client;
} Bus;

static GDBusConnection *
connection_new (gint fd)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, &error);
  g_autoptr (GSocketConnection) stream = g_socket_connection_factory_create_connection (socket);
  GDBusConnection *connection =
      g_dbus_connection_new_sync (G_IO_STREAM (stream), NULL, G_DBUS_CONNECTION_FLAGS_NONE, NULL,
                                  NULL, &error);

  g_assert_no_error (error);
  return connection;
}

static Bus
bus_new (void)
{
  gint fds[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  return (Bus){ connection_new (fds[0]), connection_new (fds[1]) };
}

static void
bus_clear (Bus *bus)
{
  g_dbus_connection_close_sync (bus->client, NULL, NULL);
  g_dbus_connection_close_sync (bus->server, NULL, NULL);
  g_clear_object (&bus->client);
  g_clear_object (&bus->server);
  main_context_settle (NULL);
  g_clear_pointer (&timing_end, g_source_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Bus, bus_clear)

static void
keep_result (GObject *source, GAsyncResult *result, gpointer data)
{
  *(GAsyncResult **) data = g_object_ref (result);
}

static GVariant *
call (Bus *bus,
      const char *path,
      const char *interface,
      const char *method,
      GVariant *in,
      GError **error)
{
  g_autoptr (GAsyncResult) result = NULL;

  g_dbus_connection_call (bus->client, NULL, path, interface, method, in, NULL,
                          G_DBUS_CALL_FLAGS_NONE, -1, NULL, keep_result, &result);
  main_context_until (NULL, result != NULL);
  return g_dbus_connection_call_finish (bus->client, result, error);
}

static GVariant *
call_well (Bus *bus, const char *path, const char *interface, const char *method, GVariant *in)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) answer = call (bus, path, interface, method, in, &error);

  g_assert_no_error (error);
  return g_variant_get_child_value (answer, 0);
}

static GVariant *
get_stats (Bus *bus, const char *path)
{
  return call_well (bus, path, INTERFACE, "GetStats", NULL);
}

static GVariant *
get_slowest (Bus *bus, const char *path, guint max)
{
  return call_well (bus, path, INTERFACE, "GetSlowest", g_variant_new ("(u)", max));
}

static void
assert_fails (Bus *bus, const char *path, const char *method, const char *name)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) answer =
      call (bus, path, INTERFACE, method,
            g_str_equal (method, "GetSlowest") ? g_variant_new ("(u)", 1) : NULL, &error);
  g_autofree char *remote = NULL;

  g_assert_null (answer);
  remote = g_dbus_error_get_remote_error (error);
  g_assert_cmpstr (remote, ==, name);
}

static void
assert_gone (Bus *bus, const char *path)
{
  assert_fails (bus, path, "GetStats", "org.freedesktop.DBus.Error.UnknownMethod");
}

static GaioStatsExporter *
exporter_new (GaioContext *context, Bus *bus)
{
  g_autoptr (GError) error = NULL;
  GaioStatsExporter *exporter = gaio_stats_exporter_new (context, bus->server, &error);

  g_assert_no_error (error);
  return exporter;
}

static const char *
path_of (GaioStatsExporter *exporter)
{
  return gaio_stats_exporter_get_object_path (exporter);
}

/* The time of all callbacks, or -1 if they are not timed. */
static gint64
callback_time (Bus *bus, GaioStatsExporter *exporter)
{
  g_autoptr (GVariant) stats = get_stats (bus, path_of (exporter));
  guint64 us;

  return g_variant_lookup (stats, "callback-time", "t", &us) ? (gint64) us : -1;
}

/* --- What is exported --- */

static void
test_tells_stats (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GVariant) expected = gaio_context_dup_stats (context);
  g_autoptr (GVariant) stats = get_stats (&bus, path_of (exporter));
  GVariantIter iter;
  const char *key;
  const char *program;
  guint pid;

  g_variant_iter_init (&iter, expected);
  while (g_variant_iter_next (&iter, "{&sv}", &key, NULL))
    {
      g_autoptr (GVariant) value = g_variant_lookup_value (stats, key, NULL);
      g_autoptr (GVariant) wanted = g_variant_lookup_value (expected, key, NULL);

      g_assert_cmpvariant (value, wanted);
    }
  g_assert_true (g_variant_lookup (stats, "program", "&s", &program));
  g_assert_cmpstr (program, ==, g_get_prgname ());
  g_assert_true (g_variant_lookup (stats, "pid", "u", &pid));
  g_assert_cmpuint (pid, ==, getpid ());
  g_assert_cmpuint (g_variant_n_children (stats), ==, g_variant_n_children (expected) + 2);
}

/* What is below ROOT. */
static gboolean
has_node (Bus *bus, const char *name)
{
  g_autoptr (GVariant) xml =
      call_well (bus, ROOT, "org.freedesktop.DBus.Introspectable", "Introspect", NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (GDBusNodeInfo) info =
      g_dbus_node_info_new_for_xml (g_variant_get_string (xml, NULL), &error);

  g_assert_no_error (error);
  for (GDBusNodeInfo **node = info->nodes; *node != NULL; node++)
    if (g_str_equal ((*node)->path, name))
      return TRUE;
  return FALSE;
}

static void
test_paths (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioContext) other = gaio_context_new ();
  g_autoptr (GaioStatsExporter) first = exporter_new (context, &bus);
  g_autoptr (GaioStatsExporter) second = exporter_new (other, &bus);
  g_autoptr (GaioStatsExporter) third = exporter_new (context, &bus);
  g_autoptr (GaioStatsExporter) again = NULL;

  g_assert_cmpstr (path_of (first), ==, ROOT "/0");
  g_assert_cmpstr (path_of (second), ==, ROOT "/1");
  g_assert_cmpstr (path_of (third), ==, ROOT "/2");
  gaio_stats_exporter_stop (second);
  g_assert_true (has_node (&bus, "0"));
  g_assert_false (has_node (&bus, "1"));
  g_assert_true (has_node (&bus, "2"));
  again = exporter_new (other, &bus);
  g_assert_cmpstr (path_of (again), ==, ROOT "/1");
  g_assert_true (has_node (&bus, "1"));
}

/* What the exporter needs to answer goes with it, and not before. */
static void
test_refused_path (gconstpointer how)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = NULL;
  g_autoptr (GVariant) stats = NULL;
  guint n_destroyed;

  next_register = GPOINTER_TO_INT (how);
  n_destroyed = n_mutexes_destroyed;
  exporter = exporter_new (context, &bus);
  g_assert_cmpstr (path_of (exporter), ==, ROOT "/1");
  if (GPOINTER_TO_INT (how) == REFUSES_AND_WILL_NOTIFY)
    notify_refused ();
  stats = get_stats (&bus, ROOT "/1");
  g_assert_cmpuint (n_mutexes_destroyed, ==, n_destroyed);
  gaio_stats_exporter_stop (exporter);
  assert_gone (&bus, ROOT "/1");
  g_assert_cmpuint (n_mutexes_destroyed, ==, n_destroyed);
  g_clear_object (&exporter);
  g_assert_cmpuint (n_mutexes_destroyed, ==, n_destroyed + 1);
}

/* --- Timing --- */

static gboolean
take_time_fd (gint fd, GIOCondition condition, gpointer data)
{
  g_assert_true (eventfd_take (fd));
  atomic_fetch_add (&clock_ahead_us, GPOINTER_TO_INT (data) * 1000);
  return G_SOURCE_CONTINUE;
}

static void
take_time (gpointer ms)
{
  atomic_fetch_add (&clock_ahead_us, GPOINTER_TO_INT (ms) * 1000);
}

static GaioHandler *
add_slow (GaioContext *context, gint fd, const char *name, guint ms)
{
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, take_time_fd, GINT_TO_POINTER (ms), NULL);

  gaio_handler_set_name (handler, name);
  return handler;
}

/* The rows, in order, with the times in milliseconds: "kind name fd calls total longest, ..." */
static char *
describe_slowest (Bus *bus, GaioStatsExporter *exporter, guint max)
{
  g_autoptr (GVariant) rows = get_slowest (bus, path_of (exporter), max);
  GString *text = g_string_new (NULL);
  GVariantIter iter;
  const char *kind, *name;
  guint64 calls, total, longest;
  gint fd;

  g_variant_iter_init (&iter, rows);
  while (g_variant_iter_next (&iter, "(&s&sittt)", &kind, &name, &fd, &calls, &total, &longest))
    g_string_append_printf (text, "%s%s '%s' %d %u %u %u", text->len > 0 ? ", " : "", kind, name,
                            fd, (guint) calls, (guint) (total / 1000), (guint) (longest / 1000));
  return g_string_free (text, FALSE);
}

#define assert_slowest(bus, exporter, max, ...)                                                    \
  G_STMT_START                                                                                     \
  {                                                                                                \
    g_autofree char *wanted_ = g_strdup_printf (__VA_ARGS__);                                      \
    g_autofree char *found_ = describe_slowest (bus, exporter, max);                               \
                                                                                                   \
    g_assert_cmpstr (found_, ==, wanted_);                                                         \
  }                                                                                                \
  G_STMT_END

static void
test_slowest (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  gint fds[4] = { eventfd_new (0), eventfd_new (0), eventfd_new (0), eventfd_new (0) };
  GaioHandler *handlers[4] = { add_slow (context, fds[0], NULL, 300),
                               add_slow (context, fds[1], NULL, 100),
                               add_slow (context, fds[2], "twin", 200),
                               add_slow (context, fds[3], "twin", 400) };
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (context, take_time, GINT_TO_POINTER (600), NULL);

  assert_slowest (&bus, exporter, 10, "%s", "");
  for (guint i = 0; i < 4; i++)
    eventfd_add (fds[i]);
  gaio_timer_arm (timer, 0);
  gaio_context_defer (context, take_time, GINT_TO_POINTER (500), NULL);
  gaio_context_defer (context, take_time, GINT_TO_POINTER (50), NULL);
  while (gaio_context_iterate (context, 0))
    ;
  assert_slowest (
      &bus, exporter, 10,
      "timer '' -1 1 600 600, bottom half '' -1 2 550 500, handler 'twin' %d 2 600 400, "
      "handler '' %d 1 300 300, handler '' %d 1 100 100",
      fds[3], fds[0], fds[1]);
  assert_slowest (&bus, exporter, 1, "timer '' -1 1 600 600");
  assert_slowest (&bus, exporter, 0, "%s", "");
  for (guint i = 0; i < 4; i++)
    {
      gaio_clear_handler (&handlers[i]);
      close (fds[i]);
    }
}

static void
nest (gpointer context)
{
  gaio_context_defer (context, take_time, GINT_TO_POINTER (400), NULL);
  gaio_context_iterate (context, 0);
  take_time (GINT_TO_POINTER (300));
}

static void
test_nested (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, nest, context, NULL);
  gint64 us;

  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  g_assert_cmpint (callback_time (&bus, exporter), ==, 0);
  gaio_timer_arm (timer, 0);
  gaio_context_iterate (context, 0);
  us = callback_time (&bus, exporter);
  g_assert_cmpint (us, >=, 700 * 1000);
  g_assert_cmpint (us, <, 1100 * 1000);
  assert_slowest (&bus, exporter, 2, "timer '' -1 1 700 700, bottom half '' -1 1 400 400");
}

static void
test_bounded (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  gint fd = eventfd_new (0);
  g_autoptr (GaioHandler) handler = add_slow (context, fd, NULL, 1);
  g_autoptr (GVariant) rows = NULL;

  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  for (guint i = 0; i < 300; i++)
    {
      g_autofree char *name = g_strdup_printf ("%u", i);

      gaio_handler_set_name (handler, name);
      eventfd_add (fd);
      while (gaio_context_iterate (context, 0))
        ;
    }
  rows = get_slowest (&bus, path_of (exporter), G_MAXUINT);
  g_assert_cmpuint (g_variant_n_children (rows), ==, 257);
  gaio_handler_set_name (handler, "one more");
  gaio_context_defer (context, take_time, GINT_TO_POINTER (900), NULL);
  gaio_context_iterate (context, 0);
  assert_slowest (&bus, exporter, 1, "others '' -1 45 %d 900", 900 + 44);
  gaio_clear_handler (&handler);
  close (fd);
}

/* How often a round with one bottom half looks at the clock. */
static guint
readings_of_a_call (GaioContext *context)
{
  guint calls = 0;
  guint before = atomic_load (&clock_readings);

  gaio_context_defer (context, count_once, &calls, NULL);
  gaio_context_iterate (context, 0);
  g_assert_cmpuint (calls, ==, 1);
  return atomic_load (&clock_readings) - before;
}

static void
test_timing_ends (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  guint readings = readings_of_a_call (context);

  assert_slowest (&bus, exporter, 9, "%s", "");
  g_assert_cmpuint (readings_of_a_call (context), ==, readings + 2);
  let_timing_end ();
  g_assert_cmpuint (readings_of_a_call (context), ==, readings);
  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  assert_slowest (&bus, exporter, 9, "%s", "");
}

static void
test_asked_again (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GSource) end = NULL;

  assert_slowest (&bus, exporter, 9, "%s", "");
  end = g_source_ref (timing_end);
  gaio_context_defer (context, take_time, GINT_TO_POINTER (500), NULL);
  gaio_context_iterate (context, 0);
  g_assert_cmpint (callback_time (&bus, exporter), >=, 500 * 1000);
  g_assert_true (g_source_is_destroyed (end));
  g_assert_false (g_source_is_destroyed (timing_end));
  assert_slowest (&bus, exporter, 9, "bottom half '' -1 1 500 500");
}

static void
test_two_of_one_context (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioStatsExporter) other = exporter_new (context, &bus);

  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  g_assert_cmpint (callback_time (&bus, other), ==, 0);
  gaio_stats_exporter_stop (exporter);
  g_assert_cmpint (callback_time (&bus, other), ==, 0);
  let_timing_end ();
  g_assert_cmpint (callback_time (&bus, other), ==, -1);
}

static void
test_other_context (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioContext) other = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);

  assert_slowest (&bus, exporter, 9, "%s", "");
  gaio_context_defer (other, take_time, GINT_TO_POINTER (500), NULL);
  gaio_context_iterate (other, 0);
  assert_slowest (&bus, exporter, 9, "%s", "");
}

typedef struct
{
  Bus *bus;
  GaioStatsExporter *exporter;
} Asker;

static void
ask_inside (gpointer data)
{
  Asker *asker = data;

  take_time (GINT_TO_POINTER (1));
  g_assert_cmpint (callback_time (asker->bus, asker->exporter), ==, -1);
  take_time (GINT_TO_POINTER (500));
}

static void
test_began_before (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioContext) other = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioStatsExporter) of_other = exporter_new (other, &bus);
  Asker asker = { &bus, exporter };

  /* From now on every call is timed, of whichever context. */
  assert_slowest (&bus, of_other, 9, "%s", "");
  gaio_context_defer (context, ask_inside, &asker, NULL);
  gaio_context_iterate (context, 0);
  g_assert_cmpint (callback_time (&bus, exporter), ==, 0);
  assert_slowest (&bus, exporter, 9, "%s", "");
}

static void
test_no_text (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  gint fd = eventfd_new (1);
  g_autoptr (GaioHandler) handler = add_slow (context, fd, "\xff", 100);

  assert_slowest (&bus, exporter, 9, "%s", "");
  gaio_context_iterate (context, 0);
  assert_slowest (&bus, exporter, 9, "handler '\357\277\275' %d 1 100 100", fd);
  gaio_clear_handler (&handler);
  close (fd);
}

/* --- Ends --- */

static void
test_closed (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);

  gaio_context_close (context);
  assert_fails (&bus, path_of (exporter), "GetStats", INTERFACE ".Error.Closed");
  assert_fails (&bus, path_of (exporter), "GetSlowest", INTERFACE ".Error.Closed");
}

static void
test_context_gone (void)
{
  g_auto (Bus) bus = bus_new ();
  GaioContext *context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioContext) found = NULL;
  g_autoptr (GDBusConnection) connection = NULL;

  g_object_get (exporter, "context", &found, "connection", &connection, NULL);
  g_assert_true (found == context);
  g_assert_true (connection == bus.server);
  g_clear_object (&found);
  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  g_assert_finalize_object (context);
  assert_fails (&bus, path_of (exporter), "GetStats", INTERFACE ".Error.Closed");
  g_object_get (exporter, "context", &found, NULL);
  g_assert_null (found);
}

static void
test_stop (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  guint readings = readings_of_a_call (context);

  assert_slowest (&bus, exporter, 9, "%s", "");
  gaio_stats_exporter_stop (exporter);
  g_assert_cmpuint (readings_of_a_call (context), ==, readings);
  assert_gone (&bus, path_of (exporter));
  gaio_stats_exporter_stop (exporter);
  g_assert_cmpstr (path_of (exporter), ==, ROOT "/0");
}

static void
test_stop_in_a_call (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  guint readings = readings_of_a_call (context);

  to_stop = exporter;
  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  g_assert_null (to_stop);
  g_assert_cmpuint (readings_of_a_call (context), ==, readings);
  assert_gone (&bus, path_of (exporter));
}

static void
test_last_unref (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  GaioStatsExporter *exporter = exporter_new (context, &bus);
  guint readings = readings_of_a_call (context);

  assert_slowest (&bus, exporter, 9, "%s", "");
  g_assert_finalize_object (exporter);
  g_assert_cmpuint (readings_of_a_call (context), ==, readings);
  assert_gone (&bus, ROOT "/0");
}

static void
assert_not_made (GaioContext *context, Bus *bus, GaioError code)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioStatsExporter) exporter = gaio_stats_exporter_new (context, bus->server, &error);

  g_assert_error (error, GAIO_ERROR, (gint) code);
  g_assert_null (exporter);
}

static void
test_no_context (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();

  gaio_context_close (context);
  assert_not_made (context, &bus, GAIO_ERROR_CLOSED);
}

static void
test_no_connection (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();

  g_dbus_connection_close_sync (bus.server, NULL, NULL);
  main_context_until (NULL, g_dbus_connection_is_closed (bus.server));
  assert_not_made (context, &bus, GAIO_ERROR_FAILED);
}

static void
test_forked (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  pid_t child;

  child = fork ();
  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      counts_locks = TRUE;
      gaio_stats_exporter_stop (exporter);
      g_assert_cmpuint (n_locks, ==, 0);
      leave_child ();
    }
  assert_exits_well (child);
  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
}

static void
fork_and_make_one (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      g_auto (Bus) bus = bus_new ();

      assert_not_made (context, &bus, GAIO_ERROR_FORKED);
      leave_child ();
    }
  assert_exits_well (child);
}

/* In a process of its own, before GDBus has a thread there: it may hold locks of GObject. */
static void
test_not_for_a_forked_context (void)
{
  if (g_test_subprocess ())
    {
      fork_and_make_one ();
      return;
    }
  g_test_trap_subprocess (NULL, 0, 0);
  g_test_trap_assert_passed ();
}

static void
fork_and_go_on (gpointer data)
{
  pid_t *child = data;

  *child = fork ();
  g_assert_cmpint (*child, >=, 0);
  if (*child == 0)
    counts_locks = TRUE;
}

/* The mutex may be held by a thread that the child does not have. */
static void
test_forked_in_a_call (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  pid_t child;

  assert_slowest (&bus, exporter, 9, "%s", "");
  gaio_context_defer (context, fork_and_go_on, &child, NULL);
  gaio_context_iterate (context, 0);
  if (child == 0)
    {
      g_assert_cmpuint (n_locks, ==, 0);
      leave_child ();
    }
  assert_exits_well (child);
}

static void
test_not_initialized (void)
{
  g_autoptr (GaioStatsExporter) exporter = g_object_new (GAIO_TYPE_STATS_EXPORTER, NULL);

  expect_critical (gaio_stats_exporter_stop (exporter));
  expect_critical (gaio_stats_exporter_get_object_path (exporter));
  expect_critical (g_initable_init (G_INITABLE (exporter), NULL, NULL));
}

/* --- Threads --- */

static gboolean
tells_of_handlers (Bus *bus, GaioStatsExporter *exporter)
{
  g_autofree char *slowest = describe_slowest (bus, exporter, 9);

  return g_str_has_prefix (slowest, "handler ");
}

static void
test_other_thread (void)
{
  g_auto (Bus) bus = bus_new ();
  Loop loop;
  gint fd = eventfd_new (1);
  atomic_uint calls = 0;
  g_autoptr (GaioStatsExporter) exporter = NULL;
  GaioHandler *handler;

  loop_start (&loop, NULL);
  exporter = exporter_new (loop.context, &bus);
  handler = add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
  for (guint i = 0; i < 20; i++)
    {
      g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
      wait_for (tells_of_handlers (&bus, exporter));
      g_assert_cmpint (callback_time (&bus, exporter), >=, 0);
      let_timing_end ();
    }
  wait_for (tells_of_handlers (&bus, exporter));
  gaio_stats_exporter_stop (exporter);
  gaio_clear_handler (&handler);
  loop_stop (&loop);
  g_clear_object (&exporter);
  loop_free (&loop);
  close (fd);
}

static void *
stop (gpointer exporter)
{
  gaio_stats_exporter_stop (exporter);
  return NULL;
}

/* Calls that are under way are answered, or find nobody; either way the timing ends. */
static void
test_stopped_elsewhere (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint readings = readings_of_a_call (context);

  for (guint i = 0; i < 50; i++)
    {
      GaioStatsExporter *exporter = exporter_new (context, &bus);
      pthread_t thread;
      GVariant *answer;

      g_variant_unref (get_stats (&bus, path_of (exporter)));
      thread = spawn (stop, exporter);
      while ((answer = call (&bus, path_of (exporter), INTERFACE, "GetStats", NULL, NULL)) != NULL)
        g_variant_unref (answer);
      join (thread);
      g_assert_finalize_object (exporter);
      assert_gone (&bus, ROOT "/0");
      g_assert_cmpuint (readings_of_a_call (context), ==, readings);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  clock_read_us = 1000 * (gint64) G_USEC_PER_SEC;
  clock_stands = TRUE;
  g_test_add_func ("/stats-exporter/tells-what-the-context-tells", test_tells_stats);
  g_test_add_func ("/stats-exporter/each-has-a-path-of-its-own", test_paths);
  g_test_add_data_func ("/stats-exporter/refused-path-frees-nothing-twice/not-notified",
                        GINT_TO_POINTER (REFUSES), test_refused_path);
  g_test_add_data_func ("/stats-exporter/refused-path-frees-nothing-twice/notified",
                        GINT_TO_POINTER (REFUSES_AND_NOTIFIES), test_refused_path);
  g_test_add_data_func ("/stats-exporter/refused-path-frees-nothing-twice/notified-later",
                        GINT_TO_POINTER (REFUSES_AND_WILL_NOTIFY), test_refused_path);
  g_test_add_func ("/stats-exporter/slowest-comes-first", test_slowest);
  g_test_add_func ("/stats-exporter/nested-call-is-part-of-the-time", test_nested);
  g_test_add_func ("/stats-exporter/rows-are-bounded", test_bounded);
  g_test_add_func ("/stats-exporter/timing-ends-when-nobody-asks", test_timing_ends);
  g_test_add_func ("/stats-exporter/timing-goes-on-when-asked-again", test_asked_again);
  g_test_add_func ("/stats-exporter/timing-goes-on-for-another", test_two_of_one_context);
  g_test_add_func ("/stats-exporter/tells-nothing-of-another-context", test_other_context);
  g_test_add_func ("/stats-exporter/what-began-before-does-not-count", test_began_before);
  g_test_add_func ("/stats-exporter/name-that-is-no-text", test_no_text);
  g_test_add_func ("/stats-exporter/closed-context-is-an-error", test_closed);
  g_test_add_func ("/stats-exporter/does-not-keep-its-context", test_context_gone);
  g_test_add_func ("/stats-exporter/stop-takes-it-from-the-bus", test_stop);
  g_test_add_func ("/stats-exporter/stop-while-a-call-is-answered", test_stop_in_a_call);
  g_test_add_func ("/stats-exporter/last-reference-stops", test_last_unref);
  g_test_add_func ("/stats-exporter/not-for-a-closed-context", test_no_context);
  g_test_add_func ("/stats-exporter/not-on-a-closed-connection", test_no_connection);
  g_test_add_func ("/stats-exporter/not-for-a-forked-context", test_not_for_a_forked_context);
  g_test_add_func ("/stats-exporter/not-in-a-forked-child", test_forked);
  g_test_add_func ("/stats-exporter/forked-child-takes-no-mutex", test_forked_in_a_call);
  g_test_add_func ("/stats-exporter/does-nothing-before-its-init", test_not_initialized);
  g_test_add_func ("/stats-exporter/asked-while-another-thread-runs", test_other_thread);
  g_test_add_func ("/stats-exporter/stop-in-another-thread", test_stopped_elsewhere);
  return g_test_run ();
}
