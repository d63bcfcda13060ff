/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lines that clients send, and who has subscribed to what. */
#include "relay.h"

#include <string.h>

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

void
client_unsubscribe_all (Client *client)
{
  GHashTableIter iter;
  gpointer topic;

  g_hash_table_iter_init (&iter, client->topics);
  while (g_hash_table_iter_next (&iter, &topic, NULL))
    relay_unsubscribe (client->relay, topic, client);
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

/* Lines */

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

void
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
