/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-bottom-half-private.h"

#include "gaio-trace-private.h"

/* The longest time from scheduling an idle bottom half to running it. */
#define IDLE_DELAY_US 10000

/**
 * SECTION:gaio-bottom-half
 * @title: GaioBottomHalf
 * @short_description: a call that any thread can schedule
 *
 * A #GaioBottomHalf calls a function on the owner of its context in the next round, once, however
 * often it was scheduled before. Bottom halves that one thread schedules run in the order in which
 * it scheduled them. The name and the idea are QEMU's.
 *
 * For a call that happens only once, use gaio_context_defer().
 *
 * Everything here may be called from any thread and from inside any callback.
 */

/* How it has been scheduled since it was last called. */
enum
{
  IDLE = 1 << 0,
  URGENT = 1 << 1,
  QUEUED = 1 << 2, /* set under the lock: it has a place in the queue */
};

/**
 * GaioBottomHalf:
 *
 * A call that can be scheduled.
 *
 * Since: 1.0
 */
struct _GaioBottomHalf
{
  GaioEntry entry;

  GSourceOnceFunc func; /* (const) */
  guint64 seq;          /* (lock) its place in the queue */
  atomic_uint asked;    /* IDLE and URGENT; cleared under the lock */
  bool urgent;          /* (lock) counted in core->bottom_halves.n_urgent */
  bool set_aside;       /* (lock) its turn came while it was running */
};

G_DEFINE_BOXED_TYPE (GaioBottomHalf, gaio_bottom_half, gaio_bottom_half_ref, gaio_bottom_half_unref)

GaioBottomHalf *
gaio_bottom_half_from_siblings (GaioLink *link)
{
  return gaio_link_entry (link, GaioBottomHalf, entry.siblings);
}

static GaioBottomHalf *
from_queue (GaioLink *link)
{
  return gaio_link_entry (link, GaioBottomHalf, entry.link);
}

static void
end_call (const GaioCall *call)
{
  if (call->notify != NULL)
    call->notify (call->user_data);
}

/* Defers @call, in order with the bottom halves. The owner is awake, or the caller wakes it. With
 * the lock held. */
void
gaio_bottom_half_push_call (GaioCore *core, GaioCall *call)
{
  call->seq = ++core->bottom_halves.seq;
  gaio_call_queue_push (&core->bottom_halves.calls, call);
  core->sleep.has_other_work = TRUE;
}

/* FALSE if it is too late. */
static gboolean
add_call (GaioCore *core, GaioCall *call)
{
  gboolean added;

  if (!gaio_core_lock (core))
    return FALSE;
  added = gaio_core_check (core, NULL);
  if (added)
    {
      gaio_bottom_half_push_call (core, call);
      gaio_core_unlock_and_wake (core);
    }
  else
    gaio_core_unlock (core);
  return added;
}

static GaioBottomHalf *
bottom_half_add (GaioCore *core, GSourceOnceFunc func, gpointer user_data, GDestroyNotify notify)
{
  GaioBottomHalf *self = g_new0 (GaioBottomHalf, 1);
  gboolean added = FALSE;

  gaio_entry_init (&self->entry, GAIO_ENTRY_BOTTOM_HALF, core, user_data, notify);
  self->func = func;
  if (gaio_core_lock (core))
    {
      added = gaio_core_check (core, NULL);
      if (added)
        gaio_list_push (&core->bottom_halves.all, &self->entry.siblings);
      gaio_core_unlock (core);
    }
  if (!added)
    gaio_entry_reject (&self->entry);
  return self;
}

/**
 * gaio_context_add_bottom_half:
 * @self: a context
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, when the bottom half has been removed
 * and its function has returned
 *
 * Creates a bottom half that is not scheduled. It stays until it is removed. May be called from any
 * thread. On a closed context, it starts out removed, and @notify runs before this function
 * returns.
 *
 * Returns: (transfer full): a new bottom half
 *
 * Since: 1.0
 */
GaioBottomHalf *
gaio_context_add_bottom_half (GaioContext *self,
                              GSourceOnceFunc func,
                              gpointer user_data,
                              GDestroyNotify notify)
{
  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, NULL);
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, NULL);

  return bottom_half_add (self->core, func, user_data, notify);
}

/**
 * gaio_context_defer:
 * @self: a context
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, after @func has returned
 *
 * Calls @func once, always in a later round, in order with the bottom halves. May be called from
 * any thread. On a closed context, @func is not called, and @notify runs before this function
 * returns.
 *
 * Since: 1.0
 */
void
gaio_context_defer (GaioContext *self,
                    GSourceOnceFunc func,
                    gpointer user_data,
                    GDestroyNotify notify)
{
  GaioCall call = { .func = func, .user_data = user_data, .notify = notify };

  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, );
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, );

  if (!add_call (self->core, &call))
    end_call (&call);
}

/**
 * gaio_bottom_half_ref:
 * @self: a bottom half
 *
 * Takes a reference. May be called from any thread.
 *
 * Returns: (transfer full): @self
 *
 * Since: 1.0
 */
GaioBottomHalf *
gaio_bottom_half_ref (GaioBottomHalf *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return gaio_entry_ref (&self->entry);
}

/**
 * gaio_bottom_half_unref:
 * @self: (transfer full): a bottom half
 *
 * Drops a reference. This does not remove the bottom half. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_bottom_half_unref (GaioBottomHalf *self)
{
  g_return_if_fail (self != NULL);
  gaio_entry_unref (&self->entry);
}

/* With the lock held. */
static void
enqueue (GaioBottomHalf *self)
{
  GaioCore *core = self->entry.core;

  if (self->set_aside || gaio_link_is_linked (&self->entry.link))
    return;
  atomic_fetch_or_explicit (&self->asked, QUEUED, memory_order_relaxed);
  self->seq = ++core->bottom_halves.seq;
  gaio_list_push (&core->bottom_halves.scheduled, &self->entry.link);
}

/* TRUE if the loop has to be woken. With the lock held. */
static gboolean
make_urgent (GaioBottomHalf *self)
{
  if (self->urgent || self->set_aside)
    return FALSE;
  self->urgent = true;
  self->entry.core->bottom_halves.n_urgent++;
  return TRUE;
}

/* With the lock held. */
static void
limit_sleep (GaioCore *core)
{
  if (core->bottom_halves.idle_deadline != -1)
    return;
  core->bottom_halves.idle_deadline = g_get_monotonic_time () + IDLE_DELAY_US;
  gaio_core_deadline_moved (core, core->bottom_halves.idle_deadline);
}

static void
schedule (GaioBottomHalf *self, guint how)
{
  GaioCore *core = self->entry.core;
  gboolean wake = FALSE;
  guint asked;

  /* This is a read-modify-write even if it changes nothing, so that the callback that takes the
   * bits sees what the caller wrote before. */
  asked = atomic_fetch_or_explicit (&self->asked, how, memory_order_acq_rel);
  if ((asked & how) != 0 && (asked & QUEUED) != 0)
    return;
  if (!gaio_core_lock (core))
    return;
  asked = atomic_load_explicit (&self->asked, memory_order_relaxed);
  if (asked != 0 && !gaio_entry_is_removed (&self->entry))
    {
      enqueue (self);
      if ((asked & URGENT) != 0)
        wake = make_urgent (self);
      else
        limit_sleep (core);
    }
  if (wake)
    gaio_core_unlock_and_wake (core);
  else
    gaio_core_unlock (core);
}

/**
 * gaio_bottom_half_schedule:
 * @self: a bottom half
 *
 * Schedules the function of @self to be called once, in the next round. Does nothing if @self has
 * been removed. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_bottom_half_schedule (GaioBottomHalf *self)
{
  g_return_if_fail (self != NULL);
  schedule (self, URGENT);
}

/**
 * gaio_bottom_half_schedule_idle:
 * @self: a bottom half
 *
 * Schedules the function of @self to be called in the next round, without keeping the loop awake
 * for it: it is called within 10 milliseconds if there is no round before that. Does nothing if
 * @self has been removed. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_bottom_half_schedule_idle (GaioBottomHalf *self)
{
  g_return_if_fail (self != NULL);
  schedule (self, IDLE);
}

/* With the lock held. */
static void
dequeue (GaioBottomHalf *self)
{
  GaioCore *core = self->entry.core;

  gaio_link_unlink (&self->entry.link);
  if (self->urgent)
    core->bottom_halves.n_urgent--;
  self->urgent = false;
  if (gaio_list_is_empty (&core->bottom_halves.scheduled))
    core->bottom_halves.idle_deadline = -1;
}

/* With the lock held. */
static void
cancel (GaioBottomHalf *self)
{
  atomic_exchange_explicit (&self->asked, 0, memory_order_acq_rel);
  dequeue (self);
  self->set_aside = false;
}

/**
 * gaio_bottom_half_cancel:
 * @self: a bottom half
 *
 * Cancels the scheduled call of @self, if there is one. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_bottom_half_cancel (GaioBottomHalf *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  cancel (self);
  gaio_core_unlock (self->entry.core);
}

/* Does nothing the second time. With the lock held. */
void
gaio_bottom_half_destroy (GaioBottomHalf *self)
{
  if (gaio_entry_is_removed (&self->entry))
    return;
  cancel (self);
  gaio_entry_destroy (&self->entry);
}

/**
 * gaio_bottom_half_remove:
 * @self: a bottom half
 *
 * Removes @self: it is not called again. Does nothing if it has already been removed, if the
 * context no longer exists, or in a forked child. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_bottom_half_remove (GaioBottomHalf *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_bottom_half_destroy (self);
  gaio_core_unlock (self->entry.core);
}

/**
 * gaio_clear_bottom_half: (skip)
 * @bottom_half_ptr: (inout): the location of a bottom half, or of %NULL
 *
 * Removes and unrefs the bottom half at @bottom_half_ptr, if there is one, and sets the location to
 * %NULL. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_clear_bottom_half (GaioBottomHalf **bottom_half_ptr)
{
  GaioBottomHalf *self = g_steal_pointer (bottom_half_ptr);

  if (self == NULL)
    return;
  gaio_bottom_half_remove (self);
  gaio_bottom_half_unref (self);
}

/* By the owner, with the lock held. */
void
gaio_bottom_half_requeue_calls (GaioCore *core)
{
  gaio_call_queue_prepend_all (&core->bottom_halves.calls, &core->bottom_halves.taken_calls);
}

/* The context is closed. By the owner, without the lock. */
void
gaio_bottom_half_drop_calls (GaioCore *core)
{
  GaioCall call;

  while (!gaio_core_is_forked (core) && gaio_call_queue_pop (&core->bottom_halves.calls, &call))
    end_call (&call);
}

/* Puts @self back in the place that it had when its turn came. With the lock held. */
static void
put_back (GaioBottomHalf *self)
{
  GaioCore *core = self->entry.core;
  GaioLink *place = core->bottom_halves.scheduled.head.next;

  while (place != &core->bottom_halves.scheduled.head && from_queue (place)->seq < self->seq)
    place = place->next;
  gaio_link_insert_before (&self->entry.link, place);
  self->set_aside = false;
  if (make_urgent (self))
    gaio_core_wake (core);
}

/* Takes the first that was scheduled up to @last_seq and is not running. With the lock held. */
static GaioBottomHalf *
pop (GaioCore *core, guint64 last_seq)
{
  GaioLink *link;

  while ((link = gaio_list_first (&core->bottom_halves.scheduled)) != NULL)
    {
      GaioBottomHalf *self = from_queue (link);

      if (self->seq > last_seq)
        break;
      dequeue (self);
      if (!gaio_entry_is_running (&self->entry))
        {
          atomic_exchange_explicit (&self->asked, 0, memory_order_acq_rel);
          return self;
        }
      self->set_aside = true;
      gaio_entry_want_end (&self->entry);
    }
  return NULL;
}

static void
after_callback (GaioBottomHalf *self)
{
  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_entry_handle_end (&self->entry);
  if (self->set_aside)
    put_back (self);
  gaio_core_unlock (self->entry.core);
}

static void
serve (GaioBottomHalf *self)
{
  gaio_entry_begin (&self->entry);
  gaio_trace_call (&self->entry.core->profile, "bottom half", self->func, -1, NULL,
                   self->func (self->entry.user_data));
  if (gaio_entry_end (&self->entry))
    after_callback (self);
}

/* A forked child leaves the destroy notify to its parent. */
static void
serve_call (GaioCore *core, const GaioCall *call)
{
  if (call->func != NULL)
    gaio_trace_call (&core->profile, "bottom half", call->func, -1, NULL,
                     call->func (call->user_data));
  if (!gaio_core_is_forked (core))
    end_call (call);
}

/* Takes all calls under one lock, if the first was deferred up to @last_seq. With the lock held,
 * and no bottom half before them. */
static void
take_calls (GaioCore *core, guint64 last_seq)
{
  const GaioCall *first = gaio_call_queue_first (&core->bottom_halves.calls);
  GaioLink *next = gaio_list_first (&core->bottom_halves.scheduled);

  if (first == NULL || first->seq > last_seq)
    return;
  gaio_call_queue_prepend_all (&core->bottom_halves.taken_calls, &core->bottom_halves.calls);
  core->bottom_halves.taken_calls_end = next != NULL ? from_queue (next)->seq : G_MAXUINT64;
}

/* Pops the next call that has been taken and may be called before all bottom halves. */
static gboolean
pop_taken_call (GaioCore *core, guint64 last_seq, GaioCall *call)
{
  const GaioCall *first = gaio_call_queue_first (&core->bottom_halves.taken_calls);

  if (first == NULL || first->seq > MIN (last_seq, core->bottom_halves.taken_calls_end))
    return FALSE;
  return gaio_call_queue_pop (&core->bottom_halves.taken_calls, call);
}

/* Takes what comes next: a bottom half, which is returned, or calls. With the lock held. */
static GaioBottomHalf *
take_next (GaioCore *core, guint64 last_seq)
{
  const GaioCall *first;
  GaioBottomHalf *self;

  gaio_bottom_half_requeue_calls (core);
  first = gaio_call_queue_first (&core->bottom_halves.calls);
  self = pop (core, first != NULL ? MIN (first->seq, last_seq) : last_seq);
  if (self == NULL)
    take_calls (core, last_seq);
  return self;
}

/* Calls the first bottom half or deferred call that was scheduled up to @last_seq. By the owner,
 * without the lock. FALSE if there is none. */
gboolean
gaio_bottom_half_serve_next (GaioCore *core, guint64 last_seq)
{
  GaioBottomHalf *self = NULL;
  GaioCall call;
  gboolean have_call = pop_taken_call (core, last_seq, &call);

  if (!have_call)
    {
      if (!gaio_core_lock (core))
        return FALSE;
      self = take_next (core, last_seq);
      gaio_core_unlock (core);
      have_call = pop_taken_call (core, last_seq, &call);
    }
  if (self != NULL)
    serve (self);
  else if (have_call)
    serve_call (core, &call);
  return self != NULL || have_call;
}
