/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLS over GLib alone and over main contexts that a context serves. */
#include <glib/gstdio.h>

#include "test-gio-sockets.h"

static GTlsCertificate *certificate; /* for localhost, with its key */
static GTlsDatabase *trusting;       /* knows it */
static GTlsDatabase *doubting;       /* knows another */

/* --- A certificate that only this process has --- */

static gboolean
run_openssl (const char *directory, const char *certificate_file)
{
  const char *argv[] = { "openssl",
                         "req",
                         "-x509",
                         "-batch",
                         "-newkey",
                         "ec",
                         "-pkeyopt",
                         "ec_paramgen_curve:prime256v1",
                         "-nodes",
                         "-subj",
                         "/CN=local",
                         "-addext",
                         "subjectAltName=DNS:localhost",
                         "-keyout",
                         "key.pem",
                         "-out",
                         certificate_file,
                         NULL };
  g_auto (GStrv) environment = g_environ_unsetenv (g_get_environ (), "LD_PRELOAD");
  gint status = -1;

  return g_spawn_sync (directory, (char **) argv, environment,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
                           G_SPAWN_STDERR_TO_DEV_NULL,
                       NULL, NULL, NULL, NULL, &status, NULL) &&
         g_spawn_check_wait_status (status, NULL);
}

static GTlsDatabase *
database_new (const char *anchors)
{
  g_autoptr (GError) error = NULL;
  GTlsDatabase *database = g_tls_file_database_new (anchors, &error);

  g_assert_no_error (error);
  return database;
}

static void
make_certificates (const char *directory)
{
  g_autofree char *file = g_build_filename (directory, "certificate.pem", NULL);
  g_autofree char *other = g_build_filename (directory, "other.pem", NULL);
  g_autofree char *key = g_build_filename (directory, "key.pem", NULL);
  g_autoptr (GError) error = NULL;

  if (!run_openssl (directory, "other.pem") || !run_openssl (directory, "certificate.pem"))
    return;
  certificate = g_tls_certificate_new_from_files (file, key, &error);
  g_assert_no_error (error);
  trusting = database_new (file);
  doubting = database_new (other);
}

static void
remove_certificates (const char *directory)
{
  static const char *const names[] = { "certificate.pem", "other.pem", "key.pem" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      g_autofree char *file = g_build_filename (directory, names[i], NULL);

      g_remove (file);
    }
  g_rmdir (directory);
}

/* --- Both ends --- */

static gboolean
accept_certificate (GTlsConnection *tls,
                    GTlsCertificate *peer,
                    GTlsCertificateFlags errors,
                    gpointer data)
{
  Party *self = data;

  party_log (self, "certificate %s, errors %x",
             g_tls_certificate_is_same (peer, certificate) ? "as made" : "of another", errors);
  return self->step == 0;
}

static void
shaken (GObject *tls, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;

  g_tls_connection_handshake_finish (G_TLS_CONNECTION (tls), result, &error);
  party_log_result (self, "shaken hands", error);
  if (error != NULL)
    party_end (self);
  else if (G_IS_TLS_SERVER_CONNECTION (tls))
    server_read_line (self);
  else
    client_say (self);
}

static void
shake (Party *self)
{
  g_tls_connection_handshake_async (G_TLS_CONNECTION (self->stream), G_PRIORITY_DEFAULT,
                                    self->cancellable, shaken, self);
}

/* @self has a socket so far. */
static void
wrap (Party *self, GIOStream *tls, GTlsDatabase *database)
{
  g_tls_connection_set_database (G_TLS_CONNECTION (tls), database);
  g_signal_connect (tls, "accept-certificate", G_CALLBACK (accept_certificate), self);
  g_object_unref (self->stream);
  self->stream = tls;
}

static void
wrap_client (Party *self, GTlsDatabase *database)
{
  g_autoptr (GSocketConnectable) name = g_network_address_new ("localhost", 443);
  g_autoptr (GError) error = NULL;
  GIOStream *tls = g_tls_client_connection_new (self->stream, name, &error);

  g_assert_no_error (error);
  g_tls_connection_set_certificate (G_TLS_CONNECTION (tls), certificate);
  wrap (self, tls, database);
}

static void
wrap_server (Party *self, GTlsDatabase *database)
{
  g_autoptr (GError) error = NULL;
  GIOStream *tls = g_tls_server_connection_new (self->stream, certificate, &error);

  g_assert_no_error (error);
  wrap (self, tls, database);
}

static void
add_tls_pair (Run *run, Party **client, Party **server, GTlsDatabase *database)
{
  add_pair (run, AF_INET, client, server);
  wrap_client (*client, database);
  wrap_server (*server, database);
}

static void
shake_both (Party *client, Party *server)
{
  party_call (client, shake);
  party_call (server, shake);
}

/* --- With good and with bad ends --- */

static void
begin_trusted (Run *run)
{
  for (guint i = 0; i < 3; i++)
    {
      Party *client, *server;

      add_tls_pair (run, &client, &server, trusting);
      shake_both (client, server);
    }
}

/* The handshake runs in a thread, which asks the main context meanwhile. */
static void
begin_accepted (Run *run)
{
  for (guint i = 0; i < 3; i++)
    {
      Party *client, *server;

      add_tls_pair (run, &client, &server, doubting);
      g_object_set (server->stream, "authentication-mode", G_TLS_AUTHENTICATION_REQUIRED, NULL);
      shake_both (client, server);
    }
}

/* Without a handshake of its own. */
static void
begin_implicit (Run *run)
{
  Party *client, *server;

  add_tls_pair (run, &client, &server, trusting);
  party_call (client, client_say);
  party_call (server, server_read_line);
}

static void
shaken_only (GObject *tls, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_tls_connection_handshake_finish (G_TLS_CONNECTION (tls), result, &error);
  party_log_result (data, "shaken hands", error);
  g_io_stream_close_async (G_IO_STREAM (tls), G_PRIORITY_DEFAULT, NULL, party_closed, data);
}

static void
shake_only (Party *self)
{
  g_tls_connection_handshake_async (G_TLS_CONNECTION (self->stream), G_PRIORITY_DEFAULT,
                                    self->cancellable, shaken_only, self);
}

static void
begin_refused (Run *run)
{
  Party *client, *server;

  add_tls_pair (run, &client, &server, doubting);
  client->step = 1;
  party_call (client, shake_only);
  party_call (server, shake_only);
}

static void
cancel (Party *self)
{
  g_cancellable_cancel (self->cancellable);
}

static void
talk_nonsense (Party *self)
{
  peer_send (self, "I do not speak TLS\r\n\r\n");
}

/* The peer is silent, gone, or no peer for this. */
static void
begin_no_tls (Run *run)
{
  static const struct
  {
    const char *name;
    PartyFunc end;
  } ends[] = {
    { "cancelled", cancel },
    { "hung up", peer_hang_up },
    { "nonsense", talk_nonsense },
  };

  for (guint i = 0; i < 2 * G_N_ELEMENTS (ends); i++)
    {
      Party *self = add_solo (run, ends[i / 2].name, AF_UNIX);

      if (i % 2 == 0)
        wrap_client (self, doubting);
      else
        wrap_server (self, doubting);
      party_call (self, shake_only);
      party_outside (self, ends[i / 2].end);
    }
}

/* --- Much, and its end --- */

#define MUCH 300000

static void
all_read (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  g_autofree char *sum = NULL;
  gsize n = 0;

  g_input_stream_read_all_finish (G_INPUT_STREAM (input), result, &n, &error);
  party_log_result (self, "read", error);
  sum = g_compute_checksum_for_bytes (G_CHECKSUM_SHA256, self->bytes);
  party_log (self, "%" G_GSIZE_FORMAT " bytes %s", n, sum);
  g_io_stream_close_async (self->stream, G_PRIORITY_DEFAULT, NULL, party_closed, self);
}

static void
read_all (Party *self)
{
  char *bytes = g_malloc0 (MUCH + 1);

  self->bytes = g_bytes_new_take (bytes, MUCH + 1);
  g_input_stream_read_all_async (g_io_stream_get_input_stream (self->stream), bytes, MUCH + 1,
                                 G_PRIORITY_DEFAULT, NULL, all_read, self);
}

/* With a good-bye of TLS, or only of the socket. */
static void
all_written (GObject *output, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GIOStream) base = NULL;
  g_autoptr (GError) error = NULL;
  gsize n = 0;

  g_output_stream_write_all_finish (G_OUTPUT_STREAM (output), result, &n, &error);
  party_log_result (self, "written", error);
  g_object_get (self->stream, "base-io-stream", &base, NULL);
  g_io_stream_close_async (self->step == 0 ? self->stream : base, G_PRIORITY_DEFAULT, NULL,
                           party_closed, self);
}

static void
write_all (Party *self)
{
  char *bytes = g_malloc (MUCH);

  for (guint i = 0; i < MUCH; i++)
    bytes[i] = i * 13 + i / 241;
  self->bytes = g_bytes_new_take (bytes, MUCH);
  g_output_stream_write_all_async (g_io_stream_get_output_stream (self->stream), bytes, MUCH,
                                   G_PRIORITY_DEFAULT, NULL, all_written, self);
}

/* Who goes without a good-bye is the server: a client may not have read all of the handshake, and
 * would reset the connection. */
static void
begin_much (Run *run)
{
  for (guint i = 0; i < 3; i++)
    {
      Party *client, *server;

      add_tls_pair (run, &client, &server, trusting);
      server->step = i == 2;
      party_call (client, i > 0 ? read_all : write_all);
      party_call (server, i > 0 ? write_all : read_all);
    }
}

static void
test_skipped (void)
{
  g_test_skip ("glib-networking or openssl is missing");
}

int
main (int argc, char **argv)
{
  static Scenario scenarios[] = {
    { "/gio-tls/trusted-peer", begin_trusted },
    { "/gio-tls/accepted-certificates", begin_accepted },
    { "/gio-tls/handshake-by-the-first-line", begin_implicit },
    { "/gio-tls/refused-certificate", begin_refused },
    { "/gio-tls/peer-without-tls", begin_no_tls },
    { "/gio-tls/much-arrives-whole", begin_much },
  };

  g_autofree char *directory = NULL;
  int status;

  g_test_init (&argc, &argv, NULL);
  directory = g_dir_make_tmp ("gaio-tls-XXXXXX", NULL);
  if (g_tls_backend_supports_tls (g_tls_backend_get_default ()))
    make_certificates (directory);
  if (certificate == NULL)
    g_test_add_func ("/gio-tls/all", test_skipped);
  status = run_scenarios (scenarios, certificate != NULL ? G_N_ELEMENTS (scenarios) : 0);
  remove_certificates (directory);
  g_clear_object (&certificate);
  g_clear_object (&trusting);
  g_clear_object (&doubting);
  return status;
}
