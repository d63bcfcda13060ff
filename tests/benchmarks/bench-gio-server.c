/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `bench-gio-server WORKLOAD CONTENDER [CERTIFICATE KEY]`: what bench-gio.py measures. It prints
 * the port where it listens, and serves until it is killed. Where it cannot do what is asked for,
 * it says why and exits with 77. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <glib-unix.h>

#include "bench-gio-echo.h"
#include "bench.h"

#ifdef BENCH_SOUP_VERSION
#  include <libsoup/soup.h>
#endif

#define BACKLOG 4096
#define NOT_HERE 77

typedef struct
{
  GaioContext *context; /* NULL: plain GIO */
  BenchGioStart start;  /* NULL: raw handlers */
} Server;

static void
not_here (const char *reason)
{
  g_printerr ("%s\n", reason);
  exit (NOT_HERE);
}

/* --- Raw handlers --- */

static gboolean
echo_raw (gint fd, GIOCondition condition, gpointer user_data)
{
  char buffer[256];
  gssize n = read (fd, buffer, sizeof buffer);

  if (n > 0 && write (fd, buffer, n) == n)
    return G_SOURCE_CONTINUE;
  close (fd);
  return G_SOURCE_REMOVE;
}

/* --- libsoup --- */

#ifdef BENCH_SOUP_VERSION

/* For each message libsoup searches what a SoupServer watches, which grows with its connections. */
#define CONNECTIONS_PER_SOUP 500

static SoupServer *soup;
static guint n_accepted;
static GTlsCertificate *certificate;
static GTlsDatabase *database;

static void
answer (SoupServer *server,
        SoupServerMessage *message,
        const char *path,
        GHashTable *query,
        gpointer user_data)
{
  static const char text[] = "what a server says$";

  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, text,
                                    sizeof text - 1);
}

/* For the connections to come. It keeps one alive only while it listens somewhere. */
static void
make_soup (void)
{
  g_autoptr (GError) error = NULL;

  soup = soup_server_new (NULL, NULL);
  soup_server_add_handler (soup, NULL, answer, NULL, NULL);
  if (!soup_server_listen_local (soup, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, &error))
    g_error ("%s", error->message);
}

static void
make_tls (const char *certificate_file, const char *key_file)
{
  g_autoptr (GError) error = NULL;

  if (!g_tls_backend_supports_tls (g_tls_backend_get_default ()))
    not_here ("glib-networking is not installed");
  certificate = g_tls_certificate_new_from_files (certificate_file, key_file, &error);
  if (certificate != NULL)
    database = g_tls_file_database_new (certificate_file, &error);
  if (database == NULL)
    g_error ("%s", error->message);
}

static void
serve_http (GIOStream *stream, GSocketConnection *connection)
{
  g_autoptr (GSocketAddress) local = g_socket_connection_get_local_address (connection, NULL);
  g_autoptr (GSocketAddress) remote = g_socket_connection_get_remote_address (connection, NULL);
  g_autoptr (GError) error = NULL;

  if (++n_accepted % CONNECTIONS_PER_SOUP == 0)
    make_soup ();
  if (!soup_server_accept_iostream (soup, stream, local, remote, &error))
    g_error ("%s", error->message);
}

static void
start_http (GSocketConnection *connection)
{
  serve_http (G_IO_STREAM (connection), connection);
  g_object_unref (connection);
}

static void
on_handshake (GObject *tls, GAsyncResult *result, gpointer connection)
{
  if (g_tls_connection_handshake_finish (G_TLS_CONNECTION (tls), result, NULL))
    serve_http (G_IO_STREAM (tls), connection);
  g_object_unref (connection);
  g_object_unref (tls);
}

/* Without a database from the start, each connection would load that of the system. */
static void
start_https (GSocketConnection *connection)
{
  g_autoptr (GError) error = NULL;
  GTlsConnection *tls =
      g_initable_new (g_tls_backend_get_server_connection_type (g_tls_backend_get_default ()), NULL,
                      &error, "base-io-stream", connection, "certificate", certificate, "database",
                      database, NULL);

  if (tls == NULL)
    g_error ("%s", error->message);
  g_tls_connection_handshake_async (tls, G_PRIORITY_DEFAULT, NULL, on_handshake, connection);
}

static BenchGioStart
make_http (const char *workload, char **files)
{
  make_soup ();
  if (g_str_equal (workload, "soup"))
    return start_http;
  make_tls (files[0], files[1]);
  return start_https;
}

#else

static BenchGioStart
make_http (const char *workload, char **files)
{
  not_here ("built without libsoup 3");
  return NULL;
}

#endif

/* --- The server --- */

static void
watch_raw (Server *self, int fd)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioHandler) handler =
      gaio_context_add_fd (self->context, fd, G_IO_IN, echo_raw, NULL, NULL, &error);

  if (handler == NULL)
    g_error ("%s", error->message);
}

/* libsoup does the same where it accepts itself: it writes an answer in two parts. */
static void
send_at_once (int fd)
{
  int on = 1;

  if (setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
    g_error ("setsockopt: %s", g_strerror (errno));
}

/* All that have come: in one main context an iteration for each would take long. */
static gboolean
on_incoming (gint listener, GIOCondition condition, gpointer user_data)
{
  Server *self = user_data;
  int fd;

  while ((fd = accept4 (listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) != -1)
    {
      send_at_once (fd);
      if (self->start != NULL)
        bench_gio_accept (self->context, fd, self->start);
      else
        watch_raw (self, fd);
    }
  if (errno != EAGAIN)
    g_error ("accept4: %s", g_strerror (errno));
  return G_SOURCE_CONTINUE;
}

/* On the loopback interface. */
static int
listen_anywhere (guint *port)
{
  struct sockaddr_in address = { .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  socklen_t length = sizeof address;
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  if (fd == -1 || bind (fd, (struct sockaddr *) &address, length) != 0 ||
      listen (fd, BACKLOG) != 0 || getsockname (fd, (struct sockaddr *) &address, &length) != 0)
    g_error ("no listener: %s", g_strerror (errno));
  *port = ntohs (address.sin_port);
  return fd;
}

int
main (int argc, char **argv)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  Server server = { NULL, bench_gio_echo };
  guint port;

  if (argc < 3)
    bench_usage_error ("WORKLOAD CONTENDER [CERTIFICATE KEY]");
  bench_raise_fd_limit ();
  if (!g_str_equal (argv[2], "glib"))
    server.context = gaio_context_ref_for_main_context (NULL);
  if (g_str_equal (argv[2], "gaio-nested"))
    server.start = NULL;
  else if (!g_str_equal (argv[1], "echo"))
    server.start = make_http (argv[1], argv + 3);
  g_unix_fd_add (listen_anywhere (&port), G_IO_IN, on_incoming, &server);
  g_print ("%u\n", port);
  g_main_loop_run (loop);
  return 0;
}
