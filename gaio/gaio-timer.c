/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-timer-private.h"

#include "gaio-trace-private.h"

/* How many due timers leave the heap at once. */
#define PORTION 256

/**
 * SECTION:gaio-timer
 * @title: GaioTimer
 * @short_description: a deadline with microsecond resolution
 *
 * A #GaioTimer calls a function when its deadline has passed. It never fires early, and timers with
 * equal deadlines fire in the order in which they were armed. Thousands of timers cost a main loop
 * nothing until one is due. Arming a timer takes O(log n) time and allocates no memory. Times are
 * in microseconds, on the clock of g_get_monotonic_time(); -1 means never.
 *
 * Everything here may be called from any thread and from inside any callback.
 */

/**
 * GaioTimer:
 *
 * A deadline, or a repeating timeout.
 *
 * Since: 1.0
 */
struct _GaioTimer
{
  GaioEntry entry;

  GaioHeapNode node; /* (lock) in the heap while armed and not due */
  gboolean rearmed;  /* (lock) the user has armed or disarmed it since the callback began */
  gint64 deadline;   /* (lock) -1 when not armed */
  gint64 tick;       /* (owner) the deadline that is being served */
  gint64 interval;   /* (const) of a timeout, or 0 */
  union
  {
    GSourceOnceFunc once; /* (const) */
    GSourceFunc repeat;   /* (const) of a timeout */
  };
};

G_DEFINE_BOXED_TYPE (GaioTimer, gaio_timer, gaio_timer_ref, gaio_timer_unref)

static gint64
add_saturated (gint64 a, gint64 b)
{
  return b > G_MAXINT64 - a ? G_MAXINT64 : a + b;
}

GaioTimer *
gaio_timer_from_siblings (GaioLink *link)
{
  return gaio_link_entry (link, GaioTimer, entry.siblings);
}

static GaioTimer *
timer_from_node (GaioHeapNode *node)
{
  return (GaioTimer *) (void *) ((char *) node - G_STRUCT_OFFSET (GaioTimer, node));
}

/* With the lock held. A distant deadline is as good as never. */
static void
set_deadline (GaioTimer *self, gint64 deadline)
{
  GaioCore *core = self->entry.core;

  self->deadline = deadline;
  self->rearmed = TRUE;
  gaio_link_unlink (&self->entry.link);
  if (deadline == -1)
    {
      gaio_heap_remove (&core->timers.heap, &self->node);
      return;
    }
  gaio_heap_set (&core->timers.heap, &self->node, MAX (deadline, core->timers.floor));
  if (gaio_heap_first (&core->timers.heap) == &self->node)
    gaio_core_deadline_moved (core, deadline);
}

static GaioTimer *
timer_new (GaioCore *core, gpointer user_data, GDestroyNotify notify)
{
  GaioTimer *self = g_new0 (GaioTimer, 1);

  gaio_entry_init (&self->entry, GAIO_ENTRY_TIMER, core, user_data, notify);
  self->deadline = -1;
  return self;
}

/* Adds @self, armed if it repeats; if it cannot be added, it starts out removed. */
static GaioTimer *
timer_add (GaioTimer *self)
{
  GaioCore *core = self->entry.core;
  gboolean added = FALSE;

  if (gaio_core_lock (core))
    {
      added = gaio_core_check (core, NULL);
      if (added)
        {
          gaio_heap_reserve (&core->timers.heap);
          gaio_list_push (&core->timers.all, &self->entry.siblings);
          if (self->interval > 0)
            set_deadline (self, add_saturated (g_get_monotonic_time (), self->interval));
        }
      gaio_core_unlock (core);
    }
  if (!added)
    gaio_entry_reject (&self->entry);
  return self;
}

/**
 * gaio_context_add_timer:
 * @self: a context
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, when the timer has been removed and its
 *   function has returned
 *
 * Creates a timer that is not armed. It stays until it is removed, and can be armed any number of
 * times. May be called from any thread. On a closed context, the timer starts out removed, and
 * @notify runs before this function returns.
 *
 * Returns: (transfer full): a new timer
 *
 * Since: 1.0
 */
GaioTimer *
gaio_context_add_timer (GaioContext *self,
                        GSourceOnceFunc func,
                        gpointer user_data,
                        GDestroyNotify notify)
{
  GaioTimer *timer;

  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, NULL);
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, NULL);

  timer = timer_new (self->core, user_data, notify);
  timer->once = func;
  return timer_add (timer);
}

/**
 * gaio_context_add_timeout:
 * @self: a context
 * @interval_us: the interval in microseconds, greater than 0
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, when the timer has been removed and its
 *   function has returned
 *
 * Calls @func every @interval_us microseconds, for the first time after one interval, until it
 * returns %G_SOURCE_REMOVE or the timer is removed. Ticks do not drift, and missed ticks are
 * skipped. May be called from any thread. On a closed context, the timer starts out removed, and
 * @notify runs before this function returns.
 *
 * In Python and JavaScript, a function that raises an exception, or that ends without `return`,
 * counts as returning %G_SOURCE_REMOVE.
 *
 * Returns: (transfer full): a new timer
 *
 * Since: 1.0
 */
GaioTimer *
gaio_context_add_timeout (GaioContext *self,
                          gint64 interval_us,
                          GSourceFunc func,
                          gpointer user_data,
                          GDestroyNotify notify)
{
  GaioTimer *timer;

  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, NULL);
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, NULL);
  gaio_return_val_if_fail_notify (interval_us > 0, user_data, notify, NULL);

  timer = timer_new (self->core, user_data, notify);
  timer->repeat = func;
  timer->interval = interval_us;
  return timer_add (timer);
}

/**
 * gaio_timer_ref:
 * @self: a timer
 *
 * Takes a reference. May be called from any thread.
 *
 * Returns: (transfer full): @self
 *
 * Since: 1.0
 */
GaioTimer *
gaio_timer_ref (GaioTimer *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return gaio_entry_ref (&self->entry);
}

/**
 * gaio_timer_unref:
 * @self: (transfer full): a timer
 *
 * Drops a reference. This does not remove the timer. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_timer_unref (GaioTimer *self)
{
  g_return_if_fail (self != NULL);
  gaio_entry_unref (&self->entry);
}

/**
 * gaio_timer_arm_at:
 * @self: a timer
 * @monotonic_us: the deadline, on the clock of g_get_monotonic_time(), or -1 to disarm the timer
 *
 * Arms @self, replacing its previous deadline. If the deadline is in the past, the timer fires in
 * the next round. A timeout continues from the new deadline at its interval. Does nothing if @self
 * has been removed. Takes O(log n) time. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_timer_arm_at (GaioTimer *self, gint64 monotonic_us)
{
  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  if (!gaio_entry_is_removed (&self->entry))
    set_deadline (self, monotonic_us == -1 ? -1 : MAX (monotonic_us, 0));
  gaio_core_unlock (self->entry.core);
}

/**
 * gaio_timer_arm:
 * @self: a timer
 * @delay_us: the delay from now, in microseconds, or -1 to disarm the timer
 *
 * Arms @self as gaio_timer_arm_at() does, relative to the current time. With a delay of 0, or a
 * negative one other than -1, the timer fires in the next round. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_timer_arm (GaioTimer *self, gint64 delay_us)
{
  g_return_if_fail (self != NULL);

  if (delay_us == -1)
    gaio_timer_arm_at (self, -1);
  else
    gaio_timer_arm_at (self, add_saturated (g_get_monotonic_time (), MAX (delay_us, 0)));
}

/**
 * gaio_timer_disarm:
 * @self: a timer
 *
 * Disarms @self: it is not called, even if it was already due. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_timer_disarm (GaioTimer *self)
{
  gaio_timer_arm_at (self, -1);
}

/**
 * gaio_timer_get_deadline:
 * @self: a timer
 *
 * Returns when @self will be called. May be called from any thread.
 *
 * Returns: the deadline on the clock of g_get_monotonic_time(), or -1 if @self is not armed
 *
 * Since: 1.0
 */
gint64
gaio_timer_get_deadline (GaioTimer *self)
{
  gint64 deadline;

  g_return_val_if_fail (self != NULL, -1);

  if (!gaio_core_lock (self->entry.core))
    return -1;
  deadline = self->deadline;
  gaio_core_unlock (self->entry.core);
  return deadline;
}

/* Does nothing the second time. With the lock held. */
void
gaio_timer_destroy (GaioTimer *self)
{
  if (gaio_entry_is_removed (&self->entry))
    return;
  set_deadline (self, -1);
  gaio_heap_unreserve (&self->entry.core->timers.heap);
  gaio_entry_destroy (&self->entry);
}

/**
 * gaio_timer_remove:
 * @self: a timer
 *
 * Removes @self: it is not called again. Does nothing if it has already been removed, if the
 * context no longer exists, or in a forked child. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_timer_remove (GaioTimer *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_timer_destroy (self);
  gaio_core_unlock (self->entry.core);
}

/**
 * gaio_clear_timer: (skip)
 * @timer_ptr: (inout): the location of a timer, or of %NULL
 *
 * Removes and unrefs the timer at @timer_ptr, if there is one, and sets the location to %NULL. May
 * be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_clear_timer (GaioTimer **timer_ptr)
{
  GaioTimer *self = g_steal_pointer (timer_ptr);

  if (self == NULL)
    return;
  gaio_timer_remove (self);
  gaio_timer_unref (self);
}

/* The first in the heap is due. */
static void
collect_first (GaioCore *core)
{
  GaioTimer *self = timer_from_node (gaio_heap_first (&core->timers.heap));

  gaio_heap_remove (&core->timers.heap, &self->node);
  /* It is due again during its own callback: it is neither in the heap nor due until that has
   * returned. */
  if (gaio_entry_is_running (&self->entry))
    gaio_entry_want_end (&self->entry);
  else
    gaio_list_push (&core->timers.due, &self->entry.link);
}

static gboolean
is_first_due_by (GaioCore *core, gint64 now)
{
  return gaio_heap_first (&core->timers.heap) != NULL &&
         gaio_heap_first_key (&core->timers.heap) <= now;
}

static gboolean
is_first_within (GaioCore *core, const GaioTimerLimit *limit)
{
  return is_first_due_by (core, limit->now) &&
         gaio_heap_first_order (&core->timers.heap) < limit->order;
}

/* Moves some timers within @limit to core->timers.due, but not so many that others wait long for
 * the lock. While any are left, a timer that is armed for the past comes after them; otherwise it
 * would be first over and over. With the lock held. */
static void
collect_portion (GaioCore *core, const GaioTimerLimit *limit)
{
  for (guint i = 0; i < PORTION && is_first_within (core, limit); i++)
    collect_first (core);
  if (is_first_within (core, limit))
    core->timers.floor = MAX (core->timers.floor, limit->now);
  else if (!is_first_due_by (core, core->timers.floor))
    core->timers.floor = 0;
}

/* At the beginning of a round: moves due timers to core->timers.due, and sets @limit, up to which
 * gaio_timer_serve_next() may move more. With the lock held. */
void
gaio_timer_collect_due (GaioCore *core, GaioTimerLimit *limit)
{
  *limit = (GaioTimerLimit){ g_get_monotonic_time (), core->timers.heap.next_order };
  collect_portion (core, limit);
}

/* The first tick after now that is on the grid. */
static gint64
next_tick (GaioTimer *self)
{
  gint64 now = g_get_monotonic_time ();
  gint64 missed = MAX (now - self->tick, 0) / self->interval;

  return add_saturated (self->tick + missed * self->interval, self->interval);
}

static gboolean
call (GaioTimer *self)
{
  if (self->interval > 0)
    return self->repeat (self->entry.user_data);
  self->once (self->entry.user_data);
  return G_SOURCE_CONTINUE;
}

/* With the lock held. */
static void
after_callback (GaioTimer *self, gboolean keep)
{
  gaio_entry_handle_end (&self->entry);
  if (keep == G_SOURCE_REMOVE)
    gaio_timer_destroy (self);
  else if (gaio_entry_is_removed (&self->entry))
    return;
  else if (self->interval > 0 && !self->rearmed)
    set_deadline (self, next_tick (self));
  else if (self->deadline != -1 && self->node.position == 0)
    set_deadline (self, self->deadline);
}

static void
serve (GaioTimer *self)
{
  gboolean keep;

  gaio_entry_begin (&self->entry);
  gaio_trace_call (&self->entry.core->profile, "timer", self->once, -1, NULL, keep = call (self));
  /* The result does not matter: the lock is needed anyway. */
  gaio_entry_end (&self->entry);
  if (!gaio_core_lock (self->entry.core))
    return;
  after_callback (self, keep);
  gaio_core_unlock (self->entry.core);
}

/* Takes the first timer that is due, or returns NULL. With the lock held. */
static GaioLink *
pop_due (GaioCore *core, const GaioTimerLimit *limit)
{
  if (gaio_list_is_empty (&core->timers.due))
    collect_portion (core, limit);
  return gaio_list_pop (&core->timers.due);
}

/* Calls the first timer that is due. By the owner, without the lock. FALSE if none is. */
gboolean
gaio_timer_serve_next (GaioCore *core, const GaioTimerLimit *limit)
{
  GaioLink *link;
  GaioTimer *self;

  if (!gaio_core_lock (core))
    return FALSE;
  link = pop_due (core, limit);
  if (link != NULL)
    {
      self = gaio_link_entry (link, GaioTimer, entry.link);
      self->tick = self->deadline;
      self->deadline = -1;
      self->rearmed = FALSE;
    }
  gaio_core_unlock (core);
  if (link == NULL)
    return FALSE;
  serve (gaio_link_entry (link, GaioTimer, entry.link));
  return TRUE;
}
