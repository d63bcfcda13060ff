/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay: a publish/subscribe daemon for lines of text, on an ordinary GMainLoop.
 *
 *   relay [--watch=gaio|glib] [--port=PORT]
 *
 * It listens on 127.0.0.1. With --watch=glib each connection is one g_unix_fd_add(), with
 * --watch=gaio one gaio_context_add_fd() on the context nested in the same main loop. watch_set()
 * and watch_clear() are all the difference; everything else is the same code.
 *
 * A line is at most 4096 bytes and ends with \n or \r\n:
 *
 *   SUB topic         OK; from now on this client gets "MSG topic text" for each PUB
 *   UNSUB topic       OK
 *   PUB topic text    no answer
 *   PING              PONG
 *   STATS             STATS key=value ...; ticks and late_* are about the time since the last STATS
 *   QUIT              BYE, and the connection ends
 *   anything else     ERR and the reason
 *
 * A client that shuts its sending side down gets what is queued for it, then the connection ends.
 * One that sends an endless line, or reads too slowly, is told so and dropped.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gaio.h>
#include <glib-unix.h>

#define MAX_LINE 4096
#define MAX_QUEUE (256 * 1024)
#define MAX_SUBSCRIPTIONS 64
#define ACCEPTS_PER_WAKEUP 256
#define HEARTBEAT_MS 20
#define MAX_TICKS 4096
#define LINGER_US (5 * G_USEC_PER_SEC)

typedef struct
{
  guint source_id;      /* --watch=glib */
  GaioHandler *handler; /* --watch=gaio */
} Watch;

typedef struct
{
  GMainLoop *loop;
  GaioContext *gaio; /* NULL with --watch=glib */
  int listen_fd;
  Watch listen_watch;
  gboolean accept_paused;
  GHashTable *clients; /* a set of Client */
  GHashTable *topics;  /* name -> subscribers, a set of Client */
  GQueue leaving;      /* of Client, the earliest deadline first */
  gint64 tick_due_us;
  gint64 late_us[MAX_TICKS]; /* how late each heartbeat was, the oldest overwritten */
  guint n_ticks;
  guint64 n_published;
  guint64 n_delivered;
  guint64 n_dropped;
  guint64 n_accept_pauses;
} Relay;

typedef struct
{
  Relay *relay;
  int fd;
  Watch watch;
  GIOCondition condition;
  GString *in;        /* the beginning of a line */
  GString *out;       /* what the socket has not taken yet */
  GHashTable *topics; /* a set of names */
  gboolean at_eof;
  gboolean leaving; /* not served any more, and cut off at the deadline at the latest */
  gint64 deadline_us;
  GList leaving_link;
} Client;

/* Watching: the two ways */

static void
watch_clear (Watch *watch)
{
  g_clear_handle_id (&watch->source_id, g_source_remove);
  gaio_clear_handler (&watch->handler);
}

static gboolean
watch_set (Relay *relay,
           Watch *watch,
           int fd,
           GIOCondition condition,
           GaioFdFunc func,
           gpointer user_data)
{
  g_autoptr (GError) error = NULL;

  if (relay->gaio == NULL)
    {
      watch_clear (watch);
      if (condition != 0)
        watch->source_id = g_unix_fd_add (fd, condition, func, user_data);
    }
  else if (watch->handler == NULL)
    watch->handler =
        gaio_context_add_fd (relay->gaio, fd, condition, func, user_data, NULL, &error);
  else
    gaio_handler_set_condition (watch->handler, condition, &error);

  if (error != NULL)
    g_printerr ("relay: %s\n", error->message);
  return error == NULL;
}

/* Output. Nothing here frees a client: a broken connection is left to its watch (HUP), so it is
 * safe to send to each subscriber of a topic in turn. */

static gboolean on_client_ready (gint fd, GIOCondition condition, gpointer user_data);

/* Brings the watch, and the end of what is sent, in line with the client's state. */
static gboolean
client_settle (Client *client)
{
  GIOCondition condition = 0;

  if (client->leaving && client->out->len == 0)
    shutdown (client->fd, SHUT_WR);
  if (!client->at_eof)
    condition |= G_IO_IN;
  if (client->out->len > 0)
    condition |= G_IO_OUT;
  if (condition == client->condition)
    return TRUE;

  client->condition = condition;
  return watch_set (client->relay, &client->watch, client->fd, condition, on_client_ready, client);
}

static void
client_send (Client *client, const char *line)
{
  gssize n_sent = 0;

  if (client->out->len == 0)
    n_sent = send (client->fd, line, strlen (line), 0);
  g_string_append (client->out, line + MAX (n_sent, 0));
  client_settle (client);
}

/* Ends a connection in order: last words, what is queued, end of file. Input is discarded until
 * the client has closed too, since closing over unread input would destroy what it was told. */
static void
client_leave (Client *client, const char *last_words)
{
  if (client->leaving)
    return;
  client->leaving = TRUE;
  client->deadline_us = g_get_monotonic_time () + LINGER_US;
  g_queue_push_tail_link (&client->relay->leaving, &client->leaving_link);
  client_send (client, last_words);
}

static void
client_drop (Client *client, const char *reason)
{
  client->relay->n_dropped++;
  client_leave (client, reason);
}

static void
client_tell (Client *client, const char *line)
{
  if (client->leaving)
    return;
  if (client->out->len + strlen (line) > MAX_QUEUE)
    client_drop (client, "ERR too slow\n");
  else
    client_send (client, line);
}

static gboolean
client_flush (Client *client)
{
  gssize n_sent = send (client->fd, client->out->str, client->out->len, 0);

  if (n_sent < 0)
    return errno == EAGAIN;
  g_string_erase (client->out, 0, n_sent);
  /* A GString never shrinks: else each client would keep the longest queue it ever had. */
  if (client->out->len == 0)
    {
      g_string_free (client->out, TRUE);
      client->out = g_string_new (NULL);
    }
  return client_settle (client);
}

/* Topics */

static void
relay_subscribe (Relay *relay, const char *topic, Client *client)
{
  GHashTable *subscribers = g_hash_table_lookup (relay->topics, topic);

  if (subscribers == NULL)
    {
      subscribers = g_hash_table_new (NULL, NULL);
      g_hash_table_insert (relay->topics, g_strdup (topic), subscribers);
    }
  g_hash_table_add (subscribers, client);
}

static void
relay_unsubscribe (Relay *relay, const char *topic, Client *client)
{
  GHashTable *subscribers = g_hash_table_lookup (relay->topics, topic);

  g_hash_table_remove (subscribers, client);
  if (g_hash_table_size (subscribers) == 0)
    g_hash_table_remove (relay->topics, topic);
}

/* Statistics */

static int
compare_times (gconstpointer a, gconstpointer b)
{
  gint64 first = *(const gint64 *) a, second = *(const gint64 *) b;

  return (first > second) - (first < second);
}

static gint64
cpu_time_us (void)
{
  struct rusage usage;

  getrusage (RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * (gint64) G_USEC_PER_SEC +
         usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static gsize
relay_count_queued_bytes (Relay *relay)
{
  GHashTableIter iter;
  gpointer client;
  gsize n = 0;

  g_hash_table_iter_init (&iter, relay->clients);
  while (g_hash_table_iter_next (&iter, &client, NULL))
    n += ((Client *) client)->out->len;
  return n;
}

static char *
relay_take_stats (Relay *relay)
{
  guint n = MIN (relay->n_ticks, MAX_TICKS);
  g_autofree char *heartbeat = NULL;

  qsort (relay->late_us, n, sizeof relay->late_us[0], compare_times);
  heartbeat = g_strdup_printf ("ticks=%u late_p50_us=%" G_GINT64_FORMAT
                               " late_p99_us=%" G_GINT64_FORMAT " late_max_us=%" G_GINT64_FORMAT,
                               relay->n_ticks, n > 0 ? relay->late_us[(n - 1) / 2] : 0,
                               n > 0 ? relay->late_us[(n - 1) * 99 / 100] : 0,
                               n > 0 ? relay->late_us[n - 1] : 0);
  relay->n_ticks = 0;

  return g_strdup_printf ("STATS watch=%s connections=%u topics=%u published=%" G_GUINT64_FORMAT
                          " delivered=%" G_GUINT64_FORMAT " queued_bytes=%" G_GSIZE_FORMAT
                          " dropped=%" G_GUINT64_FORMAT " accept_pauses=%" G_GUINT64_FORMAT
                          " cpu_us=%" G_GINT64_FORMAT " %s\n",
                          relay->gaio != NULL ? "gaio" : "glib", g_hash_table_size (relay->clients),
                          g_hash_table_size (relay->topics), relay->n_published, relay->n_delivered,
                          relay_count_queued_bytes (relay), relay->n_dropped,
                          relay->n_accept_pauses, cpu_time_us (), heartbeat);
}

/* Commands */

static void
command_sub (Client *client, const char *topic, const char *text)
{
  if (g_hash_table_size (client->topics) >= MAX_SUBSCRIPTIONS)
    {
      client_tell (client, "ERR too many subscriptions\n");
      return;
    }
  if (g_hash_table_add (client->topics, g_strdup (topic)))
    relay_subscribe (client->relay, topic, client);
  client_tell (client, "OK\n");
}

static void
command_unsub (Client *client, const char *topic, const char *text)
{
  if (g_hash_table_remove (client->topics, topic))
    relay_unsubscribe (client->relay, topic, client);
  client_tell (client, "OK\n");
}

static void
command_pub (Client *client, const char *topic, const char *text)
{
  Relay *relay = client->relay;
  GHashTable *subscribers = g_hash_table_lookup (relay->topics, topic);
  g_autofree char *message = NULL;
  GHashTableIter iter;
  gpointer subscriber;

  relay->n_published++;
  if (subscribers == NULL)
    return;
  message = g_strconcat ("MSG ", topic, " ", text, "\n", NULL);
  g_hash_table_iter_init (&iter, subscribers);
  while (g_hash_table_iter_next (&iter, &subscriber, NULL))
    client_tell (subscriber, message);
  relay->n_delivered += g_hash_table_size (subscribers);
}

static void
command_ping (Client *client, const char *topic, const char *text)
{
  client_tell (client, "PONG\n");
}

static void
command_stats (Client *client, const char *topic, const char *text)
{
  g_autofree char *stats = relay_take_stats (client->relay);

  client_tell (client, stats);
}

static void
command_quit (Client *client, const char *topic, const char *text)
{
  client_leave (client, "BYE\n");
}

static const struct
{
  const char *name;
  gboolean needs_topic;
  void (*func) (Client *client, const char *topic, const char *text);
} commands[] = {
  { "SUB", TRUE, command_sub },      { "UNSUB", TRUE, command_unsub },
  { "PUB", TRUE, command_pub },      { "PING", FALSE, command_ping },
  { "STATS", FALSE, command_stats }, { "QUIT", FALSE, command_quit },
};

/* Input */

/* Ends the first word of the line and returns what comes after it. */
static char *
cut_word (char *line)
{
  char *space = strchr (line, ' ');

  if (space == NULL)
    return line + strlen (line);
  *space = '\0';
  return space + 1;
}

static void
client_serve_line (Client *client, char *line, gsize length)
{
  char *topic, *text;

  if (length >= MAX_LINE)
    {
      client_drop (client, "ERR line too long\n");
      return;
    }
  if (memchr (line, '\0', length) != NULL)
    {
      client_tell (client, "ERR the line has a zero byte\n");
      return;
    }
  if (length > 0 && line[length - 1] == '\r')
    line[length - 1] = '\0';
  topic = cut_word (line);
  text = cut_word (topic);

  for (gsize i = 0; i < G_N_ELEMENTS (commands); i++)
    if (strcmp (line, commands[i].name) == 0)
      {
        if (commands[i].needs_topic && *topic == '\0')
          client_tell (client, "ERR topic missing\n");
        else
          commands[i].func (client, topic, text);
        return;
      }
  client_tell (client, "ERR unknown command\n");
}

static void
client_serve_lines (Client *client)
{
  GString *in = client->in;
  gsize start = 0;
  char *end;

  while (!client->leaving && (end = memchr (in->str + start, '\n', in->len - start)) != NULL)
    {
      char *line = in->str + start;

      *end = '\0';
      start = end + 1 - in->str;
      client_serve_line (client, line, end - line);
    }
  g_string_erase (in, 0, start);
  if (!client->leaving && in->len >= MAX_LINE)
    client_drop (client, "ERR line too long\n");
}

/* Reads once: what is left is reported again, after the other connections have had their turn. */
static gboolean
client_read (Client *client)
{
  char buffer[MAX_LINE];
  gssize n_read = recv (client->fd, buffer, sizeof buffer, 0);

  if (n_read < 0)
    return errno == EAGAIN;
  if (n_read == 0)
    {
      client->at_eof = TRUE;
      client_leave (client, "");
      return client_settle (client);
    }
  if (!client->leaving)
    {
      g_string_append_len (client->in, buffer, n_read);
      client_serve_lines (client);
    }
  return TRUE;
}

/* Connections */

static gboolean on_listener_ready (gint fd, GIOCondition condition, gpointer user_data);

static void
relay_set_accepting (Relay *relay, gboolean accepting)
{
  relay->accept_paused = !accepting;
  watch_set (relay, &relay->listen_watch, relay->listen_fd, accepting ? G_IO_IN : 0,
             on_listener_ready, relay);
}

static void
client_free (gpointer data)
{
  Client *client = data;
  GHashTableIter iter;
  gpointer topic;

  g_hash_table_iter_init (&iter, client->topics);
  while (g_hash_table_iter_next (&iter, &topic, NULL))
    relay_unsubscribe (client->relay, topic, client);
  g_hash_table_unref (client->topics);
  if (client->leaving)
    g_queue_unlink (&client->relay->leaving, &client->leaving_link);
  watch_clear (&client->watch);
  close (client->fd);
  g_string_free (client->in, TRUE);
  g_string_free (client->out, TRUE);
  g_free (client);
}

static void
client_close (Client *client)
{
  Relay *relay = client->relay;

  g_hash_table_remove (relay->clients, client);
  if (relay->accept_paused)
    relay_set_accepting (relay, TRUE);
}

static gboolean
on_client_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Client *client = user_data;
  gboolean alive = (condition & (G_IO_HUP | G_IO_ERR)) == 0;

  if (alive && (condition & G_IO_OUT) != 0)
    alive = client_flush (client);
  if (alive && (condition & G_IO_IN) != 0)
    alive = client_read (client);
  if (alive && !(client->at_eof && client->out->len == 0))
    return G_SOURCE_CONTINUE;

  client_close (client);
  return G_SOURCE_REMOVE;
}

static void
relay_add_client (Relay *relay, int fd)
{
  Client *client = g_new0 (Client, 1);

  client->relay = relay;
  client->fd = fd;
  client->in = g_string_new (NULL);
  client->out = g_string_new (NULL);
  client->topics = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  client->leaving_link.data = client;
  g_hash_table_add (relay->clients, client);
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof (int));
  if (!client_settle (client))
    client_close (client);
}

static gboolean
on_listener_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Relay *relay = user_data;

  for (guint i = 0; i < ACCEPTS_PER_WAKEUP; i++)
    {
      int client_fd = accept4 (fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

      if (client_fd >= 0)
        relay_add_client (relay, client_fd);
      else if (errno == EAGAIN)
        break;
      else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        {
          /* The connection stays in the backlog and keeps the listener readable: look away. */
          relay->n_accept_pauses++;
          relay_set_accepting (relay, FALSE);
          break;
        }
    }
  return G_SOURCE_CONTINUE;
}

/* The daemon */

static gboolean
on_heartbeat (gpointer user_data)
{
  Relay *relay = user_data;
  gint64 now = g_get_monotonic_time ();
  Client *client;

  relay->late_us[relay->n_ticks++ % MAX_TICKS] = MAX (now - relay->tick_due_us, 0);
  /* From here GLib counts the next interval. */
  relay->tick_due_us = g_source_get_time (g_main_current_source ()) + HEARTBEAT_MS * 1000;

  while ((client = g_queue_peek_head (&relay->leaving)) != NULL && client->deadline_us <= now)
    client_close (client);
  if (relay->accept_paused && g_hash_table_size (relay->clients) == 0)
    relay_set_accepting (relay, TRUE);
  return G_SOURCE_CONTINUE;
}

static gboolean
on_stop_signal (gpointer user_data)
{
  Relay *relay = user_data;

  g_main_loop_quit (relay->loop);
  return G_SOURCE_CONTINUE;
}

static void
relay_init (Relay *relay, GaioContext *gaio)
{
  relay->gaio = gaio;
  relay->loop = g_main_loop_new (NULL, FALSE);
  relay->clients = g_hash_table_new_full (NULL, NULL, client_free, NULL);
  relay->topics =
      g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_hash_table_unref);
  relay->tick_due_us = g_get_monotonic_time () + HEARTBEAT_MS * 1000;
  g_timeout_add (HEARTBEAT_MS, on_heartbeat, relay);
  g_unix_signal_add (SIGTERM, on_stop_signal, relay);
  g_unix_signal_add (SIGINT, on_stop_signal, relay);
}

static void
relay_finish (Relay *relay)
{
  g_autofree char *stats = relay_take_stats (relay);

  g_print ("stopped: %s", stats);
  g_hash_table_unref (relay->clients);
  g_hash_table_unref (relay->topics);
  watch_clear (&relay->listen_watch);
  close (relay->listen_fd);
  g_main_loop_unref (relay->loop);
}

static gboolean
relay_listen (Relay *relay, int port)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (port) };
  socklen_t length = sizeof address;

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  relay->listen_fd = socket (AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt (relay->listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof (int));
  if (bind (relay->listen_fd, (struct sockaddr *) &address, length) < 0 ||
      listen (relay->listen_fd, SOMAXCONN) < 0 ||
      getsockname (relay->listen_fd, (struct sockaddr *) &address, &length) < 0)
    {
      g_printerr ("relay: cannot listen on port %d: %s\n", port, g_strerror (errno));
      return FALSE;
    }
  relay_set_accepting (relay, TRUE);
  g_print ("listening on 127.0.0.1:%d\n", ntohs (address.sin_port));
  return TRUE;
}

/* The soft limit is usually 1024, for the sake of select(); too few clients here. */
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
  static Relay relay;
  g_autofree char *watch = NULL;
  int port = 0;
  GOptionEntry entries[] = {
    { "watch", 0, 0, G_OPTION_ARG_STRING, &watch, "How to watch the connections", "gaio|glib" },
    { "port", 0, 0, G_OPTION_ARG_INT, &port, "The port to listen on (default: any)", "PORT" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new (NULL);
  g_autoptr (GaioContext) gaio = NULL;
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error))
    {
      g_printerr ("relay: %s\n", error->message);
      return 2;
    }
  if (watch != NULL && !g_str_equal (watch, "gaio") && !g_str_equal (watch, "glib"))
    {
      g_printerr ("relay: --watch is gaio or glib\n");
      return 2;
    }
  signal (SIGPIPE, SIG_IGN);
  raise_fd_limit ();
  if (watch == NULL || g_str_equal (watch, "gaio"))
    gaio = gaio_context_ref_for_main_context (NULL);
  relay_init (&relay, gaio);
  if (!relay_listen (&relay, port))
    return 1;
  g_main_loop_run (relay.loop);
  relay_finish (&relay);
  return 0;
}
