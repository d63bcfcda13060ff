/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * neighbour-postgres: runs each line of stdin as a query, on as many connections as it is given,
 * and prints the rows.
 *
 *   neighbour-postgres [--connections=N] [--channel=CHANNEL] [--timeout=MS] CONNINFO
 *
 *   $ echo "SELECT 6 * 7, 'times'" | neighbour-postgres "host=/run/postgresql dbname=postgres"
 *   42	times
 *
 * CONNINFO is what psql takes. With --channel it also prints the notifications of that channel,
 * until SIGTERM or SIGINT.
 *
 * A connection that is lost, or silent for longer than --timeout, is made again. The query that was
 * running may have been done or not: stderr names it, it is not run again, and the status is 1, as
 * it is after an error. After the tenth failure in a row the program gives up.
 */
#include "gaio-libpq.h"
#include "lines.h"

#define RETRY_US (100 * 1000)
#define MAX_FAILURES 10

typedef struct
{
  GMainLoop *loop;
  GaioContext *context;
  const char *conninfo;
  char *channel;
  gint64 timeout_us;
  int n_connections;
  GPtrArray *links; /* of Link */
  GQueue idle;      /* of Link */
  GQueue waiting;   /* of char *, queries that no connection has begun */
  guint n_running;
  guint n_ready; /* links that have been connected */
  gboolean at_end;
  int status;
} Client;

/* A connection, also while there is none. */
typedef struct
{
  Client *client;
  GaioPq *pq;
  GaioTimer *retry;
  gboolean listens;
  gboolean was_ready;
  char *query;      /* that is running */
  guint n_failures; /* in a row */
} Link;

/* --- Queries --- */

static void
end_if_done (Client *client)
{
  if (client->at_end && client->waiting.length + client->n_running == 0 && client->channel == NULL)
    g_main_loop_quit (client->loop);
}

/* If it cannot be sent, the connection fails soon. */
static void
run_next (Link *self)
{
  Client *client = self->client;

  if (client->waiting.length == 0)
    {
      g_queue_push_tail (&client->idle, self);
      return;
    }
  if (!PQsendQuery (self->pq->connection, g_queue_peek_head (&client->waiting)))
    return;
  self->query = g_queue_pop_head (&client->waiting);
  client->n_running++;
  gaio_pq_sent (self->pq);
}

static void
drop_query (Link *self)
{
  if (self->query != NULL)
    self->client->n_running--;
  g_clear_pointer (&self->query, g_free);
}

static void
print_rows (const PGresult *result)
{
  for (int row = 0; row < PQntuples (result); row++)
    for (int column = 0; column < PQnfields (result); column++)
      g_print ("%s%c", PQgetvalue (result, row, column),
               column + 1 < PQnfields (result) ? '\t' : '\n');
}

static void
on_result (GaioPq *pq, PGresult *result)
{
  Link *self = pq->user_data;

  if (result == NULL)
    {
      drop_query (self);
      self->n_failures = 0;
      if (!self->listens)
        run_next (self);
      end_if_done (self->client);
    }
  else if (PQresultStatus (result) == PGRES_FATAL_ERROR)
    {
      g_printerr ("%s", PQresultErrorMessage (result));
      self->client->status = 1;
    }
  else
    print_rows (result);
}

static void
on_notified (GaioPq *pq, PGnotify *notification)
{
  g_print ("%s: %s\n", notification->relname, notification->extra);
}

/* --- Connections --- */

static void
on_connected (GaioPq *pq)
{
  Link *self = pq->user_data;
  Client *client = self->client;

  if (!self->was_ready && ++client->n_ready == client->links->len)
    g_print ("%u connections\n", client->links->len);
  self->was_ready = TRUE;
  if (!self->listens)
    {
      run_next (self);
      return;
    }
  self->query = g_strconcat ("LISTEN ", client->channel, NULL);
  client->n_running++;
  if (PQsendQuery (pq->connection, self->query))
    gaio_pq_sent (pq);
}

static void
on_failed (GaioPq *pq, const char *message)
{
  Link *self = pq->user_data;
  Client *client = self->client;

  if (self->query != NULL)
    {
      g_printerr ("not finished: %s\n", self->query);
      client->status = 1;
    }
  drop_query (self);
  g_queue_remove (&client->idle, self);
  g_clear_pointer (&self->pq, gaio_pq_free);
  if (++self->n_failures == MAX_FAILURES)
    {
      g_printerr ("%s\ngave up: %u queries not begun\n", message, client->waiting.length);
      client->status = 1;
      g_main_loop_quit (client->loop);
      return;
    }
  g_printerr ("%s; trying again\n", message);
  gaio_timer_arm (self->retry, RETRY_US);
  end_if_done (client);
}

static const GaioPqFuncs funcs = {
  .connected = on_connected,
  .result = on_result,
  .notified = on_notified,
  .failed = on_failed,
};

static void
link_connect (gpointer user_data)
{
  Link *self = user_data;
  Client *client = self->client;

  self->pq = gaio_pq_new (client->context, client->conninfo, client->timeout_us, &funcs, self);
}

static void
add_link (Client *client, gboolean listens)
{
  Link *self = g_new0 (Link, 1);

  self->client = client;
  self->listens = listens;
  self->retry = gaio_context_add_timer (client->context, link_connect, self, NULL);
  g_ptr_array_add (client->links, self);
  link_connect (self);
}

static void
link_free (gpointer data)
{
  Link *self = data;

  g_clear_pointer (&self->pq, gaio_pq_free);
  gaio_clear_timer (&self->retry);
  g_free (self->query);
  g_free (self);
}

/* --- The beginning and the end --- */

static void
on_line (const char *line, gpointer user_data)
{
  Client *client = user_data;
  Link *idle;

  if (line == NULL)
    {
      client->at_end = TRUE;
      end_if_done (client);
    }
  else if (*line != '\0')
    {
      g_queue_push_tail (&client->waiting, g_strdup (line));
      idle = g_queue_pop_head (&client->idle);
      if (idle != NULL)
        run_next (idle);
    }
}

static void
client_run (Client *self)
{
  self->loop = create_main_loop ();
  self->context = gaio_context_get_default ();
  self->links = g_ptr_array_new_with_free_func (link_free);
  for (int i = 0; i < self->n_connections; i++)
    add_link (self, FALSE);
  if (self->channel != NULL)
    add_link (self, TRUE);
  read_lines (self->context, on_line, self);
  g_main_loop_run (self->loop);
}

static void
client_clear (Client *self)
{
  g_ptr_array_unref (self->links);
  g_queue_clear (&self->idle);
  g_queue_clear_full (&self->waiting, g_free);
  g_main_loop_unref (self->loop);
  g_free (self->channel);
}

int
main (int argc, char **argv)
{
  Client client = { .n_connections = 1 };
  int timeout_ms = 30000;
  const GOptionEntry entries[] = {
    { "connections", 0, 0, G_OPTION_ARG_INT, &client.n_connections, "For the queries", "N" },
    { "channel", 0, 0, G_OPTION_ARG_STRING, &client.channel, "What to listen to", "CHANNEL" },
    { "timeout", 0, 0, G_OPTION_ARG_INT, &timeout_ms, "How long to wait for an answer", "MS" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new ("CONNINFO");
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || argc != 2)
    {
      g_printerr ("neighbour-postgres: %s\n", error != NULL ? error->message : "CONNINFO?");
      return 2;
    }
  client.conninfo = argv[1];
  client.timeout_us = timeout_ms * G_GINT64_CONSTANT (1000);
  client_run (&client);
  client_clear (&client);
  return client.status;
}
