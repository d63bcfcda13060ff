/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gaio-http-daemon: a web server, with libsoup, whose page shows live what its own loop is doing.
 *
 *   gaio-http-daemon [--port=PORT] [--certificate=FILE --key=FILE] [--interval=MS]
 *                    [--timeout=SECONDS]
 *
 * As `./dev test` has built it, in this folder:
 *
 *   $ ../../build/test/examples/http-daemon/gaio-http-daemon
 *   listening on http://127.0.0.1:8080/
 *
 * Open the page, and load the server: `wrk -c 1000 http://127.0.0.1:8080/`. HTTPS needs a
 * certificate and its key as PEM:
 *
 *   $ openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
 *
 * Each connection has a main context of its own, which the loop serves: TLS, libsoup and the events
 * that the page subscribes to all run in that. connection.c has what a connection needs, server.c
 * what it gets, subscribers.c the events, figures.c what is in them.
 *
 * The exit status is 0 after SIGTERM and SIGINT, 2 if an option is wrong, and 1 if it cannot
 * listen.
 */
#include <locale.h>
#include <signal.h>
#include <sys/resource.h>

#include <gaio.h>
#include <glib-unix.h>

#include "server.h"

#define DEFAULT_PORT 8080
#define DEFAULT_INTERVAL_MS 500
#define DEFAULT_TIMEOUT_S 60

typedef struct
{
  int port;
  int interval_ms;
  int timeout_s;
  char *certificate;
  char *key;
} Options;

G_GNUC_PRINTF (2, 3)
static gboolean
refuse (GError **error, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  *error = g_error_new_valist (G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, format, args);
  va_end (args);
  return FALSE;
}

static gboolean
check (const Options *options, int argc, char **argv, GError **error)
{
  if (argc > 1)
    return refuse (error, "What is “%s”?", argv[1]);
  if (options->port < 0 || options->port > G_MAXUINT16)
    return refuse (error, "--port is 0 to %d", G_MAXUINT16);
  if (options->interval_ms < 1)
    return refuse (error, "--interval is at least 1");
  if (options->timeout_s < 1)
    return refuse (error, "--timeout is at least 1");
  if ((options->certificate == NULL) != (options->key == NULL))
    return refuse (error, "--certificate and --key go together");
  if (options->certificate != NULL && !g_tls_backend_supports_tls (g_tls_backend_get_default ()))
    return refuse (error, "HTTPS needs glib-networking, which is not installed");
  return TRUE;
}

static gboolean
parse (Options *options, int *argc, char ***argv, GError **error)
{
  const GOptionEntry entries[] = {
    { "port", 0, 0, G_OPTION_ARG_INT, &options->port, "Where to listen, or 0: anywhere", "PORT" },
    { "certificate", 0, 0, G_OPTION_ARG_FILENAME, &options->certificate, "For HTTPS: PEM", "FILE" },
    { "key", 0, 0, G_OPTION_ARG_FILENAME, &options->key, "That of the certificate: PEM", "FILE" },
    { "interval", 0, 0, G_OPTION_ARG_INT, &options->interval_ms, "Between two events", "MS" },
    { "timeout", 0, 0, G_OPTION_ARG_INT, &options->timeout_s, "For idle clients", "SECONDS" },
    { NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);

  g_option_context_add_main_entries (context, entries, NULL);
  return g_option_context_parse (context, argc, argv, error) &&
         check (options, *argc, *argv, error);
}

static gboolean
read_settings (HttpdSettings *settings, int argc, char **argv, GError **error)
{
  Options options = { DEFAULT_PORT, DEFAULT_INTERVAL_MS, DEFAULT_TIMEOUT_S, NULL, NULL };
  gboolean done = parse (&options, &argc, &argv, error);

  if (done && options.certificate != NULL)
    {
      settings->certificate =
          g_tls_certificate_new_from_files (options.certificate, options.key, error);
      done = settings->certificate != NULL;
    }
  settings->port = (guint16) options.port;
  settings->interval_us = options.interval_ms * G_GINT64_CONSTANT (1000);
  settings->timeout_us = options.timeout_s * G_USEC_PER_SEC;
  g_free (options.certificate);
  g_free (options.key);
  return done;
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

static gboolean
on_stop_signal (gpointer loop)
{
  g_main_loop_quit (loop);
  return G_SOURCE_CONTINUE;
}

static int
fail (int status, const GError *error)
{
  g_printerr ("gaio-http-daemon: %s\n", error->message);
  return status;
}

static void
run (HttpdServer *server)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autofree char *uri = httpd_server_dup_uri (server);

  g_unix_signal_add (SIGTERM, on_stop_signal, loop);
  g_unix_signal_add (SIGINT, on_stop_signal, loop);
  g_print ("listening on %s\n", uri);
  g_main_loop_run (loop);
}

int
main (int argc, char **argv)
{
  HttpdSettings settings = { 0 };
  g_autoptr (HttpdServer) server = NULL;
  g_autoptr (GError) error = NULL;

  setlocale (LC_ALL, "");
  raise_fd_limit ();
  if (!read_settings (&settings, argc, argv, &error))
    return fail (2, error);
  server = httpd_server_new (&settings, &error);
  if (server == NULL)
    return fail (1, error);
  run (server);
  return 0;
}
