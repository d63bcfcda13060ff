/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>
#include <sys/socket.h>

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

static inline void
let_timing_end (void)
{
  g_source_set_ready_time (timing_end, 0);
  main_context_until (NULL, g_source_is_destroyed (timing_end));
}

/* --- Two ends of a D-Bus connection, both served by this thread --- */

typedef struct
{
  GDBusConnection *server;
  GDBusConnection *client;
} Bus;

static inline GDBusConnection *
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

static inline Bus
bus_new (void)
{
  gint fds[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  return (Bus){ connection_new (fds[0]), connection_new (fds[1]) };
}

static inline void
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

static inline void
keep_result (GObject *source, GAsyncResult *result, gpointer data)
{
  *(GAsyncResult **) data = g_object_ref (result);
}

static inline GVariant *
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

static inline GVariant *
call_well (Bus *bus, const char *path, const char *interface, const char *method, GVariant *in)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) answer = call (bus, path, interface, method, in, &error);

  g_assert_no_error (error);
  return g_variant_get_child_value (answer, 0);
}

static inline GVariant *
get_stats (Bus *bus, const char *path)
{
  return call_well (bus, path, INTERFACE, "GetStats", NULL);
}

static inline GVariant *
get_slowest (Bus *bus, const char *path, guint max)
{
  return call_well (bus, path, INTERFACE, "GetSlowest", g_variant_new ("(u)", max));
}

static inline GaioStatsExporter *
exporter_new (GaioContext *context, Bus *bus)
{
  g_autoptr (GError) error = NULL;
  GaioStatsExporter *exporter = gaio_stats_exporter_new (context, bus->server, &error);

  g_assert_no_error (error);
  return exporter;
}

static inline const char *
path_of (GaioStatsExporter *exporter)
{
  return gaio_stats_exporter_get_object_path (exporter);
}

/* The time of all callbacks, or -1 if they are not timed. */
static inline gint64
callback_time (Bus *bus, GaioStatsExporter *exporter)
{
  g_autoptr (GVariant) stats = get_stats (bus, path_of (exporter));
  guint64 us;

  return g_variant_lookup (stats, "callback-time", "t", &us) ? (gint64) us : -1;
}

/* The rows, in order, with the times in milliseconds: "kind name fd calls total longest, ..." */
static inline char *
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

/* How often a round with one bottom half looks at the clock. */
static inline guint
readings_of_a_call (GaioContext *context)
{
  guint calls = 0;
  guint before = atomic_load (&clock_readings);

  gaio_context_defer (context, count_once, &calls, NULL);
  gaio_context_iterate (context, 0);
  g_assert_cmpuint (calls, ==, 1);
  return atomic_load (&clock_readings) - before;
}
