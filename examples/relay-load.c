/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay-load: thousands of clients for relay, in one process, on a stand-alone GaioContext.
 *
 *   relay-load --port=PORT [--connections=N] [--active=K] [--seconds=S] [--machine]
 *
 * Opens N connections that subscribe to a topic of their own each. K of them, evenly spread,
 * form a ring: each publishes the time to the next one's topic, and whoever gets a message notes
 * how long it took and publishes in turn. So K messages are always on their way, while the other
 * connections are idle. The server tells how much CPU time that took and how late its heartbeat
 * was.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gaio.h>

#include "relay-client.h"

#define DEFAULT_CONNECTIONS 9000
#define MAX_LINE 256
#define STALL_SECONDS 30

typedef struct _Load Load;

typedef struct _Peer Peer;

struct _Peer
{
  Load *load;
  guint index;
  Peer *next; /* in the ring; NULL: idle */
  int fd;
  GaioHandler *handler;
  guint n_in;
  char in[MAX_LINE]; /* the beginning of a line */
};

struct _Load
{
  GaioContext *context;
  struct sockaddr_in address;
  Peer *peers;
  guint n_peers;
  guint n_active;
  guint n_opened;
  guint n_subscribed;
  guint n_in_flight;
  gboolean publishing;
  GArray *latencies; /* guint32, microseconds */
  char *failure;
  guint64 progress;
  gint64 progress_at;
};

typedef struct
{
  gint64 cpu_us;
  gint64 delivered;
  gint64 late_p99_us;
  gint64 late_max_us;
} ServerStats;

/* Talking to the server */

static int
load_connect (Load *load)
{
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  if (fd < 0 || connect (fd, (struct sockaddr *) &load->address, sizeof load->address) < 0)
    {
      load_fail (load, "cannot connect: %s", g_strerror (errno));
      if (fd >= 0)
        close (fd);
      return -1;
    }
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof (int));
  return fd;
}

static ServerStats
load_ask_stats (Load *load, int control_fd)
{
  char line[1024] = "";
  gsize length = 0;

  load_send (load, control_fd, "STATS\n");
  while (load->failure == NULL && strchr (line, '\n') == NULL)
    {
      gssize n_read = recv (control_fd, line + length, sizeof line - 1 - length, 0);

      if (n_read <= 0)
        load_fail (load, "no answer to STATS");
      else
        line[length += n_read] = '\0';
    }
  return (ServerStats){
    .cpu_us = stats_get (line, "cpu_us"),
    .delivered = stats_get (line, "delivered"),
    .late_p99_us = stats_get (line, "late_p99_us"),
    .late_max_us = stats_get (line, "late_max_us"),
  };
}

/* The clients */

static void
peer_publish (Peer *peer)
{
  char line[MAX_LINE];

  g_snprintf (line, sizeof line, "PUB t%u %" G_GINT64_FORMAT "\n", peer->next->index,
              g_get_monotonic_time ());
  peer->load->n_in_flight++;
  load_send (peer->load, peer->fd, line);
}

static void peers_open (Load *load);

static void
peer_take_line (Peer *peer, const char *line)
{
  Load *load = peer->load;
  gint64 sent_at;

  if (g_str_equal (line, "OK"))
    {
      load->n_subscribed++;
      peers_open (load);
    }
  /* Those outside the ring are not sent anything. */
  else if (peer->next != NULL && sscanf (line, "MSG t%*u %" G_GINT64_FORMAT, &sent_at) == 1)
    {
      guint32 latency = g_get_monotonic_time () - sent_at;

      load->n_in_flight--;
      g_array_append_val (load->latencies, latency);
      if (load->publishing)
        peer_publish (peer);
    }
  else
    load_fail (load, "the server says: %s", line);
}

static gboolean
on_peer_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Peer *peer = user_data;
  gssize n_read = recv (fd, peer->in + peer->n_in, MAX_LINE - peer->n_in, MSG_DONTWAIT);
  char *line = peer->in, *end;

  if (n_read < 0 && errno == EAGAIN)
    return G_SOURCE_CONTINUE;
  if (n_read <= 0)
    {
      load_fail (peer->load, "the server has closed connection %u", peer->index);
      return G_SOURCE_REMOVE;
    }
  peer->n_in += n_read;
  while ((end = memchr (line, '\n', peer->in + peer->n_in - line)) != NULL)
    {
      *end = '\0';
      peer_take_line (peer, line);
      line = end + 1;
    }
  peer->n_in -= line - peer->in;
  memmove (peer->in, line, peer->n_in);
  return G_SOURCE_CONTINUE;
}

static void
peer_open (Peer *peer)
{
  Load *load = peer->load;
  g_autoptr (GError) error = NULL;
  g_autofree char *line = g_strdup_printf ("SUB t%u\n", peer->index);

  peer->fd = load_connect (load);
  if (peer->fd < 0)
    return;
  peer->handler =
      gaio_context_add_fd (load->context, peer->fd, G_IO_IN, on_peer_ready, peer, NULL, &error);
  if (peer->handler == NULL)
    load_fail (load, "%s", error->message);
  else
    load_send (load, peer->fd, line);
}

/* Opens as many at a time as fit into the server's backlog with room to spare. */
static void
peers_open (Load *load)
{
  while (load->failure == NULL && load->n_opened < load->n_peers &&
         load->n_opened - load->n_subscribed < MAX_OPENING)
    {
      Peer *peer = &load->peers[load->n_opened];

      peer->load = load;
      peer->index = load->n_opened++;
      peer_open (peer);
    }
}

static void
peers_close (Load *load)
{
  for (guint i = 0; i < load->n_opened; i++)
    {
      gaio_clear_handler (&load->peers[i].handler);
      if (load->peers[i].fd >= 0)
        close (load->peers[i].fd);
    }
  g_free (load->peers);
}

/* The ring is spread evenly over all of them. */
static void
peers_link (Load *load)
{
  guint64 n = load->n_peers;

  for (guint k = 0; k < load->n_active; k++)
    {
      guint from = k * n / load->n_active;
      guint to = (k + 1) % load->n_active * n / load->n_active;

      load->peers[from].next = &load->peers[to];
    }
}

/* The run */

static gboolean
on_progress (gpointer user_data)
{
  Load *load = user_data;
  guint64 progress = (guint64) load->n_subscribed + load->latencies->len;
  gint64 now = g_get_monotonic_time ();

  g_printerr (isatty (STDERR_FILENO) ? "\r%u of %u connections, %u messages "
                                     : "%u of %u connections, %u messages\n",
              load->n_subscribed, load->n_peers, load->latencies->len);
  if (progress != load->progress)
    load->progress_at = now;
  else if (now - load->progress_at > STALL_SECONDS * G_USEC_PER_SEC)
    load_fail (load, "nothing has moved for %d s", STALL_SECONDS);
  load->progress = progress;
  return G_SOURCE_CONTINUE;
}

static void
on_time_is_over (gpointer user_data)
{
  Load *load = user_data;

  load->publishing = FALSE;
}

static void
load_connect_all (Load *load)
{
  load->peers = g_new0 (Peer, load->n_peers);
  peers_link (load);
  peers_open (load);
  while (load->failure == NULL && load->n_subscribed < load->n_peers)
    gaio_context_iterate (load->context, -1);
}

static void
load_exchange_messages (Load *load, guint seconds)
{
  GaioTimer *timer = gaio_context_add_timer (load->context, on_time_is_over, load, NULL);

  gaio_timer_arm (timer, seconds * (gint64) G_USEC_PER_SEC);
  load->publishing = TRUE;
  for (guint i = 0; load->failure == NULL && i < load->n_peers; i++)
    if (load->peers[i].next != NULL)
      peer_publish (&load->peers[i]);
  while (load->failure == NULL && (load->publishing || load->n_in_flight > 0))
    gaio_context_iterate (load->context, -1);
  gaio_clear_timer (&timer);
}

/* The report */

static int
compare_latencies (gconstpointer a, gconstpointer b)
{
  guint32 first = *(const guint32 *) a, second = *(const guint32 *) b;

  return (first > second) - (first < second);
}

static double
load_get_percentile (Load *load, double percent)
{
  guint n = load->latencies->len;

  return n > 0 ? g_array_index (load->latencies, guint32, (guint) ((n - 1) * percent / 100)) : 0;
}

static void
load_report (Load *load,
             gboolean machine,
             gint64 elapsed_us,
             ServerStats *before,
             ServerStats *after)
{
  double n_delivered = MAX (after->delivered - before->delivered, 1);
  struct
  {
    const char *key;
    double value;
  } rows[] = {
    { "connections", load->n_peers },
    { "messages_per_s", load->latencies->len * 1e6 / elapsed_us },
    { "latency_p50_us", load_get_percentile (load, 50) },
    { "latency_p99_us", load_get_percentile (load, 99) },
    { "latency_p999_us", load_get_percentile (load, 99.9) },
    { "server_cpu_us_per_message", (after->cpu_us - before->cpu_us) / n_delivered },
    { "heartbeat_late_p99_us", after->late_p99_us },
    { "heartbeat_late_max_us", after->late_max_us },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    g_print (machine ? "%s=%.1f\n" : "%-28s %10.1f\n", rows[i].key, rows[i].value);
}

static void
load_run (Load *load, guint seconds, gboolean machine)
{
  int control_fd = load_connect (load);
  gint64 tick_us = isatty (STDERR_FILENO) ? G_USEC_PER_SEC / 10 : G_USEC_PER_SEC;
  GaioTimer *progress = gaio_context_add_timeout (load->context, tick_us, on_progress, load, NULL);
  ServerStats before, after;
  gint64 started_at, elapsed_us;

  load->progress_at = g_get_monotonic_time ();
  load_connect_all (load);
  before = load_ask_stats (load, control_fd);
  started_at = g_get_monotonic_time ();
  load_exchange_messages (load, seconds);
  elapsed_us = g_get_monotonic_time () - started_at;
  after = load_ask_stats (load, control_fd);
  on_progress (load);
  if (isatty (STDERR_FILENO))
    g_printerr ("\n");

  g_array_sort (load->latencies, compare_latencies);
  if (load->failure == NULL)
    load_report (load, machine, elapsed_us, &before, &after);
  gaio_clear_timer (&progress);
  peers_close (load);
  if (control_fd >= 0)
    close (control_fd);
}

int
main (int argc, char **argv)
{
  Load load = { .address = { .sin_family = AF_INET } };
  int max_connections = MAX (raise_fd_limit (), 1);
  int connections = MIN (DEFAULT_CONNECTIONS, max_connections);
  int port = 0, active = 16, seconds = 5, status = 0;
  gboolean machine = FALSE;
  GOptionEntry entries[] = {
    { "port", 0, 0, G_OPTION_ARG_INT, &port, "The relay's port on 127.0.0.1", "PORT" },
    { "connections", 0, 0, G_OPTION_ARG_INT, &connections, "How many to open", "N" },
    { "active", 0, 0, G_OPTION_ARG_INT, &active, "How many of them exchange messages", "K" },
    { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "For how long", "S" },
    { "machine", 0, 0, G_OPTION_ARG_NONE, &machine, "Report key=value lines", NULL },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || port <= 0)
    {
      g_printerr ("relay-load: %s\n", error != NULL ? error->message : "--port=PORT is missing");
      return 2;
    }
  load.address.sin_port = htons (port);
  load.address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  load.n_peers = CLAMP (connections, 1, max_connections);
  load.n_active = CLAMP (active, 1, (int) load.n_peers);
  load.latencies = g_array_new (FALSE, FALSE, sizeof (guint32));
  load.context = gaio_context_new ();

  load_run (&load, MAX (seconds, 1), machine);

  if (load.failure != NULL)
    {
      g_printerr ("relay-load: %s\n", load.failure);
      status = 1;
    }
  g_object_unref (load.context);
  g_array_unref (load.latencies);
  g_clear_pointer (&load.failure, g_free);
  return status;
}
