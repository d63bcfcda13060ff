/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all ways to watch have in common: who is there, who leaves, who is told what. */
#include "relay.h"

#include <string.h>

#define LINGER_US (5 * G_USEC_PER_SEC)

/* Clients */

void
client_init (Client *client, Relay *relay)
{
  client->relay = relay;
  client->in = g_string_new (NULL);
  client->topics = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  client->leaving_link.data = client;
  g_hash_table_add (relay->clients, client);
}

/* Ends a connection in order: last words, what is queued, end of file. Input is discarded until
 * the client has closed too, since closing over unread input would destroy what it was told. */
void
client_leave (Client *client, const char *last_words)
{
  if (client->leaving)
    return;
  client->leaving = TRUE;
  client->deadline_us = g_get_monotonic_time () + LINGER_US;
  g_queue_push_tail_link (&client->relay->leaving, &client->leaving_link);
  client->relay->transport->send (client, last_words);
}

void
client_drop (Client *client, const char *reason)
{
  client->relay->n_dropped++;
  client_leave (client, reason);
}

void
client_tell (Client *client, const char *line)
{
  if (client->leaving)
    return;
  if (client->n_queued + strlen (line) > MAX_QUEUE)
    client_drop (client, "ERR too slow\n");
  else
    client->relay->transport->send (client, line);
}

/* What has been read; nothing at the end of file. */
void
client_receive (Client *client, const char *data, gsize length)
{
  if (length == 0)
    {
      client->at_eof = TRUE;
      client_leave (client, "");
    }
  else if (!client->leaving)
    {
      g_string_append_len (client->in, data, length);
      client_serve_lines (client);
    }
}

/* Nothing more will come, or is to be sent. */
gboolean
client_is_done (Client *client)
{
  return client->at_eof && client->n_queued == 0;
}

void
client_close (Client *client)
{
  g_hash_table_remove (client->relay->clients, client);
}

static void
on_client_removed (gpointer data)
{
  Client *client = data;

  client_unsubscribe_all (client);
  g_hash_table_unref (client->topics);
  if (client->leaving)
    g_queue_unlink (&client->relay->leaving, &client->leaving_link);
  g_string_free (client->in, TRUE);
  client->relay->transport->close (client);
}

/* The relay */

/* FALSE if there is no such way to watch. */
gboolean
relay_init (Relay *relay, const char *watch)
{
  static const struct
  {
    const char *watch;
    const Transport *transport;
    gboolean with_gaio;
  } ways[] = {
    { "glib", &fd_transport, FALSE },
    { "gaio", &fd_transport, TRUE },
    { "gio", &stream_transport, FALSE },
    { "gaio-gio", &stream_transport, TRUE },
  };
  guint i = 0;

  while (i < G_N_ELEMENTS (ways) && !g_str_equal (watch, ways[i].watch))
    i++;
  if (i == G_N_ELEMENTS (ways))
    return FALSE;
  *relay = (Relay){ .watch = ways[i].watch, .transport = ways[i].transport };
  if (ways[i].with_gaio)
    relay->gaio = gaio_context_ref_for_main_context (NULL);
  relay->clients = g_hash_table_new_full (NULL, NULL, on_client_removed, NULL);
  relay->topics =
      g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_hash_table_unref);
  return TRUE;
}

void
relay_close_clients (Relay *relay)
{
  g_hash_table_remove_all (relay->clients);
}

void
relay_clear (Relay *relay)
{
  g_hash_table_unref (relay->clients);
  g_hash_table_unref (relay->topics);
  g_clear_object (&relay->gaio);
}

/* No fd is left for another client. */
void
relay_pause_accepting (Relay *relay)
{
  relay->n_accept_pauses++;
  relay->accept_paused = TRUE;
  relay->transport->set_accepting (relay, FALSE);
}

void
relay_resume_accepting (Relay *relay)
{
  if (!relay->accept_paused)
    return;
  relay->accept_paused = FALSE;
  relay->transport->set_accepting (relay, TRUE);
}

/* Those who had time enough to leave. */
void
relay_close_overdue (Relay *relay, gint64 now_us)
{
  Client *client;

  while ((client = g_queue_peek_head (&relay->leaving)) != NULL && client->deadline_us <= now_us)
    client_close (client);
}
