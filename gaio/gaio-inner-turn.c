/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-turn-private.h"

#include <unistd.h>

#include "gaio-inner-life-private.h"
#include "gaio-inner-queue-private.h"
#include "gaio-inner-watch-private.h"

/* What is always ready ends after so many turns without an owner. */
#define LAST_TURNS 100

/* A turn on the stack of this thread. */
typedef struct _Frame Frame;

struct _Frame
{
  GaioInner *inner;
  Frame *outer;
  gboolean stale; /* callbacks have run since it was prepared */
};

static _Thread_local Frame *innermost;

/* Waits without the lock of anybody: what comes later wakes it up again. */
static void
drain_wake_fd (GaioInner *self)
{
  guint64 n;

  if (read (self->wake_fd, &n, sizeof n) < 0)
    return;
}

static gboolean
is_ready (GaioInner *self)
{
  gboolean ready;

  self->preparing = true;
  ready = g_main_context_prepare (self->main_context, &self->priority);
  self->preparing = false;
  return ready;
}

/* Has what @self waits for watched. TRUE if something is @ready already. */
static gboolean
watch (GaioInner *self, gboolean ready)
{
  gint64 timeout_us, retry_us;

  timeout_us = gaio_inner_watch (self, !ready, &retry_us);
  self->prepared = true;
  /* Nobody tells when that is over, and what it has called may be ready again. */
  if (self->foreign && retry_us < 0)
    retry_us = GAIO_MONITOR_RETRY_US;
  if (timeout_us < 0 || (retry_us >= 0 && retry_us < timeout_us))
    timeout_us = retry_us;
  ready |= timeout_us == 0;
  if (ready)
    gaio_inner_schedule_next_turn (self);
  else
    gaio_inner_come_back_in (self, self->ownerless ? 0 : timeout_us);
  return self->busy = ready;
}

/* Finds out what @self waits for, and has it watched. TRUE if something is ready already. */
static gboolean
prepare (GaioInner *self)
{
  return watch (self, is_ready (self));
}

/* prepare() after a turn. GLib may have written to the wake-up fd, which has to be read before a
 * wait, and says nothing new where the next turn comes at once: as it probably does if something
 * was ready after the turn before, too. */
static gboolean
prepare_next (GaioInner *self)
{
  gboolean at_once = self->busy && is_ready (self) && !gaio_inner_has_to_wait_for_place (self);

  if (!at_once)
    drain_wake_fd (self);
  return watch (self, at_once || is_ready (self));
}

/* Another thread owns it, and may change what it waits for: it is silent until that is over. */
static void
pause_until_later (GaioInner *self)
{
  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_inner_set_paused (self, TRUE);
  gaio_inner_set_deadline (self, g_get_monotonic_time () + GAIO_MONITOR_RETRY_US);
  gaio_core_unlock (self->entry.core);
}

/* The monitor has kept quiet about the fds: a turn now would pass over them. */
static void
resume (GaioInner *self)
{
  if (G_LIKELY (!self->paused) || !gaio_core_lock (self->entry.core))
    return;
  gaio_inner_set_paused (self, FALSE);
  gaio_core_unlock (self->entry.core);
  self->prepared = false;
}

static gboolean
begin (GaioInner *self, Frame *frame)
{
  gboolean foreign = self->foreign && g_main_context_is_owner (self->main_context);

  if (!g_main_context_acquire (self->main_context))
    return FALSE;
  self->foreign = foreign;
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

static gboolean
check_and_dispatch (GaioInner *self, Frame *frame)
{
  if (!gaio_inner_check (self))
    return FALSE;
  frame->stale = TRUE;
  g_main_context_dispatch (self->main_context);
  frame->stale = FALSE;
  return TRUE;
}

typedef struct
{
  gboolean dispatched; /* something was ready */
  gboolean again;      /* something is */
} Turn;

static Turn
take_turn (GaioInner *self, Frame *frame)
{
  Turn turn = { .dispatched = check_and_dispatch (self, frame) };

  if (gaio_entry_is_removed (&self->entry) || gaio_core_is_forked (self->entry.core))
    return turn;
  turn.again = prepare_next (self);
  return turn;
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

/* Whether a turn may have had nothing only because a limit has left no room for an fd that is
 * always ready. With the lock held. */
static gboolean
may_have_more (const GaioInner *self)
{
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL && self->watches[i].handler->always_ready &&
        (self->watches[i].events & (G_IO_IN | G_IO_OUT)) != 0)
      return TRUE;
  return FALSE;
}

/* When its owner goes, what is under way ends as in GLib: a stream that was closed tells so. So
 * there are turns until two in a row have had nothing: the first one may only have found out what
 * to ask the kernel. Whoever prepares it sees to the next one. */
static void
go_after_owner (GaioInner *self, const Turn *turn)
{
  gboolean had_nothing = !turn->dispatched && !turn->again;

  if (!gaio_core_lock (self->entry.core))
    return;
  had_nothing = had_nothing && !may_have_more (self);
  if ((had_nothing && self->had_nothing) || ++self->n_last_turns == LAST_TURNS)
    gaio_inner_destroy (self);
  self->had_nothing = had_nothing;
  gaio_core_unlock (self->entry.core);
}

/* By the owner of the context, without the lock. TRUE if it has called anything, or is to have
 * another turn. */
gboolean
gaio_inner_serve (GaioInner *self)
{
  gboolean ownerless = atomic_load_explicit (&self->ownerless, memory_order_acquire);
  Turn turn = { 0 };
  Frame frame;

  atomic_store_explicit (&self->wants_turn, false, memory_order_relaxed);
  if (gaio_entry_is_removed (&self->entry))
    return FALSE;
  gaio_entry_begin (&self->entry);
  if (begin (self, &frame))
    {
      gaio_trace_call (&self->entry.core->profile, "main context", NULL, -1, describe (self),
                       turn = take_turn (self, &frame));
      end (self, &frame);
      if (ownerless)
        go_after_owner (self, &turn);
    }
  else
    pause_until_later (self);
  end_entry (self);
  return turn.dispatched || turn.again || ownerless;
}

/* Finds what has changed in @self and nobody was told of, as when a stream was closed from outside.
 * Only a @thorough look finds an fd that was closed. By the owner of the context, without the lock.
 */
void
gaio_inner_look (GaioInner *self, gboolean thorough)
{
  Frame frame;

  if (gaio_entry_is_removed (&self->entry) || gaio_entry_is_running (&self->entry))
    return;
  gaio_entry_begin (&self->entry);
  if (begin (self, &frame))
    {
      self->glancing = !thorough;
      prepare (self);
      self->glancing = false;
      end (self, &frame);
    }
  end_entry (self);
}

/* After a call. If that came from a source's prepare(), GLib does not prepare again: the next turn
 * does. Nobody knows what somebody else's iteration is at, so what that has prepared is not to be
 * dispatched here. */
static void
prepare_after_call (GaioInner *self)
{
  if (!self->preparing)
    {
      prepare (self);
      self->prepared = !self->foreign;
    }
  else if (gaio_core_lock (self->entry.core))
    {
      gaio_inner_schedule_turn (self);
      gaio_core_unlock (self->entry.core);
    }
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
    prepare_after_call (self);
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
    gaio_inner_requeue (core);
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
