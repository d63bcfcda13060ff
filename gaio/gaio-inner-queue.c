/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-queue-private.h"

/* When an inner context has a turn: when one of its fds is ready, or at a deadline, or in the next
 * round. What is always ready and has a lower priority than our source waits until GLib has a turn
 * for that priority. */

/* A deadline that comes so much earlier stays: GLib counts in milliseconds. */
#define SLACK_US 1000

/* In the next round. With the lock held. */
void
gaio_inner_schedule_turn (GaioInner *self)
{
  GaioCore *core = self->entry.core;

  if (gaio_entry_is_removed (&self->entry) || (gaio_link_is_linked (&self->turns) && !self->parked))
    return;
  gaio_link_unlink (&self->turns);
  self->parked = false;
  gaio_list_push (&core->inners.turns, &self->turns);
  gaio_core_wake (core);
}

/* With the lock held. */
void
gaio_inner_set_deadline (GaioInner *self, gint64 deadline)
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
    gaio_inner_schedule_turn (inner_from_turns (link));
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
    gaio_inner_schedule_turn (inner_from_turns (link));
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

      gaio_inner_set_deadline (self, -1);
      queue_turn (self);
    }
}

/* What a round has left over comes first in the next one: before what is gathered in every other
 * one, so that neither keeps out the other. With the lock held. */
void
gaio_inner_requeue (GaioCore *core)
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
        gaio_inner_schedule_turn (self);
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

/* Whether what is ready has to wait until GLib has a turn for its priority. */
gboolean
gaio_inner_has_to_wait_for_place (GaioInner *self)
{
  GaioCore *core = self->entry.core;
  gboolean has_to;

  if (!gaio_core_lock (core))
    return FALSE;
  has_to = find_place_for (self) != NULL;
  gaio_core_unlock (core);
  return has_to;
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
void
gaio_inner_schedule_next_turn (GaioInner *self)
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
    gaio_inner_schedule_turn (self);
  gaio_core_unlock (core);
  if (place == NULL)
    return;
  attach_idle (self, place);
  g_main_context_unref (place);
}

/* @delay_us: -1 for never. */
void
gaio_inner_come_back_in (GaioInner *self, gint64 delay_us)
{
  gint64 deadline = delay_us < 0 ? -1 : g_get_monotonic_time () + delay_us;

  /* Nobody else sets it to something else than -1. */
  if (deadline == self->deadline || !gaio_core_lock (self->entry.core))
    return;
  gaio_inner_set_deadline (self, deadline);
  gaio_core_unlock (self->entry.core);
}
