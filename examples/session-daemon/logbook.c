/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gaio-logbook: a session daemon that keeps a log for thousands of clients of a Unix socket.
 *
 *   gaio-logbook [--config=FILE] [--watch=gaio|glib]
 *
 * As `./dev demo` has built it, in this folder:
 *
 *   $ ../../build/release/examples/session-daemon/gaio-logbook --config=gaio-logbook.conf &
 *   $ printf 'PUT 1 hello\nPUT 2 world\n' | nc -UN $XDG_RUNTIME_DIR/gaio-logbook.sock
 *   $ busctl --user call org.gaio.Logbook /org/gaio/Logbook org.gaio.Logbook1 Run s count
 *
 * client.c has the protocol, org.gaio.Logbook1.xml what it offers on D-Bus, gaio-logbook.conf the
 * configuration. Beside the program are the files that have systemd and the session bus start it: a
 * bus without systemd finds org.gaio.Logbook.service in ~/.local/share/dbus-1/services.
 *
 * The exit status is 0 after SIGTERM, SIGINT and Quit(), 2 if --watch or the configuration is
 * wrong, and 1 if anything else is: the socket or the log cannot be had, there is no session bus,
 * another daemon owns the name, or the session bus has gone. In the last case, too, the daemon ends
 * in order.
 */
#include <locale.h>
#include <signal.h>
#include <sys/resource.h>

#include <gaio.h>
#include <glib-unix.h>

#include "logbook-dbus.h"
#include "server.h"
#include "watch.h"

#define APP_ID "org.gaio.Logbook"
/* D-Bus is told of new figures at most so often. */
#define REFRESH_US (G_USEC_PER_SEC / 5)

#define LOGBOOK_TYPE_APP (logbook_app_get_type ())
G_DECLARE_FINAL_TYPE (LogbookApp, logbook_app, LOGBOOK, APP, GApplication)

struct _LogbookApp
{
  GApplication parent_instance;

  LogbookConfig *config;
  LogbookServer *server; /* once it is running */
  LogbookDBusLogbook1 *skeleton;
  GaioStatsExporter *exporter;
  GaioTimer *refresh;
  int status; /* to exit with */
};

G_DEFINE_FINAL_TYPE (LogbookApp, logbook_app, G_TYPE_APPLICATION)

static void
stop (LogbookApp *self, int status)
{
  self->status = status;
  if (self->server != NULL)
    logbook_server_stop (self->server);
  g_application_quit (G_APPLICATION (self));
}

static gboolean
on_stop_signal (gpointer self)
{
  stop (self, 0);
  return G_SOURCE_CONTINUE;
}

/* Properties */

static void
on_refresh (gpointer user_data)
{
  LogbookApp *self = user_data;

  logbook_dbus_logbook1_set_clients (self->skeleton, logbook_server_count_clients (self->server));
  logbook_dbus_logbook1_set_entries (self->skeleton, logbook_server_count_entries (self->server));
}

static void
on_changed (LogbookApp *self)
{
  if (gaio_timer_get_deadline (self->refresh) == -1)
    gaio_timer_arm (self->refresh, REFRESH_US);
}

/* Methods */

static void
return_result (const char *name, const char *result, gpointer user_data)
{
  GDBusMethodInvocation *invocation = user_data;

  g_dbus_method_invocation_return_value (invocation, g_variant_new ("(s)", result));
}

static gboolean
on_run (LogbookApp *self, GDBusMethodInvocation *invocation, const char *name)
{
  GError *error = NULL;

  if (!logbook_server_run (self->server, name, return_result, invocation, &error))
    g_dbus_method_invocation_take_error (invocation, error);
  return G_DBUS_METHOD_INVOCATION_HANDLED;
}

static gboolean
on_quit (LogbookApp *self, GDBusMethodInvocation *invocation)
{
  logbook_dbus_logbook1_complete_quit (self->skeleton, invocation);
  stop (self, 0);
  return G_DBUS_METHOD_INVOCATION_HANDLED;
}

/* The application */

static void
on_bus_gone (LogbookApp *self)
{
  g_printerr ("gaio-logbook: the session bus has gone\n");
  stop (self, 1);
}

static gboolean
logbook_app_dbus_register (GApplication *app,
                           GDBusConnection *connection,
                           const char *path,
                           GError **error)
{
  LogbookApp *self = LOGBOOK_APP (app);

  g_signal_connect_object (connection, "closed", G_CALLBACK (on_bus_gone), self, G_CONNECT_SWAPPED);
  self->exporter = gaio_stats_exporter_new (gaio_context_get_default (), connection, error);
  return self->exporter != NULL &&
         g_dbus_interface_skeleton_export (G_DBUS_INTERFACE_SKELETON (self->skeleton), connection,
                                           path, error);
}

static void
logbook_app_dbus_unregister (GApplication *app, GDBusConnection *connection, const char *path)
{
  LogbookApp *self = LOGBOOK_APP (app);

  g_dbus_interface_skeleton_unexport (G_DBUS_INTERFACE_SKELETON (self->skeleton));
  g_clear_object (&self->exporter);
}

/* Once we own the name: there is no other daemon of ours in this session. */
static void
logbook_app_startup (GApplication *app)
{
  LogbookApp *self = LOGBOOK_APP (app);
  g_autoptr (GError) error = NULL;

  G_APPLICATION_CLASS (logbook_app_parent_class)->startup (app);
  if (g_application_get_dbus_connection (app) == NULL)
    g_set_error (&error, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED, "there is no session bus");
  else
    self->server = logbook_server_new (self->config, &error);
  if (error != NULL)
    {
      g_printerr ("gaio-logbook: %s\n", error->message);
      stop (self, 1);
      return;
    }
  g_signal_connect_swapped (self->server, "changed", G_CALLBACK (on_changed), self);
  g_signal_connect_swapped (self->server, "command-ended",
                            G_CALLBACK (logbook_dbus_logbook1_emit_command_ended), self->skeleton);
  g_application_hold (app);
  on_refresh (self);
}

static void
logbook_app_shutdown (GApplication *app)
{
  LogbookApp *self = LOGBOOK_APP (app);

  g_clear_object (&self->server);
  G_APPLICATION_CLASS (logbook_app_parent_class)->shutdown (app);
}

static int
logbook_app_handle_local_options (GApplication *app, GVariantDict *options)
{
  LogbookApp *self = LOGBOOK_APP (app);
  const char *path = NULL, *watch = "gaio";
  g_autoptr (GError) error = NULL;

  g_variant_dict_lookup (options, "config", "^&ay", &path);
  g_variant_dict_lookup (options, "watch", "&s", &watch);
  logbook_watch_with_glib = g_str_equal (watch, "glib");
  if (!logbook_watch_with_glib && !g_str_equal (watch, "gaio"))
    {
      g_printerr ("gaio-logbook: --watch is gaio or glib\n");
      return 2;
    }
  self->config = logbook_config_load (path, &error);
  if (self->config == NULL)
    {
      g_printerr ("gaio-logbook: %s\n", error->message);
      return 2;
    }
  return -1;
}

static void
logbook_app_finalize (GObject *object)
{
  LogbookApp *self = LOGBOOK_APP (object);

  gaio_clear_timer (&self->refresh);
  g_clear_object (&self->skeleton);
  g_clear_pointer (&self->config, logbook_config_free);
  G_OBJECT_CLASS (logbook_app_parent_class)->finalize (object);
}

static void
logbook_app_class_init (LogbookAppClass *klass)
{
  GApplicationClass *app_class = G_APPLICATION_CLASS (klass);

  G_OBJECT_CLASS (klass)->finalize = logbook_app_finalize;
  app_class->dbus_register = logbook_app_dbus_register;
  app_class->dbus_unregister = logbook_app_dbus_unregister;
  app_class->startup = logbook_app_startup;
  app_class->shutdown = logbook_app_shutdown;
  app_class->handle_local_options = logbook_app_handle_local_options;
}

static void
logbook_app_init (LogbookApp *self)
{
  static const GOptionEntry entries[] = {
    { "config", 0, 0, G_OPTION_ARG_FILENAME, NULL, "The configuration", "FILE" },
    { "watch", 0, 0, G_OPTION_ARG_STRING, NULL, "How to watch the sockets", "gaio|glib" },
    { NULL },
  };

  g_application_add_main_option_entries (G_APPLICATION (self), entries);
  self->refresh = gaio_context_add_timer (gaio_context_get_default (), on_refresh, self, NULL);
  self->skeleton = logbook_dbus_logbook1_skeleton_new ();
  g_signal_connect_swapped (self->skeleton, "handle-run", G_CALLBACK (on_run), self);
  g_signal_connect_swapped (self->skeleton, "handle-quit", G_CALLBACK (on_quit), self);
}

/* The soft limit is usually 1024, for the sake of select(). */
static void
raise_fd_limit (void)
{
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
}

int
main (int argc, char **argv)
{
  g_autoptr (GApplication) app = NULL;
  int status;

  setlocale (LC_ALL, "");
  raise_fd_limit ();
  app = g_object_new (LOGBOOK_TYPE_APP, "application-id", APP_ID, "flags", G_APPLICATION_IS_SERVICE,
                      NULL);
  g_unix_signal_add (SIGTERM, on_stop_signal, app);
  g_unix_signal_add (SIGINT, on_stop_signal, app);
  status = g_application_run (app, argc, argv);
  return status != 0 ? status : LOGBOOK_APP (app)->status;
}
