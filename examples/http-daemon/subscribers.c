/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "subscribers.h"

#include <sys/socket.h>

/* Who has not taken so many events is cut off: EventSource comes back by itself. */
#define MAX_QUEUED 64
/* What the kernel keeps for one that does not read. */
#define SEND_BUFFER (32 * 1024)
/* How soon EventSource comes back. */
#define GREETING "retry: 1000\n\n"

struct _HttpdSubscribers
{
  GaioContext *context;
  GHashTable *all; /* a set of Subscriber */
};

typedef struct
{
  HttpdSubscribers *subscribers;
  SoupServerMessage *message;
  GSocket *socket;
  GMainContext *main_context; /* that of the connection */
  guint n_queued;             /* what libsoup has yet to send */
} Subscriber;

static void
subscriber_free (gpointer data)
{
  Subscriber *subscriber = data;

  g_signal_handlers_disconnect_by_data (subscriber->message, subscriber);
  g_object_unref (subscriber->message);
  g_object_unref (subscriber->socket);
  g_main_context_unref (subscriber->main_context);
  g_free (subscriber);
}

HttpdSubscribers *
httpd_subscribers_new (GaioContext *context)
{
  HttpdSubscribers *self = g_new (HttpdSubscribers, 1);

  self->context = g_object_ref (context);
  self->all = g_hash_table_new_full (NULL, NULL, subscriber_free, NULL);
  return self;
}

void
httpd_subscribers_free (HttpdSubscribers *self)
{
  g_hash_table_unref (self->all);
  g_object_unref (self->context);
  g_free (self);
}

guint
httpd_subscribers_count (HttpdSubscribers *self)
{
  return g_hash_table_size (self->all);
}

/* The client has gone, or was cut off, or the daemon ends. */
static void
on_gone (Subscriber *subscriber)
{
  g_hash_table_remove (subscriber->subscribers->all, subscriber);
}

static void
on_wrote_chunk (Subscriber *subscriber)
{
  subscriber->n_queued--;
}

static void
queue (Subscriber *subscriber, GBytes *bytes)
{
  soup_message_body_append_bytes (soup_server_message_get_response_body (subscriber->message),
                                  bytes);
  subscriber->n_queued++;
}

/* Answers @message, whose connection is that of @socket, with events from now on. To be called in
 * the main context of the connection. */
void
httpd_subscribers_add (HttpdSubscribers *self, SoupServerMessage *message, GSocket *socket)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message);
  g_autoptr (GBytes) greeting = g_bytes_new_static (GREETING, strlen (GREETING));
  Subscriber *subscriber = g_new0 (Subscriber, 1);

  subscriber->subscribers = self;
  subscriber->message = g_object_ref (message);
  subscriber->socket = g_object_ref (socket);
  subscriber->main_context = g_main_context_ref_thread_default ();
  g_socket_set_option (socket, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER, NULL);
  soup_message_headers_set_encoding (headers, SOUP_ENCODING_CHUNKED);
  soup_message_body_set_accumulate (soup_server_message_get_response_body (message), FALSE);
  g_signal_connect_swapped (message, "wrote-chunk", G_CALLBACK (on_wrote_chunk), subscriber);
  g_signal_connect_swapped (message, "finished", G_CALLBACK (on_gone), subscriber);
  g_signal_connect_swapped (message, "disconnected", G_CALLBACK (on_gone), subscriber);
  g_hash_table_add (self->all, subscriber);
  queue (subscriber, greeting);
}

typedef struct
{
  Subscriber *subscriber;
  GBytes *event;
} Delivery;

static void
deliver (gpointer data)
{
  Delivery *delivery = data;

  queue (delivery->subscriber, delivery->event);
  soup_server_message_unpause (delivery->subscriber->message);
}

/* libsoup sends when the socket takes it, and nobody waits for that. If the client does not read,
 * libsoup is waiting for the socket, and sees that it was shut down. */
static void
tell (HttpdSubscribers *self, Subscriber *subscriber, GBytes *event)
{
  Delivery delivery = { subscriber, event };

  if (subscriber->n_queued < MAX_QUEUED)
    gaio_context_call_in (self->context, subscriber->main_context, deliver, &delivery);
  else
    g_socket_shutdown (subscriber->socket, TRUE, TRUE, NULL);
}

void
httpd_subscribers_tell (HttpdSubscribers *self, GBytes *event)
{
  GHashTableIter iter;
  gpointer subscriber;

  g_hash_table_iter_init (&iter, self->all);
  while (g_hash_table_iter_next (&iter, &subscriber, NULL))
    tell (self, subscriber, event);
}
