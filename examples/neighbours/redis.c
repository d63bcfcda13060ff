/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * neighbour-redis: sends each line of stdin to Redis as a command, and prints the answers in order.
 *
 *   neighbour-redis [--channel=CHANNEL] [--idle=N] [--timeout=MS] SOCKET|PORT
 *
 *   $ printf 'SET color blue\nGET color\n' | neighbour-redis 6379
 *   OK
 *   blue
 *
 * It does not wait for an answer before it sends the next command. With --channel it also prints
 * what is published there, on a second connection, until SIGTERM or SIGINT. --idle makes N more
 * connections that are idle.
 *
 * A connection that is lost, or silent for longer than --timeout, is made again, and what has had
 * no answer is sent again. It gives up with status 1 after the tenth failure in a row.
 */
#include <stdlib.h>

#include "gaio-hiredis.h"
#include "lines.h"

#define RETRY_US (100 * 1000)
#define MAX_FAILURES 10

typedef struct _Client Client;

/* A connection, also while there is none. */
typedef struct
{
  Client *client;
  redisAsyncContext *redis;
  GaioTimer *retry;
  GaioTimer *silence;
  guint n_failures; /* in a row */
  void (*begin) (Client *client, redisAsyncContext *redis);
} Link;

struct _Client
{
  GMainLoop *loop;
  GaioContext *context;
  char *target;
  char *channel;
  gint64 timeout_us;
  Link commands;
  Link subscription;
  GQueue unanswered; /* of char *, the next to be answered first */
  gboolean at_end;
  int n_idle;
  int n_not_ready; /* of the idle */
  GPtrArray *idle; /* of Link */
  int status;
};

static void link_connect (gpointer link);

/* --- Connections --- */

static void
give_up (Client *client)
{
  g_printerr ("gave up: %u commands without an answer\n", client->unanswered.length);
  client->status = 1;
  g_main_loop_quit (client->loop);
}

static void
link_fail (Link *self, const char *reason)
{
  gaio_timer_disarm (self->silence);
  if (++self->n_failures == MAX_FAILURES)
    {
      g_printerr ("%s\n", reason);
      give_up (self->client);
      return;
    }
  g_printerr ("%s; trying again\n", reason);
  gaio_timer_arm (self->retry, RETRY_US);
}

/* hiredis frees @redis when this has returned. */
static void
on_disconnect (const redisAsyncContext *redis, int status)
{
  Link *self = redis->data;

  if (self->redis != redis)
    return;
  self->redis = NULL;
  link_fail (self, status == REDIS_OK ? "the server has closed the connection" : redis->errstr);
}

static void
on_connect (const redisAsyncContext *redis, int status)
{
  if (status != REDIS_OK)
    on_disconnect (redis, status);
}

/* What hiredis calls about it while it frees it is none of ours. */
static void
link_drop (Link *self)
{
  redisAsyncContext *redis = g_steal_pointer (&self->redis);

  if (redis != NULL)
    redisAsyncFree (redis);
}

static void
on_silence (gpointer user_data)
{
  Link *self = user_data;
  g_autofree char *reason =
      g_strdup_printf ("no answer within %" G_GINT64_FORMAT " ms", self->client->timeout_us / 1000);

  link_drop (self);
  link_fail (self, reason);
}

static void
link_heard (Link *self, gboolean expects_more)
{
  self->n_failures = 0;
  gaio_timer_arm (self->silence, expects_more ? self->client->timeout_us : -1);
}

static redisAsyncContext *
connect_to (const char *target)
{
  int port = atoi (target);

  return port > 0 ? redisAsyncConnect ("127.0.0.1", port) : redisAsyncConnectUnix (target);
}

static void
link_connect (gpointer user_data)
{
  Link *self = user_data;
  redisAsyncContext *redis = connect_to (self->client->target);
  g_autoptr (GError) error = NULL;

  if (redis->err != 0 || !gaio_hiredis_attach (self->client->context, redis, &error))
    {
      link_fail (self, error != NULL ? error->message : redis->errstr);
      redisAsyncFree (redis);
      return;
    }
  redis->data = self;
  self->redis = redis;
  redisAsyncSetConnectCallback (redis, on_connect);
  redisAsyncSetDisconnectCallback (redis, on_disconnect);
  self->begin (self->client, redis);
}

static void
link_start (Link *self, Client *client, void (*begin) (Client *, redisAsyncContext *))
{
  self->client = client;
  self->begin = begin;
  self->retry = gaio_context_add_timer (client->context, link_connect, self, NULL);
  self->silence = gaio_context_add_timer (client->context, on_silence, self, NULL);
  link_connect (self);
}

static void
link_end (Link *self)
{
  link_drop (self);
  gaio_clear_timer (&self->retry);
  gaio_clear_timer (&self->silence);
}

/* --- Commands --- */

static void
print_reply (const redisReply *reply)
{
  if (reply->type == REDIS_REPLY_INTEGER)
    g_print ("%lld\n", reply->integer);
  else if (reply->type == REDIS_REPLY_NIL)
    g_print ("(nothing)\n");
  else if (reply->type == REDIS_REPLY_ARRAY)
    for (gsize i = 0; i < reply->elements; i++)
      print_reply (reply->element[i]);
  else
    g_print ("%s\n", reply->str);
}

static void
end_if_done (Client *client)
{
  if (client->at_end && client->unanswered.length == 0 && client->channel == NULL)
    g_main_loop_quit (client->loop);
}

/* @reply is NULL if the connection is lost. The command stays then, to be sent again. */
static void
on_reply (redisAsyncContext *redis, void *reply, void *user_data)
{
  Client *client = user_data;

  if (reply == NULL)
    return;
  print_reply (reply);
  g_free (g_queue_pop_head (&client->unanswered));
  link_heard (&client->commands, client->unanswered.length > 0);
  end_if_done (client);
}

static void
send_command (Client *client, const char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", -1);

  redisAsyncCommandArgv (client->commands.redis, on_reply, client, g_strv_length (words),
                         (const char **) words, NULL);
}

static void
send_unanswered (Client *client, redisAsyncContext *redis)
{
  if (client->unanswered.length > 0)
    gaio_timer_arm (client->commands.silence, client->timeout_us);
  for (GList *l = client->unanswered.head; l != NULL; l = l->next)
    send_command (client, l->data);
}

static void
on_line (const char *line, gpointer user_data)
{
  Client *client = user_data;

  if (line == NULL)
    {
      client->at_end = TRUE;
      end_if_done (client);
    }
  else if (*line != '\0')
    {
      g_queue_push_tail (&client->unanswered, g_strdup (line));
      if (client->commands.redis == NULL)
        return;
      if (client->unanswered.length == 1)
        gaio_timer_arm (client->commands.silence, client->timeout_us);
      send_command (client, line);
    }
}

/* --- The subscription --- */

static void
on_message (redisAsyncContext *redis, void *user_data, void *channel)
{
  redisReply *reply = user_data;
  Link *self = redis->data;

  if (reply == NULL)
    return;
  link_heard (self, FALSE);
  if (g_str_equal (reply->element[0]->str, "message"))
    g_print ("%s: %s\n", reply->element[1]->str, reply->element[2]->str);
  else
    g_print ("subscribed to %s\n", reply->element[1]->str);
}

static void
subscribe (Client *client, redisAsyncContext *redis)
{
  gaio_timer_arm (client->subscription.silence, client->timeout_us);
  redisAsyncCommand (redis, on_message, NULL, "SUBSCRIBE %s", client->channel);
}

/* --- Idle connections --- */

static void
on_pong (redisAsyncContext *redis, void *reply, void *user_data)
{
  Client *client = user_data;

  if (reply == NULL)
    return;
  link_heard (redis->data, FALSE);
  if (--client->n_not_ready == 0)
    g_print ("%d idle connections\n", client->n_idle);
}

static void
ping (Client *client, redisAsyncContext *redis)
{
  redisAsyncCommand (redis, on_pong, client, "PING");
}

/* --- The beginning and the end --- */

static void
client_run (Client *self)
{
  self->loop = create_main_loop ();
  self->context = gaio_context_get_default ();
  self->idle = g_ptr_array_new_with_free_func (g_free);
  self->n_not_ready = self->n_idle;
  for (int i = 0; i < self->n_idle; i++)
    {
      g_ptr_array_add (self->idle, g_new0 (Link, 1));
      link_start (self->idle->pdata[i], self, ping);
    }
  link_start (&self->commands, self, send_unanswered);
  if (self->channel != NULL)
    link_start (&self->subscription, self, subscribe);
  read_lines (self->context, on_line, self);
  g_main_loop_run (self->loop);
}

static void
client_clear (Client *self)
{
  for (guint i = 0; i < self->idle->len; i++)
    link_end (self->idle->pdata[i]);
  g_ptr_array_unref (self->idle);
  link_end (&self->commands);
  link_end (&self->subscription);
  g_queue_clear_full (&self->unanswered, g_free);
  g_main_loop_unref (self->loop);
  g_free (self->channel);
}

int
main (int argc, char **argv)
{
  Client client = { 0 };
  int timeout_ms = 5000;
  const GOptionEntry entries[] = {
    { "channel", 0, 0, G_OPTION_ARG_STRING, &client.channel, "What to subscribe to", "CHANNEL" },
    { "idle", 0, 0, G_OPTION_ARG_INT, &client.n_idle, "How many idle connections to add", "N" },
    { "timeout", 0, 0, G_OPTION_ARG_INT, &timeout_ms, "How long to wait for an answer", "MS" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new ("SOCKET|PORT");
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || argc != 2)
    {
      g_printerr ("neighbour-redis: %s\n", error != NULL ? error->message : "SOCKET or PORT?");
      return 2;
    }
  client.target = argv[1];
  client.timeout_us = timeout_ms * G_GINT64_CONSTANT (1000);
  client_run (&client);
  client_clear (&client);
  return client.status;
}
