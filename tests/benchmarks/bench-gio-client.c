/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `bench-gio-client WORKLOAD PORT CONNECTIONS [CERTIFICATE]`: the clients of a server that
 * bench-gio.py measures. It prints "ready" when each connection has had an answer. For each line
 * "ACTIVE SECONDS" of stdin so many of them talk for so long, and it prints how many answers
 * came. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench-gio-echo.h"
#include "bench.h"

/* How many at a time, while the connections are made. */
#define AT_ONCE 500

/* What ends a message. */
#define END '$'

typedef struct
{
  const char *message;
  guint port;
  gboolean tls;
  guint n;
  GIOStream **streams;
  guint n_handshakes; /* that are going on */
  GTlsDatabase *database;
} Client;

static void
die_of (GError *error)
{
  if (error != NULL)
    g_error ("%s", error->message);
}

static GIOStream *
connect_one (Client *self)
{
  struct sockaddr_in address = { .sin_family = AF_INET,
                                 .sin_port = htons (self->port),
                                 .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd == -1 || connect (fd, (struct sockaddr *) &address, sizeof address) != 0)
    g_error ("connect: %s", g_strerror (errno));
  return G_IO_STREAM (bench_gio_connection_new (fd));
}

static void
on_handshake (GObject *tls, GAsyncResult *result, gpointer user_data)
{
  Client *self = user_data;
  g_autoptr (GError) error = NULL;

  g_tls_connection_handshake_finish (G_TLS_CONNECTION (tls), result, &error);
  die_of (error);
  self->n_handshakes--;
}

/* The server is not who it says. */
static gboolean
accept_certificate (GTlsConnection *tls,
                    GTlsCertificate *certificate,
                    GTlsCertificateFlags errors,
                    gpointer user_data)
{
  return TRUE;
}

/* As the server: it would load the database of the system. */
static GIOStream *
begin_tls (Client *self, GIOStream *base)
{
  g_autoptr (GError) error = NULL;
  GIOStream *tls =
      g_initable_new (g_tls_backend_get_client_connection_type (g_tls_backend_get_default ()), NULL,
                      &error, "base-io-stream", base, "database", self->database, NULL);

  die_of (error);
  g_object_unref (base);
  g_signal_connect (tls, "accept-certificate", G_CALLBACK (accept_certificate), NULL);
  g_tls_connection_handshake_async (G_TLS_CONNECTION (tls), G_PRIORITY_DEFAULT, NULL, on_handshake,
                                    self);
  self->n_handshakes++;
  return tls;
}

static void
say (Client *self, GIOStream *stream)
{
  g_autoptr (GError) error = NULL;

  g_output_stream_write_all (g_io_stream_get_output_stream (stream), self->message,
                             strlen (self->message), NULL, NULL, &error);
  die_of (error);
}

static void
hear (GIOStream *stream)
{
  g_autoptr (GError) error = NULL;
  char buffer[4096];
  gssize n;

  do
    {
      n = g_input_stream_read (g_io_stream_get_input_stream (stream), buffer, sizeof buffer, NULL,
                               &error);
      die_of (error);
      if (n == 0)
        g_error ("the server has hung up");
    }
  while (buffer[n - 1] != END);
}

static void
exchange (Client *self, guint first, guint n)
{
  for (guint i = first; i < first + n; i++)
    say (self, self->streams[i]);
  for (guint i = first; i < first + n; i++)
    hear (self->streams[i]);
}

static void
connect_some (Client *self, guint first, guint n)
{
  for (guint i = first; i < first + n; i++)
    {
      self->streams[i] = connect_one (self);
      if (self->tls)
        self->streams[i] = begin_tls (self, self->streams[i]);
    }
  while (self->n_handshakes > 0)
    g_main_context_iteration (NULL, TRUE);
  exchange (self, first, n);
}

/* The last ones of them. Returns how many answers came. */
static guint
talk (Client *self, guint n_active, double seconds)
{
  double end = bench_now_ns () + seconds * 1e9;
  guint n = 0;

  do
    {
      exchange (self, self->n - n_active, n_active);
      n += n_active;
    }
  while (bench_now_ns () < end);
  return n;
}

static void
client_init (Client *self, char **argv)
{
  g_autoptr (GError) error = NULL;

  bench_raise_fd_limit ();
  self->message = g_str_equal (argv[1], "echo") ? "what an echo is asked to say$"
                                                : "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  self->port = atoi (argv[2]);
  self->n = atoi (argv[3]);
  self->tls = argv[4] != NULL;
  self->streams = g_new (GIOStream *, self->n);
  if (self->tls)
    self->database = g_tls_file_database_new (argv[4], &error);
  die_of (error);
}

int
main (int argc, char **argv)
{
  Client client = { 0 };
  guint n_active;
  double seconds;

  if (argc < 4)
    bench_usage_error ("WORKLOAD PORT CONNECTIONS [CERTIFICATE]");
  client_init (&client, argv);
  for (guint i = 0; i < client.n; i += AT_ONCE)
    connect_some (&client, i, MIN (AT_ONCE, client.n - i));
  g_print ("ready\n");
  while (scanf ("%u %lf", &n_active, &seconds) == 2)
    g_print ("%u\n", talk (&client, n_active, seconds));
  return 0;
}
