/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>

#include "gaio-busy-poll-private.h"
#include "gaio-file-engine-private.h"
#include "gaio-inner-queue-private.h"
#include "gaio-ready-set-private.h"
#include "gaio-trace-private.h"

/* From the kernel to the ready list, in two halves; between them the caller polls. By the owner,
 * with the lock held.
 *
 * What nearly every event needs is inline, and has only one user: after a system call, the
 * processor predicts returns badly, and the following code runs cold. */

typedef struct
{
  int max;        /* how many events to fetch */
  gboolean all;   /* if there are more, fetch them too */
  gboolean news;  /* there is something to report */
  gboolean again; /* an fd has come a second time: the kernel has begun again */
  gboolean stale; /* an event of an fd that nobody knows */
} GaioGathering;

/* TRUE if there is something in @events to report to @handler. If not, this drops what is left over
 * from earlier. */
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
      /* Silences a handler until its callback has returned, so that a nested loop can sleep. */
      gaio_registration_set_masked (handler, TRUE);
      gaio_entry_want_end (&handler->entry);
      handler->revents = 0;
      return FALSE;
    }
  if (handler->entry.kind == GAIO_ENTRY_MEMBER)
    return gaio_ready_set_gather (handler, ready);
  if (handler->entry.kind == GAIO_ENTRY_INNER_FD)
    return gaio_inner_gather (handler);
  if (handler->entry.kind == GAIO_ENTRY_FILE_RING)
    return gaio_file_engine_gather (core);
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
      /* Silencing a handler may show that the file has gone. Then it takes all handlers off the
       * slot. */
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
    /* No handler of this registration waits for that: the set has another file under this
     * number. */
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
    /* Busy polling may come between GLib's check of its sources and the wait of the host. */
    gaio_host_state_set_glib_woken (&core->host);
  else if (key != GAIO_MONITOR_KEY_WAKE)
    self->stale = TRUE;
}

/* Whether to fetch everything that is ready. A ready set needs that, and so does a list with
 * entries that an earlier round has left: they keep their place if they are still ready, and are
 * dropped if they are not. */
static inline gboolean
wants_all (GaioCore *core)
{
  return core->handlers.n_members > 0 || !gaio_list_is_empty (&core->ready.entries);
}

/* Nearly every event is plain: it is for one handler, which waits for exactly that. Returns the
 * handler, or NULL if the event is not plain. */
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

/* Makes a batch of the plain events at the beginning, if no callback is on the stack and nothing is
 * queued before them, so that the order does not change. Returns how many there are. */
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

/* Queues handlers that are always ready, each in turn, up to half of @room. Returns how much room
 * is left. */
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
      /* A handler whose callback is running takes no room. */
      n += gaio_registration_check_always (handler) &&
           queue_if_ready (core, handler, handler->extra->known);
    }
  self->news |= n > 0;
  return MAX (room - n, 1);
}

/* Whether an entry that was left over is still ready. Not all handlers that are always ready were
 * queued just now. */
static inline gboolean
is_ready_still (GaioEntry *entry)
{
  if (entry->stamp == gaio_ready_list_get_stamp (&entry->core->ready))
    return TRUE;
  if (entry->kind == GAIO_ENTRY_INNER)
    return gaio_inner_is_ready_still ((GaioInner *) entry);
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

/* After a wait has failed. Some programs close all fds that they do not know; then we can only
 * close the context. Later waits, before it is torn down, fail as well. */
static G_NO_INLINE void
check_set (GaioCore *core)
{
  if (errno == EINTR || core->life.lost_fd != -1)
    return;
  core->life.lost_fd = core->monitor.fd >= 0 ? core->monitor.fd : core->monitor.wake_fd;
  /* Nobody knows what these numbers refer to now, so they are not closed. */
  gaio_monitor_lose (&core->monitor);
  core->sleep.has_other_work = TRUE;
  gaio_life_close (&core->life);
}

/* Fetches what else is ready if the first load was full, and drops what is left over from an
 * earlier round and is no longer ready. */
static G_NO_INLINE void
gather_all (GaioCore *core, gboolean full, GaioGathering *self)
{
  /* A stale file that is still in the set cannot be removed, and its events would come forever. */
  while (full && !self->again && !self->stale)
    {
      int n;

      gaio_trace_poll (core, 0, n, gaio_monitor_poll_now (&core->monitor, GAIO_MONITOR_MAX_EVENTS));
      handle_events (core, n, self);
      full = n == GAIO_MONITOR_MAX_EVENTS;
    }
  drop_unseen (core);
}

/* Before the poll. There is room for @room callbacks. No more events than that are fetched, so that
 * the kernel rotates its list and every fd has a turn. */
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

/* After the kernel has reported @n events, of at most self->max. TRUE if there is anything to
 * report to handlers. */
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

/* Queues what busy polling has found ready, unless the kernel has reported it too. TRUE if there is
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
