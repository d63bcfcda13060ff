/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * relay: a publish/subscribe daemon for lines of text, on an ordinary GMainLoop.
 *
 *   relay [--watch=gaio|glib|gaio-gio|gio] [--port=PORT]
 *
 * It listens on 127.0.0.1. There are two pairs of ways to watch the connections:
 *
 *   glib       one g_unix_fd_add() for each connection
 *   gaio       one gaio_context_add_fd() for each, on the context nested in the same main loop
 *   gio        GSocketService, and g_input_stream_read_async() on each connection
 *   gaio-gio   the same with GaioSocketService, so that each connection has its own main context
 *
 * client-fd.c has the first two, client-stream.c the others. Everything else is the same code.
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
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <glib-unix.h>

#include "relay.h"

static gboolean
on_stop_signal (gpointer user_data)
{
  g_main_loop_quit (user_data);
  return G_SOURCE_CONTINUE;
}

static void
run (Relay *relay)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);

  g_unix_signal_add (SIGTERM, on_stop_signal, loop);
  g_unix_signal_add (SIGINT, on_stop_signal, loop);
  relay_start_heartbeat (relay);
  g_main_loop_run (loop);
}

static void
finish (Relay *relay)
{
  g_autofree char *stats = relay_take_stats (relay);

  g_print ("stopped: %s", stats);
  relay_close_clients (relay);
  relay->transport->end (relay);
  relay_clear (relay);
}

/* Returns an fd, or -1. */
static int
listen_on (int port)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (port) };
  socklen_t length = sizeof address;
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof (int));
  if (bind (fd, (struct sockaddr *) &address, length) < 0 || listen (fd, SOMAXCONN) < 0 ||
      getsockname (fd, (struct sockaddr *) &address, &length) < 0)
    {
      g_printerr ("relay: cannot listen on port %d: %s\n", port, g_strerror (errno));
      return -1;
    }
  g_print ("listening on 127.0.0.1:%d\n", ntohs (address.sin_port));
  return fd;
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
  int port = 0, listen_fd;
  GOptionEntry entries[] = {
    { "watch", 0, 0, G_OPTION_ARG_STRING, &watch, "How to watch the connections",
      "gaio|glib|gaio-gio|gio" },
    { "port", 0, 0, G_OPTION_ARG_INT, &port, "The port to listen on (default: any)", "PORT" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error))
    {
      g_printerr ("relay: %s\n", error->message);
      return 2;
    }
  if (!relay_init (&relay, watch != NULL ? watch : "gaio"))
    {
      g_printerr ("relay: --watch is gaio, glib, gaio-gio or gio\n");
      return 2;
    }
  signal (SIGPIPE, SIG_IGN);
  raise_fd_limit ();
  listen_fd = listen_on (port);
  if (listen_fd < 0)
    return 1;
  relay.transport->listen (&relay, listen_fd);
  run (&relay);
  finish (&relay);
  return 0;
}
