/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gio/gio.h>

#include "test-stats-exporter.h"

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
