/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A server of libsoup over GLib alone and over main contexts that a context serves, one for each
 * connection. */
#include <libsoup/soup.h>

#include "test-gio-sockets.h"

/* --- The server --- */

/* Whose connection it is: libsoup keeps the address that it was given. */
static Party *
find_party (SoupServerMessage *message)
{
  GSocketAddress *address = soup_server_message_get_remote_address (message);
  Party *self = g_object_get_data (G_OBJECT (address), "party");

  g_assert_nonnull (self);
  return self;
}

static void
log_disconnected (SoupServerMessage *message, gpointer data)
{
  party_log (data, "disconnected");
}

static void
log_started (SoupServer *server, SoupServerMessage *message, gpointer data)
{
  Party *self = find_party (message);

  party_log (self, "started");
  g_signal_connect (message, "disconnected", G_CALLBACK (log_disconnected), self);
}

static void
log_read (SoupServer *server, SoupServerMessage *message, gpointer data)
{
  party_log (find_party (message), "read %s %s", soup_server_message_get_method (message),
             g_uri_get_path (soup_server_message_get_uri (message)));
}

static void
log_finished (SoupServer *server, SoupServerMessage *message, gpointer data)
{
  party_log (find_party (message), "finished %u", soup_server_message_get_status (message));
}

static void
log_aborted (SoupServer *server, SoupServerMessage *message, gpointer data)
{
  party_log (find_party (message), "aborted");
}

static void
answer_echo (SoupServer *server,
             SoupServerMessage *message,
             const char *path,
             GHashTable *query,
             gpointer data)
{
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  g_autoptr (GBytes) bytes = soup_message_body_flatten (body);

  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_COPY,
                                    g_bytes_get_size (bytes) > 0 ? g_bytes_get_data (bytes, NULL)
                                                                 : "nothing",
                                    g_bytes_get_size (bytes) > 0 ? g_bytes_get_size (bytes) : 7);
}

/* --- Answers that come later --- */

static void
answer_now (Party *self)
{
  SoupServerMessage *message = self->data;

  party_log (self, "answered");
  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "late", 4);
  soup_server_message_unpause (message);
}

static void
answer_from_outside (Party *self)
{
  party_call (self, answer_now);
}

static gboolean
answer_on_time (gpointer data)
{
  answer_now (data);
  return G_SOURCE_REMOVE;
}

static void
think (GTask *task, gpointer object, gpointer data, GCancellable *cancellable)
{
  g_task_return_boolean (task, TRUE);
}

static void
thought (GObject *object, GAsyncResult *result, gpointer data)
{
  g_assert_true (g_task_propagate_boolean (G_TASK (result), NULL));
  answer_now (data);
}

static void
think_in_thread (Party *self)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, thought, self);

  g_task_run_in_thread (task, think);
}

static void
wait_for_timeout (Party *self)
{
  g_autoptr (GSource) source = g_timeout_source_new (2);

  g_source_set_callback (source, answer_on_time, self, NULL);
  g_source_attach (source, self->inner);
}

static void
answer_later (SoupServer *server,
              SoupServerMessage *message,
              const char *path,
              GHashTable *query,
              gpointer data)
{
  Party *self = find_party (message);

  self->data = message;
  soup_server_message_pause (message);
  if (g_str_has_suffix (path, "outside"))
    party_outside (self, answer_from_outside);
  else if (g_str_has_suffix (path, "thread"))
    think_in_thread (self);
  else
    wait_for_timeout (self);
}

/* --- Answers in pieces --- */

static void
append_chunk (Party *self)
{
  static const char *const chunks[] = { "one", "two and", "three" };
  SoupServerMessage *message = self->data;
  SoupMessageBody *body = soup_server_message_get_response_body (message);

  if (self->step < G_N_ELEMENTS (chunks))
    soup_message_body_append (body, SOUP_MEMORY_STATIC, chunks[self->step],
                              strlen (chunks[self->step]));
  else
    soup_message_body_complete (body);
  self->step++;
  soup_server_message_unpause (message);
}

/* It has paused by itself, for want of a chunk. */
static void
wrote_chunk (SoupServerMessage *message, gpointer data)
{
  Party *self = data;

  party_log (self, "wrote chunk");
  party_later (self, G_PRIORITY_DEFAULT, append_chunk);
}

static void
answer_in_chunks (SoupServer *server,
                  SoupServerMessage *message,
                  const char *path,
                  GHashTable *query,
                  gpointer data)
{
  Party *self = find_party (message);

  self->data = message;
  self->step = 0;
  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_message_headers_set_encoding (soup_server_message_get_response_headers (message),
                                     SOUP_ENCODING_CHUNKED);
  g_signal_connect (message, "wrote-chunk", G_CALLBACK (wrote_chunk), self);
  append_chunk (self);
}

/* --- Its WebSockets --- */

static void
log_message (Party *self, gint type, GBytes *bytes)
{
  g_autofree char *sum = g_compute_checksum_for_bytes (G_CHECKSUM_SHA256, bytes);

  party_log (self, "%s of %" G_GSIZE_FORMAT " bytes %.8s",
             type == SOUP_WEBSOCKET_DATA_TEXT ? "text" : "data", g_bytes_get_size (bytes), sum);
}

static void
log_websocket_closed (SoupWebsocketConnection *websocket, gpointer data)
{
  party_log (data, "closed %u %s", soup_websocket_connection_get_close_code (websocket),
             soup_websocket_connection_get_close_data (websocket));
}

static void
log_websocket_error (SoupWebsocketConnection *websocket, GError *error, gpointer data)
{
  party_log_result (data, "failed", error);
}

static void
echo_message (SoupWebsocketConnection *websocket, gint type, GBytes *bytes, gpointer data)
{
  log_message (data, type, bytes);
  if (g_bytes_get_size (bytes) == 7)
    soup_websocket_connection_close (websocket, SOUP_WEBSOCKET_CLOSE_GOING_AWAY, "as told");
  else
    soup_websocket_connection_send_message (websocket, type, bytes);
}

static void
websocket_opened (SoupServer *server,
                  SoupServerMessage *message,
                  const char *path,
                  SoupWebsocketConnection *websocket,
                  gpointer data)
{
  Party *self = find_party (message);

  party_log (self, "websocket");
  self->data = g_object_ref (websocket);
  self->free_data = g_object_unref;
  g_signal_connect (websocket, "message", G_CALLBACK (echo_message), self);
  g_signal_connect (websocket, "error", G_CALLBACK (log_websocket_error), self);
  g_signal_connect (websocket, "closed", G_CALLBACK (log_websocket_closed), self);
  g_signal_connect_swapped (websocket, "closed", G_CALLBACK (party_end), self);
}

static void
server_free (gpointer data)
{
  SoupServer *server = data;

  soup_server_disconnect (server);
  g_object_unref (server);
}

/* It keeps connections alive only while it listens. soup_server_listen_local() leaks an address. */
static void
listen_somewhere (SoupServer *server)
{
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string ("127.0.0.1", 0);
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket =
      g_socket_new (G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, &error);

  g_assert_no_error (error);
  g_assert_true (g_socket_bind (socket, address, FALSE, NULL));
  g_assert_true (g_socket_listen (socket, NULL));
  g_assert_true (soup_server_listen_socket (server, socket, 0, NULL));
}

static SoupServer *
get_server (Run *run)
{
  SoupServer *server = run->data;

  if (server != NULL)
    return server;
  server = soup_server_new ("server-header", "test", NULL);
  listen_somewhere (server);
  g_signal_connect (server, "request-started", G_CALLBACK (log_started), NULL);
  g_signal_connect (server, "request-read", G_CALLBACK (log_read), NULL);
  g_signal_connect (server, "request-finished", G_CALLBACK (log_finished), NULL);
  g_signal_connect (server, "request-aborted", G_CALLBACK (log_aborted), NULL);
  soup_server_add_handler (server, "/echo", answer_echo, NULL, NULL);
  soup_server_add_handler (server, "/later", answer_later, NULL, NULL);
  soup_server_add_handler (server, "/chunks", answer_in_chunks, NULL, NULL);
  soup_server_add_websocket_handler (server, "/websocket", NULL, NULL, websocket_opened, NULL,
                                     NULL);
  run->data = server;
  run->free_data = server_free;
  return server;
}

/* libsoup has dropped the connection. */
static void
connection_gone (gpointer data, GObject *stream)
{
  Party *self = data;

  if (!self->ended)
    party_end (self);
}

static void
serve (Party *self)
{
  g_autoptr (GSocketAddress) local = g_inet_socket_address_new_from_string ("127.0.0.1", 80);
  g_autoptr (GSocketAddress) remote = g_inet_socket_address_new_from_string ("127.0.0.1", 8000);
  g_autoptr (GError) error = NULL;
  GIOStream *stream = g_steal_pointer (&self->stream);

  g_object_set_data (G_OBJECT (remote), "party", self);
  g_object_weak_ref (G_OBJECT (stream), connection_gone, self);
  soup_server_accept_iostream (get_server (self->run), stream, local, remote, &error);
  party_log_result (self, "accepted", error);
  g_object_unref (stream);
}

/* --- A client, which writes what it is told to, and reads until it has got the end --- */

typedef struct
{
  const char *request;
  const char *end; /* of the response, or NULL to read until the server hangs up */
} Exchange;

typedef struct
{
  const Exchange *next; /* ends with a NULL request */
  PartyFunc then;       /* or NULL to hang up */
  GString *response;
  SoupWebsocketConnection *websocket; /* with a reference, or NULL */
} Script;

static void
script_free (gpointer data)
{
  Script *script = data;

  g_clear_object (&script->websocket);
  g_string_free (script->response, TRUE);
  g_free (script);
}

static void read_response (Party *self);

static void
log_response (Party *self)
{
  Script *script = self->data;
  g_auto (GStrv) lines = g_strsplit (script->response->str, "\r\n", -1);

  for (guint i = 0; lines[i] != NULL; i++)
    if (!g_str_has_prefix (lines[i], "Date:"))
      party_log (self, "< %s", lines[i]);
  g_string_truncate (script->response, 0);
}

static void
request_written (GObject *output, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_output_stream_write_all_finish (G_OUTPUT_STREAM (output), result, NULL, &error);
  party_log_result (data, "written", error);
  read_response (data);
}

static void
write_request (Party *self)
{
  Script *script = self->data;

  if (script->next->request == NULL && script->then != NULL)
    script->then (self);
  else if (script->next->request == NULL)
    g_io_stream_close_async (self->stream, G_PRIORITY_DEFAULT, NULL, party_closed, self);
  else
    g_output_stream_write_all_async (g_io_stream_get_output_stream (self->stream),
                                     script->next->request, strlen (script->next->request),
                                     G_PRIORITY_DEFAULT, NULL, request_written, self);
}

static void
response_read (GObject *input, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  Script *script = self->data;
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  g_string_append_len (script->response, self->buffer, MAX (n, 0));
  if (n > 0 &&
      (script->next->end == NULL || !g_str_has_suffix (script->response->str, script->next->end)))
    {
      read_response (self);
      return;
    }
  log_response (self);
  if (n <= 0)
    party_log_result (self, "hung up", error);
  script->next++;
  write_request (self);
}

static void
read_response (Party *self)
{
  Script *script = self->data;

  /* Nothing is to come. */
  if (script->next->end != NULL && script->next->end[0] == '\0')
    {
      script->next++;
      write_request (self);
      return;
    }
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, NULL, response_read, self);
}

static void
add_connection (Run *run, const Exchange *exchanges, PartyFunc then)
{
  gint fds[2];
  g_autofree char *server_name = g_strdup_printf ("server%u", run->parties->len);
  g_autofree char *client_name = g_strdup_printf ("client%u", run->parties->len);
  g_autoptr (GIOStream) stream = NULL;
  Party *client, *server = party_new (run, server_name, NULL);
  Script *script = g_new0 (Script, 1);

  fd_pair (AF_INET, fds);
  server->stream = stream_new (fds[0]);
  stream = stream_new (fds[1]);
  client = party_new_for_stream (run, client_name, stream);
  *script = (Script){ exchanges, then, g_string_new (NULL), NULL };
  client->data = script;
  client->free_data = script_free;
  party_call (server, serve);
  party_call (client, write_request);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: test\r\n\r\n"
#define LAST(path) "GET " path " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
#define END "\r\n\r\n"

static void
begin_keep_alive (Run *run)
{
  static const Exchange exchanges[] = {
    { GET ("/echo"), "nothing" },
    { "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world", "hello world" },
    { "HEAD /echo HTTP/1.1\r\nHost: test\r\n\r\n", END },
    { GET ("/nowhere"), END },
    { "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nfirst\r\n7\r\n, later\r\n0\r\n\r\n",
      "first, later" },
    { LAST ("/echo"), NULL },
    { NULL, NULL },
  };

  for (guint i = 0; i < 4; i++)
    add_connection (run, exchanges, NULL);
}

static void
begin_later (Run *run)
{
  static const Exchange exchanges[] = {
    { GET ("/later/outside"), "late" }, { GET ("/later/thread"), "late" },
    { GET ("/later/timeout"), "late" }, { GET ("/later/outside"), "late" },
    { LAST ("/later/thread"), NULL },   { NULL, NULL },
  };

  for (guint i = 0; i < 5; i++)
    add_connection (run, exchanges, NULL);
}

static void
begin_chunks (Run *run)
{
  static const Exchange exchanges[] = {
    { GET ("/chunks"), "0\r\n\r\n" },
    { GET ("/chunks"), "0\r\n\r\n" },
    { LAST ("/chunks"), NULL },
    { NULL, NULL },
  };

  for (guint i = 0; i < 4; i++)
    add_connection (run, exchanges, NULL);
}

static void
begin_broken (Run *run)
{
  static const Exchange nonsense[] = { { "nonsense\r\n\r\n", NULL }, { NULL, NULL } };
  static const Exchange cut_off[] = {
    { "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello", "" },
    { NULL, NULL },
  };
  static const Exchange silent[] = { { NULL, NULL } };

  add_connection (run, nonsense, NULL);
  add_connection (run, cut_off, NULL);
  add_connection (run, silent, NULL);
}

/* --- WebSockets --- */

static void
client_got_message (SoupWebsocketConnection *websocket, gint type, GBytes *bytes, gpointer data)
{
  Party *self = data;

  log_message (self, type, bytes);
  if (self->step++ == 0)
    {
      g_autofree char *much = g_malloc0 (70000);

      soup_websocket_connection_send_binary (websocket, much, 70000);
    }
  else if (self->cancellable == NULL)
    soup_websocket_connection_close (websocket, SOUP_WEBSOCKET_CLOSE_NORMAL, "bye");
  else
    soup_websocket_connection_send_text (websocket, "7 bytes");
}

static void
open_websocket (Party *self)
{
  g_autoptr (GUri) uri = g_uri_parse ("ws://test/websocket", SOUP_HTTP_URI_FLAGS, NULL);
  Script *script = self->data;
  SoupWebsocketConnection *websocket =
      soup_websocket_connection_new (self->stream, uri, SOUP_WEBSOCKET_CONNECTION_CLIENT, NULL,
                                     NULL, NULL);

  script->websocket = websocket;
  g_signal_connect (websocket, "message", G_CALLBACK (client_got_message), self);
  g_signal_connect (websocket, "error", G_CALLBACK (log_websocket_error), self);
  g_signal_connect (websocket, "closed", G_CALLBACK (log_websocket_closed), self);
  g_signal_connect_swapped (websocket, "closed", G_CALLBACK (party_end), self);
  soup_websocket_connection_send_text (websocket, "hello");
}

/* By the server, as it tells it to. */
static void
open_websocket_to_be_closed (Party *self)
{
  self->cancellable = g_cancellable_new ();
  open_websocket (self);
}

#define UPGRADE                                                                                    \
  "GET /websocket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"         \
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static void
begin_websocket (Run *run)
{
  static const Exchange exchanges[] = { { UPGRADE, END }, { NULL, NULL } };

  static const Exchange unmasked[] = { { UPGRADE, END }, { "\x81\x01x", NULL }, { NULL, NULL } };

  for (guint i = 0; i < 4; i++)
    add_connection (run, exchanges, i % 2 == 0 ? open_websocket : open_websocket_to_be_closed);
  add_connection (run, unmasked, NULL);
  add_connection (run, exchanges, NULL);
}

int
main (int argc, char **argv)
{
  static Scenario scenarios[] = {
    { "/gio-soup/keep-alive", begin_keep_alive }, { "/gio-soup/paused-and-unpaused", begin_later },
    { "/gio-soup/chunked", begin_chunks },        { "/gio-soup/broken-requests", begin_broken },
    { "/gio-soup/websocket", begin_websocket },
  };

  g_test_init (&argc, &argv, NULL);
  return run_scenarios (scenarios, G_N_ELEMENTS (scenarios));
}
