/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * http-subscribers: subscribes many times to the events of the HTTP daemon. Reports in TAP.
 *
 *   http-subscribers [--subscribers=N] [--events=N] DAEMON
 *
 * Starts DAEMON. Each of N subscribers has to get so many events, in order, none left out, and the
 * daemon has to end well with all of them connected.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gaio.h>

#define DEFAULT_SUBSCRIBERS 200
#define DEFAULT_EVENTS 20
#define INTERVAL "--interval=500"
/* Of the daemon, with the eventfd of each main context; and spare ones. */
#define FDS_PER_SUBSCRIBER 2
#define SPARE_FDS 100
#define PROGRESS_US G_USEC_PER_SEC
/* Only there to fail. */
#define DEADLINE_US (300 * G_USEC_PER_SEC)
#define REQUEST "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"

typedef struct
{
  gint fd;
  GString *text; /* of the stream, after the last whole line */
  guint64 last_id;
  guint n_events;
} Subscriber;

typedef struct
{
  GaioContext *context;
  GaioReadySet *set;
  GPtrArray *handlers;
  Subscriber *subscribers;
  guint n_subscribers;
  guint n_events; /* that each has to get */
  guint n_heard;  /* subscribers that got one */
  guint n_done;   /* subscribers that got all */
  gint64 deadline;
} Crowd;

/* --- What a subscriber reads --- */

static void
count_event (Crowd *crowd, Subscriber *subscriber, guint64 id)
{
  if (subscriber->n_events > 0 && id != subscriber->last_id + 1)
    g_error ("event %" G_GUINT64_FORMAT " came after %" G_GUINT64_FORMAT, id, subscriber->last_id);
  subscriber->last_id = id;
  subscriber->n_events++;
  crowd->n_heard += subscriber->n_events == 1;
  crowd->n_done += subscriber->n_events == crowd->n_events;
}

/* An event is one chunk, so that what HTTP puts between chunks has lines of its own. */
static void
take_lines (Crowd *crowd, Subscriber *subscriber)
{
  const char *line = subscriber->text->str, *end;

  for (; (end = strchr (line, '\n')) != NULL; line = end + 1)
    if (g_str_has_prefix (line, "id: "))
      count_event (crowd, subscriber, g_ascii_strtoull (line + strlen ("id: "), NULL, 10));
  g_string_erase (subscriber->text, 0, line - subscriber->text->str);
}

static void
receive (Crowd *crowd, Subscriber *subscriber)
{
  char buffer[4096];
  ssize_t n = recv (subscriber->fd, buffer, sizeof buffer, MSG_DONTWAIT);

  if (n == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0)
    g_error ("subscriber %td was cut off after %u events: %s", subscriber - crowd->subscribers,
             subscriber->n_events, n == 0 ? "end of file" : g_strerror (errno));
  g_string_append_len (subscriber->text, buffer, n);
  take_lines (crowd, subscriber);
}

static void
on_ready (GaioReadySet *set, guint n_ready, gpointer user_data)
{
  Crowd *crowd = user_data;
  gsize length;
  g_autofree GaioReadyRecord *records = (gpointer) gaio_ready_set_take (set, &length);

  for (gsize i = 0; i < length / sizeof *records; i++)
    receive (crowd, &crowd->subscribers[records[i].token]);
}

/* --- The crowd --- */

static void
subscribe (Crowd *crowd, guint index, guint16 port)
{
  struct sockaddr_in address = { .sin_family = AF_INET,
                                 .sin_port = htons (port),
                                 .sin_addr = { htonl (INADDR_LOOPBACK) } };
  Subscriber *subscriber = &crowd->subscribers[index];
  g_autoptr (GError) error = NULL;
  GaioHandler *handler;

  subscriber->text = g_string_new (NULL);
  subscriber->fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (subscriber->fd == -1 ||
      connect (subscriber->fd, (struct sockaddr *) &address, sizeof address) == -1 ||
      send (subscriber->fd, REQUEST, strlen (REQUEST), MSG_NOSIGNAL) != (ssize_t) strlen (REQUEST))
    g_error ("subscriber %u cannot connect: %s", index, g_strerror (errno));
  handler = gaio_ready_set_add_fd (crowd->set, subscriber->fd, G_IO_IN, index, &error);
  if (handler == NULL)
    g_error ("%s", error->message);
  g_ptr_array_add (crowd->handlers, handler);
}

static gboolean
on_progress (gpointer user_data)
{
  Crowd *crowd = user_data;

  g_print ("# %u subscribers, %u have heard something, %u have all %u events\n",
           crowd->n_subscribers, crowd->n_heard, crowd->n_done, crowd->n_events);
  if (g_get_monotonic_time () > crowd->deadline)
    g_error ("they waited too long");
  return G_SOURCE_CONTINUE;
}

static void
listen_to_events (Crowd *crowd, guint16 port)
{
  g_autoptr (GaioTimer) progress =
      gaio_context_add_timeout (crowd->context, PROGRESS_US, on_progress, crowd, NULL);

  crowd->deadline = g_get_monotonic_time () + DEADLINE_US;
  for (guint i = 0; i < crowd->n_subscribers; i++)
    {
      subscribe (crowd, i, port);
      /* The first may be told already. */
      gaio_context_iterate (crowd->context, 0);
    }
  while (crowd->n_done < crowd->n_subscribers)
    gaio_context_iterate (crowd->context, -1);
  on_progress (crowd);
  gaio_timer_remove (progress);
}

static void
crowd_clear (Crowd *crowd)
{
  for (guint i = 0; i < crowd->handlers->len; i++)
    {
      gaio_handler_remove (crowd->handlers->pdata[i]);
      close (crowd->subscribers[i].fd);
      g_string_free (crowd->subscribers[i].text, TRUE);
    }
  g_ptr_array_unref (crowd->handlers);
  g_free (crowd->subscribers);
  g_object_unref (crowd->set);
  g_object_unref (crowd->context);
}

/* --- The daemon --- */

/* Before exec: also if this program fails. */
static void
die_with_parent (gpointer unused)
{
  prctl (PR_SET_PDEATHSIG, SIGKILL);
}

static GSubprocess *
start_daemon (const char *path, guint16 *port)
{
  g_autoptr (GSubprocessLauncher) launcher =
      g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDOUT_PIPE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GSubprocess) daemon = NULL;
  g_autoptr (GDataInputStream) said = NULL;
  g_autofree char *line = NULL;
  unsigned number;

  g_subprocess_launcher_set_child_setup (launcher, die_with_parent, NULL, NULL);
  daemon = g_subprocess_launcher_spawn (launcher, &error, path, "--port=0", INTERVAL, NULL);
  if (daemon == NULL)
    g_error ("%s", error->message);
  said = g_data_input_stream_new (g_subprocess_get_stdout_pipe (daemon));
  line = g_data_input_stream_read_line (said, NULL, NULL, NULL);
  if (line == NULL || sscanf (line, "listening on http://127.0.0.1:%u/", &number) != 1)
    g_error ("the daemon did not start");
  *port = (guint16) number;
  return g_steal_pointer (&daemon);
}

static void
end_daemon (GSubprocess *daemon)
{
  g_subprocess_send_signal (daemon, SIGTERM);
  g_subprocess_wait (daemon, NULL, NULL);
  if (!g_subprocess_get_successful (daemon))
    g_error ("the daemon ended with status %d", g_subprocess_get_status (daemon));
}

/* --- The program --- */

static gboolean
have_fds (guint n_subscribers)
{
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  return limit.rlim_max >= (rlim_t) n_subscribers * FDS_PER_SUBSCRIBER + SPARE_FDS;
}

int
main (int argc, char **argv)
{
  Crowd crowd = { .n_subscribers = DEFAULT_SUBSCRIBERS, .n_events = DEFAULT_EVENTS };
  const GOptionEntry entries[] = {
    { "subscribers", 0, 0, G_OPTION_ARG_INT, &crowd.n_subscribers, "How many", "N" },
    { "events", 0, 0, G_OPTION_ARG_INT, &crowd.n_events, "What each has to get", "N" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new ("DAEMON");
  g_autoptr (GSubprocess) daemon = NULL;
  g_autoptr (GError) error = NULL;
  guint16 port;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || argc != 2)
    {
      g_printerr ("%s\n", error != NULL ? error->message : "DAEMON is missing");
      return 2;
    }
  if (!have_fds (crowd.n_subscribers))
    {
      g_print ("1..0 # SKIP too few fds for %u subscribers\n", crowd.n_subscribers);
      return 0;
    }
  g_print ("1..1\n");
  crowd.context = gaio_context_new ();
  crowd.set = gaio_ready_set_new (crowd.context);
  crowd.handlers = g_ptr_array_new_with_free_func ((GDestroyNotify) gaio_handler_unref);
  crowd.subscribers = g_new0 (Subscriber, crowd.n_subscribers);
  gaio_ready_set_set_func (crowd.set, on_ready, &crowd, NULL);
  daemon = start_daemon (argv[1], &port);
  listen_to_events (&crowd, port);
  end_daemon (daemon);
  crowd_clear (&crowd);
  g_print ("ok 1 /http-daemon/subscribers-get-each-event-in-order\n");
  return 0;
}
