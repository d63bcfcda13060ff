/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-inner-oracle.h"
#include "fuzz-time.h"

#define IDLE_DELAY_US 10000
#define N_REMEMBERED 64
/* What wakes the loop and what times it out take the place of a callback as well, once. */
#define MAX_FUTILE 3

/* --- Things --- */

static const char *
name_of (const Thing *thing)
{
  static const char *const names[THING_N_KINDS] = { "bottom half", "handler", "timer", "member",
                                                    "set function" };

  return names[thing->kind];
}

static gboolean
has_fd (const Thing *thing)
{
  return thing->kind == THING_HANDLER || thing->kind == THING_MEMBER;
}

#define foreach_thing(model, thing)                                                                \
  for (guint i_ = 0; i_ < (model)->things->len; i_++)                                              \
    for (Thing *thing = (model)->things->pdata[i_]; thing != NULL; thing = NULL)

Thing *
thing_new (Model *self, ThingKind kind)
{
  Thing *thing = g_new0 (Thing, 1);

  thing->model = self;
  thing->kind = kind;
  thing->id = ++self->n_things;
  thing->fd = -1;
  thing->deadline = -1;
  thing_touch (thing);
  g_ptr_array_add (self->things, thing);
  return thing;
}

/* One that is not removed, or NULL. */
Thing *
thing_pick (Model *self, ThingKind kind)
{
  guint n = thing_count (self, kind);
  guint which = n > 0 ? model_byte (self) % n : 0;

  foreach_thing (self, thing)
    if (thing->kind == kind && thing->handle != NULL && !thing->removed && which-- == 0)
      return thing;
  return NULL;
}

guint
thing_count (Model *self, ThingKind kind)
{
  guint n = 0;

  foreach_thing (self, thing)
    n += thing->kind == kind && thing->handle != NULL && !thing->removed;
  return n;
}

/* From now on a round that has begun owes it nothing. */
void
thing_touch (Thing *thing)
{
  thing->touched = thing->model->n_rounds;
}

void
thing_mark_removed (Thing *thing)
{
  thing->removed = TRUE;
  thing->expected = FALSE;
  thing_touch (thing);
  if (thing->kind != THING_MEMBER)
    return;
  /* Its notify is the set's own. */
  thing->notified = 1;
  thing->model->member_removed = TRUE;
}

/* Whether the round that this is inside of has a thread, on which everything has to happen. */
static gboolean
is_owned (Model *self)
{
  Round *round = self->round;

  return round != NULL && (round->alone || round->n_calls > 0) && !self->rejecting;
}

void
thing_notified (gpointer data)
{
  Thing *thing = data;
  Model *self = thing->model;

  model_say (self, "%s %u: notify", name_of (thing), thing->id);
  thing->notified++;
  check (self, thing->notified == 1, "%s %u is notified %u times", name_of (thing), thing->id,
         thing->notified);
  check (self, thing->running == 0, "%s %u is notified while it runs", name_of (thing), thing->id);
  check (self, thing->removed || self->rejecting, "%s %u is notified, but not removed",
         name_of (thing), thing->id);
  if (is_owned (self))
    check (self, g_thread_self () == self->round->thread, "%s %u is notified in a foreign thread",
           name_of (thing), thing->id);
}

/* --- Timers and bottom halves --- */

void
thing_arm (Thing *thing, gint64 deadline)
{
  thing->deadline = deadline;
  thing->order = ++thing->model->n_orders;
  thing->due_in = 0;
  thing->rearmed = TRUE;
  thing->skipped = FALSE;
  thing_touch (thing);
}

void
thing_schedule (Thing *thing, gboolean urgent)
{
  if (!thing->scheduled)
    {
      thing->scheduled = TRUE;
      thing->order = ++thing->model->n_orders;
      thing->deadline = fuzz_time_now () + IDLE_DELAY_US;
      thing_touch (thing);
    }
  thing->urgent |= urgent;
}

void
thing_cancel (Thing *thing)
{
  thing->scheduled = thing->urgent = FALSE;
  thing_touch (thing);
}

/* --- Files --- */

void
thing_set_condition (Thing *thing, guint condition)
{
  thing->condition = condition;
  thing->expected = FALSE;
  thing->seen &= condition | G_IO_HUP | G_IO_ERR;
  thing_touch (thing);
}

/* Those that had the number before it was closed are not to come alive again, except where one file
 * cannot be told from another. */
void
model_file_added (Model *self, Thing *added)
{
  gboolean known = (added->file->watched >> (added->fd % 64) & 1) != 0;

  added->is_null = added->file->kind == FUZZ_NULL;
  added->file->watched |= G_GUINT64_CONSTANT (1) << (added->fd % 64);
  foreach_thing (self, thing)
    if (self->is_epoll && !known && has_fd (thing) && thing->orphan && thing->fd == added->fd &&
        thing->file != added->file && !(thing->is_null && added->is_null))
      thing->dormant = TRUE;
}

/* A file that was watched under this number before, closed under it and had another left, is still
 * in the epoll set: who has lost the number since may be taken for its watch. */
void
model_number_opened (Model *self, const FuzzFile *file, gint number)
{
  foreach_thing (self, thing)
    if (has_fd (thing) && thing->orphan && thing->fd == number &&
        (file->watched >> (number % 64) & 1) != 0)
      thing->confused = TRUE;
  inners_number_changed (self, number);
}

void
model_number_closed (Model *self, gint number)
{
  inners_number_changed (self, number);
  foreach_thing (self, thing)
    {
      if (!has_fd (thing))
        continue;
      if (thing->fd == number)
        {
          thing->orphan = TRUE;
          thing->expected = FALSE;
          thing_touch (thing);
        }
      if (thing->file != NULL && fuzz_file_number (thing->file) == -1)
        thing->file = NULL;
    }
}

static gboolean
is_still_always_ready (Thing *thing)
{
  FuzzFile *now = fuzz_files_lookup (thing->model->files, thing->fd);

  return now != NULL && fuzz_file_is_always_ready (now);
}

/* What may be reported of @thing, asked for or not. */
static guint
readiness (Thing *thing)
{
  Model *self = thing->model;
  FuzzFile *now = thing->orphan ? fuzz_files_lookup (self->files, thing->fd) : NULL;
  guint ready = 0;

  if (thing->dormant)
    return 0;
  if (thing->confused ||
      (thing->orphan && !self->is_epoll && fuzz_files_is_foreign (self->files, thing->fd)))
    return G_MAXUINT;
  if (thing->file != NULL)
    ready = fuzz_file_poll (thing->file);
  if (now != NULL && (!self->is_epoll || is_still_always_ready (thing)))
    ready |= fuzz_file_poll (now);
  return ready;
}

static guint
wanted (const Thing *thing)
{
  return thing->condition != 0 ? thing->condition | G_IO_HUP | G_IO_ERR : 0;
}

/* A function is called with what it is called for. */
void
thing_check_ready (Thing *thing, gint fd, guint condition)
{
  check (thing->model, fd == thing->fd, "handler %u is called for fd %d instead of %d", thing->id,
         fd, thing->fd);
  check (thing->model, condition != 0, "handler %u is called for nothing", thing->id);
  check (thing->model, (condition & ~(thing->ready & wanted (thing))) == 0,
         "handler %u, which wants %#x of fd %d, which has %#x, is told %#x", thing->id,
         thing->condition, fd, thing->ready, condition);
}

static Thing *
member_by_token (Model *self, guint64 token)
{
  foreach_thing (self, thing)
    if (thing->id == token)
      return thing;
  return NULL;
}

static void
check_record (Model *self, const GaioReadyRecord *record)
{
  Thing *member = member_by_token (self, record->token);

  check (self, member != NULL && member->kind == THING_MEMBER && !member->removed,
         "a record of %u, which is not there", (guint) record->token);
  check (self, record->fd == member->fd, "a record of member %u with fd %d", member->id,
         record->fd);
  check (self, record->condition != 0 && (record->condition & ~member->seen) == 0,
         "a record of member %u with %#x, when only %#x was seen", member->id, record->condition,
         member->seen);
  member->expected = FALSE;
  member->seen = 0;
}

/* The batch has been taken. */
void
model_check_batch (Model *self, const GaioReadyRecord *records, gsize n)
{
  for (gsize i = 0; i < n; i++)
    check_record (self, &records[i]);
  foreach_thing (self, thing)
    {
      check (self, !thing->expected, "member %u is ready and not in the batch", thing->id);
      thing->seen = 0;
      if (thing->kind == THING_MEMBER)
        thing_touch (thing);
    }
}

/* --- Callbacks --- */

/* Whether the round had @thing to serve before, when it has come to @called. */
static gboolean
comes_before (const Thing *thing, const Thing *called)
{
  if (thing->kind != called->kind || thing->removed || thing->running > 0)
    return FALSE;
  if (thing->kind == THING_BOTTOM_HALF)
    return thing->scheduled && thing->order < called->order;
  if (thing->kind != THING_TIMER || thing->due_in == 0)
    return FALSE;
  if (thing->due_in != called->due_in)
    return thing->due_in < called->due_in;
  if (thing->deadline != called->deadline)
    return thing->deadline < called->deadline;
  return thing->order < called->order;
}

static void
check_turn (Thing *thing)
{
  Model *self = thing->model;
  Round *round = self->round;
  ThingKind kind = MIN (thing->kind, THING_TIMER);

  foreach_thing (self, other)
    check (self, !comes_before (other, thing), "%s %u is called before %u", name_of (thing),
           thing->id, other->id);
  /* Members are gathered with the others. */
  if (thing->kind == THING_SET_FUNC)
    kind = THING_HANDLER;
  check (self, self->cut || round->interrupted || kind >= round->last_kind,
         "%s %u is called out of the order of a round", name_of (thing), thing->id);
  round->last_kind = kind;
}

/* Whether it has been asked for. */
static void
check_asked_for (Thing *thing)
{
  Model *self = thing->model;
  Round *round = self->round;

  if (thing->kind == THING_BOTTOM_HALF)
    check (self, thing->scheduled && thing->order <= round->last_order,
           "bottom half %u is called, and was not scheduled before the round", thing->id);
  else if (thing->kind == THING_TIMER)
    check (self, thing->due_in != 0 && thing->deadline != -1 && thing->deadline <= fuzz_time_now (),
           "timer %u is called at %" G_GINT64_FORMAT ", and was due at %" G_GINT64_FORMAT,
           thing->id, fuzz_time_now (), thing->deadline);
  else
    check (self, thing->called_in != round->id, "%s %u is called twice in a round", name_of (thing),
           thing->id);
}

static void
take_up (Thing *thing)
{
  if (thing->kind == THING_BOTTOM_HALF)
    {
      thing->scheduled = thing->urgent = FALSE;
      return;
    }
  thing->tick = thing->deadline;
  thing->deadline = -1;
  thing->due_in = 0;
  thing->rearmed = FALSE;
}

/* The round has gathered: what is due is found out, and what comes later is for another round. */
static void
commit (Round *round, Model *self)
{
  gint64 now = fuzz_time_now ();

  if (round->committed)
    return;
  round->committed = TRUE;
  round->last_order = self->n_orders;
  self->wake = FALSE;
  foreach_thing (self, thing)
    {
      if (thing->kind != THING_TIMER || thing->removed || thing->deadline == -1 ||
          thing->deadline > now || thing->due_in != 0)
        continue;
      if (thing->running > 0)
        thing->skipped = TRUE;
      else
        thing->due_in = round->id;
    }
}

void
model_commit (Model *self)
{
  commit (self->round, self);
}

void
thing_begin_call (Thing *thing)
{
  Model *self = thing->model;
  Round *round = self->round;

  check (self, round != NULL && !self->afar, "%s %u is called outside of any round",
         name_of (thing), thing->id);
  commit (round, self);
  model_say (self, "%s %u is called", name_of (thing), thing->id);
  check (self, g_thread_self () == round->thread, "%s %u is called in a foreign thread",
         name_of (thing), thing->id);
  check (self, !thing->removed, "%s %u is called, but removed", name_of (thing), thing->id);
  check (self, thing->notified == 0, "%s %u is called after its notify", name_of (thing),
         thing->id);
  check (self, !self->closed, "%s %u is called after the context was closed", name_of (thing),
         thing->id);
  check (self, thing->running == 0 || thing->can_recurse, "%s %u is called inside itself",
         name_of (thing), thing->id);
  check (self, gaio_context_get_current () == self->context, "another context is current");
  check_asked_for (thing);
  check_turn (thing);
  if (thing->kind == THING_BOTTOM_HALF || thing->kind == THING_TIMER)
    take_up (thing);
  thing->called_in = round->id;
  round->n_calls++;
  thing->running++;
  self->depth++;
}

static void
after_timer (Thing *thing)
{
  gint64 missed;

  if (thing->interval > 0 && !thing->rearmed)
    {
      missed = MAX (fuzz_time_now () - thing->tick, 0) / thing->interval;
      thing_arm (thing, thing->tick + (missed + 1) * thing->interval);
    }
  else if (thing->skipped)
    thing_arm (thing, thing->deadline);
}

/* @keep is what the function returns, where it returns something. */
gboolean
thing_end_call (Thing *thing, gboolean keep)
{
  Model *self = thing->model;

  self->depth--;
  thing->running--;
  thing_touch (thing);
  if (!keep || thing->once)
    {
      model_say (self, "%s %u removes itself", name_of (thing), thing->id);
      thing_mark_removed (thing);
    }
  else if (thing->kind == THING_TIMER && !thing->removed)
    after_timer (thing);
  return keep;
}

/* --- Rounds --- */

/* Whether the loop is run for the context, which is nested as it was when the round began. */
static gboolean
is_for_context (const Round *round, const Model *self)
{
  return round->alone || (round->n_attached == self->n_attached && round->main == self->attached);
}

/* What the kernel says before the library asks it. What has been done before is the round's to
 * serve. */
void
round_look (Model *self)
{
  self->round->id = ++self->n_rounds;
  if (!is_for_context (self->round, self))
    return;
  foreach_thing (self, thing)
    {
      if (!has_fd (thing))
        continue;
      thing->ready = readiness (thing);
      if (!thing->removed)
        thing->seen |= thing->ready & wanted (thing);
    }
  inners_look (self);
}

void
round_begin (Round *round, Model *model, gint main)
{
  *round = (Round){
    .model = model,
    .outer = model->round,
    .iterated = g_steal_pointer (&model->iterated),
    .main = main,
    .alone = main == -1,
    .thread = g_thread_self (),
    .limit = model->limit,
  };
  round->n_attached = model->n_attached;
  for (Round *outer = model->round; outer != NULL; outer = outer->outer)
    outer->interrupted = TRUE;
  model->round = round;
  round_look (model);
}

/* Whether what happens while the loop sleeps is for the next round: other monitors than epoll are
 * told when they are asked next, and what is always ready is looked at before the sleep. */
static gboolean
comes_too_late (const Round *round, const Thing *thing)
{
  return round->visited && (!thing->model->is_epoll ||
                            (thing->file != NULL && fuzz_file_is_always_ready (thing->file)));
}

/* Nothing else than being called is in the way of its being called. */
static gboolean
can_be_called (Model *self, const Thing *thing)
{
  Thing *caller = thing->kind == THING_MEMBER ? self->set_func : NULL;

  if (caller != NULL && caller->running > 0)
    return FALSE;
  return !thing->removed && !thing->orphan && (thing->running == 0 || thing->can_recurse);
}

/* A round that has begun with @thing like this has to call it. */
static gboolean
is_owed (const Round *round, const Thing *thing)
{
  if (!can_be_called (thing->model, thing) || thing->touched >= round->id ||
      comes_too_late (round, thing))
    return FALSE;
  if (thing->kind == THING_MEMBER && thing->model->set_func_changed >= round->id)
    return FALSE;
  switch (thing->kind)
    {
    case THING_BOTTOM_HALF:
      return thing->scheduled && thing->order <= round->last_order &&
             (thing->urgent || round->alone);
    case THING_TIMER:
      return thing->due_in != 0 && thing->due_in <= round->id;
    case THING_HANDLER:
    case THING_MEMBER:
      return (thing->ready & wanted (thing)) != 0;
    default:
      return FALSE;
    }
}

static gboolean
was_called (const Round *round, const Thing *thing)
{
  Model *self = thing->model;

  if (thing->kind != THING_MEMBER)
    return thing->called_in == round->id;
  return self->set_func == NULL || self->set_func->called_in == round->id;
}

static void
check_served (Round *round, Model *self)
{
  /* What is ready takes the place of a callback, also where none comes of it: a member, what runs
   * already, and who has lost its fd. */
  gboolean owed = FALSE, only_calls = self->depth == 0 && !self->serves;

  foreach_thing (self, thing)
    {
      only_calls = only_calls && thing->kind != THING_MEMBER && !thing->orphan;
      if (!is_owed (round, thing))
        continue;
      owed = TRUE;
      check (self, round->limit > 0 || was_called (round, thing), "%s %u was to be called",
             name_of (thing), thing->id);
      thing->expected |= thing->kind == THING_MEMBER && round->limit == 0;
    }
  self->n_futile = owed && only_calls && round->n_calls == 0 ? self->n_futile + 1 : 0;
  check (self, self->n_futile < MAX_FUTILE, "%u rounds in a row got nowhere", self->n_futile);
}

static void
check_notified (Model *self)
{
  foreach_thing (self, thing)
    check (self, !thing->removed || thing->running > 0 || thing->notified == 1,
           "%s %u has been removed, and was not notified", name_of (thing), thing->id);
}

void
round_end (Round *round, Model *self)
{
  if (is_for_context (round, self))
    commit (round, self);
  self->cut |= round->limit > 0;
  check (self, round->limit == 0 || round->n_calls <= round->limit, "%u calls, with a limit of %u",
         round->n_calls, round->limit);
  if (is_for_context (round, self) && !round->interrupted && !self->closed)
    {
      check_served (round, self);
      inners_check_round (round, self);
    }
  inners_end_round (round, self);
  self->iterated = round->iterated;
  self->round = round->outer;
  if (self->round == NULL && round->alone)
    {
      check_notified (self);
      self->member_removed = FALSE;
    }
}

/* --- Sleeping --- */

static gboolean
has_work (const Thing *thing)
{
  Model *self = thing->model;

  if (thing->removed)
    return thing->notified == 0 && thing->running == 0 && !self->closed;
  if (!can_be_called (self, thing))
    return FALSE;
  switch (thing->kind)
    {
    case THING_BOTTOM_HALF:
      return thing->scheduled && thing->urgent;
    case THING_TIMER:
      return thing->deadline != -1 && thing->deadline <= fuzz_time_now ();
    case THING_MEMBER:
      if (self->set_func == NULL)
        return FALSE;
      return (fuzz_file_poll (thing->file) & wanted (thing)) != 0;
    case THING_HANDLER:
      return (fuzz_file_poll (thing->file) & wanted (thing)) != 0;
    default:
      return FALSE;
    }
}

static gboolean
is_waited_for (const Round *round, const Model *self)
{
  return round != NULL && (round->alone || round->main == self->attached);
}

/* What is not to wait until @until, or NULL. */
static Thing *
find_waiting (Model *self, gint64 until)
{
  foreach_thing (self, thing)
    {
      gboolean has_deadline = (thing->kind == THING_TIMER || thing->scheduled) &&
                              thing->deadline != -1 && can_be_called (self, thing);

      if (has_work (thing) || (has_deadline && thing->deadline < until))
        return thing;
    }
  return NULL;
}

/* Whether the loop is not to sleep until @until. */
gboolean
model_has_work (Model *self, gint64 until)
{
  if (!is_waited_for (self->round, self))
    return FALSE;
  return self->wake || (self->closed && self->round->outer == NULL) ||
         find_waiting (self, until) != NULL;
}

/* The loop is about to sleep until @until unless something comes. */
void
model_check_sleep (Model *self, gint64 until)
{
  Thing *thing;

  if (!is_waited_for (self->round, self))
    return;
  check (self, !self->wake, "the loop sleeps in spite of a wake-up");
  check (self, !self->closed || self->round->outer != NULL, "the loop sleeps on a closed context");
  thing = find_waiting (self, until);
  check (self, thing == NULL, "the loop sleeps, and %s %u waits", name_of (thing), thing->id);
  inners_check_sleep (self, until);
}

/* Whether the loop has reasons of its own not to sleep, which the model does not know exactly. */
gboolean
model_may_have_work (Model *self)
{
  if (self->closed || self->depth > 0 || self->member_removed || self->serves)
    return TRUE;
  foreach_thing (self, thing)
    if (thing->removed || thing->orphan || thing->kind == THING_MEMBER || thing->scheduled)
      return TRUE;
  return FALSE;
}

/* Whether rounds have anything else to do than to serve inner contexts. Outside of callbacks. */
gboolean
model_has_things_to_do (Model *self)
{
  foreach_thing (self, thing)
    if (thing->removed || thing->orphan || thing->kind == THING_MEMBER || thing->scheduled ||
        has_work (thing))
      return TRUE;
  return self->wake;
}

/* When the next timer is due. */
gint64
model_next_deadline (Model *self)
{
  gint64 next = FUZZ_NEVER;

  foreach_thing (self, thing)
    if (thing->kind == THING_TIMER && can_be_called (self, thing) && thing->deadline != -1)
      next = MIN (next, thing->deadline);
  return next;
}

/* --- The whole --- */

void
model_mark_closed (Model *self)
{
  self->closed = TRUE;
  self->set_func = NULL;
  foreach_thing (self, thing)
    thing_mark_removed (thing);
  inners_mark_closed (self);
}

static void
thing_free (Thing *thing)
{
  if (thing->handle == NULL)
    ;
  else if (has_fd (thing))
    gaio_handler_unref (thing->handle);
  else if (thing->kind == THING_TIMER)
    gaio_timer_unref (thing->handle);
  else
    gaio_bottom_half_unref (thing->handle);
  g_free (thing);
}

static gboolean
is_finished (const Thing *thing)
{
  return thing->removed && thing->notified == 1 && thing->running == 0;
}

void
model_forget_finished (Model *self)
{
  for (guint i = 0; i < self->things->len;)
    {
      Thing *thing = self->things->pdata[i];

      if (is_finished (thing))
        g_queue_push_tail (&self->finished, g_ptr_array_remove_index (self->things, i));
      else
        i++;
    }
  while (self->finished.length > N_REMEMBERED)
    thing_free (g_queue_pop_head (&self->finished));
}

static void
check_thing (Thing *thing)
{
  Model *self = thing->model;

  if (has_fd (thing))
    {
      check (self, gaio_handler_is_removed (thing->handle) == thing->removed,
             "handler %u: removed is %d", thing->id, !thing->removed);
      check (self, gaio_handler_get_condition (thing->handle) == thing->condition,
             "handler %u: condition is %#x", thing->id, gaio_handler_get_condition (thing->handle));
    }
  if (thing->kind == THING_TIMER && !thing->removed)
    check (self, gaio_timer_get_deadline (thing->handle) == thing->deadline,
           "timer %u: deadline is %" G_GINT64_FORMAT " instead of %" G_GINT64_FORMAT, thing->id,
           gaio_timer_get_deadline (thing->handle), thing->deadline);
}

/* What can be asked is as it should be. Outside of callbacks. */
void
model_check_state (Model *self)
{
  if (self->closed)
    check_notified (self);
  foreach_thing (self, thing)
    if (thing->handle != NULL)
      check_thing (thing);
}

void
model_begin (Model *self, const guint8 *data, gsize size)
{
  const char *monitor = g_getenv ("GAIO_MONITOR");

  *self = (Model){ .data = data, .size = size, .attached = -1, .closed = TRUE };
  self->is_epoll = monitor == NULL || g_str_equal (monitor, "epoll");
  self->files = fuzz_files_new ();
  self->things = g_ptr_array_new ();
  g_queue_init (&self->finished);
  inners_begin (self);
}

/* After the context is closed and everything has unwound. */
void
model_end (Model *self)
{
  inners_end (self);
  check_notified (self);
  model_forget_finished (self);
  check (self, self->things->len == 0, "%s %u is left over", name_of (self->things->pdata[0]),
         ((Thing *) self->things->pdata[0])->id);
  while (!g_queue_is_empty (&self->finished))
    thing_free (g_queue_pop_head (&self->finished));
  g_ptr_array_unref (self->things);
  g_ptr_array_unref (self->files);
}
