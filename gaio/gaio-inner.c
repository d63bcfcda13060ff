/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-private.h"

#include <unistd.h>

#include <gaio/gaio-context.h>
#include <gaio/gaio-error.h>

/* A deadline that comes so much earlier stays: GLib counts in milliseconds. */
#define SLACK_US 1000
/* What is always ready ends after so many turns without an owner. */
#define LAST_TURNS 100

/* What poll(2) knows, and a handler may wait for. */
#define CONDITIONS (G_IO_IN | G_IO_PRI | G_IO_OUT | G_IO_ERR | G_IO_HUP)

/* A turn on the stack of this thread. */
typedef struct _Frame Frame;

struct _Frame
{
  GaioInner *inner;
  Frame *outer;
  gboolean stale; /* callbacks have run since it was prepared */
};

static _Thread_local Frame *innermost;

/* --- Who is served: one GMainContext by one context --- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *inners; /* GMainContext -> GaioInner */

static void
lock_table (void)
{
  pthread_mutex_lock (&mutex);
}

static void
unlock_table (void)
{
  pthread_mutex_unlock (&mutex);
}

/* A child must not inherit it locked. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (lock_table, unlock_table, unlock_table);
}

/* Returns a reference, or NULL if nobody serves @main_context. */
GaioInner *
gaio_inner_lookup (GMainContext *main_context)
{
  GaioInner *self = NULL;

  lock_table ();
  if (inners != NULL)
    self = g_hash_table_lookup (inners, main_context);
  if (self != NULL)
    gaio_entry_ref (&self->entry);
  unlock_table ();
  return self;
}

gboolean
gaio_inner_is_served_by (GMainContext *main_context, GaioCore *core)
{
  GaioInner *self = gaio_inner_lookup (main_context);
  gboolean served = self != NULL && self->entry.core == core;

  if (self != NULL)
    gaio_entry_unref (&self->entry);
  return served;
}

/* FALSE if somebody serves it already. */
static gboolean
insert (GaioInner *self)
{
  gboolean inserted;

  lock_table ();
  if (inners == NULL)
    inners = g_hash_table_new (NULL, NULL);
  inserted = !g_hash_table_contains (inners, self->main_context);
  if (inserted)
    g_hash_table_insert (inners, self->main_context, self);
  unlock_table ();
  return inserted;
}

static void
forget (GaioInner *self)
{
  lock_table ();
  g_hash_table_remove (inners, self->main_context);
  unlock_table ();
}

/* --- When it is to have a turn, beside when its fds are ready --- */

/* In the next round. With the lock held. */
static void
schedule_turn_locked (GaioInner *self)
{
  GaioCore *core = self->entry.core;

  if (gaio_entry_is_removed (&self->entry) || (gaio_link_is_linked (&self->turns) && !self->parked))
    return;
  gaio_link_unlink (&self->turns);
  self->parked = false;
  gaio_list_push (&core->inners.turns, &self->turns);
  gaio_core_wake (core);
}

static void
schedule_turn (GaioInner *self)
{
  if (!gaio_core_lock (self->entry.core))
    return;
  schedule_turn_locked (self);
  gaio_core_unlock (self->entry.core);
}

/* With the lock held. */
static void
set_deadline (GaioInner *self, gint64 deadline)
{
  GaioCore *core = self->entry.core;

  if (deadline == self->deadline || gaio_entry_is_removed (&self->entry) ||
      (deadline >= 0 && self->deadline >= 0 && self->deadline <= deadline &&
       self->deadline > deadline - SLACK_US))
    return;
  if (deadline == -1)
    {
      gaio_heap_remove (&core->inners.deadlines, &self->node);
      gaio_heap_unreserve (&core->inners.deadlines);
    }
  else if (self->deadline == -1)
    gaio_heap_reserve (&core->inners.deadlines);
  self->deadline = deadline;
  if (deadline == -1)
    return;
  gaio_heap_set (&core->inners.deadlines, &self->node, deadline);
  if (gaio_heap_first (&core->inners.deadlines) == &self->node)
    gaio_core_deadline_moved (core, deadline);
}

/* Whether an fd was ready earlier, and still is: one that is always ready, which limits have kept
 * from being reported. It is reported now. With the lock held. */
gboolean
gaio_inner_is_ready_still (GaioInner *self)
{
  guint32 stamp = gaio_ready_list_get_stamp (&self->entry.core->ready);
  gboolean still = FALSE;

  for (guint i = 0; i < self->n_watches; i++)
    {
      GaioHandler *handler = self->watches[i].handler;

      if (handler == NULL || handler->revents == 0 ||
          (!handler->always_ready && !handler->reports_once) ||
          !gaio_registration_check_always (handler))
        continue;
      handler->entry.stamp = self->entry.stamp = stamp;
      still = TRUE;
    }
  return still;
}

/* Also if one of its fds has been gathered: in the order of @turns, who has waited longest comes
 * first. With the lock held. */
static void
queue_turn (GaioInner *self)
{
  atomic_store_explicit (&self->wants_turn, true, memory_order_relaxed);
  gaio_inner_is_ready_still (self);
  gaio_link_unlink (&self->entry.link);
  gaio_list_push (&self->entry.core->ready.entries, &self->entry.link);
}

static GaioInner *
inner_from_turns (GaioLink *link)
{
  return gaio_link_entry (link, GaioInner, turns);
}

/* In front of what has been gathered. With the lock held. */
static void
queue_turns_first (GaioCore *core)
{
  while (!gaio_list_is_empty (&core->inners.turns))
    {
      GaioInner *self = inner_from_turns (core->inners.turns.head.prev);

      gaio_link_unlink (&self->turns);
      queue_turn (self);
      gaio_link_unlink (&self->entry.link);
      gaio_link_insert_before (&self->entry.link, core->ready.entries.head.next);
    }
}

/* Those that wait until GLib has a turn for their priority have to do without, where nobody runs
 * GLib. With the lock held. */
void
gaio_inner_unpark (GaioCore *core)
{
  GaioLink *link;

  while ((link = gaio_list_first (&core->inners.parked)) != NULL)
    schedule_turn_locked (inner_from_turns (link));
}

static GaioInner *
inner_from_node (GaioHeapNode *node)
{
  return (GaioInner *) (void *) ((char *) node - G_STRUCT_OFFSET (GaioInner, node));
}

/* A round begins: those that are due join the ready list, and one that waits for GLib, so that what
 * is always ready starves none. By the owner of the context, with the lock held. */
void
gaio_inner_collect (GaioCore *core)
{
  GaioLink *link;
  gint64 now;

  if ((link = gaio_list_first (&core->inners.parked)) != NULL)
    schedule_turn_locked (inner_from_turns (link));
  if (core->inners.first)
    queue_turns_first (core);
  core->inners.were_first = core->inners.first;
  core->inners.first = false;
  while ((link = gaio_list_pop (&core->inners.turns)) != NULL)
    queue_turn (inner_from_turns (link));
  if (gaio_heap_first (&core->inners.deadlines) == NULL)
    return;
  now = g_get_monotonic_time ();
  while (gaio_heap_first (&core->inners.deadlines) != NULL &&
         gaio_heap_first_key (&core->inners.deadlines) <= now)
    {
      GaioInner *self = inner_from_node (gaio_heap_first (&core->inners.deadlines));

      set_deadline (self, -1);
      queue_turn (self);
    }
}

/* What a round has left over comes first in the next one: before what is gathered in every other
 * one, so that neither keeps out the other. With the lock held. */
static void
requeue (GaioCore *core)
{
  GaioList rest;
  GaioLink *last;

  gaio_list_init (&rest);
  gaio_list_foreach (&core->ready.entries, link)
    {
      GaioEntry *entry = gaio_link_entry (link, GaioEntry, link);
      GaioInner *self = (GaioInner *) entry;

      if (entry->kind != GAIO_ENTRY_INNER ||
          !atomic_load_explicit (&self->wants_turn, memory_order_relaxed))
        continue;
      gaio_link_unlink (link);
      gaio_link_unlink (&self->turns);
      atomic_store_explicit (&self->wants_turn, false, memory_order_relaxed);
      self->parked = false;
      if (!gaio_entry_is_removed (entry))
        gaio_list_push (&rest, &self->turns);
    }
  if (!gaio_list_is_empty (&rest))
    core->inners.first = !core->inners.were_first;
  while (!gaio_list_is_empty (&rest))
    {
      last = rest.head.prev;
      gaio_link_unlink (last);
      gaio_link_insert_before (last, core->inners.turns.head.next);
      core->sleep.has_other_work = TRUE;
    }
}

/* --- Iterations by somebody else --- */

/* The first source of an inner context, which is prepared in each iteration of it. */
typedef struct
{
  GSource parent;
  GaioInner *inner; /* with a reference */
} Guard;

/* Unless it is ours: what we have prepared is prepared no longer, and may have changed. */
static gboolean
guard_prepare (GSource *source, gint *timeout_ms)
{
  GaioInner *self = ((Guard *) source)->inner;

  *timeout_ms = -1;
  if (self->preparing)
    return FALSE;
  self->prepared = false;
  self->foreign = true;
  schedule_turn (self);
  return FALSE;
}

static void
guard_finalize (GSource *source)
{
  gaio_entry_unref (&((Guard *) source)->inner->entry);
}

static GSourceFuncs guard_funcs = { .prepare = guard_prepare, .finalize = guard_finalize };

static void
attach_guard (GaioInner *self)
{
  self->guard = g_source_new (&guard_funcs, sizeof (Guard));
  ((Guard *) self->guard)->inner = gaio_entry_ref (&self->entry);
  g_source_set_priority (self->guard, G_MININT);
  g_source_set_static_name (self->guard, "GaioContext");
  g_source_attach (self->guard, self->main_context);
}

/* --- What it waits for --- */

/* What g_main_context_query() tells, and g_main_context_check() is told. */
typedef struct
{
  GPollFD *fds;
  gint n, size;
  GPollFD few[8];
} Query;

static void
query_reserve (Query *query, gint size)
{
  if (size <= query->size)
    return;
  if (query->fds != query->few)
    g_free (query->fds);
  query->fds = g_new (GPollFD, size);
  query->size = size;
}

static void
query_init (Query *query)
{
  query->fds = query->few;
  query->size = G_N_ELEMENTS (query->few);
}

static void
query_clear (Query *query)
{
  if (query->fds != query->few)
    g_free (query->fds);
}

static GaioInnerWatch *
find_watch (GaioInner *self, int fd)
{
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].fd == fd)
      return &self->watches[i];
  return NULL;
}

/* With the lock held. */
static void
remove_watch (GaioInnerWatch *watch)
{
  if (watch->handler == NULL)
    return;
  gaio_handler_destroy (watch->handler);
  gaio_handler_unref (watch->handler);
  watch->handler = NULL;
}

/* With the lock held. FALSE if it is to be tried again. */
static gboolean
add_watch (GaioInner *self, GaioInnerWatch *watch)
{
  GaioHandlerParams params = { .fd = watch->fd,
                               .condition = (watch->events | G_IO_ERR | G_IO_HUP) & CONDITIONS,
                               .inner = self };
  g_autoptr (GError) error = NULL;

  watch->handler = gaio_handler_try_add (self->entry.core, &params, &error);
  if (watch->handler != NULL)
    return TRUE;
  watch->is_bad = g_error_matches (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  return FALSE;
}

/* What the kernel is to watch for @watch from now on. What looks the same may not be: a callback
 * may have closed the fd, and opened another file under its number. With the lock held. */
static gboolean
update_watch (GaioInner *self, GaioInnerWatch *watch, guint16 events)
{
  gboolean known = watch->handler != NULL;

  watch->is_bad = FALSE;
  if (known && watch->events != events)
    known = gaio_registration_set_condition (watch->handler,
                                             (events | G_IO_ERR | G_IO_HUP) & CONDITIONS) == 0;
  /* A change may not have asked the kernel: not for what is always ready, nor if there is a handler
   * that waits for as much. */
  if (known && watch->fd != self->wake_fd)
    known = gaio_registration_confirm (watch->handler);
  watch->events = events;
  if (known)
    return TRUE;
  remove_watch (watch);
  return add_watch (self, watch);
}

/* With the lock held. TRUE if @self waits for what it has waited for before. */
static gboolean
is_unchanged (GaioInner *self, const Query *query)
{
  if (self->n_watches != query->n)
    return FALSE;
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].fd != query->fds[i].fd || self->watches[i].events != query->fds[i].events)
      return FALSE;
  return TRUE;
}

/* Takes over what is in @watches. With the lock held. */
static void
replace_watches (GaioInner *self, const GaioInnerWatch *watches, guint n)
{
  if (self->watches != self->few)
    g_free (self->watches);
  self->watches = n <= G_N_ELEMENTS (self->few) ? self->few : g_new (GaioInnerWatch, n);
  for (guint i = 0; i < n; i++)
    self->watches[i] = watches[i];
  self->n_watches = n;
}

/* The watches of what was queried, in that order; those of the rest go if the query was @complete.
 * With the lock held. FALSE if something could not be added. */
static gboolean
rebuild_watches (GaioInner *self, const Query *query, gboolean complete)
{
  g_autofree GaioInnerWatch *watches = g_new (GaioInnerWatch, query->n + self->n_watches);
  guint n = 0;
  gboolean all = TRUE;

  for (gint i = 0; i < query->n; i++)
    {
      GPollFD *pollfd = &query->fds[i];
      GaioInnerWatch *old = find_watch (self, pollfd->fd);

      watches[n] = old != NULL ? *old : (GaioInnerWatch){ .fd = pollfd->fd };
      if (old != NULL)
        old->fd = -1;
      all &= update_watch (self, &watches[n++], pollfd->events);
    }
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].fd != -1 && complete)
      remove_watch (&self->watches[i]);
    else if (self->watches[i].fd != -1)
      watches[n++] = self->watches[i];
  replace_watches (self, watches, n);
  return all;
}

/* With the lock held. */
static gboolean
update_watches (GaioInner *self, const Query *query, gboolean complete)
{
  gboolean all = TRUE;

  self->n_polled = query->n;
  if (!complete || !is_unchanged (self, query))
    return rebuild_watches (self, query, complete);
  for (guint i = 0; i < self->n_watches; i++)
    all &= update_watch (self, &self->watches[i], self->watches[i].events);
  return all;
}

/* Puts what @self waits for into the monitor. Returns in how many microseconds to try again, 0 if
 * GLib is to be told of an fd that is not open, or -1. */
static gint64
watch_pollfds (GaioInner *self, const Query *query, gboolean complete)
{
  GaioCore *core = self->entry.core;
  gboolean all = TRUE, bad = FALSE;

  if (!gaio_core_lock (core))
    return -1;
  if (!gaio_entry_is_removed (&self->entry))
    all = update_watches (self, query, complete);
  gaio_core_unlock (core);
  for (guint i = 0; !all && i < self->n_watches; i++)
    bad |= self->watches[i].is_bad;
  return all ? -1 : bad ? 0 : GAIO_MONITOR_RETRY_US;
}

/* What the kernel has told of @watch in this round, once. */
static gushort
take_revents (GaioInner *self, GaioInnerWatch *watch)
{
  gushort revents = watch->is_bad ? G_IO_NVAL : 0;

  watch->is_bad = false;
  if (watch->handler == NULL ||
      watch->handler->entry.stamp != gaio_ready_list_get_stamp (&self->entry.core->ready))
    return revents;
  revents |= watch->handler->revents;
  watch->handler->revents = 0;
  return revents;
}

/* As the query has given them. */
static void
fill_revents (GaioInner *self, Query *query)
{
  query_reserve (query, self->n_polled);
  query->n = self->n_polled;
  for (gint i = 0; i < query->n; i++)
    {
      GaioInnerWatch *watch = &self->watches[i];

      query->fds[i] = (GPollFD){ watch->fd, watch->events, take_revents (self, watch) };
    }
}

/* --- A turn --- */

/* Waits without the lock of anybody: what comes later wakes it up again. */
static void
drain_wake_fd (GaioInner *self)
{
  guint64 n;

  if (read (self->wake_fd, &n, sizeof n) < 0)
    return;
}

/* Returns GLib's timeout. */
static gint
query_fds (GaioInner *self, Query *query)
{
  gint timeout_ms, n;

  query_reserve (query, self->n_watches);
  while ((n = g_main_context_query (self->main_context, self->priority, &timeout_ms, query->fds,
                                    query->size)) > query->size)
    query_reserve (query, n);
  query->n = n;
  return timeout_ms;
}

static gboolean
end_idle (gpointer data)
{
  return G_SOURCE_REMOVE;
}

/* Also if the GMainContext has gone before it had a turn for the idle source. */
static void
idle_gone (gpointer data)
{
  GaioInner *self = data;

  if (gaio_core_lock (self->entry.core))
    {
      if (self->parked)
        schedule_turn_locked (self);
      gaio_core_unlock (self->entry.core);
    }
  gaio_entry_unref (&self->entry);
}

/* Where a source of the same priority would have its turn, or NULL if that is with our own. With
 * the lock held. */
static GMainContext *
find_place_for (GaioInner *self)
{
  GaioNesting *nesting = &self->entry.core->nesting;

  if (nesting->source == NULL || self->priority <= g_source_get_priority (nesting->source))
    return NULL;
  return gaio_nesting_get_main_context (nesting);
}

static void
attach_idle (GaioInner *self, GMainContext *place)
{
  g_autoptr (GSource) idle = g_idle_source_new ();

  g_source_set_priority (idle, self->priority);
  g_source_set_static_name (idle, "GaioContext: an idle source of a main context that it serves");
  g_source_set_callback (idle, end_idle, gaio_entry_ref (&self->entry), idle_gone);
  g_source_attach (idle, place);
}

/* Something of @self is ready already. What has a lower priority than our source must not keep that
 * ready all the time: it waits until GLib has a turn for its priority. */
static void
schedule_next_turn (GaioInner *self)
{
  GaioCore *core = self->entry.core;
  GMainContext *place = NULL;

  if (!gaio_core_lock (core))
    return;
  if (!gaio_link_is_linked (&self->turns) && !gaio_entry_is_removed (&self->entry))
    place = find_place_for (self);
  if (place != NULL)
    {
      g_main_context_ref (place);
      self->parked = true;
      gaio_list_push (&core->inners.parked, &self->turns);
    }
  else if (!gaio_link_is_linked (&self->turns))
    schedule_turn_locked (self);
  gaio_core_unlock (core);
  if (place == NULL)
    return;
  attach_idle (self, place);
  g_main_context_unref (place);
}

/* @delay_us: -1 for never. */
static void
come_back_in (GaioInner *self, gint64 delay_us)
{
  gint64 deadline = delay_us < 0 ? -1 : g_get_monotonic_time () + delay_us;

  /* Nobody else sets it to something else than -1. */
  if (deadline == self->deadline || !gaio_core_lock (self->entry.core))
    return;
  set_deadline (self, deadline);
  gaio_core_unlock (self->entry.core);
}

/* Finds out what @self waits for, and has it watched. TRUE if something is ready already. */
static gboolean
prepare (GaioInner *self)
{
  gboolean ready;
  gint64 timeout_us, retry_us;
  Query query;

  query_init (&query);
  self->preparing = true;
  ready = g_main_context_prepare (self->main_context, &self->priority);
  self->preparing = false;
  timeout_us = query_fds (self, &query) * G_GINT64_CONSTANT (1000);
  retry_us = watch_pollfds (self, &query, !ready);
  query_clear (&query);
  self->prepared = true;
  /* Nobody tells when that is over, and what it has called may be ready again. */
  if (self->foreign && retry_us < 0)
    retry_us = GAIO_MONITOR_RETRY_US;
  if (timeout_us < 0 || (retry_us >= 0 && retry_us < timeout_us))
    timeout_us = retry_us;
  ready |= timeout_us == 0;
  if (ready)
    schedule_next_turn (self);
  else
    come_back_in (self, timeout_us);
  return ready;
}

/* With the lock held. */
static void
set_paused (GaioInner *self, gboolean paused)
{
  if (self->paused == paused || gaio_entry_is_removed (&self->entry))
    return;
  self->paused = paused;
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL)
      gaio_registration_set_masked (self->watches[i].handler, paused);
}

/* Another thread owns it, and may change what it waits for: it is silent until that is over. */
static void
pause_until_later (GaioInner *self)
{
  if (!gaio_core_lock (self->entry.core))
    return;
  set_paused (self, TRUE);
  set_deadline (self, g_get_monotonic_time () + GAIO_MONITOR_RETRY_US);
  gaio_core_unlock (self->entry.core);
}

/* The monitor has kept quiet about the fds: a turn now would pass over them. */
static void
resume (GaioInner *self)
{
  if (G_LIKELY (!self->paused) || !gaio_core_lock (self->entry.core))
    return;
  set_paused (self, FALSE);
  gaio_core_unlock (self->entry.core);
  self->prepared = false;
}

static gboolean
begin (GaioInner *self, Frame *frame)
{
  gboolean owned = g_main_context_is_owner (self->main_context);

  if (!g_main_context_acquire (self->main_context))
    return FALSE;
  self->foreign = self->foreign && owned;
  g_main_context_push_thread_default (self->main_context);
  resume (self);
  *frame = (Frame){ .inner = self, .outer = innermost };
  innermost = frame;
  return TRUE;
}

static void
end (GaioInner *self, Frame *frame)
{
  innermost = frame->outer;
  g_main_context_pop_thread_default (self->main_context);
  g_main_context_release (self->main_context);
}

/* TRUE if there is something to dispatch. */
static gboolean
check (GaioInner *self)
{
  gboolean ready;
  Query query;

  if (!self->prepared)
    return FALSE;
  self->prepared = false;
  query_init (&query);
  fill_revents (self, &query);
  ready = g_main_context_check (self->main_context, self->priority, query.fds, query.n);
  query_clear (&query);
  return ready;
}

static gboolean
check_and_dispatch (GaioInner *self, Frame *frame)
{
  if (!check (self))
    return FALSE;
  frame->stale = TRUE;
  g_main_context_dispatch (self->main_context);
  frame->stale = FALSE;
  return TRUE;
}

/* TRUE if something was ready, or is. */
static gboolean
take_turn (GaioInner *self, Frame *frame)
{
  gboolean dispatched = check_and_dispatch (self, frame);

  if (gaio_entry_is_removed (&self->entry) || gaio_core_is_forked (self->entry.core))
    return FALSE;
  drain_wake_fd (self);
  return prepare (self) || dispatched;
}

/* By the type of its owner. */
static char *
describe (GaioInner *self)
{
  return g_strdup_printf ("%p of a %s", (void *) self->main_context,
                          self->owner_type != 0 ? g_type_name (self->owner_type) : "program");
}

static void
end_entry (GaioInner *self)
{
  if (!gaio_entry_end (&self->entry) || !gaio_core_lock (self->entry.core))
    return;
  gaio_entry_handle_end (&self->entry);
  gaio_core_unlock (self->entry.core);
}

/* When its owner goes, what is under way ends as in GLib: a stream that was closed tells so. So
 * there are turns until two in a row have had nothing: the first one may only have found out what
 * to ask the kernel. */
static void
go_after_owner (GaioInner *self, gboolean again)
{
  if (!gaio_core_lock (self->entry.core))
    return;
  if ((!again && self->had_nothing) || ++self->n_last_turns == LAST_TURNS)
    gaio_inner_destroy (self);
  else if (!self->parked)
    schedule_turn_locked (self);
  self->had_nothing = !again;
  gaio_core_unlock (self->entry.core);
}

/* By the owner of the context, without the lock. TRUE if it was a turn. */
gboolean
gaio_inner_serve (GaioInner *self)
{
  gboolean ownerless = atomic_load_explicit (&self->ownerless, memory_order_acquire), again;
  Frame frame;

  atomic_store_explicit (&self->wants_turn, false, memory_order_relaxed);
  if (gaio_entry_is_removed (&self->entry))
    return FALSE;
  gaio_entry_begin (&self->entry);
  if (begin (self, &frame))
    {
      gaio_trace_call (&self->entry.core->profile, "main context", NULL, -1, describe (self),
                       again = take_turn (self, &frame));
      end (self, &frame);
      if (ownerless)
        go_after_owner (self, again);
    }
  else
    pause_until_later (self);
  end_entry (self);
  return TRUE;
}

/* Whether something has changed in @self that nobody was told of, as when a stream was closed from
 * outside. By the owner of the context, without the lock. */
gboolean
gaio_inner_look (GaioInner *self)
{
  gboolean changed = FALSE;
  Frame frame;

  if (gaio_entry_is_removed (&self->entry) || gaio_entry_is_running (&self->entry))
    return FALSE;
  gaio_entry_begin (&self->entry);
  if (begin (self, &frame))
    {
      changed = prepare (self);
      end (self, &frame);
    }
  end_entry (self);
  return changed;
}

/* FALSE if another thread owns it. */
gboolean
gaio_inner_call (GaioInner *self, GSourceOnceFunc func, gpointer user_data)
{
  Frame frame;

  if (!begin (self, &frame))
    return FALSE;
  gaio_entry_begin (&self->entry);
  frame.stale = TRUE;
  func (user_data);
  if (!gaio_entry_is_removed (&self->entry) && !gaio_core_is_forked (self->entry.core))
    prepare (self);
  end (self, &frame);
  end_entry (self);
  return TRUE;
}

/* A callback of a turn runs a loop: what the turn was prepared for is old news. */
static void
prepare_running (GaioCore *core)
{
  for (Frame *frame = innermost; frame != NULL; frame = frame->outer)
    if (frame->stale && frame->inner->entry.core == core &&
        !gaio_entry_is_removed (&frame->inner->entry))
      {
        frame->stale = FALSE;
        prepare (frame->inner);
      }
}

/* Before a wait, without the lock: what limits have left over, or an outer round, is put back.
 * FALSE if another thread is inside a round. */
gboolean
gaio_inner_begin_wait (GaioCore *core, gboolean under_glib)
{
  const void *owner;

  if (!gaio_core_lock (core))
    return FALSE;
  owner = atomic_load_explicit (&core->round_thread, memory_order_relaxed);
  if (owner == NULL || owner == gaio_this_thread ())
    requeue (core);
  gaio_core_unlock (core);
  prepare_running (core);
  if (owner != NULL && owner != gaio_this_thread ())
    return FALSE;
  if (!under_glib && gaio_core_lock (core))
    {
      gaio_inner_unpark (core);
      gaio_core_unlock (core);
    }
  return TRUE;
}

/* An fd of it is ready. By the owner of the context, with the lock held. */
gboolean
gaio_inner_gather (GaioHandler *handler)
{
  GaioInner *self = handler->inner;

  self->entry.stamp = gaio_ready_list_get_stamp (&self->entry.core->ready);
  if (!gaio_link_is_linked (&self->entry.link))
    gaio_list_push (&self->entry.core->ready.entries, &self->entry.link);
  return TRUE;
}

/* --- Its life --- */

/* The kernel knows, and no round may have asked it since. */
static gboolean
is_woken (GaioInner *self)
{
  GPollFD pollfd = { self->wake_fd, G_IO_IN, 0 };

  return g_poll (&pollfd, 1, 0) > 0;
}

/* Whether it waits for nothing but to be woken up, and has not been. With the lock held. */
static gboolean
is_idle (GaioInner *self)
{
  return self->n_watches == 1 && self->node.position == 0 && !gaio_link_is_linked (&self->turns) &&
         !atomic_load_explicit (&self->wants_turn, memory_order_relaxed) &&
         self->entry.stamp != gaio_ready_list_get_stamp (&self->entry.core->ready) &&
         !gaio_entry_is_running (&self->entry) && !is_woken (self);
}

/* With the lock held. */
static void
lose_owner (GaioInner *self)
{
  if (is_idle (self))
    gaio_inner_destroy (self);
  atomic_store_explicit (&self->ownerless, true, memory_order_release);
  schedule_turn_locked (self);
}

/* In whichever thread their owner is finalized. */
static void
owner_gone (gpointer data)
{
  GaioInner *next;

  for (GaioInner *self = data; self != NULL; self = next)
    {
      next = self->next_of_owner;
      if (gaio_core_lock (self->entry.core))
        {
          lose_owner (self);
          gaio_core_unlock (self->entry.core);
        }
      gaio_entry_unref (&self->entry);
    }
}

/* It has been destroyed, and its last turn is over. */
static void
inner_ended (gpointer data)
{
  GaioInner *self = data;

  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL)
      gaio_handler_unref (self->watches[i].handler);
  g_main_context_unref (self->main_context);
}

static void
inner_free (GaioEntry *entry)
{
  GaioInner *self = (GaioInner *) entry;

  if (self->watches != self->few)
    g_free (self->watches);
  g_free (self);
}

/* It goes with @owner, if it is there for so long. At most once, before anybody else knows of it or
 * by the owner of the context. A qdata takes half the memory of a weak reference. */
void
gaio_inner_set_owner (GaioInner *self, GObject *owner)
{
  static GQuark quark;

  gaio_entry_ref (&self->entry);
  self->owner_type = G_OBJECT_TYPE (owner);
  lock_table ();
  if (quark == 0)
    quark = g_quark_from_static_string ("gaio-main-contexts");
  self->next_of_owner = g_object_steal_qdata (owner, quark);
  g_object_set_qdata_full (owner, quark, self, owner_gone);
  unlock_table ();
}

static GaioInner *
inner_alloc (GaioContext *context, GMainContext *main_context, int wake_fd)
{
  GaioInner *self = g_new0 (GaioInner, 1);

  gaio_entry_init (&self->entry, GAIO_ENTRY_INNER, context->core, self, inner_ended);
  self->entry.free = inner_free;
  self->main_context = g_main_context_ref (main_context);
  self->watches = self->few;
  self->wake_fd = wake_fd;
  self->deadline = -1;
  return self;
}

void
gaio_inner_set_served_error (GError **error)
{
  g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED,
               "The main context is served by a context already");
}

/* With the lock held. */
static gboolean
join (GaioInner *self, GError **error)
{
  GaioCore *core = self->entry.core;

  if (!gaio_core_check (core, error))
    return FALSE;
  if (!insert (self))
    {
      gaio_inner_set_served_error (error);
      return FALSE;
    }
  attach_guard (self);
  gaio_entry_forget_gathering (&self->entry);
  gaio_list_push (&core->inners.all, &self->entry.siblings);
  schedule_turn_locked (self);
  atomic_fetch_add_explicit (&core->inners.n, 1, memory_order_relaxed);
  return TRUE;
}

/* Serves @main_context, whose wake-up fd is @wake_fd, until @owner goes, if there is one. Returns a
 * reference, or NULL on error. */
GaioInner *
gaio_inner_new (GaioContext *context,
                GMainContext *main_context,
                int wake_fd,
                GObject *owner,
                GError **error)
{
  GaioInner *self = inner_alloc (context, main_context, wake_fd);
  gboolean joined = FALSE;

  if (owner != NULL)
    gaio_inner_set_owner (self, owner);
  if (gaio_core_lock (context->core))
    {
      joined = join (self, error);
      gaio_core_unlock (context->core);
    }
  else
    gaio_core_check (context->core, error);
  if (!joined)
    {
      gaio_entry_reject (&self->entry);
      gaio_entry_unref (&self->entry);
      return NULL;
    }
  return self;
}

/* What is attached to it stays attached, and is no longer iterated. With the lock held; once more
 * does nothing. */
void
gaio_inner_destroy (GaioInner *self)
{
  if (gaio_entry_is_removed (&self->entry))
    return;
  forget (self);
  g_source_destroy (self->guard);
  g_clear_pointer (&self->guard, g_source_unref);
  atomic_fetch_sub_explicit (&self->entry.core->inners.n, 1, memory_order_relaxed);
  gaio_link_unlink (&self->turns);
  set_deadline (self, -1);
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL)
      gaio_handler_destroy (self->watches[i].handler);
  gaio_entry_destroy (&self->entry);
}
