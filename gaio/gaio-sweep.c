/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-sweep-private.h"

#include <gaio/gaio-timer.h>

#include "gaio-inner-turn-private.h"

/* Anybody may change what an inner context waits for without GLib waking that up, as by closing
 * a stream that belongs to it. A GMainContext that is iterated all the time finds it. So after
 * anything has run, passes go over all inner contexts, some at each tick, until no callback of ours
 * has run meanwhile. What another source of the main loop has done meanwhile, nobody tells. So at
 * the end all are looked at once more, thoroughly: in one go, and when the callbacks of this
 * iteration are over. No tick is next then: whatever wakes the thread up, it is somebody else. */

#define TICK_US 50000
#define N_TICKS 16
#define LEAST 16
/* One pass of so many asks the kernel whether fds are what they were: half of what a look costs. */
#define THOROUGH_PASS 4

/* By all contexts in this thread: the ticks of one must not begin the sweep of another, or they
 * would go on for ever. When the one is over, the other looks once more, too. */
static _Thread_local guint n_ticks_of_thread;
static _Thread_local guint n_ends_of_thread;

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
look_at (GaioCore *core, guint n, gboolean thorough)
{
  while (n-- > 0)
    {
      GaioInner *inner = take_next (core);

      if (inner == NULL)
        return;
      gaio_inner_look (inner, thorough);
      gaio_entry_unref (&inner->entry);
    }
}

/* Begins a pass. */
static void
begin (GaioCore *core)
{
  core->inners.sweep.left = count (core);
  core->inners.sweep.again = FALSE;
  core->inners.sweep.n_passes++;
}

static void
go_on (GaioSweep *self)
{
  if (self->left > 0)
    gaio_timer_arm (self->timer, TICK_US);
}

static void
tick (gpointer data)
{
  GaioCore *core = data;
  GaioSweep *self = &core->inners.sweep;
  guint n = MIN (self->left, MAX (count (core) / N_TICKS + 1, LEAST));

  self->n_ticks++;
  n_ticks_of_thread++;
  self->left -= n;
  look_at (core, n, self->n_passes % THOROUGH_PASS == 0);
  if (self->left == 0 && self->again)
    begin (core);
  if (self->left == 0)
    n_ends_of_thread++;
  go_on (self);
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
    {
      core->inners.sweep.timer = timer;
      core->inners.sweep.seen_ticks = n_ticks_of_thread;
      core->inners.sweep.seen_ends = n_ends_of_thread;
    }
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

/* Begins if anything may have run since the last wait but a sweep: our callbacks, other sources of
 * the main loop, or whoever calls gaio_context_iterate(). By the owner, without the lock. */
void
gaio_sweep_before_wait (GaioCore *core)
{
  GaioSweep *self = &core->inners.sweep;
  guint64 n_calls = atomic_load_explicit (&core->counters.callbacks, memory_order_relaxed);
  gboolean called = n_calls - self->n_calls != self->n_ticks;
  gboolean ticked = self->n_ticks > 0 || self->seen_ticks != n_ticks_of_thread;
  gboolean ended = self->n_ticks > 0 || self->seen_ends != n_ends_of_thread;

  self->n_calls = n_calls;
  self->n_ticks = 0;
  self->seen_ticks = n_ticks_of_thread;
  self->seen_ends = n_ends_of_thread;
  if (self->left > 0)
    {
      self->again |= called;
      return;
    }
  if (called || !ticked)
    begin (core);
  else if (ended)
    look_at (core, count (core), TRUE);
  go_on (self);
}
