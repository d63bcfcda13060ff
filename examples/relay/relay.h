/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

#define MAX_LINE 4096
#define MAX_QUEUE (256 * 1024)
#define MAX_SUBSCRIPTIONS 64
#define MAX_TICKS 4096

typedef struct _Relay Relay;
typedef struct _Client Client;

/* What client-fd.c and client-stream.c each have one of. */
typedef struct
{
  /* Accepts clients on @listen_fd, and takes that over. */
  void (*listen) (Relay *relay, int listen_fd);
  void (*set_accepting) (Relay *relay, gboolean accepting);
  /* After the last client has been closed. */
  void (*end) (Relay *relay);
  /* Queues @line. Tells a client that is leaving the end of file once its queue is empty. Does not
   * close the client, so that it is safe to send to each subscriber of a topic in turn. */
  void (*send) (Client *client, const char *line);
  /* Cuts the connection off and frees the client, at once or when what is under way has ended. */
  void (*close) (Client *client);
} Transport;

extern const Transport fd_transport;
extern const Transport stream_transport;

struct _Relay
{
  const char *watch; /* of --watch */
  const Transport *transport;
  gpointer listener; /* of the transport */
  GaioContext *gaio; /* NULL with glib and gio */
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
};

/* The transports append to it what they need. */
struct _Client
{
  Relay *relay;
  GString *in;        /* the beginning of a line */
  gsize n_queued;     /* how many bytes the socket has not taken yet, kept by the transport */
  GHashTable *topics; /* a set of names */
  gboolean at_eof;
  gboolean leaving; /* not served any more, and cut off at the deadline at the latest */
  gint64 deadline_us;
  GList leaving_link;
};

/* relay.c */

gboolean relay_init (Relay *relay, const char *watch);
void relay_close_clients (Relay *relay);
void relay_clear (Relay *relay);
void relay_pause_accepting (Relay *relay);
void relay_resume_accepting (Relay *relay);
void relay_close_overdue (Relay *relay, gint64 now_us);

void client_init (Client *client, Relay *relay);
void client_receive (Client *client, const char *data, gsize length);
gboolean client_is_done (Client *client);
void client_leave (Client *client, const char *last_words);
void client_drop (Client *client, const char *reason);
void client_tell (Client *client, const char *line);
void client_close (Client *client);

/* client-fd.c */

Client *client_new_for_fd (Relay *relay, int fd);

/* client-stream.c */

Client *client_new_for_connection (Relay *relay, GSocketConnection *connection);

/* commands.c */

void client_serve_lines (Client *client);
void client_unsubscribe_all (Client *client);

/* stats.c */

void relay_start_heartbeat (Relay *relay);
gboolean relay_on_heartbeat (gpointer relay);
char *relay_take_stats (Relay *relay);
