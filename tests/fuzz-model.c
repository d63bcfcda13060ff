/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A case is a string of bytes that says what to do: at the top, inside callbacks, and from another
 * thread, also while the loop sleeps. The model of fuzz-oracle.c looks on. */
#include <signal.h>

#include "fuzz-inner-oracle.h"
#include "fuzz-inner.h"
#include "fuzz-model.h"
#include "fuzz-thread.h"
#include "fuzz-time.h"
#include "fuzz.h"

#define MAX_OF_A_KIND 10
#define MAX_LOOKS 64
#define BEGIN_US (1000 * (gint64) G_USEC_PER_SEC)

gboolean fuzz_verbose;
guint64 fuzz_operations;

static Model *the_model; /* whose loop is running */

static void operate (Model *self);
static void operate_anywhere (Model *self);

/* --- Callbacks: they may do anything --- */

void
model_operate_inside (Model *self)
{
  guint n = self->passive ? 0 : model_byte (self) % 8;

  for (; n > 4; n--)
    operate (self);
}

static gboolean
run_callback (Thing *thing, gboolean may_remove)
{
  Model *self = thing->model;
  gboolean keep = TRUE;

  thing_begin_call (thing);
  model_operate_inside (self);
  if (may_remove && !self->passive)
    keep = model_byte (self) % 8 != 7;
  return thing_end_call (thing, keep);
}

static gboolean
fd_called (gint fd, GIOCondition condition, gpointer data)
{
  thing_check_ready (data, fd, condition);
  return run_callback (data, TRUE);
}

static gboolean
timeout_called (gpointer data)
{
  return run_callback (data, TRUE);
}

static void
once_called (gpointer data)
{
  run_callback (data, FALSE);
}

static void
take (Model *self)
{
  gsize length;
  g_autofree guint8 *bytes = gaio_ready_set_take (self->set, &length);

  check (self, (bytes == NULL) == (length == 0) && length % sizeof (GaioReadyRecord) == 0,
         "a batch of %" G_GSIZE_FORMAT " bytes", length);
  model_check_batch (self, (GaioReadyRecord *) (void *) bytes, length / sizeof (GaioReadyRecord));
}

static void
set_called (GaioReadySet *set, guint n_ready, gpointer data)
{
  Thing *thing = data;
  Model *self = thing->model;

  check (self, n_ready > 0, "the set has nothing");
  thing_begin_call (thing);
  if (self->passive || model_byte (self) % 4 != 3)
    take (self);
  model_operate_inside (self);
  thing_end_call (thing, TRUE);
}

/* --- Handlers --- */

guint
model_pick_condition (Model *self)
{
  static const guint conditions[] = {
    G_IO_IN, G_IO_IN, G_IO_OUT, G_IO_IN | G_IO_OUT, G_IO_PRI, 0, G_IO_HUP, G_IO_IN | G_IO_ERR,
  };

  return conditions[model_byte (self) % G_N_ELEMENTS (conditions)];
}

/* Which error there has to be. */
void
model_check_failed (Model *self, const GError *error, GaioError expected)
{
  if (self->closed)
    expected = GAIO_ERROR_CLOSED;
  check (self, g_error_matches (error, GAIO_ERROR, (gint) expected), "failed with: %s",
         error != NULL ? error->message : "nothing");
}

/* Seldom a number that is not open. */
static gint
pick_number (Model *self, FuzzFile **file)
{
  guint which = model_byte (self);

  *file = model_pick_file (self);
  if (*file == NULL || which % 16 == 15)
    {
      *file = NULL;
      return -1 - (gint) which % 2 * 1000;
    }
  return (*file)->numbers[which % FUZZ_N_NUMBERS] != -1 ? (*file)->numbers[which % FUZZ_N_NUMBERS]
                                                        : fuzz_file_number (*file);
}

static gpointer
add_to_context (Model *self, Thing *thing, GError **error)
{
  if (thing->kind == THING_HANDLER)
    return gaio_context_add_fd (self->context, thing->fd, thing->condition, fd_called, thing,
                                thing_notified, error);
  return gaio_ready_set_add_fd (self->set, thing->fd, thing->condition, thing->id, error);
}

static void
add_on_fd (Model *self, ThingKind kind)
{
  g_autoptr (GError) error = NULL;
  Thing *thing;

  if (self->context == NULL || thing_count (self, kind) >= MAX_OF_A_KIND)
    return;
  thing = thing_new (self, kind);
  thing->fd = pick_number (self, &thing->file);
  thing->condition = model_pick_condition (self);
  model_say (self, "adds %u for %#x of fd %d (%s)", thing->id, thing->condition, thing->fd,
             kind == THING_MEMBER ? "to the set" : "handler");
  self->rejecting = thing->file == NULL || self->closed;
  thing->handle = add_to_context (self, thing, &error);
  if (self->rejecting)
    {
      model_check_failed (self, error, GAIO_ERROR_BAD_FD);
      thing_mark_removed (thing);
      check (self, thing->handle == NULL && thing->notified == 1, "%u: notified %u times",
             thing->id, thing->notified);
    }
  else
    {
      check (self, thing->handle != NULL, "adding fd %d: %s", thing->fd, error->message);
      model_file_added (self, thing);
    }
  self->rejecting = FALSE;
}

static void
add_handler (Model *self)
{
  add_on_fd (self, THING_HANDLER);
}

static void
add_member (Model *self)
{
  add_on_fd (self, THING_MEMBER);
}

static ThingKind
pick_fd_kind (Model *self)
{
  return model_byte (self) % 4 == 3 ? THING_MEMBER : THING_HANDLER;
}

/* Of one whose number has been closed it may fail, after which nothing has changed. */
static void
set_condition (Model *self)
{
  g_autoptr (GError) error = NULL;
  Thing *thing = thing_pick (self, pick_fd_kind (self));
  guint condition = model_pick_condition (self);
  gboolean changed;

  if (thing == NULL)
    return;
  model_say (self, "sets %u to %#x", thing->id, condition);
  changed = gaio_handler_set_condition (thing->handle, condition, &error);
  if (changed)
    thing_set_condition (thing, condition);
  else
    {
      check (self, thing->orphan, "handler %u: %s", thing->id, error->message);
      model_check_failed (self, error, GAIO_ERROR_BAD_FD);
    }
}

static void
set_can_recurse (Model *self)
{
  Thing *thing = thing_pick (self, THING_HANDLER);

  if (thing == NULL || thing->running > 0)
    return;
  thing->can_recurse = !thing->can_recurse;
  model_say (self, "lets %u recurse: %d", thing->id, thing->can_recurse);
  gaio_handler_set_can_recurse (thing->handle, thing->can_recurse);
}

static void
remove_handler (Model *self)
{
  Thing *thing = thing_pick (self, pick_fd_kind (self));

  if (thing == NULL)
    return;
  model_say (self, "removes %u of fd %d", thing->id, thing->fd);
  thing_mark_removed (thing);
  gaio_handler_remove (thing->handle);
}

/* Whoever has been removed is left alone. */
static void
use_removed (Model *self)
{
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < self->things->len; i++)
    {
      Thing *thing = self->things->pdata[i];

      if (!thing->removed || thing->handle == NULL || thing->kind > THING_MEMBER)
        continue;
      model_say (self, "uses %u, which has been removed", thing->id);
      if (thing->kind == THING_TIMER)
        gaio_timer_arm (thing->handle, 0);
      else if (thing->kind == THING_BOTTOM_HALF)
        gaio_bottom_half_schedule (thing->handle);
      else
        {
          gaio_handler_remove (thing->handle);
          check (self, !gaio_handler_set_condition (thing->handle, G_IO_IN, &error), "changed");
          model_check_failed (self, error, GAIO_ERROR_REMOVED);
        }
      return;
    }
}

/* --- The ready set --- */

static void
take_batch (Model *self)
{
  if (self->set == NULL)
    return;
  model_say (self, "takes the batch");
  if (!self->closed)
    take (self);
}

static void
set_set_func (Model *self)
{
  Thing *before = self->set_func;

  if (self->set == NULL || self->closed)
    return;
  if (before != NULL)
    thing_mark_removed (before);
  self->set_func_changed = self->n_rounds;
  self->set_func = model_byte (self) % 4 != 3 ? thing_new (self, THING_SET_FUNC) : NULL;
  model_say (self, "sets the function of the set: %u",
             self->set_func != NULL ? self->set_func->id : 0);
  if (self->set_func != NULL)
    gaio_ready_set_set_func (self->set, set_called, self->set_func, thing_notified);
  else
    gaio_ready_set_set_func (self->set, NULL, NULL, NULL);
}

/* --- Timers --- */

gint64
model_pick_delay (Model *self)
{
  static const gint64 delays[] = { 0, 1, 1, 500, 999, 1000, 20000, -1 };

  return delays[model_byte (self) % G_N_ELEMENTS (delays)];
}

/* On a closed context it is removed from the start. */
static void
added_without_error (Model *self, Thing *thing)
{
  if (self->closed)
    thing_mark_removed (thing);
  check (self, thing->handle != NULL && thing->notified == (self->closed ? 1 : 0),
         "%u is notified %u times", thing->id, thing->notified);
  self->rejecting = FALSE;
}

static void
add_timer (Model *self)
{
  Thing *thing;
  gint64 interval = MAX (model_pick_delay (self), 0);

  if (self->context == NULL || thing_count (self, THING_TIMER) >= MAX_OF_A_KIND)
    return;
  thing = thing_new (self, THING_TIMER);
  thing->interval = interval;
  model_say (self, "adds timer %u, interval %d", thing->id, (gint) interval);
  self->rejecting = self->closed;
  if (interval > 0)
    {
      if (!self->closed)
        thing_arm (thing, fuzz_time_now () + interval);
      thing->handle =
          gaio_context_add_timeout (self->context, interval, timeout_called, thing, thing_notified);
    }
  else
    thing->handle = gaio_context_add_timer (self->context, once_called, thing, thing_notified);
  added_without_error (self, thing);
}

static void
arm_timer (Model *self)
{
  Thing *thing = thing_pick (self, THING_TIMER);
  gint64 delay = model_pick_delay (self);
  gboolean in_the_past = model_byte (self) % 4 == 3;

  if (thing == NULL)
    return;
  model_say (self, "arms timer %u: %d us%s", thing->id, (gint) delay, in_the_past ? " ago" : "");
  if (delay == -1)
    {
      thing_arm (thing, -1);
      gaio_timer_disarm (thing->handle);
    }
  else if (in_the_past)
    {
      thing_arm (thing, fuzz_time_now () - delay);
      gaio_timer_arm_at (thing->handle, fuzz_time_now () - delay);
    }
  else
    {
      thing_arm (thing, fuzz_time_now () + delay);
      gaio_timer_arm (thing->handle, delay);
    }
}

static void
remove_timer (Model *self)
{
  Thing *thing = thing_pick (self, THING_TIMER);

  if (thing == NULL)
    return;
  model_say (self, "removes timer %u", thing->id);
  thing_mark_removed (thing);
  gaio_timer_remove (thing->handle);
}

static void
let_time_pass (Model *self)
{
  gint64 delay = MAX (model_pick_delay (self), 0);

  model_say (self, "%d us pass", (gint) delay);
  fuzz_time_pass (fuzz_time_now () + delay);
}

/* --- Bottom halves --- */

static void
add_bottom_half (Model *self)
{
  Thing *thing;

  if (self->context == NULL || thing_count (self, THING_BOTTOM_HALF) >= MAX_OF_A_KIND)
    return;
  thing = thing_new (self, THING_BOTTOM_HALF);
  model_say (self, "adds bottom half %u", thing->id);
  self->rejecting = self->closed;
  thing->handle = gaio_context_add_bottom_half (self->context, once_called, thing, thing_notified);
  added_without_error (self, thing);
}

static void
schedule_bottom_half (Model *self)
{
  Thing *thing = thing_pick (self, THING_BOTTOM_HALF);
  guint how = model_byte (self) % 8;

  if (thing == NULL)
    return;
  model_say (self, "%s bottom half %u", how == 0 ? "cancels" : "schedules", thing->id);
  if (how == 0)
    {
      thing_cancel (thing);
      gaio_bottom_half_cancel (thing->handle);
    }
  else if (how < 3)
    {
      thing_schedule (thing, FALSE);
      gaio_bottom_half_schedule_idle (thing->handle);
    }
  else
    {
      thing_schedule (thing, TRUE);
      gaio_bottom_half_schedule (thing->handle);
    }
}

static void
remove_bottom_half (Model *self)
{
  Thing *thing = thing_pick (self, THING_BOTTOM_HALF);

  if (thing == NULL)
    return;
  model_say (self, "removes bottom half %u", thing->id);
  thing_mark_removed (thing);
  gaio_bottom_half_remove (thing->handle);
}

static void
defer (Model *self)
{
  Thing *thing;

  if (self->context == NULL || self->things->len > 8 * MAX_OF_A_KIND)
    return;
  thing = thing_new (self, THING_BOTTOM_HALF);
  thing->once = TRUE;
  model_say (self, "defers %u", thing->id);
  self->rejecting = self->closed;
  if (self->closed)
    thing_mark_removed (thing);
  else
    thing_schedule (thing, TRUE);
  gaio_context_defer (self->context, once_called, thing, thing_notified);
  check (self, thing->notified == (self->closed ? 1 : 0), "%u is notified %u times", thing->id,
         thing->notified);
  self->rejecting = FALSE;
}

/* --- The context --- */

static void
wake (Model *self)
{
  if (self->context == NULL)
    return;
  model_say (self, "wakes the loop");
  self->wake = !self->closed;
  gaio_context_wakeup (self->context);
}

static void
set_limit (Model *self)
{
  if (self->context == NULL)
    return;
  self->limit = model_byte (self) % 8 < 5 ? 0 : 1 + model_byte (self) % 3;
  model_say (self, "sets the limit to %u", self->limit);
  gaio_context_set_dispatch_limits (self->context, self->limit, 0);
  inners_be_patient (self);
  /* The round that is about to begin may have seen the one or the other. */
  if (self->round != NULL && !self->round->committed)
    {
      self->round->limit = 0;
      self->round->interrupted = TRUE;
    }
}

static void
attach_to (Model *self, gint where)
{
  g_autoptr (GError) error = NULL;

  if (self->context == NULL)
    return;
  model_say (self, "attaches to %d", where);
  if (self->closed || self->attached != -1)
    {
      check (self, !gaio_context_attach (self->context, self->mains[where], &error), "attached");
      model_check_failed (self, error, GAIO_ERROR_FAILED);
      return;
    }
  check (self, gaio_context_attach (self->context, self->mains[where], &error), "attaching: %s",
         error->message);
  self->attached = where;
  self->n_attached++;
}

static void
attach (Model *self)
{
  attach_to (self, (gint) model_byte (self) % MODEL_N_MAINS);
}

/* From another thread than the owner's, which then destroys the source when it comes by. */
static void
detach (Model *self)
{
  if (self->context == NULL || self->closed || self->attached == -1)
    return;
  model_say (self, "detaches");
  self->lingering |= self->round != NULL;
  self->attached = -1;
  self->n_attached++;
  gaio_context_detach (self->context);
}

/* Nobody runs the old main context meanwhile. */
static void
move (Model *self)
{
  gint from = self->attached;

  if (from == -1 || self->depth > 0)
    return;
  detach (self);
  if (self->attached == -1 && !self->closed)
    attach_to (self, MODEL_N_MAINS - 1 - from);
}

static void
close_context (Model *self)
{
  if (self->context == NULL || self->closed || model_byte (self) % 4 != 3)
    return;
  model_say (self, "closes the context");
  model_mark_closed (self);
  gaio_context_close (self->context);
}

/* --- What runs the loop --- */

static Round *
begin_round (Model *self, Round *round, gint main)
{
  round_begin (round, self, main);
  return round;
}

/* Time is about to pass. Others may have something for the loop before. */
static gboolean
asleep (gint64 until, gpointer data)
{
  Model *self = the_model;

  model_check_sleep (self, until);
  if (!is_other () && self->position < self->size && model_byte (self) % 4 == 3)
    {
      do_in_other (self, operate_anywhere);
      self->round->n_own_looks++;
      round_look (self);
      self->round->visited = TRUE;
      return TRUE;
    }
  if (until != FUZZ_NEVER)
    return FALSE;
  model_say (self, "would sleep for ever");
  if (self->round->main != -1)
    g_main_context_wakeup (self->mains[self->round->main]);
  else
    {
      self->wake = !self->closed;
      gaio_context_wakeup (self->context);
    }
  return TRUE;
}

/* Returns what the library does. */
gboolean
model_iterate_for (Model *self, gint64 timeout_us)
{
  gint64 end = fuzz_time_now () + timeout_us;
  gint64 expected = MIN (end, MAX (model_next_deadline (self), fuzz_time_now ()));
  guint looks = fuzz_time_count_looks ();
  guint64 first = self->n_rounds + 1;
  gboolean exact = !self->wake && !model_may_have_work (self), ran;
  Round round;

  model_say (self, "iterates, %d us", (gint) timeout_us);
  begin_round (self, &round, -1);
  ran = gaio_context_iterate (self->context, timeout_us);
  /* Turns and sweeps are told of as well. */
  check (self, ran == (round.n_calls > 0) || (ran && self->serves), "ran is %d, after %u calls",
         ran, round.n_calls);
  looks = fuzz_time_count_looks () - looks;
  if (!round.interrupted)
    check (self, looks < MAX_LOOKS + round.n_own_looks, "%u looks at the kernel in one round",
           looks);
  if (exact && !ran && round.id == first && !self->wake)
    check (self, fuzz_time_now () == expected, "the loop is back after %d us",
           (gint) (fuzz_time_now () - end + timeout_us));
  round_end (&round, self);
  return ran;
}

static gboolean
may_iterate (Model *self)
{
  return self->context != NULL && (self->depth == 0 || !self->closed);
}

static void
iterate (Model *self)
{
  if (may_iterate (self))
    model_iterate_for (self, 0);
}

static void
iterate_and_wait (Model *self)
{
  gint64 timeout_us = model_pick_delay (self);

  if (may_iterate (self) && timeout_us >= 0)
    model_iterate_for (self, timeout_us);
}

void
model_iterate_main (Model *self, gint which, gboolean may_block)
{
  guint looks = fuzz_time_count_looks ();
  Round round;

  model_say (self, "iterates main context %d%s", which, may_block ? ", and waits" : "");
  begin_round (self, &round, which);
  g_main_context_iteration (self->mains[which], may_block);
  looks = fuzz_time_count_looks () - looks;
  if (!round.interrupted)
    check (self, looks < MAX_LOOKS + round.n_own_looks, "%u looks at the kernel in one iteration",
           looks);
  round_end (&round, self);
}

static void
iterate_glib (Model *self)
{
  guint which = model_byte (self);

  model_iterate_main (self,
                      self->attached != -1 && which % 8 != 7 ? self->attached
                                                             : (gint) which % MODEL_N_MAINS,
                      which % 4 == 3);
}

/* A handler that is ready and was not called since the round @since, or NULL. */
static Thing *
find_starving (Model *self, guint64 since)
{
  for (guint i = 0; i < self->things->len; i++)
    {
      Thing *thing = self->things->pdata[i];

      if (thing->kind == THING_HANDLER && !thing->removed && !thing->orphan &&
          thing->condition != 0 && (thing->ready & (thing->condition | G_IO_HUP | G_IO_ERR)) != 0 &&
          thing->called_in <= since)
        return thing;
    }
  return NULL;
}

/* Everybody has a turn, whatever the limit: callbacks do nothing meanwhile. */
static void
let_all_have_a_turn (Model *self)
{
  guint64 since = self->n_rounds;
  guint n = self->things->len + inners_count (self);
  guint n_rounds = 3 * (n / (self->limit > 0 ? self->limit : 128) + 2);

  if (self->depth > 0 || self->closed || self->context == NULL)
    return;
  model_say (self, "lets all have a turn");
  self->passive = TRUE;
  for (guint i = 0; i < n_rounds; i++)
    model_iterate_for (self, 0);
  self->passive = FALSE;
  check (self, find_starving (self, since) == NULL, "handler %u starves",
         find_starving (self, since)->id);
}

/* --- The ends of things --- */

/* Whatever other threads have left for the owners of the main contexts to do. */
static void
visit_mains (Model *self)
{
  for (gint i = 0; i < MODEL_N_MAINS; i++)
    model_iterate_main (self, i, FALSE);
  self->lingering = FALSE;
}

static void
drop_context (Model *self)
{
  if (self->context == NULL || self->attached != -1 || self->lingering ||
      model_byte (self) % 4 != 3)
    return;
  model_say (self, "drops the context");
  model_mark_closed (self);
  g_clear_object (&self->set);
  g_clear_object (&self->context);
}

static void
make_context (Model *self)
{
  g_clear_object (&self->set);
  g_clear_object (&self->context);
  self->context = gaio_context_new ();
  self->set = gaio_ready_set_new (self->context);
  self->closed = self->cut = self->wake = self->serves = FALSE;
  self->limit = 0;
  self->attached = -1;
  model_say (self, "makes a context");
}

static void
renew_context (Model *self)
{
  if (self->depth > 0 || !self->closed)
    return;
  if (self->lingering)
    visit_mains (self);
  make_context (self);
}

static GMainContext *
make_main (void)
{
  GMainContext *main_context = g_main_context_new ();

  g_main_context_set_poll_func (main_context, fuzz_time_poll);
  return main_context;
}

/* The GMainContext goes, and the context can be attached again. */
static void
renew_main (Model *self)
{
  guint which = model_byte (self) % MODEL_N_MAINS;

  if (self->depth > 0)
    return;
  model_say (self, "makes main context %u anew", which);
  g_main_context_unref (self->mains[which]);
  self->mains[which] = make_main ();
  if (self->attached == (gint) which)
    {
      self->attached = -1;
      self->n_attached++;
    }
}

/* --- Choosing --- */

static void from_afar (Model *self);

static void
iterate_in_other (Model *self)
{
  if (self->depth == 0 && may_iterate (self))
    do_in_other (self, iterate);
}

typedef struct
{
  void (*func) (Model *model);
  guint weight;
} Operation;

/* The first may come from any thread. */
static const Operation operations[] = {
  { open_file, 8 },
  { copy_file, 3 },
  { close_file, 4 },
  { write_file, 12 },
  { read_file, 6 },
  { half_close_file, 1 },
  { add_handler, 12 },
  { add_member, 5 },
  { set_condition, 8 },
  { set_can_recurse, 1 },
  { remove_handler, 7 },
  { use_removed, 1 },
  { take_batch, 4 },
  { set_set_func, 3 },
  { add_timer, 6 },
  { arm_timer, 10 },
  { remove_timer, 3 },
  { let_time_pass, 5 },
  { add_bottom_half, 4 },
  { schedule_bottom_half, 10 },
  { remove_bottom_half, 2 },
  { defer, 6 },
  { wake, 2 },
  { set_limit, 2 },
  { detach, 3 },
  { close_context, 1 },
#define N_ANYWHERE 26
  { attach, 5 },
  { drop_context, 1 },
  { iterate, 30 },
  { iterate_and_wait, 14 },
  { iterate_glib, 30 },
  { iterate_in_other, 4 },
  { from_afar, 16 },
  { let_all_have_a_turn, 3 },
  { renew_context, 4 },
  { renew_main, 1 },
#define N_PLAIN 36
  /* Those for inner contexts: again the first may come from any thread. */
  { create_inner, 4 },
  { make_inner, 2 },
  { serve_inner, 3 },
  { serve_or_attach_wrongly, 1 },
  { stop_inner, 2 },
  { drop_owner, 1 },
  { drop_inner, 1 },
  { attach_inner_source, 24 },
  { change_inner_source, 16 },
  { destroy_inner_source, 4 },
#define N_INNER_ANYWHERE 10
  { hold_inner, 3 },
  { call_in_inner, 5 },
  { iterate_inner, 4 },
  { let_inners_have_turns, 8 },
  { let_inners_be_swept, 3 },
  { move, 2 },
};

/* The first of @operations that @byte leads to. */
static const Operation *
find_operation (const Operation *from, guint n, guint byte)
{
  guint total = 0;

  for (guint i = 0; i < n; i++)
    total += from[i].weight;
  byte %= total;
  for (; byte >= from->weight; from++)
    byte -= from->weight;
  return from;
}

static void
choose (Model *self, gboolean anywhere)
{
  guint byte = model_byte (self);
  guint n_inner = anywhere ? N_INNER_ANYWHERE : G_N_ELEMENTS (operations) - N_PLAIN;
  const Operation *operation;

  if (byte < FUZZ_FIRST_INNER_BYTE)
    operation = find_operation (operations, anywhere ? N_ANYWHERE : N_PLAIN, byte);
  else
    operation = find_operation (&operations[N_PLAIN], n_inner, model_byte (self));
  self->n_operations++;
  operation->func (self);
}

static void
operate_anywhere (Model *self)
{
  self->afar = TRUE;
  choose (self, TRUE);
  self->afar = FALSE;
}

static void
from_afar (Model *self)
{
  if (!is_other ())
    do_in_other (self, operate_anywhere);
}

static void
operate (Model *self)
{
  if (self->depth <= MODEL_MAX_DEPTH)
    choose (self, self->depth == MODEL_MAX_DEPTH);
  if (self->depth > 0)
    return;
  if (self->closed && self->attached != -1)
    {
      self->attached = -1;
      self->n_attached++;
    }
  model_check_state (self);
  model_forget_finished (self);
}

static void
finish (Model *self)
{
  self->passive = TRUE;
  let_go_of_all_inners (self);
  if (self->context != NULL && !self->closed)
    {
      model_mark_closed (self);
      gaio_context_close (self->context);
    }
  visit_mains (self);
  g_clear_object (&self->set);
  g_clear_object (&self->context);
  for (guint i = 0; i < MODEL_N_MAINS; i++)
    g_main_context_unref (self->mains[i]);
}

static guint
count_fds (void)
{
  guint n = 0;
  GDir *dir = g_dir_open ("/proc/self/fd", 0, NULL);

  while (g_dir_read_name (dir) != NULL)
    n++;
  g_dir_close (dir);
  return n;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  Model model;
  guint n_fds;

  g_main_context_default ();
  n_fds = count_fds ();
  signal (SIGPIPE, SIG_IGN);
  the_model = &model;
  fuzz_time_begin (BEGIN_US, asleep, NULL);
  model_begin (&model, data, size);
  for (guint i = 0; i < MODEL_N_MAINS; i++)
    model.mains[i] = make_main ();
  make_context (&model);
  while (model.position < model.size)
    operate (&model);
  finish (&model);
  model_end (&model);
  check (&model, count_fds () == n_fds, "%u fds are open, instead of %u", count_fds (), n_fds);
  fuzz_operations += model.n_operations;
  return 0;
}
