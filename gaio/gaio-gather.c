/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-gather-private.h"

#include <errno.h>
#include <poll.h>

#include "gaio-ready-set-private.h"

/* How soon to try again what the kernel has refused. */
#define RETRY_US 10000

static void
enqueue (GaioHandler *handler, guint ready)
{
  GaioCore *core = handler->entry.core;

  handler->revents = ready;
  handler->entry.stamp = core->gather_seq;
  if (!gaio_link_is_linked (&handler->entry.link))
    gaio_list_push (&core->ready, &handler->entry.link);
}

/* TRUE if @events are something to report for @handler. */
static gboolean
offer (GaioHandler *handler, guint events)
{
  guint ready = events & atomic_load_explicit (&handler->mask, memory_order_relaxed);

  if (ready == 0)
    return FALSE;
  if (G_UNLIKELY (gaio_entry_is_running (&handler->entry)) &&
      !atomic_load_explicit (&handler->can_recurse, memory_order_relaxed))
    {
      /* Silent until its callback has returned, so that a nested loop can sleep. */
      gaio_registration_set_masked (handler, TRUE);
      handler->entry.attention = true;
      return FALSE;
    }
  if (handler->records != NULL)
    return gaio_ready_set_gather (handler, ready);
  enqueue (handler, ready);
  return TRUE;
}

typedef struct
{
  gboolean news;  /* something to report */
  gboolean again; /* an fd that has been seen before: the kernel has come round */
  gboolean stale; /* an fd that nobody knows */
} Seen;

static void
see_slot (GaioCore *core, GaioSlot *slot, guint events, Seen *seen)
{
  if (slot->stamp == core->gather_seq)
    {
      seen->again = TRUE;
      return;
    }
  slot->stamp = core->gather_seq;
  gaio_list_foreach (&slot->members, link) seen->news |=
      offer (gaio_link_entry (link, GaioHandler, entry.siblings), events);
}

static void
see_event (GaioCore *core, const struct epoll_event *event, Seen *seen)
{
  guint64 key = event->data.u64;
  GaioSlot *slot = gaio_slots_lookup (&core->slots, (guint32) key);

  if (G_LIKELY (slot != NULL && slot->generation == key >> 32))
    see_slot (core, slot, event->events, seen);
  else if (key == GAIO_FDMON_KEY_TIMER)
    core->monitor.armed = -1;
  else if (key != GAIO_FDMON_KEY_WAKE)
    seen->stale = TRUE;
}

static void
see_events (GaioCore *core, int n_events, Seen *seen)
{
  for (int i = 0; i < n_events; i++)
    see_event (core, &core->monitor.events[i], seen);
  if (G_UNLIKELY (seen->stale) && core->suspect)
    gaio_registration_rebuild (core);
}

/* What is always ready joins the queue as the others do; not more than @most of them, in turn.
 * Returns how many did. */
static guint
gather_always (GaioCore *core, guint most, Seen *seen)
{
  guint n = 0;
  GaioLink *link;

  for (; n < most && (link = gaio_list_first (&core->always)) != NULL; n++)
    {
      GaioHandler *handler = gaio_link_entry (link, GaioAlwaysReady, link)->handler;

      if (handler->entry.stamp == core->gather_seq)
        break;
      gaio_link_unlink (link);
      gaio_list_push (&core->always, link);
      handler->entry.stamp = core->gather_seq;
      if (gaio_registration_check_always (handler))
        seen->news |= offer (handler, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
    }
  return n;
}

/* Whether what was left over is ready still. Those always ready had not all their turn just now. */
static gboolean
is_ready_still (GaioEntry *entry)
{
  if (entry->stamp == entry->core->gather_seq)
    return TRUE;
  if (entry->type != &gaio_handler_entry_type || ((GaioHandler *) entry)->always == NULL)
    return FALSE;
  return gaio_registration_check_always ((GaioHandler *) entry);
}

static void
drop_unseen (GaioCore *core)
{
  gaio_list_foreach (&core->ready,
                     link) if (!is_ready_still (gaio_link_entry (link, GaioEntry, link)))
      gaio_link_unlink (link);
}

/* After a wait that gave @n. Some programs close all fds that they do not know. */
static void
check_set (GaioCore *core, int n)
{
  if (G_LIKELY (n >= 0 || errno == EINTR))
    return;
  g_critical ("Somebody has closed fd %d, the epoll set of a GaioContext, which is closed with it",
              core->monitor.epoll_fd);
  core->monitor.epoll_fd = -1;
  atomic_store_explicit (&core->closed, true, memory_order_release);
}

/* Waits without the lock. Nothing to wait with, for want of fds, is tried again soon. */
static int
wait_asleep (GaioCore *core, int max, gint64 timeout_us)
{
  gboolean open = core->monitor.epoll_fd >= 0 || gaio_fdmon_epoll_open (&core->monitor, NULL);
  int n = 0;

  atomic_store_explicit (&core->sleep, GAIO_ASLEEP_IN_ITERATE, memory_order_relaxed);
  gaio_core_unlock (core);
  if (open)
    n = gaio_fdmon_epoll_wait (&core->monitor, max, timeout_us);
  else
    g_usleep (MIN ((guint64) timeout_us, RETRY_US));
  gaio_lock_take (&core->lock);
  atomic_store_explicit (&core->sleep, GAIO_AWAKE, memory_order_relaxed);
  return n;
}

static int
wait_for_events (GaioCore *core, int max, gint64 timeout_us)
{
  int n = 0;

  if (timeout_us != 0)
    n = wait_asleep (core, max, timeout_us);
  else if (core->monitor.epoll_fd >= 0)
    n = gaio_fdmon_epoll_wait (&core->monitor, max, 0);
  check_set (core, n);
  return n;
}

/* Whether to ask for all that is ready. Two things need the whole picture: a ready set, and a queue
 * in which an earlier round has left something, which keeps its place if it is ready still and is
 * dropped if not. */
static gboolean
wants_all (GaioCore *core)
{
  return core->n_members > 0 || !gaio_list_is_empty (&core->ready);
}

/* Queues the @n events that have been asked for, of at most @max, and if need be all others. TRUE
 * if there is anything to report. */
static gboolean
take_events (GaioCore *core, int n, int max, Seen *seen)
{
  gboolean left_over = !gaio_list_is_empty (&core->ready);
  gboolean all = wants_all (core);

  see_events (core, n, seen);
  while (G_UNLIKELY (all && n == max && !seen->again))
    {
      n = wait_for_events (core, max, 0);
      see_events (core, n, seen);
    }
  if (G_UNLIKELY (left_over))
    drop_unseen (core);
  return seen->news;
}

/* Asks the kernel what is ready, waiting at most @timeout_us for it, and queues it. There is room
 * for
 * @room callbacks: no more are asked for, so that the kernel rotates what it has and everybody has
 * a turn. TRUE if there is anything to report. */
gboolean
gaio_gather (GaioCore *core, guint room, gint64 timeout_us)
{
  Seen seen = { FALSE };
  int n, max = GAIO_FDMON_EPOLL_MAX_EVENTS;

  core->gather_seq++;
  if (G_UNLIKELY (!gaio_list_is_empty (&core->always)))
    {
      guint n_always = gather_always (core, MAX (room / 2, 1), &seen);

      room = room > n_always ? room - n_always : 1;
    }
  if (!wants_all (core))
    max = MIN (room, GAIO_FDMON_EPOLL_MAX_EVENTS);
  n = wait_for_events (core, max, timeout_us);
  return take_events (core, n, max, &seen);
}
