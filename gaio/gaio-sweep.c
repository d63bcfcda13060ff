/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-sweep-private.h"

#include <gaio/gaio-timer.h>

#include "gaio-inner-turn-private.h"

/* Anybody may change what an inner context waits for without GLib waking that up, as by closing
 * a stream that belongs to it. A GMainContext that is iterated all the time finds it. So after
 * anything has run, all inner contexts are looked at, some at a time, until that has found nothing
 * and no callback of ours has run meanwhile, and then once more, as other sources may have run. */

#define TICK_US 50000
#define N_TICKS 16
#define LEAST 16
/* An iteration so close to a tick may be because of it: GLib may wait too short, or wake up once
 * more. Or another source has run, and nobody else finds what that has changed. So a few of them
 * count, but not each, or the sweep would go on for ever. */
#define AROUND_US 5000
#define MAX_DOUBTS 8

/* Ticks of any context in this thread: what GLib does around a tick of one must not begin the sweep
 * of another again and again. */
static _Thread_local gint64 last_tick;
static _Thread_local guint n_ticks_of_thread;

/* The next of the inner contexts, with a reference, or NULL. */
static GaioInner *
take_next (GaioCore *core)
{
  GaioInner *inner = NULL;
  GaioLink *link;

  if (!gaio_core_lock (core))
    return NULL;
  link = gaio_list_pop (&core->inners.all);
  if (link != NULL)
    {
      gaio_list_push (&core->inners.all, link);
      inner = gaio_inner_from_siblings (link);
      gaio_entry_ref (&inner->entry);
    }
  gaio_core_unlock (core);
  return inner;
}

static guint
count (GaioCore *core)
{
  return atomic_load_explicit (&core->inners.n, memory_order_relaxed);
}

static void
look_at_some (GaioCore *core)
{
  guint n = MAX (count (core) / N_TICKS + 1, LEAST);

  while (n-- > 0 && core->inners.sweep.left > 0)
    {
      GaioInner *inner = take_next (core);

      if (inner == NULL)
        return;
      core->inners.sweep.left--;
      core->inners.sweep.again |= gaio_inner_look (inner);
      gaio_entry_unref (&inner->entry);
    }
}

static void
arm (GaioSweep *self)
{
  self->next_tick = g_get_monotonic_time () + TICK_US;
  gaio_timer_arm (self->timer, TICK_US);
}

static void
tick (gpointer data)
{
  GaioCore *core = data;
  GaioSweep *self = &core->inners.sweep;

  self->n_ticks++;
  n_ticks_of_thread++;
  look_at_some (core);
  last_tick = g_get_monotonic_time ();
  if (self->left == 0)
    {
      self->left = self->again || self->once_more ? count (core) : 0;
      self->once_more = self->again;
      self->again = FALSE;
    }
  self->is_on = self->left > 0;
  if (self->is_on)
    arm (self);
}

/* Whether there was none. */
static gboolean
take_timer (GaioCore *core, GaioTimer *timer)
{
  gboolean first = FALSE;

  if (!gaio_core_lock (core))
    return FALSE;
  first = core->inners.sweep.timer == NULL && !gaio_core_is_closed (core);
  if (first && timer != NULL)
    core->inners.sweep.timer = timer;
  gaio_core_unlock (core);
  return first;
}

/* Before the first inner context is there. */
void
gaio_sweep_init (GaioContext *context)
{
  GaioTimer *timer;

  if (!take_timer (context->core, NULL))
    return;
  timer = gaio_context_add_timer (context, tick, context->core, NULL);
  if (!take_timer (context->core, timer))
    gaio_clear_timer (&timer);
}

/* The context is closed. By the owner, with the lock held: the timer has another reference until
 * its notify has run. */
void
gaio_sweep_clear (GaioCore *core)
{
  g_clear_pointer (&core->inners.sweep.timer, gaio_timer_unref);
}

static gboolean
is_around_tick (GaioSweep *self)
{
  gint64 now = g_get_monotonic_time ();

  return now - last_tick <= AROUND_US || (self->is_on && self->next_tick - now <= AROUND_US);
}

/* Whether GLib may have woken up for something else than a tick, in an iteration without callbacks
 * of ours. */
static gboolean
is_woken_by_others (GaioSweep *self, gboolean ticked)
{
  if (ticked)
    return FALSE;
  if (!is_around_tick (self))
    self->n_doubts = 0;
  else if (self->n_doubts == MAX_DOUBTS)
    return FALSE;
  else
    self->n_doubts++;
  return TRUE;
}

/* Begins if anything may have run since the last wait but a sweep: our callbacks, other sources of
 * the main loop, or whoever calls gaio_context_iterate(). By the owner, without the lock. */
void
gaio_sweep_before_wait (GaioCore *core)
{
  GaioSweep *self = &core->inners.sweep;
  guint64 n_calls = atomic_load_explicit (&core->counters.callbacks, memory_order_relaxed);
  gboolean only_ticks = n_calls - self->n_calls == self->n_ticks;
  gboolean ticked = self->seen_ticks != n_ticks_of_thread;

  self->n_calls = n_calls;
  self->n_ticks = 0;
  self->seen_ticks = n_ticks_of_thread;
  if (count (core) == 0 || (only_ticks && !is_woken_by_others (self, ticked)))
    return;
  if (!only_ticks)
    self->n_doubts = 0;
  self->again = TRUE;
  if (self->is_on)
    return;
  self->is_on = TRUE;
  self->left = count (core);
  arm (self);
}
