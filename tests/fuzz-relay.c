/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What clients may do to the relay, which is linked in here but for its main(). The first byte of
 * the input chooses how it watches; then each step is a byte, which client in the lower bits and
 * what it does above, and what that takes. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../examples/relay/relay.h"

#define N_PEERS 4
/* The smallest that the kernel gives, so that the queues fill early. */
#define SEND_BUFFER 1
/* For an input of some kB. Who needs more spins. */
#define MAX_TURNS 100000
#define MAX_FLOOD 80
#define TOPIC "t"

typedef struct
{
  const uint8_t *data;
  size_t size;
} Input;

typedef struct
{
  int fd;          /* the client's end, or -1 */
  gboolean silent; /* it has shut its sending side down */
  GString *heard;  /* the beginning of a line */
} Peer;

typedef struct
{
  Relay *relay;
  GSocketConnection *connection;
} Connecting;

typedef struct
{
  Relay *relay;
  Peer peers[N_PEERS];
  gboolean cut_off; /* deadlines have passed: a last line may be incomplete */
  Input input;
} Fuzz;

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static guint
next_byte (Input *input)
{
  if (input->size == 0)
    return 0;
  input->size--;
  return *input->data++;
}

/* What has to hold whatever clients do */

static void
check_client (const Client *client)
{
  g_assert_cmpuint (client->in->len, <, client->leaving ? 2 * MAX_LINE : MAX_LINE);
  g_assert_cmpuint (client->n_queued, <=, MAX_QUEUE + MAX_LINE);
  g_assert_cmpuint (g_hash_table_size (client->topics), <=, MAX_SUBSCRIPTIONS);
}

static void
check_relay (Relay *relay)
{
  GHashTableIter iter;
  gpointer client;
  guint n_leaving = 0;

  g_assert_cmpuint (g_hash_table_size (relay->clients), <=, N_PEERS);
  g_hash_table_iter_init (&iter, relay->clients);
  while (g_hash_table_iter_next (&iter, &client, NULL))
    {
      check_client (client);
      n_leaving += ((Client *) client)->leaving;
    }
  g_assert_cmpuint (relay->leaving.length, ==, n_leaving);
}

static void
check_message (const char *line)
{
  const char *topic = line + strlen ("MSG ");
  const char *space = strchr (topic, ' ');

  g_assert_nonnull (space);
  g_assert_true (space > topic);
}

static void
check_line (const char *line, gsize length)
{
  static const char *const words[] = { "OK", "PONG", "BYE", NULL };

  g_assert_cmpuint (strlen (line), ==, length);
  if (g_str_has_prefix (line, "MSG "))
    check_message (line);
  else if (!g_str_has_prefix (line, "ERR ") && !g_str_has_prefix (line, "STATS watch="))
    g_assert_true (g_strv_contains (words, line));
}

/* Until nothing is to be done any more. */
static void
settle (Fuzz *fuzz)
{
  guint n_turns = 0;

  while (g_main_context_iteration (NULL, FALSE))
    g_assert_cmpuint (++n_turns, <, MAX_TURNS);
  check_relay (fuzz->relay);
}

/* What a client does */

static void
connect_stream (gpointer data)
{
  Connecting *connecting = data;

  client_new_for_connection (connecting->relay, connecting->connection);
}

/* As the services do. */
static void
connect_stream_fd (Relay *relay, int fd)
{
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, NULL);
  g_autoptr (GSocketConnection) connection = g_socket_connection_factory_create_connection (socket);
  g_autoptr (GMainContext) main_context = NULL;
  Connecting connecting = { relay, connection };

  if (relay->gaio == NULL)
    {
      connect_stream (&connecting);
      return;
    }
  main_context = gaio_context_create_main_context (relay->gaio, G_OBJECT (connection), NULL);
  gaio_context_call_in (relay->gaio, main_context, connect_stream, &connecting);
}

static void
peer_open (Fuzz *fuzz, Peer *peer)
{
  int fds[2];

  if (peer->fd >= 0)
    return;
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
    g_error ("socketpair: %s", g_strerror (errno));
  setsockopt (fds[1], SOL_SOCKET, SO_SNDBUF, &(int){ SEND_BUFFER }, sizeof (int));
  peer->fd = fds[0];
  peer->silent = FALSE;
  g_string_truncate (peer->heard, 0);
  if (fuzz->relay->transport == &fd_transport)
    client_new_for_fd (fuzz->relay, fds[1]);
  else
    connect_stream_fd (fuzz->relay, fds[1]);
}

static void
peer_close (Peer *peer)
{
  if (peer->fd >= 0)
    close (peer->fd);
  peer->fd = -1;
}

static void
peer_send (Fuzz *fuzz, Peer *peer, const char *data, gsize length)
{
  while (length > 0 && !peer->silent)
    {
      gssize n_sent = send (peer->fd, data, length, MSG_NOSIGNAL);

      /* The relay has closed. */
      if (n_sent < 0 && errno != EAGAIN)
        return;
      data += MAX (n_sent, 0);
      length -= MAX (n_sent, 0);
      settle (fuzz);
    }
}

static void
peer_hear_lines (Peer *peer)
{
  char *end;

  while ((end = memchr (peer->heard->str, '\n', peer->heard->len)) != NULL)
    {
      *end = '\0';
      check_line (peer->heard->str, end - peer->heard->str);
      g_string_erase (peer->heard, 0, end + 1 - peer->heard->str);
    }
}

/* Reads what there is. */
static void
peer_read (Fuzz *fuzz, Peer *peer)
{
  char buffer[MAX_LINE];
  gssize n_read;

  while ((n_read = recv (peer->fd, buffer, sizeof buffer, 0)) > 0)
    {
      g_string_append_len (peer->heard, buffer, n_read);
      peer_hear_lines (peer);
      settle (fuzz);
    }
  if (n_read == 0 && !fuzz->cut_off)
    g_assert_cmpuint (peer->heard->len, ==, 0);
}

/* Sends bytes of the input as they are. */
static void
step_send (Fuzz *fuzz, Peer *peer)
{
  gsize length = next_byte (&fuzz->input);

  length = MIN (length, fuzz->input.size);
  peer_send (fuzz, peer, (const char *) fuzz->input.data, length);
  fuzz->input.data += length;
  fuzz->input.size -= length;
}

/* Sends the same byte many times. */
static void
step_fill (Fuzz *fuzz, Peer *peer)
{
  guint byte = next_byte (&fuzz->input);
  gsize length = 16 * next_byte (&fuzz->input);
  g_autofree char *text = g_strnfill (length, byte);

  peer_send (fuzz, peer, text, length);
}

/* Publishes long messages, as many as fill a queue. */
static void
step_flood (Fuzz *fuzz, Peer *peer)
{
  guint n = next_byte (&fuzz->input) % MAX_FLOOD;
  g_autofree char *text = g_strnfill (16 * next_byte (&fuzz->input), 'x');
  g_autofree char *line = g_strconcat ("PUB " TOPIC " ", text, "\n", NULL);

  for (guint i = 0; i < n; i++)
    peer_send (fuzz, peer, line, strlen (line));
}

static void
step_half_close (Fuzz *fuzz, Peer *peer)
{
  shutdown (peer->fd, SHUT_WR);
  peer->silent = TRUE;
}

static void
step_close (Fuzz *fuzz, Peer *peer)
{
  peer_close (peer);
}

/* The time is over for all who are leaving. */
static void
step_deadline (Fuzz *fuzz, Peer *peer)
{
  guint id;

  for (GList *link = fuzz->relay->leaving.head; link != NULL; link = link->next)
    ((Client *) link->data)->deadline_us = 0;
  fuzz->cut_off = TRUE;
  id = g_idle_add_full (G_PRIORITY_HIGH, relay_on_heartbeat, fuzz->relay, NULL);
  g_main_context_iteration (NULL, FALSE);
  g_source_remove (id);
}

static void
step (Fuzz *fuzz)
{
  static void (*const steps[]) (Fuzz * fuzz, Peer * peer) = {
    step_send, step_fill, step_flood, peer_read, step_half_close, step_close, step_deadline,
  };
  guint byte = next_byte (&fuzz->input);
  Peer *peer = &fuzz->peers[byte % N_PEERS];

  peer_open (fuzz, peer);
  steps[byte / N_PEERS % G_N_ELEMENTS (steps)](fuzz, peer);
  settle (fuzz);
}

/* A socket that nobody can connect to. */
static int
listen_nowhere (void)
{
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sa_family_t family = AF_UNIX;

  /* The kernel chooses a name. */
  if (bind (fd, (struct sockaddr *) &family, sizeof family) < 0 || listen (fd, 1) < 0)
    g_error ("listen: %s", g_strerror (errno));
  return fd;
}

static void
fuzz_init (Fuzz *fuzz, Relay *relay)
{
  static const char *const ways[] = { "gaio", "glib", "gaio-gio", "gio" };

  fuzz->relay = relay;
  g_assert_true (relay_init (relay, ways[next_byte (&fuzz->input) % G_N_ELEMENTS (ways)]));
  relay->transport->listen (relay, listen_nowhere ());
  for (guint i = 0; i < N_PEERS; i++)
    fuzz->peers[i] = (Peer){ .fd = -1, .heard = g_string_new (NULL) };
}

static void
fuzz_finish (Fuzz *fuzz)
{
  for (guint i = 0; i < N_PEERS; i++)
    {
      if (fuzz->peers[i].fd >= 0)
        peer_read (fuzz, &fuzz->peers[i]);
      peer_close (&fuzz->peers[i]);
      g_string_free (fuzz->peers[i].heard, TRUE);
    }
  settle (fuzz);
  g_assert_cmpuint (g_hash_table_size (fuzz->relay->clients), ==, 0);
  g_assert_cmpuint (g_hash_table_size (fuzz->relay->topics), ==, 0);
  fuzz->relay->transport->end (fuzz->relay);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  relay_clear (fuzz->relay);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static Relay relay;
  Fuzz fuzz = { .input = { data, size } };

  signal (SIGPIPE, SIG_IGN);
  /* Else some cases would make a context of their own. */
  gaio_context_get_default ();
  g_log_set_always_fatal (G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
  fuzz_init (&fuzz, &relay);
  while (fuzz.input.size > 0)
    step (&fuzz);
  fuzz_finish (&fuzz);
  return 0;
}
