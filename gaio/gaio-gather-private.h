/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>

#include "gaio-busy-poll-private.h"
#include "gaio-ready-set-private.h"
#include "gaio-trace-private.h"

/* From the kernel to the ready list, in two halves: between them the caller asks the kernel. By the
 * owner, with the lock held.
 *
 * What nearly every event needs is inline, for its one user: a system call spoils what the
 * processor remembers of where calls return to, and what comes right after it runs cold. */

typedef struct
{
  int max;        /* how many events to ask for */
  gboolean all;   /* more are asked for if there are more */
  gboolean news;  /* there is something to report */
  gboolean again; /* an fd has been seen before: the kernel has come round */
  gboolean stale; /* an fd that nobody knows */
} GaioGathering;

/* TRUE if @events are something to report for @handler. Else what is left over of it, if anything,
 * is no longer. */
static inline gboolean
queue_if_ready (GaioCore *core, GaioHandler *handler, guint events)
{
  guint ready = events & atomic_load_explicit (&handler->mask, memory_order_relaxed);

  handler->entry.stamp = gaio_ready_list_get_stamp (&core->ready);
  handler->revents = ready;
  if (ready == 0)
    return FALSE;
  if (G_UNLIKELY (gaio_entry_is_running (&handler->entry)) &&
      !atomic_load_explicit (&handler->can_recurse, memory_order_relaxed))
    {
      /* Silent until its callback has returned, so that a nested loop can sleep. */
      gaio_registration_set_masked (handler, TRUE);
      gaio_entry_want_end (&handler->entry);
      handler->revents = 0;
      return FALSE;
    }
  if (handler->entry.kind == GAIO_ENTRY_MEMBER)
    return gaio_ready_set_gather (handler, ready);
  if (!gaio_link_is_linked (&handler->entry.link))
    gaio_list_push (&core->ready.entries, &handler->entry.link);
  return TRUE;
}

static inline gboolean
queue_ready_handlers (GaioCore *core, GaioSlot *slot, guint events)
{
  guint32 generation = slot->generation;
  gboolean news = FALSE;

  if (slot->reports_once)
    gaio_registration_report (slot, events);
  gaio_ring_foreach (&slot->members, link)
    {
      GaioHandler *handler = gaio_link_entry (link, GaioHandler, entry.siblings);

      news |= queue_if_ready (core, handler, slot->reports_once ? handler->extra->known : events);
      /* To silence one may show that the file has gone, and take them all off the slot. */
      if (slot->generation != generation)
        break;
    }
  return news;
}

static inline void
handle_slot (GaioCore *core, GaioSlot *slot, guint events, GaioGathering *self)
{
  GaioHandler *handler = gaio_link_entry (slot->members.first, GaioHandler, entry.siblings);

  if (G_UNLIKELY (handler->entry.stamp == gaio_ready_list_get_stamp (&core->ready)) &&
      !slot->reports_once)
    self->again = TRUE;
  else if (G_LIKELY (slot->plain) ? queue_if_ready (core, handler, events)
                                  : queue_ready_handlers (core, slot, events))
    self->news = TRUE;
  else if (G_UNLIKELY (core->handlers.may_be_stale) && !gaio_registration_expects (slot, events))
    /* Nobody has asked for that, under this number and in this life: there are two of it. */
    self->stale = TRUE;
}

static G_NO_INLINE void
handle_event (GaioCore *core, const struct epoll_event *event, GaioGathering *self)
{
  guint64 key = event->data.u64;
  GaioSlot *slot = gaio_registration_lookup (core, (guint32) key);

  if (G_LIKELY (slot != NULL && slot->generation == key >> 32))
    handle_slot (core, slot, event->events, self);
  else if (key == GAIO_MONITOR_KEY_TIMER)
    {
      gaio_host_state_set_timer_expired (&core->host);
      gaio_host_state_update_timer (&core->host, &core->monitor);
    }
  else if ((guint32) key == GAIO_MONITOR_KEY_GONE)
    gaio_registration_file_gone (core, key >> 32);
  else if (key == GAIO_MONITOR_KEY_HOST)
    /* Busy polling may have come between GLib's look at its sources and the wait of the host. */
    gaio_host_state_set_glib_woken (&core->host);
  else if (key != GAIO_MONITOR_KEY_WAKE)
    self->stale = TRUE;
}

/* Whether to ask for all that is ready. Two things need the whole picture: a ready set, and a queue
 * in which an earlier round has left something, which keeps its place if it is ready still and is
 * dropped if not. */
static inline gboolean
wants_all (GaioCore *core)
{
  return core->handlers.n_members > 0 || !gaio_list_is_empty (&core->ready.entries);
}

/* Nearly every event is for one handler, which waits for just that. NULL if this is another one. */
static inline G_ALWAYS_INLINE GaioHandler *
handle_plain_event (GaioCore *core, const struct epoll_event *event, guint32 seq)
{
  guint64 key = event->data.u64;
  GaioSlot *slot = gaio_registration_lookup (core, (guint32) key);
  GaioHandler *handler;

  if (slot == NULL || slot->generation != key >> 32 || !slot->plain)
    return NULL;
  handler = gaio_link_entry (slot->members.first, GaioHandler, entry.siblings);
  if (handler->entry.stamp == seq)
    return NULL;
  handler->revents = event->events & atomic_load_explicit (&handler->mask, memory_order_relaxed);
  if (handler->revents == 0)
    return NULL;
  handler->entry.stamp = seq;
  return handler;
}

/* As many of the first @n_events as are plain are a batch, if no callback is on the stack and they
 * begin the queue: nothing overtakes. Returns how many. */
static inline G_ALWAYS_INLINE int
handle_plain_events (GaioCore *core, int n_events)
{
  GaioBatch *batch = &core->ready.batch;
  guint32 seq = gaio_ready_list_get_stamp (&core->ready);
  GaioHandler *handler;
  int n = 0;

  if (G_UNLIKELY (core->depth > 1 || wants_all (core) || batch->end > 0))
    return 0;
  while (n < n_events &&
         (handler = handle_plain_event (core, &core->monitor.events[n], seq)) != NULL)
    batch->handlers[n++] = handler;
  batch->end = n;
  return n;
}

static inline G_ALWAYS_INLINE void
handle_events (GaioCore *core, int n_events, GaioGathering *self)
{
  int n = handle_plain_events (core, n_events);

  self->news |= n > 0;
  for (; n < n_events; n++)
    handle_event (core, &core->monitor.events[n], self);
  if (G_UNLIKELY (self->stale) && core->handlers.may_be_stale)
    self->stale = !gaio_registration_clean_up (core);
}

/* What is always ready joins the queue as the others do, in turn, and takes not more than half of
 * the room. Returns what is left of it. */
static G_NO_INLINE guint
gather_always (GaioCore *core, guint room, GaioGathering *self)
{
  guint most = MAX (room / 2, 1);
  guint n = 0;
  GaioLink *link;

  while (n < most && (link = gaio_list_first (&core->handlers.always)) != NULL)
    {
      GaioHandler *handler = gaio_link_entry (link, GaioHandlerExtra, always)->handler;

      if (handler->entry.stamp == gaio_ready_list_get_stamp (&core->ready))
        break;
      gaio_link_unlink (link);
      gaio_list_push (&core->handlers.always, link);
      handler->entry.stamp = gaio_ready_list_get_stamp (&core->ready);
      /* One whose callback is running takes no place. */
      n += gaio_registration_check_always (handler) &&
           queue_if_ready (core, handler, handler->extra->known);
    }
  self->news |= n > 0;
  return MAX (room - n, 1);
}

/* Whether what was left over is ready still. Those always ready had not all their turn just now. */
static inline gboolean
is_ready_still (GaioEntry *entry)
{
  if (entry->stamp == gaio_ready_list_get_stamp (&entry->core->ready))
    return TRUE;
  if (entry->kind != GAIO_ENTRY_HANDLER ||
      (!((GaioHandler *) entry)->always_ready && !((GaioHandler *) entry)->reports_once))
    return FALSE;
  return gaio_registration_check_always ((GaioHandler *) entry);
}

static inline void
drop_unseen (GaioCore *core)
{
  gaio_list_foreach (&core->ready.entries, link)
    if (!is_ready_still (gaio_link_entry (link, GaioEntry, link)))
      gaio_link_unlink (link);
}

/* After a wait that has failed. Some programs close all fds that they do not know; there is nothing
 * left then but to close the context. Later waits, before it has been torn down, fail as well. */
static G_NO_INLINE void
check_set (GaioCore *core)
{
  if (errno == EINTR || core->life.lost_fd != -1)
    return;
  core->life.lost_fd = core->monitor.fd >= 0 ? core->monitor.fd : core->monitor.wake_fd;
  /* Whose they are now nobody knows: they are left alone. */
  gaio_monitor_lose (&core->monitor);
  core->sleep.has_other_work = TRUE;
  gaio_life_close (&core->life);
}

/* What else is ready after a first load, if that was full; and what is left over from an earlier
 * round and is not. */
static G_NO_INLINE void
gather_all (GaioCore *core, gboolean full, GaioGathering *self)
{
  /* A stale one that is still there could not be got rid of, and would come again for ever. */
  while (full && !self->again && !self->stale)
    {
      int n;

      gaio_trace_poll (core, 0, n, gaio_monitor_poll_now (&core->monitor, GAIO_MONITOR_MAX_EVENTS));
      handle_events (core, n, self);
      full = n == GAIO_MONITOR_MAX_EVENTS;
    }
  drop_unseen (core);
}

/* Before the kernel is asked. There is room for @room callbacks: no more are to be asked for, so
 * that the kernel rotates what it has and everybody has a turn. */
static inline G_ALWAYS_INLINE void
gaio_gather_begin (GaioCore *core, guint room, GaioGathering *self)
{
  *self = (GaioGathering){ .all = wants_all (core), .max = GAIO_MONITOR_MAX_EVENTS };
  core->ready.gather_seq++;
  if (G_UNLIKELY (!gaio_list_is_empty (&core->handlers.always)))
    room = gather_always (core, room, self);
  if (!self->all && room < GAIO_MONITOR_MAX_EVENTS)
    self->max = room;
}

/* After the kernel has told of @n events, of at most self->max. TRUE if there is anything to
 * report. */
static inline G_ALWAYS_INLINE gboolean
gaio_gather_end (GaioCore *core, int n, GaioGathering *self)
{
  if (G_UNLIKELY (n < 0))
    check_set (core);
  handle_events (core, n, self);
  if (G_UNLIKELY (self->all))
    gather_all (core, n == self->max, self);
  return self->news;
}

/* What has said in user space that it is ready, unless the kernel has said so too. TRUE if there is
 * anything to report after all. */
static inline gboolean
gaio_gather_polled (GaioCore *core, gboolean news)
{
  gaio_list_foreach (&core->busy_poll.pollers, link)
    {
      GaioHandlerExtra *extra = gaio_link_entry (link, GaioHandlerExtra, pollers);
      GaioHandler *handler = extra->handler;
      gboolean seen =
          handler->entry.stamp == gaio_ready_list_get_stamp (&core->ready) && handler->revents != 0;

      if (atomic_exchange_explicit (&extra->polled, false, memory_order_relaxed) && !seen)
        news |= queue_if_ready (core, handler,
                                atomic_load_explicit (&handler->condition, memory_order_relaxed));
    }
  if (news)
    gaio_busy_poll_adapt (core);
  return news;
}
