/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "top-bus.h"

#include "top-figures.h"

#define TIMEOUT_MS 2000
#define STATS_PATH "/org/gaio/Stats"
#define STATS_INTERFACE "org.gaio.Stats1"
/* A peer that has nothing to show is asked again after 1, 2, 4 rounds and so on: it must not be
 * woken all the time, but may start to export at any time. */
#define MAX_PAUSE 16
/* How long a new connection is left alone: GLib 2.74 writes a critical warning if it is called
 * while it is still connecting. */
#define GRACE_US (200 * 1000)
/* The limit for one connection: nobody can fill the screen or the memory. */
#define MAX_LOOPS 64

struct _TopBus
{
  GDBusConnection *connection;
  guint n_slowest;
  TopBusFunc on_round_over;
  gpointer user_data;
  guint subscription;
  GCancellable *cancellable;
  GHashTable *peers; /* unique name -> Peer */
  gboolean asked_for_names;
  guint n_calls;
  guint round;
  guint n_awaited; /* calls of this round that are in progress */
};

/* A connection to the bus. It may disappear while calls to it are still in progress. */
typedef struct
{
  char *name;
  GHashTable *loops;     /* number -> TopLoop */
  gint64 first_asked_us; /* not before */
  guint n_calls;
  guint pause; /* rounds until it is asked again */
  guint next_pause;
  gboolean timed_out; /* one of the calls that are in progress */
  gboolean silent;    /* it was so the last time */
} Peer;

typedef struct
{
  TopBus *bus;
  Peer *peer;   /* NULL if the bus itself is asked */
  guint number; /* of the loop */
  guint round;
} Call;

/* Peers */

static void
peer_clear (gpointer data)
{
  Peer *peer = data;

  g_free (peer->name);
  g_hash_table_unref (peer->loops);
}

static void
peer_unref (gpointer peer)
{
  g_rc_box_release_full (peer, peer_clear);
}

static void
add_peer (TopBus *self, const char *name, gint64 first_asked_us)
{
  Peer *peer;

  if (name[0] != ':' || g_hash_table_contains (self->peers, name) ||
      g_strcmp0 (name, g_dbus_connection_get_unique_name (self->connection)) == 0)
    return;
  peer = g_rc_box_new0 (Peer);
  peer->name = g_strdup (name);
  peer->loops = g_hash_table_new_full (NULL, NULL, NULL, (GDestroyNotify) top_loop_free);
  peer->first_asked_us = first_asked_us;
  peer->next_pause = 1;
  g_hash_table_insert (self->peers, peer->name, peer);
}

/* Calls */

static Call *
begin_call (TopBus *self, Peer *peer, guint number)
{
  Call *call = g_new0 (Call, 1);

  call->bus = self;
  call->peer = peer != NULL ? g_rc_box_acquire (peer) : NULL;
  call->number = number;
  call->round = self->round;
  self->n_calls++;
  if (peer != NULL)
    peer->n_calls++;
  self->n_awaited++;
  return call;
}

static void
note_end_of_call (Peer *peer, const GError *error)
{
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
    peer->timed_out = TRUE;
  if (--peer->n_calls > 0)
    return;
  peer->silent = peer->timed_out;
  peer->timed_out = FALSE;
}

/* Call this once the calls that follow from this one have begun; otherwise the round would be
 * over. */
static void
end_call (Call *call, const GError *error)
{
  TopBus *self = call->bus;
  gboolean was_awaited = call->round == self->round;

  self->n_calls--;
  if (call->peer != NULL)
    {
      note_end_of_call (call->peer, error);
      peer_unref (call->peer);
    }
  g_free (call);
  if (was_awaited && --self->n_awaited == 0 && !g_cancellable_is_cancelled (self->cancellable))
    self->on_round_over (self->user_data);
}

/* Returns the result, or NULL if there is none or nobody wants it any more. */
static GVariant *
finish_call (Call *call, GObject *connection, GAsyncResult *result, GError **error)
{
  g_autoptr (GVariant) reply =
      g_dbus_connection_call_finish (G_DBUS_CONNECTION (connection), result, error);
  Peer *peer = call->peer;

  if (peer != NULL && g_hash_table_lookup (call->bus->peers, peer->name) != peer)
    return NULL;
  return g_steal_pointer (&reply);
}

/* Whether the peer has answered, but not with what it was asked for. */
static gboolean
is_refusal (const GError *error)
{
  return error != NULL && !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) &&
         !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CLOSED) &&
         !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
}

static void
ask (Call *call,
     const char *path,
     const char *interface,
     const char *method,
     GVariant *parameters,
     const char *reply_type,
     GAsyncReadyCallback func)
{
  g_dbus_connection_call (call->bus->connection,
                          call->peer != NULL ? call->peer->name : "org.freedesktop.DBus", path,
                          interface, method, parameters, G_VARIANT_TYPE (reply_type),
                          G_DBUS_CALL_FLAGS_NO_AUTO_START, TIMEOUT_MS, call->bus->cancellable, func,
                          call);
}

/* What is asked of a loop */

static TopLoop *
find_loop (Call *call)
{
  return g_hash_table_lookup (call->peer->loops, GUINT_TO_POINTER (call->number));
}

static void
on_stats (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Call *call = user_data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) reply = finish_call (call, source, result, &error);
  TopLoop *loop = find_loop (call);

  if (reply != NULL && loop != NULL)
    {
      g_autoptr (GVariant) stats = g_variant_get_child_value (reply, 0);

      top_loop_take_stats (loop, stats, g_get_monotonic_time ());
    }
  else if (is_refusal (error))
    g_hash_table_remove (call->peer->loops, GUINT_TO_POINTER (call->number));
  end_call (call, error);
}

static void
on_slowest (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Call *call = user_data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) reply = finish_call (call, source, result, &error);
  TopLoop *loop = find_loop (call);

  if (reply != NULL && loop != NULL)
    {
      g_autoptr (GVariant) slowest = g_variant_get_child_value (reply, 0);

      top_loop_take_slowest (loop, slowest, call->bus->n_slowest);
    }
  end_call (call, error);
}

static void
ask_loop (TopBus *self, Peer *peer, guint number)
{
  g_autofree char *path = g_strdup_printf (STATS_PATH "/%u", number);

  ask (begin_call (self, peer, number), path, STATS_INTERFACE, "GetStats", NULL, "(a{sv})",
       on_stats);
  if (self->n_slowest > 0)
    ask (begin_call (self, peer, number), path, STATS_INTERFACE, "GetSlowest",
         g_variant_new ("(u)", self->n_slowest), "(a(ssittt))", on_slowest);
}

/* Which loops there are */

/* Returns the set of child nodes that are numbers; the others are not ours. */
static GHashTable *
parse_numbers (const char *xml)
{
  GHashTable *numbers = g_hash_table_new (NULL, NULL);
  g_autoptr (GDBusNodeInfo) node = g_dbus_node_info_new_for_xml (xml, NULL);

  for (guint i = 0; node != NULL && node->nodes != NULL && node->nodes[i] != NULL; i++)
    {
      const char *name = node->nodes[i]->path;
      guint64 number;

      if (g_hash_table_size (numbers) < MAX_LOOPS && name != NULL &&
          g_ascii_string_to_unsigned (name, 10, 0, G_MAXUINT, &number, NULL))
        g_hash_table_add (numbers, GUINT_TO_POINTER ((guint) number));
    }
  return numbers;
}

static gboolean
is_not_in (gpointer number, gpointer loop, gpointer numbers)
{
  return !g_hash_table_contains (numbers, number);
}

static void
take_numbers (TopBus *self, Peer *peer, GHashTable *numbers)
{
  GHashTableIter iter;
  gpointer number;

  g_hash_table_foreach_remove (peer->loops, is_not_in, numbers);
  g_hash_table_iter_init (&iter, numbers);
  while (g_hash_table_iter_next (&iter, &number, NULL))
    {
      if (!g_hash_table_contains (peer->loops, number))
        g_hash_table_insert (peer->loops, number,
                             top_loop_new (peer->name, GPOINTER_TO_UINT (number)));
      ask_loop (self, peer, GPOINTER_TO_UINT (number));
    }
}

static void
plan_next_question (Peer *peer)
{
  if (g_hash_table_size (peer->loops) > 0)
    {
      peer->pause = 0;
      peer->next_pause = 1;
      return;
    }
  peer->pause = peer->next_pause;
  peer->next_pause = MIN (peer->next_pause * 2, MAX_PAUSE);
}

/* A refusal means that there is nothing. */
static void
on_introspected (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Call *call = user_data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) reply = finish_call (call, source, result, &error);
  const char *xml = "";

  if (reply != NULL)
    g_variant_get (reply, "(&s)", &xml);
  if (reply != NULL || is_refusal (error))
    {
      g_autoptr (GHashTable) numbers = parse_numbers (xml);

      take_numbers (call->bus, call->peer, numbers);
    }
  plan_next_question (call->peer);
  end_call (call, error);
}

/* Which peers are asked, and when */

static void
ask_peer (TopBus *self, Peer *peer)
{
  if (peer->n_calls > 0 || g_get_monotonic_time () < peer->first_asked_us)
    return;
  if (peer->pause > 0)
    peer->pause--;
  else
    ask (begin_call (self, peer, 0), STATS_PATH, "org.freedesktop.DBus.Introspectable",
         "Introspect", NULL, "(s)", on_introspected);
}

static void
ask_peers (TopBus *self)
{
  GHashTableIter iter;
  gpointer peer;

  g_hash_table_iter_init (&iter, self->peers);
  while (g_hash_table_iter_next (&iter, NULL, &peer))
    ask_peer (self, peer);
}

static void
on_names (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Call *call = user_data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GVariant) reply = finish_call (call, source, result, &error);

  if (reply != NULL)
    {
      g_autofree const char **names = NULL;

      g_variant_get (reply, "(^a&s)", &names);
      for (guint i = 0; names[i] != NULL; i++)
        add_peer (call->bus, names[i], 0);
      ask_peers (call->bus);
    }
  else
    call->bus->asked_for_names = FALSE;
  end_call (call, error);
}

static void
on_name_owner_changed (GDBusConnection *connection,
                       const char *sender,
                       const char *path,
                       const char *interface,
                       const char *signal,
                       GVariant *parameters,
                       gpointer user_data)
{
  TopBus *self = user_data;
  const char *name;
  const char *new_owner;

  if (!g_variant_is_of_type (parameters, G_VARIANT_TYPE ("(sss)")))
    return;
  g_variant_get (parameters, "(&s&s&s)", &name, NULL, &new_owner);
  if (new_owner[0] == '\0')
    g_hash_table_remove (self->peers, name);
  else
    add_peer (self, name, g_get_monotonic_time () + GRACE_US);
}

TopBus *
top_bus_new (GDBusConnection *connection,
             guint n_slowest,
             TopBusFunc on_round_over,
             gpointer user_data)
{
  TopBus *self = g_new0 (TopBus, 1);

  self->connection = g_object_ref (connection);
  self->n_slowest = n_slowest;
  self->on_round_over = on_round_over;
  self->user_data = user_data;
  self->cancellable = g_cancellable_new ();
  self->peers = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, peer_unref);
  self->subscription =
      g_dbus_connection_signal_subscribe (connection, "org.freedesktop.DBus",
                                          "org.freedesktop.DBus", "NameOwnerChanged",
                                          "/org/freedesktop/DBus", NULL, G_DBUS_SIGNAL_FLAGS_NONE,
                                          on_name_owner_changed, self, NULL);
  return self;
}

/* Calls in progress end at once when they are cancelled, but only once GLib has reported it. */
void
top_bus_free (TopBus *self)
{
  g_dbus_connection_signal_unsubscribe (self->connection, self->subscription);
  g_cancellable_cancel (self->cancellable);
  while (self->n_calls > 0)
    g_main_context_iteration (NULL, TRUE);
  g_hash_table_unref (self->peers);
  g_object_unref (self->cancellable);
  g_object_unref (self->connection);
  g_free (self);
}

/* Peers that still owe an answer are not asked. An answer to an earlier round is also accepted. */
void
top_bus_begin_round (TopBus *self)
{
  self->round++;
  self->n_awaited = 0;
  if (self->asked_for_names)
    ask_peers (self);
  else
    {
      self->asked_for_names = TRUE;
      ask (begin_call (self, NULL, 0), "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames",
           NULL, "(as)", on_names);
    }
  if (self->n_awaited == 0)
    self->on_round_over (self->user_data);
}

/* Returns the loops that have reported something, sorted. They are valid until the main context
 * runs again. */
GPtrArray *
top_bus_list_loops (TopBus *self)
{
  GPtrArray *loops = g_ptr_array_new ();
  GHashTableIter peers, iter;
  Peer *peer;
  TopLoop *loop;

  g_hash_table_iter_init (&peers, self->peers);
  while (g_hash_table_iter_next (&peers, NULL, (gpointer *) &peer))
    {
      g_hash_table_iter_init (&iter, peer->loops);
      while (g_hash_table_iter_next (&iter, NULL, (gpointer *) &loop))
        {
          loop->answers = !peer->silent;
          if (loop->now.time_us != 0)
            g_ptr_array_add (loops, loop);
        }
    }
  g_ptr_array_sort (loops, top_loop_compare);
  return loops;
}
