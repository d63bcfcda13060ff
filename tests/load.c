/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * load: holds the example daemon to its word, with thousands of connections. Reports in TAP.
 *
 *   load [--readers=N] [--seconds=S] [--watch=WAY] [--seed=SEED] RELAY
 *
 * Starts RELAY and opens N connections that read. Each subscribes to a few topics, and publishers
 * send lines to them that carry a checksum and count on by one for each topic: every reader checks
 * that it gets what was sent to its topics, whole, once, and in order. Beside them
 *
 *   the flood      publishes as fast as its socket takes, what no reader could bear as mere noise
 *   the sleeper    subscribes to the flood and its noise and does not read, until it is dropped for
 *                  that and comes back; every second time it sleeps until it is cut off, too
 *   the vandal     connects, sends half a line and resets the connection, over and over
 *
 * A publisher waits while more is on its way than WINDOW: so no reader is ever dropped for being
 * slow, on however slow a machine, and each line that is missing is the relay's fault.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gaio.h>

#include "../examples/relay-client.h"

/* What the relay promises. */
#define MAX_LINE 4096
#define MAX_QUEUE (256 * 1024)
#define LINGER_US (5 * G_USEC_PER_SEC)

#define DEFAULT_READERS 9000
#define MIN_READERS 16
#define READERS_PER_TOPIC 4
#define TOPICS_PER_READER 2
#define MAX_SUBSCRIPTIONS (TOPICS_PER_READER + 1) /* the flood */
#define FLOOD_TOPIC 0
#define N_PUBLISHERS 9
#define FLOOD (N_PUBLISHERS - 1) /* the last of them */
#define WINDOW (16 * 1024)
#define FLOOD_WINDOW (64 * 1024)
#define MAX_PENDING (64 * 1024) /* bytes that the socket has not taken yet */
#define POOL_SIZE (64 * 1024)
#define UNKNOWN G_MAXUINT64
#define NAP_US G_USEC_PER_SEC
#define SLEEPER_SEGMENT 536 /* the smaller, the less its sockets take */
#define SLEEPER_RCVBUF (16 * 1024)
#define MAX_AWAKE (4 * MAX_QUEUE) /* more than can be left for one who was dropped */
#define POLL_US (20 * 1000)
#define STALL_SECONDS 60
#define MAX_STATS_SECONDS 60 /* the relay remembers the heartbeats of a little longer */

/* All that can be on its way to one reader is less than what makes the relay drop it. */
G_STATIC_ASSERT ((N_PUBLISHERS - 1) * (WINDOW + MAX_LINE) + FLOOD_WINDOW + MAX_LINE < MAX_QUEUE);

/* Two sleepers' queues, the one that lingers and the one that fills, each in a buffer of twice its
 * size that is being moved to another one; and as much again that the allocator may keep. */
#ifndef __SANITIZE_ADDRESS__
#  define MAX_GROWTH (2 * 2 * (2 * 2 * MAX_QUEUE))
#else
/* ASan keeps as much of what was freed; what is leaked it tells when the relay ends. */
#  define MAX_GROWTH (256 * 1024 * 1024)
#endif

typedef struct _Load Load;

typedef struct
{
  guint64 n_sent[N_PUBLISHERS];
  guint64 n_lines;
  guint64 digest; /* the sum of the lines' hashes, so that their order does not matter */
  guint n_readers;
} Topic;

typedef struct
{
  Load *load;
  guint index;
  int fd;
  GaioHandler *handler;
  GRand *rand;
  GString *out;
  guint64 n_lines;
  gint64 in_flight; /* bytes that readers have yet to get */
  gint64 window;
  gboolean done; /* the relay has seen all of its lines */
} Publisher;

typedef struct
{
  guint topic;
  guint64 next[N_PUBLISHERS];
} Subscription;

typedef struct
{
  Load *load;
  guint index;
  int fd;
  GaioHandler *handler;
  GString *in;
  guint n_subscriptions;
  guint n_confirmed;
  Subscription subscriptions[MAX_SUBSCRIPTIONS];
  guint64 last[N_PUBLISHERS]; /* a publisher's lines to all topics count on, too */
  guint64 n_lines;
  guint64 digest;
  gboolean done; /* nothing is on its way any more */
} Reader;

typedef struct
{
  Reader reader;
  GaioTimer *timer;
  gboolean connected;
  gboolean told; /* that it was too slow */
  guint64 next_noise;
  gsize n_read; /* since it was woken */
  gint64 nap_us;
  guint n_told;
  guint n_cut;
} Sleeper;

typedef struct
{
  int fd;
  GaioHandler *handler;
  guint64 n_resets;
} Vandal;

typedef struct
{
  int fd;
  GaioHandler *handler;
  GString *in;
  gboolean asked;
  gint64 first_cpu_us;
  gint64 cpu_us;
  guint64 published;
  guint64 dropped;
  guint connections;
  gint64 late_p50_us; /* the worst of the answers */
  gint64 late_p99_us;
  gint64 late_max_us;
} Control;

struct _Load
{
  guint seed;
  gint64 duration_us;
  GaioContext *context;
  struct sockaddr_in address;
  GPid pid;
  GaioHandler *child;
  FILE *relay_output;
  gboolean relay_may_end;
  gboolean relay_ended;
  int relay_status;

  char *pool; /* random text, to cut payloads from */
  Topic *topics;
  guint n_topics;
  Publisher publishers[N_PUBLISHERS];
  Reader *readers;
  guint n_readers;
  guint n_opened;
  guint n_confirmed;
  guint n_done;
  Sleeper sleeper;
  Vandal vandal;
  Control control;

  gboolean publishing;
  gboolean time_is_over;
  guint64 n_published;
  guint64 n_noise; /* of them */
  guint64 n_received;
  guint n_fds; /* of the relay, before anybody came */
  gboolean warm;
  gint64 warm_rss;
  gint64 max_rss;
  guint64 progress;
  gint64 progress_at;
  gint64 started_at;
  char *failure;
};

#define load_run_until(load, what)                                                                 \
  G_STMT_START                                                                                     \
  {                                                                                                \
    while ((load)->failure == NULL && !(what))                                                     \
      gaio_context_iterate ((load)->context, -1);                                                  \
  }                                                                                                \
  G_STMT_END

/* FNV-1a */
static guint64
hash_bytes (guint64 hash, const char *bytes, gsize length)
{
  for (gsize i = 0; i < length; i++)
    hash = (hash ^ (guint8) bytes[i]) * G_GUINT64_CONSTANT (0x100000001b3);
  return hash;
}

#define HASH_START G_GUINT64_CONSTANT (0xcbf29ce484222325)

/* Sockets */

static void
socket_reset (int fd)
{
  setsockopt (fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof (struct linger));
  close (fd);
}

static int
socket_new (void)
{
  return socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Does not wait for the connection: @fd is writable when it is there. */
static GaioHandler *
load_connect (Load *load, int fd, GIOCondition condition, GaioFdFunc func, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler;

  if (connect (fd, (struct sockaddr *) &load->address, sizeof load->address) < 0 &&
      errno != EINPROGRESS)
    load_fail (load, "cannot connect: %s", g_strerror (errno));
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof (int));
  handler = gaio_context_add_fd (load->context, fd, condition, func, user_data, NULL, &error);
  if (handler == NULL)
    load_fail (load, "%s", error->message);
  return handler;
}

static void
load_watch (Load *load, GaioHandler *handler, GIOCondition condition)
{
  g_autoptr (GError) error = NULL;

  if (!gaio_handler_set_condition (handler, condition, &error))
    load_fail (load, "%s", error->message);
}

/* Adds what has come to @in: how much, 0 at the end, also if it was a reset, -1 for nothing yet. */
static gssize
receive (int fd, GString *in)
{
  static char buffer[64 * 1024];
  gssize n_read = recv (fd, buffer, sizeof buffer, 0);

  if (n_read > 0)
    g_string_append_len (in, buffer, n_read);
  return n_read < 0 && errno != EAGAIN ? 0 : n_read;
}

/* Publishers */

/* Appends the line that comes next. What the readers get of it begins at "t". */
static void
publisher_compose (Publisher *self, guint topic_index)
{
  Load *load = self->load;
  Topic *topic = &load->topics[topic_index];
  guint size = g_rand_int_range (self->rand, 0, 16) == 0 ? MAX_LINE - 256 : 256;
  guint length = g_rand_int_range (self->rand, 0, size);
  guint offset = g_rand_int_range (self->rand, 0, POOL_SIZE - length);
  gsize start = self->out->len + strlen ("PUB ");
  guint64 hash;

  g_string_append_printf (self->out, "PUB t%u %u %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " ",
                          topic_index, self->index, topic->n_sent[self->index]++, self->n_lines++);
  g_string_append_len (self->out, load->pool + offset, length);
  hash = hash_bytes (HASH_START, self->out->str + start, self->out->len - start);
  g_string_append_printf (self->out, " %016" G_GINT64_MODIFIER "x\n", hash);

  hash = hash_bytes (HASH_START, self->out->str + start, self->out->len - start);
  topic->digest += hash;
  topic->n_lines++;
  load->n_published++;
  self->in_flight += (gint64) (self->out->len - start) * topic->n_readers;
}

static void
publisher_compose_noise (Publisher *self)
{
  Load *load = self->load;

  load->n_published++;
  g_string_append_printf (self->out, "PUB noise %" G_GUINT64_FORMAT "\n", load->n_noise++);
}

static void
publisher_compose_all (Publisher *self)
{
  Load *load = self->load;

  if (self->index != FLOOD)
    while (self->in_flight < self->window && self->out->len < MAX_PENDING)
      publisher_compose (self, g_rand_int_range (self->rand, 1, load->n_topics));
  else
    while (self->out->len < MAX_PENDING)
      if (self->in_flight < self->window)
        publisher_compose (self, FLOOD_TOPIC);
      else
        publisher_compose_noise (self);
}

static void
publisher_pump (Publisher *self)
{
  Load *load = self->load;
  gssize n_sent;

  if (load->publishing)
    publisher_compose_all (self);
  n_sent = send (self->fd, self->out->str, self->out->len, MSG_NOSIGNAL);
  if (n_sent < 0 && errno != EAGAIN)
    load_fail (load, "publisher %u cannot send: %s", self->index, g_strerror (errno));
  g_string_erase (self->out, 0, MAX (n_sent, 0));
  load_watch (load, self->handler,
              self->out->len > 0 || (self->index == FLOOD && load->publishing) ? G_IO_IN | G_IO_OUT
                                                                               : G_IO_IN);
}

static gboolean
on_publisher_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Publisher *self = user_data;
  char answer[64];
  gssize n_read;

  if ((condition & G_IO_OUT) != 0)
    publisher_pump (self);
  if ((condition & ~G_IO_OUT) == 0)
    return G_SOURCE_CONTINUE;

  n_read = recv (fd, answer, sizeof answer, 0);
  if (n_read == (gssize) strlen ("PONG\n") && memcmp (answer, "PONG\n", n_read) == 0)
    self->done = TRUE;
  else if (n_read >= 0 || errno != EAGAIN)
    load_fail (self->load, "the relay says to publisher %u: %.*s", self->index,
               (int) MAX (n_read, 0), answer);
  return G_SOURCE_CONTINUE;
}

static void
publisher_open (Publisher *self, Load *load, guint index)
{
  self->load = load;
  self->index = index;
  self->window = index == FLOOD ? FLOOD_WINDOW : WINDOW;
  self->rand = g_rand_new_with_seed (load->seed + index);
  self->out = g_string_new (NULL);
  self->fd = socket_new ();
  self->handler = load_connect (load, self->fd, G_IO_IN, on_publisher_ready, self);
}

static void
publisher_close (Publisher *self)
{
  gaio_clear_handler (&self->handler);
  close (self->fd);
  g_rand_free (self->rand);
  g_string_free (self->out, TRUE);
}

/* Readers */

static Subscription *
reader_find_subscription (Reader *self, guint64 topic)
{
  for (guint i = 0; i < self->n_subscriptions; i++)
    if (self->subscriptions[i].topic == topic)
      return &self->subscriptions[i];
  return NULL;
}

/* Whether the line is as it was sent: its checksum, which comes last, fits what is before it. */
static gboolean
message_is_whole (const char *text, gsize length)
{
  gsize n_hashed = length - strlen (" 0123456789abcdef\n");
  char checksum[32];

  if (length <= strlen (" 0123456789abcdef\n"))
    return FALSE;
  g_snprintf (checksum, sizeof checksum, " %016" G_GINT64_MODIFIER "x\n",
              hash_bytes (HASH_START, text, n_hashed));
  return memcmp (text + n_hashed, checksum, strlen (checksum)) == 0;
}

/* Reads the next of the numbers at the beginning of a line; a space follows each. */
static guint64
take_number (const char **text)
{
  char *end;
  guint64 number = g_ascii_strtoull (*text, &end, 10);

  *text = end + 1;
  return number;
}

/* @text is what comes after "MSG ", up to and with the end of the line. */
static Publisher *
reader_take_message (Reader *self, const char *text, gsize length)
{
  Load *load = self->load;
  Subscription *subscription;
  const char *numbers = text + strlen ("t");
  guint64 topic, publisher, count, number;

  if (!message_is_whole (text, length))
    {
      load_fail (load, "reader %u: a broken line: %.*s", self->index, (int) length, text);
      return NULL;
    }
  topic = take_number (&numbers);
  publisher = take_number (&numbers);
  count = take_number (&numbers);
  number = take_number (&numbers);
  subscription = reader_find_subscription (self, topic);
  if (subscription == NULL || publisher >= N_PUBLISHERS)
    {
      load_fail (load, "reader %u: not for it: %.*s", self->index, (int) length, text);
      return NULL;
    }
  if (subscription->next[publisher] == UNKNOWN)
    subscription->next[publisher] = count;
  if (count != subscription->next[publisher] ||
      (self->last[publisher] != UNKNOWN && number <= self->last[publisher]))
    {
      load_fail (load,
                 "reader %u: message %" G_GUINT64_FORMAT " of publisher %" G_GUINT64_FORMAT
                 " to topic %" G_GUINT64_FORMAT " came where %" G_GUINT64_FORMAT " was due",
                 self->index, count, publisher, topic, subscription->next[publisher]);
      return NULL;
    }
  subscription->next[publisher]++;
  self->last[publisher] = number;
  self->n_lines++;
  self->digest += hash_bytes (HASH_START, text, length);
  return &load->publishers[publisher];
}

/* Hands out each whole line of the input. */
static void
reader_take_lines (Reader *self, void (*take) (Reader *self, const char *line, gsize length))
{
  const char *line = self->in->str, *end;
  gsize left = self->in->len;

  while (self->load->failure == NULL && (end = memchr (line, '\n', left)) != NULL)
    {
      take (self, line, end + 1 - line);
      left -= end + 1 - line;
      line = end + 1;
    }
  g_string_erase (self->in, 0, line - self->in->str);
}

static void readers_open (Load *load);

static void
reader_take_line (Reader *self, const char *line, gsize length)
{
  Load *load = self->load;
  Publisher *publisher;

  if (g_str_has_prefix (line, "MSG "))
    {
      length -= strlen ("MSG ");
      publisher = reader_take_message (self, line + strlen ("MSG "), length);
      load->n_received++;
      if (publisher == NULL)
        return;
      publisher->in_flight -= length;
      if (publisher->in_flight < publisher->window / 2 && load->publishing)
        publisher_pump (publisher);
    }
  else if (g_str_has_prefix (line, "OK\n") && self->n_confirmed < self->n_subscriptions)
    {
      if (++self->n_confirmed == self->n_subscriptions)
        load->n_confirmed++;
      readers_open (load);
    }
  else if (g_str_has_prefix (line, "PONG\n") && !self->done)
    {
      self->done = TRUE;
      load->n_done++;
    }
  else
    load_fail (load, "the relay says to reader %u: %.*s", self->index, (int) length, line);
}

static gboolean
on_reader_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Reader *self = user_data;

  if ((condition & G_IO_OUT) != 0)
    {
      for (guint i = 0; i < self->n_subscriptions; i++)
        {
          g_autofree char *line = g_strdup_printf ("SUB t%u\n", self->subscriptions[i].topic);

          load_send (self->load, fd, line);
        }
      load_watch (self->load, self->handler, G_IO_IN);
      return G_SOURCE_CONTINUE;
    }
  if (receive (fd, self->in) == 0)
    {
      load_fail (self->load, "the relay has closed reader %u", self->index);
      return G_SOURCE_REMOVE;
    }
  reader_take_lines (self, reader_take_line);
  return G_SOURCE_CONTINUE;
}

static void
reader_subscribe (Reader *self, guint topic, guint64 next)
{
  Subscription *subscription = &self->subscriptions[self->n_subscriptions++];

  subscription->topic = topic;
  for (guint i = 0; i < N_PUBLISHERS; i++)
    subscription->next[i] = next;
}

static void
reader_init (Reader *self, Load *load, guint index)
{
  self->load = load;
  self->index = index;
  self->in = g_string_new (NULL);
  self->n_lines = 0;
  self->n_subscriptions = 0;
  for (guint i = 0; i < N_PUBLISHERS; i++)
    self->last[i] = UNKNOWN;
}

static void
reader_close (Reader *self)
{
  gaio_clear_handler (&self->handler);
  close (self->fd);
  g_string_free (self->in, TRUE);
}

/* Two topics each that are not the flood's, so that each topic has four readers. The first reader
 * hears the flood as well. */
static void
reader_open (Reader *self, Load *load, guint index)
{
  guint n = load->n_topics - 1;

  reader_init (self, load, index);
  reader_subscribe (self, 1 + index % n, 0);
  reader_subscribe (self, 1 + (index + 1 + index / n) % n, 0);
  if (index == 0)
    reader_subscribe (self, FLOOD_TOPIC, 0);
  for (guint i = 0; i < self->n_subscriptions; i++)
    load->topics[self->subscriptions[i].topic].n_readers++;
  self->fd = socket_new ();
  self->handler = load_connect (load, self->fd, G_IO_OUT, on_reader_ready, self);
}

/* As many at a time as fit into the relay's backlog with room to spare. */
static void
readers_open (Load *load)
{
  while (load->failure == NULL && load->n_opened < load->n_readers &&
         load->n_opened - load->n_confirmed < MAX_OPENING)
    {
      guint index = load->n_opened++;

      reader_open (&load->readers[index], load, index);
    }
}

/* The sleeper */

static void sleeper_open (Sleeper *self, Load *load);

static gboolean
sleeper_has_been_dropped (Sleeper *self)
{
  return self->n_told + self->n_cut > 0;
}

static void
sleeper_take_noise (Sleeper *self, const char *text)
{
  guint64 number = g_ascii_strtoull (text, NULL, 10);

  if (self->next_noise != UNKNOWN && number != self->next_noise)
    load_fail (self->reader.load,
               "the sleeper: noise %" G_GUINT64_FORMAT " came where %" G_GUINT64_FORMAT " was due",
               number, self->next_noise);
  self->next_noise = number + 1;
}

static void
sleeper_take_line (Reader *reader, const char *line, gsize length)
{
  Sleeper *self = (Sleeper *) reader;

  if (g_str_has_prefix (line, "MSG noise "))
    sleeper_take_noise (self, line + strlen ("MSG noise "));
  else if (g_str_has_prefix (line, "MSG "))
    reader_take_message (reader, line + strlen ("MSG "), length - strlen ("MSG "));
  else if (g_str_has_prefix (line, "ERR too slow\n"))
    self->told = TRUE;
  else if (!g_str_has_prefix (line, "OK\n"))
    load_fail (reader->load, "the relay says to the sleeper: %.*s", (int) length, line);
}

/* The nap was too short if it ends and nothing has happened, so the next one is longer. */
static void
sleeper_fall_asleep (Sleeper *self)
{
  load_watch (self->reader.load, self->reader.handler, 0);
  gaio_timer_arm (self->timer, self->nap_us);
  self->nap_us *= 2;
}

static void
sleeper_close (Sleeper *self)
{
  gaio_timer_disarm (self->timer);
  reader_close (&self->reader);
}

/* Whoever slept too long has lost the end of what was queued, and that it was too slow. */
static void
sleeper_come_back (Sleeper *self)
{
  Load *load = self->reader.load;

  if (self->told)
    self->n_told++;
  else
    self->n_cut++;
  sleeper_close (self);
  sleeper_open (self, load);
}

static gboolean
on_sleeper_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Sleeper *self = user_data;
  gssize n_read;

  if (!self->connected)
    {
      self->connected = TRUE;
      load_send (self->reader.load, fd, "SUB noise\nSUB t0\nSUB t1\n");
      sleeper_fall_asleep (self);
      return G_SOURCE_CONTINUE;
    }
  n_read = receive (fd, self->reader.in);
  reader_take_lines (&self->reader, sleeper_take_line);
  if (n_read == 0)
    sleeper_come_back (self);
  else if (n_read < 0 || (self->n_read += n_read) > MAX_AWAKE)
    sleeper_fall_asleep (self);
  return G_SOURCE_CONTINUE;
}

static void
on_sleeper_woken (gpointer user_data)
{
  Sleeper *self = user_data;

  self->n_read = 0;
  load_watch (self->reader.load, self->reader.handler, G_IO_IN);
}

static void
sleeper_open (Sleeper *self, Load *load)
{
  Reader *reader = &self->reader;

  reader_init (reader, load, load->n_readers);
  reader_subscribe (reader, FLOOD_TOPIC, UNKNOWN);
  reader_subscribe (reader, FLOOD_TOPIC + 1, UNKNOWN);
  self->connected = FALSE;
  self->told = FALSE;
  self->nap_us = NAP_US + ((self->n_told + self->n_cut) % 2 == 1 ? 2 * LINGER_US : 0);
  self->next_noise = UNKNOWN;
  reader->fd = socket_new ();
  setsockopt (reader->fd, SOL_SOCKET, SO_RCVBUF, &(int){ SLEEPER_RCVBUF }, sizeof (int));
  setsockopt (reader->fd, IPPROTO_TCP, TCP_MAXSEG, &(int){ SLEEPER_SEGMENT }, sizeof (int));
  reader->handler = load_connect (load, reader->fd, G_IO_OUT, on_sleeper_ready, self);
}

/* The vandal */

static void vandal_open (Load *load);

static gboolean
on_vandal_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Load *load = user_data;

  load_send (load, fd, "PUB t1 half a li");
  gaio_clear_handler (&load->vandal.handler);
  socket_reset (fd);
  load->vandal.fd = -1;
  load->vandal.n_resets++;
  if (load->publishing)
    vandal_open (load);
  return G_SOURCE_REMOVE;
}

static void
vandal_open (Load *load)
{
  load->vandal.fd = socket_new ();
  load->vandal.handler = load_connect (load, load->vandal.fd, G_IO_OUT, on_vandal_ready, load);
}

/* The relay */

static void
on_relay_ended (GPid pid, gint wait_status, gpointer user_data)
{
  Load *load = user_data;

  load->relay_ended = TRUE;
  load->relay_status = wait_status;
  if (!load->relay_may_end)
    load_fail (load, "the relay has ended");
}

/* Reads the port from what the relay prints first. */
static void
relay_start (Load *load, char *relay, char *watch)
{
  g_autofree char *option = g_strconcat ("--watch=", watch, NULL);
  char *arguments[] = { relay, option, NULL };
  g_autoptr (GError) error = NULL;
  int output_fd, port = 0;

  if (!g_spawn_async_with_pipes (NULL, arguments, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                 &load->pid, NULL, &output_fd, NULL, &error))
    {
      load_fail (load, "%s", error->message);
      return;
    }
  load->relay_output = fdopen (output_fd, "r");
  load->child =
      gaio_context_add_child (load->context, load->pid, on_relay_ended, load, NULL, &error);
  if (load->child == NULL)
    load_fail (load, "%s", error->message);
  if (fscanf (load->relay_output, "listening on 127.0.0.1:%d%*c", &port) != 1)
    load_fail (load, "the relay does not tell its port");
  load->address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons (port) };
  load->address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
}

static gint64
relay_get_rss (Load *load)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/statm", load->pid);
  g_autofree char *content = NULL;
  gint64 n_pages = 0;

  if (!g_file_get_contents (path, &content, NULL, NULL) ||
      sscanf (content, "%*s %" G_GINT64_FORMAT, &n_pages) != 1)
    load_fail (load, "cannot read %s", path);
  return n_pages * sysconf (_SC_PAGESIZE);
}

static guint
relay_count_fds (Load *load)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/fd", load->pid);
  g_autoptr (GDir) directory = g_dir_open (path, 0, NULL);
  guint n = 0;

  while (directory != NULL && g_dir_read_name (directory) != NULL)
    n++;
  return n;
}

/* Its statistics */

static gboolean
on_control_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Load *load = user_data;
  Control *self = &load->control;
  const char *line;

  if (receive (fd, self->in) == 0)
    load_fail (load, "the relay does not answer STATS");
  line = self->in->str;
  if (strchr (line, '\n') == NULL)
    return G_SOURCE_CONTINUE;
  self->asked = FALSE;
  self->cpu_us = stats_get (line, "cpu_us");
  self->published = stats_get (line, "published");
  self->dropped = stats_get (line, "dropped");
  self->connections = stats_get (line, "connections");
  if (load->publishing)
    {
      self->late_p50_us = MAX (self->late_p50_us, stats_get (line, "late_p50_us"));
      self->late_p99_us = MAX (self->late_p99_us, stats_get (line, "late_p99_us"));
      self->late_max_us = MAX (self->late_max_us, stats_get (line, "late_max_us"));
    }
  g_string_truncate (self->in, 0);
  return G_SOURCE_CONTINUE;
}

static void
control_ask (Load *load)
{
  if (load->control.asked)
    return;
  load->control.asked = TRUE;
  load_send (load, load->control.fd, "STATS\n");
}

static gboolean
on_stats_due (gpointer user_data)
{
  control_ask (user_data);
  return G_SOURCE_CONTINUE;
}

static void
control_ask_and_wait (Load *load)
{
  load_run_until (load, !load->control.asked);
  control_ask (load);
  load_run_until (load, !load->control.asked);
}

static void
control_open (Load *load)
{
  load->control.in = g_string_new (NULL);
  load->control.fd = socket_new ();
  load->control.handler = load_connect (load, load->control.fd, G_IO_IN, on_control_ready, load);
}

static void
control_close (Load *load)
{
  gaio_clear_handler (&load->control.handler);
  close (load->control.fd);
  g_string_free (load->control.in, TRUE);
}

/* The run */

static void
load_check_memory (Load *load)
{
  if (load->max_rss - load->warm_rss > MAX_GROWTH)
    load_fail (load, "the relay has grown by %" G_GINT64_FORMAT " kB, from %" G_GINT64_FORMAT " kB",
               (load->max_rss - load->warm_rss) / 1024, load->warm_rss / 1024);
}

static gboolean
on_second (gpointer user_data)
{
  Load *load = user_data;
  guint64 progress = load->n_confirmed + load->n_received + load->n_done;
  gint64 now = g_get_monotonic_time ();
  gint64 seconds = (now - load->started_at) / G_USEC_PER_SEC;
  gint64 rss = load->relay_may_end ? 0 : relay_get_rss (load);

  load->max_rss = MAX (load->max_rss, rss);
  if (load->warm)
    load_check_memory (load);
  if (load->time_is_over && !sleeper_has_been_dropped (&load->sleeper) &&
      now - load->started_at > load->duration_us + STALL_SECONDS * G_USEC_PER_SEC)
    load_fail (load, "the sleeper is not dropped");
  if (isatty (STDERR_FILENO) || seconds % 10 == 0)
    g_printerr ("%s%" G_GINT64_FORMAT " s: %u readers, %" G_GUINT64_FORMAT
                " messages, %" G_GUINT64_FORMAT " resets, %u sleepers dropped, relay %.1f MB %s",
                isatty (STDERR_FILENO) ? "\r" : "", seconds, load->n_confirmed, load->n_received,
                load->vandal.n_resets, load->sleeper.n_told + load->sleeper.n_cut, rss / 1e6,
                isatty (STDERR_FILENO) ? "" : "\n");
  if (progress != load->progress)
    load->progress_at = now;
  else if (now - load->progress_at > STALL_SECONDS * G_USEC_PER_SEC)
    load_fail (load, "nothing has moved for %d s", STALL_SECONDS);
  load->progress = progress;
  return G_SOURCE_CONTINUE;
}

static void
on_warm (gpointer user_data)
{
  Load *load = user_data;

  load->warm = TRUE;
  load->warm_rss = load->max_rss = relay_get_rss (load);
}

static void
on_time_is_over (gpointer user_data)
{
  Load *load = user_data;

  load->time_is_over = TRUE;
}

static void
load_open (Load *load)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (load->seed);

  for (guint i = 0; i < POOL_SIZE; i++)
    do
      load->pool[i] = g_rand_int_range (rand, 1, 256);
    while (load->pool[i] == '\n');
  control_open (load);
  control_ask_and_wait (load);
  load->n_fds = relay_count_fds (load);
  for (guint i = 0; i < N_PUBLISHERS; i++)
    publisher_open (&load->publishers[i], load, i);
  readers_open (load);
  load_run_until (load, load->n_confirmed == load->n_readers);
}

/* Goes on until the sleeper was dropped once, on however slow a machine. */
static void
load_publish (Load *load)
{
  GaioTimer *end = gaio_context_add_timer (load->context, on_time_is_over, load, NULL);
  GaioTimer *warm = gaio_context_add_timer (load->context, on_warm, load, NULL);
  GaioTimer *stats = NULL;

  control_ask_and_wait (load);
  load->control.first_cpu_us = load->control.cpu_us;
  load->started_at = g_get_monotonic_time ();
  load->publishing = TRUE;
  load->sleeper.timer =
      gaio_context_add_timer (load->context, on_sleeper_woken, &load->sleeper, NULL);
  sleeper_open (&load->sleeper, load);
  vandal_open (load);
  for (guint i = 0; i < N_PUBLISHERS; i++)
    publisher_pump (&load->publishers[i]);
  stats = gaio_context_add_timeout (load->context, MAX_STATS_SECONDS * G_USEC_PER_SEC, on_stats_due,
                                    load, NULL);
  gaio_timer_arm (warm, load->duration_us / 4);
  gaio_timer_arm (end, load->duration_us);
  load_run_until (load, load->time_is_over && sleeper_has_been_dropped (&load->sleeper));
  control_ask_and_wait (load);
  load->publishing = FALSE;
  gaio_clear_timer (&stats);
  gaio_clear_timer (&warm);
  gaio_clear_timer (&end);
}

/* The relay answers in order, and so nothing can come after the answers to these. */
static void
load_settle (Load *load)
{
  for (guint i = 0; i < N_PUBLISHERS; i++)
    {
      g_string_append (load->publishers[i].out, "PING\n");
      publisher_pump (&load->publishers[i]);
    }
  for (guint i = 0; i < N_PUBLISHERS; i++)
    load_run_until (load, load->publishers[i].done);
  for (guint i = 0; load->failure == NULL && i < load->n_readers; i++)
    load_send (load, load->readers[i].fd, "PING\n");
  load_run_until (load, load->n_done == load->n_readers);
  load_run_until (load, load->vandal.fd < 0);
  control_ask_and_wait (load);
}

static void
load_check_reader (Load *load, Reader *reader)
{
  guint64 n_lines = 0, digest = 0;

  for (guint i = 0; i < reader->n_subscriptions; i++)
    {
      Topic *topic = &load->topics[reader->subscriptions[i].topic];

      n_lines += topic->n_lines;
      digest += topic->digest;
    }
  if (reader->n_lines != n_lines || reader->digest != digest)
    load_fail (load,
               "reader %u has got %" G_GUINT64_FORMAT " messages instead of %" G_GUINT64_FORMAT
               ", digest %016" G_GINT64_MODIFIER "x instead of %016" G_GINT64_MODIFIER "x",
               reader->index, reader->n_lines, n_lines, reader->digest, digest);
}

static void
load_check_counts (Load *load)
{
  Sleeper *sleeper = &load->sleeper;
  guint64 n_dropped = sleeper->n_told + sleeper->n_cut;

  for (guint i = 0; i < load->n_readers; i++)
    load_check_reader (load, &load->readers[i]);
  if (load->control.published != load->n_published)
    load_fail (load, "the relay has got %" G_GUINT64_FORMAT " messages of %" G_GUINT64_FORMAT,
               load->control.published, load->n_published);
  /* The sleeper may sleep right now, and not know yet. */
  if (load->control.dropped != n_dropped && load->control.dropped != n_dropped + 1)
    load_fail (load,
               "the relay has dropped %" G_GUINT64_FORMAT
               " clients instead of the sleeper's %" G_GUINT64_FORMAT,
               load->control.dropped, n_dropped);
}

static void
load_close (Load *load)
{
  for (guint i = 0; i < load->n_opened; i++)
    reader_close (&load->readers[i]);
  for (guint i = 0; i < N_PUBLISHERS; i++)
    publisher_close (&load->publishers[i]);
  sleeper_close (&load->sleeper);
  gaio_clear_timer (&load->sleeper.timer);
}

/* Waits until the relay has noticed that all are gone but the one who asks. */
static void
load_check_fds (Load *load)
{
  GaioTimer *stats = gaio_context_add_timeout (load->context, POLL_US, on_stats_due, load, NULL);
  guint n_fds;

  load_close (load);
  load_run_until (load, load->control.connections == 1);
  n_fds = relay_count_fds (load);
  if (n_fds != load->n_fds)
    load_fail (load, "the relay has %u open files instead of %u", n_fds, load->n_fds);
  gaio_clear_timer (&stats);
  control_close (load);
}

static void
load_check_end (Load *load)
{
  char line[64] = "";

  load->relay_may_end = TRUE;
  kill (load->pid, SIGTERM);
  load_run_until (load, load->relay_ended);
  if (load->relay_status != 0)
    load_fail (load, "the relay ended with status %d", load->relay_status);
  if (fgets (line, sizeof line, load->relay_output) == NULL ||
      !g_str_has_prefix (line, "stopped: STATS "))
    load_fail (load, "the relay says in the end: %s", line);
}

/* The report */

static void
load_report_figures (Load *load, gint64 elapsed_us)
{
  gint64 cpu_us = load->control.cpu_us - load->control.first_cpu_us;
  struct
  {
    const char *key;
    double value;
  } rows[] = {
    { "seconds", elapsed_us / 1e6 },
    { "readers", load->n_readers },
    { "messages published", load->n_published },
    { "messages delivered", load->n_received },
    { "deliveries per second", load->n_received * 1e6 / elapsed_us },
    { "connections reset in a line", load->vandal.n_resets },
    { "sleepers told they are slow", load->sleeper.n_told },
    { "sleepers cut off", load->sleeper.n_cut },
    { "relay CPU, %", cpu_us * 100.0 / elapsed_us },
    { "relay memory when warm, MB", load->warm_rss / 1e6 },
    { "relay memory at most, MB", load->max_rss / 1e6 },
    { "heartbeat late p50, us *", load->control.late_p50_us },
    { "heartbeat late p99, us *", load->control.late_p99_us },
    { "heartbeat late max, us *", load->control.late_max_us },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    g_print ("# %-30s %14.1f\n", rows[i].key, rows[i].value);
  g_print ("# * in the worst of its minutes\n");
}

/* What is held to be true, each after the one before it. */

static void
load_check_messages (Load *load)
{
  gint64 elapsed_us;

  load_open (load);
  load_publish (load);
  elapsed_us = g_get_monotonic_time () - load->started_at;
  load_settle (load);
  load_check_counts (load);
  if (load->failure == NULL)
    load_report_figures (load, elapsed_us);
}

static const struct
{
  const char *rule;
  void (*check) (Load *load);
} rules[] = {
  { "each message arrives once, in order and whole", load_check_messages },
  { "the relay's memory is bounded", load_check_memory },
  { "no file is left open", load_check_fds },
  { "the relay ends well", load_check_end },
};

static gboolean
load_check_rules (Load *load)
{
  GaioTimer *second =
      gaio_context_add_timeout (load->context, G_USEC_PER_SEC, on_second, load, NULL);
  guint n = 0;

  load->started_at = load->progress_at = g_get_monotonic_time ();
  while (load->failure == NULL && n < G_N_ELEMENTS (rules))
    {
      rules[n].check (load);
      g_print ("%s %u - %s\n", load->failure == NULL ? "ok" : "not ok", n + 1, rules[n].rule);
      n++;
    }
  if (load->failure != NULL)
    g_print ("# %s\n", load->failure);
  g_print ("1..%u\n", n);
  gaio_clear_timer (&second);
  return load->failure == NULL;
}

static void
load_init (Load *load, guint n_readers)
{
  load->context = gaio_context_new ();
  load->n_readers = n_readers;
  load->n_topics = 1 + n_readers * TOPICS_PER_READER / READERS_PER_TOPIC;
  load->topics = g_new0 (Topic, load->n_topics);
  load->readers = g_new0 (Reader, n_readers);
  load->pool = g_malloc (POOL_SIZE);
}

/* After a failure the relay may still be there, and connections open. */
static void
load_finish (Load *load)
{
  load->relay_may_end = TRUE;
  if (load->child != NULL && !load->relay_ended)
    kill (load->pid, SIGKILL);
  while (load->child != NULL && !load->relay_ended)
    gaio_context_iterate (load->context, -1);
  gaio_clear_handler (&load->child);
  g_clear_pointer (&load->relay_output, fclose);
  g_clear_object (&load->context);
  g_clear_pointer (&load->readers, g_free);
  g_clear_pointer (&load->topics, g_free);
  g_clear_pointer (&load->pool, g_free);
  g_clear_pointer (&load->failure, g_free);
}

int
main (int argc, char **argv)
{
  static Load load;
  int max_readers = raise_fd_limit ();
  int readers = DEFAULT_READERS, seconds = 10, seed = g_random_int () & G_MAXINT;
  g_autofree char *watch = g_strdup ("gaio");
  gboolean passed;
  GOptionEntry entries[] = {
    { "readers", 0, 0, G_OPTION_ARG_INT, &readers, "How many connections read", "N" },
    { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "For how long to publish", "S" },
    { "watch", 0, 0, G_OPTION_ARG_STRING, &watch, "How the relay watches them", "WAY" },
    { "seed", 0, 0, G_OPTION_ARG_INT, &seed, "What the messages are made from", "SEED" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new ("RELAY");
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || argc != 2)
    {
      g_printerr ("load: %s\n", error != NULL ? error->message : "which relay?");
      return 2;
    }
  readers = MIN (readers, max_readers);
  if (readers < MIN_READERS)
    {
      g_print ("1..0 # SKIP too few files can be open\n");
      return 0;
    }
  g_print ("# seed %d\n", seed);
  load_init (&load, readers);
  load.seed = seed;
  load.duration_us = MAX (seconds, 1) * (gint64) G_USEC_PER_SEC;
  relay_start (&load, argv[1], watch);
  passed = load_check_rules (&load);
  load_finish (&load);
  return passed ? 0 : 1;
}
