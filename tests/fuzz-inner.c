/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-inner.h"

#include "fuzz-inner-oracle.h"
#include "fuzz-model.h"
#include "fuzz-thread.h"
#include "fuzz-time.h"

/* As long as another thread owns an inner context, it is tried at such intervals. */
#define RETRY_US 10000
#define TICK_US 50000
#define N_TICKS 5

/* --- They come and go --- */

void
create_inner (Model *self)
{
  g_autoptr (GError) error = NULL;
  GObject *owner;
  GMainContext *main_context;

  if (self->context == NULL || inners_count (self) >= MAX_INNERS)
    return;
  owner = model_byte (self) % 2 == 1 ? g_object_new (G_TYPE_OBJECT, NULL) : NULL;
  main_context = gaio_context_create_main_context (self->context, owner, &error);
  if (self->closed)
    {
      model_check_failed (self, error, GAIO_ERROR_CLOSED);
      g_clear_object (&owner);
      return;
    }
  check (self, main_context != NULL, "creating a main context: %s", error->message);
  inner_mark_served (inner_new (self, main_context, FALSE), owner);
  model_say (self, "creates inner %u, %s owner", self->n_things,
             owner != NULL ? "with" : "without");
}

/* One that nobody serves yet. */
void
make_inner (Model *self)
{
  gboolean plain = model_byte (self) % 8 == 7;

  if (inners_count (self) >= MAX_INNERS)
    return;
  inner_new (self,
             g_main_context_new_with_flags (plain ? G_MAIN_CONTEXT_FLAGS_NONE
                                                  : G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING),
             plain);
  model_say (self, "makes inner %u%s", self->n_things, plain ? ", a plain one" : "");
}

static gboolean
is_owned_elsewhere (const Inner *inner)
{
  return inner->model->afar ? inner_is_owned_here (inner) : inner->held && !is_other ();
}

void
serve_inner (Model *self)
{
  g_autoptr (GError) error = NULL;
  Inner *inner = inner_pick (self);
  gboolean served;

  if (inner == NULL || self->context == NULL)
    return;
  model_say (self, "has inner %u served", inner->id);
  served = gaio_context_serve_main_context (self->context, inner->main_context, &error);
  if (inner->fading && served)
    inner_mark_served (inner, NULL);
  else if (inner->fading && is_owned_elsewhere (inner))
    check (self, !served, "inner %u is served, and not owned", inner->id);
  else if (self->closed || inner->served)
    model_check_failed (self, error, GAIO_ERROR_FAILED);
  else if (is_owned_elsewhere (inner))
    model_check_failed (self, error, GAIO_ERROR_WRONG_THREAD);
  else if (inner->plain)
    model_check_failed (self, error, GAIO_ERROR_NOT_SUPPORTED);
  else
    {
      check (self, served, "serving inner %u: %s", inner->id, error->message);
      inner_mark_served (inner, NULL);
    }
}

/* A context does not serve what it is nested in, nor the other way round. */
void
serve_or_attach_wrongly (Model *self)
{
  g_autoptr (GError) error = NULL;
  Inner *inner = inner_pick (self);

  if (self->context == NULL)
    return;
  if (inner != NULL && inner->served && !inner->fading)
    {
      model_say (self, "attaches to inner %u", inner->id);
      check (self, !gaio_context_attach (self->context, inner->main_context, &error), "attached");
      model_check_failed (self, error, GAIO_ERROR_FAILED);
    }
  else if (self->attached != -1 && !self->lingering)
    {
      model_say (self, "has %d served", self->attached);
      check (self,
             !gaio_context_serve_main_context (self->context, self->mains[self->attached], &error),
             "it serves what it is nested in");
      model_check_failed (self, error, GAIO_ERROR_FAILED);
    }
}

void
stop_inner (Model *self)
{
  Inner *inner = inner_pick (self);

  if (inner == NULL || self->context == NULL)
    return;
  model_say (self, "stops inner %u", inner->id);
  gaio_context_stop_serving (self->context, inner->main_context);
  inner_mark_stopped (inner);
}

void
drop_owner (Model *self)
{
  Inner *inner = inner_pick (self);

  if (inner == NULL || inner->owner == NULL)
    return;
  model_say (self, "drops the owner of inner %u", inner->id);
  if (inner->goes_with_owner)
    inner_mark_ownerless (inner);
  g_clear_object (&inner->owner);
}

void
drop_inner (Model *self)
{
  Inner *inner = inner_pick (self);

  if (inner == NULL || !inner->referenced)
    return;
  model_say (self, "drops inner %u", inner->id);
  inner_mark_unreferenced (inner);
  g_main_context_unref (inner->main_context);
}

/* --- Their sources --- */

/* What has called for it is over, mostly. */
static void
consume (InnerSource *s)
{
  Model *self = s->inner->model;

  if (s->kind == INNER_TIMER)
    s->deadline = s->interval > 0 ? fuzz_time_now () + s->interval : -1;
  else if (s->kind == INNER_READY_TIME || s->kind == INNER_CUSTOM)
    {
      inner_source_set (s, !self->passive && model_byte (self) % 4 == 3 && s->value);
      if (s->kind == INNER_READY_TIME && !s->value)
        g_source_set_ready_time (s->source, -1);
    }
}

static gboolean
run_source (InnerSource *s, guint condition)
{
  Model *self = s->inner->model;

  inner_source_begin_call (s, condition);
  consume (s);
  model_operate_inside (self);
  return inner_source_end_call (s, self->passive || model_byte (self) % 4 != 3);
}

static gboolean
source_called (gpointer data)
{
  return run_source (data, 0);
}

static gboolean
source_fd_called (gint fd, GIOCondition condition, gpointer data)
{
  return run_source (data, condition);
}

/* GLib asks this before it sleeps, and once more afterwards. */
static gboolean
is_now_ready (InnerSource *s)
{
  gboolean ready = s->value;

  if (s->kind == INNER_TIMER)
    ready = s->deadline != -1 && s->deadline <= fuzz_time_now ();
  if (ready)
    inner_source_flag (s);
  return ready;
}

static gboolean
source_prepare (GSource *source, gint *timeout_ms)
{
  InnerSource *s = inner_source_from (source);

  *timeout_ms = -1;
  if (s->kind == INNER_TIMER && s->deadline != -1)
    *timeout_ms = (gint) ((MAX (s->deadline - fuzz_time_now (), 0) + 999) / 1000);
  return is_now_ready (s);
}

static gboolean
source_check (GSource *source)
{
  return is_now_ready (inner_source_from (source));
}

static gboolean
source_dispatch (GSource *source, GSourceFunc callback, gpointer user_data)
{
  return callback (user_data);
}

static GSourceFuncs own_funcs = { .prepare = source_prepare,
                                  .check = source_check,
                                  .dispatch = source_dispatch };
static GSourceFuncs ready_time_funcs = { .dispatch = source_dispatch };

/* FALSE if there is no file to watch. */
static gboolean
choose_details (InnerSource *s)
{
  Model *self = s->inner->model;
  FuzzFile *file;

  if (s->kind == INNER_TIMER)
    {
      s->interval = MAX (model_pick_delay (self), 0);
      s->deadline = fuzz_time_now () + s->interval;
    }
  else if (s->kind != INNER_FD)
    inner_source_set (s, s->kind != INNER_IDLE && model_byte (self) % 2 == 1);
  else
    {
      file = model_pick_file (self);
      if (file == NULL)
        return FALSE;
      s->fd = fuzz_file_number (file);
      s->condition = model_pick_condition (self);
    }
  return TRUE;
}

void
attach_inner_source (Model *self)
{
  static const gint priorities[] = { -10, 0, 0, 0, 10, G_PRIORITY_DEFAULT_IDLE };
  Inner *inner = inner_pick (self);
  InnerKind kind = model_byte (self) % INNER_N_KINDS;
  gint priority = priorities[model_byte (self) % G_N_ELEMENTS (priorities)];
  InnerSource *s;

  if (inner == NULL || inner->sources->len >= MAX_INNER_SOURCES)
    return;
  s = inner_source_new (inner, kind, priority);
  if (!choose_details (s))
    {
      g_free (s);
      return;
    }
  model_say (self, "attaches source %u, of kind %u, priority %d, fd %d, to inner %u", s->id,
             s->kind, priority, s->fd, inner->id);
  inner_source_make (s, kind == INNER_READY_TIME ? &ready_time_funcs : &own_funcs,
                     kind == INNER_FD ? G_SOURCE_FUNC (source_fd_called) : source_called);
  if (kind == INNER_READY_TIME)
    g_source_set_ready_time (s->source, s->value ? 0 : -1);
  if (kind == INNER_FD)
    inner_source_mark_watched (s);
  g_source_attach (s->source, inner->main_context);
}

/* GLib is told, or nobody is. */
static void
tell_or_hide (InnerSource *s)
{
  if (model_byte (s->inner->model) % 2 == 0)
    {
      g_main_context_wakeup (s->inner->main_context);
      return;
    }
  s->hidden = TRUE;
  model_say (s->inner->model, "  and tells nobody");
}

void
change_inner_source (Model *self)
{
  InnerSource *s = inner_source_pick (self);
  gint64 delay = model_pick_delay (self);

  if (s == NULL || s->kind == INNER_IDLE || s->kind == INNER_FD)
    return;
  model_say (self, "changes source %u: %d", s->id, (gint) delay);
  if (s->kind == INNER_TIMER)
    s->deadline = delay != -1 ? fuzz_time_now () + delay : -1;
  inner_source_set (s, s->kind != INNER_TIMER && delay != -1);
  if (s->kind == INNER_READY_TIME)
    g_source_set_ready_time (s->source, delay != -1 ? 0 : -1);
  else
    tell_or_hide (s);
}

void
destroy_inner_source (Model *self)
{
  InnerSource *s = inner_source_pick (self);

  if (s == NULL)
    return;
  model_say (self, "destroys source %u", s->id);
  inner_source_mark_removed (s);
  g_source_destroy (s->source);
}

/* --- Who else owns them --- */

static Inner *held; /* or about to be */

static void
acquire (Model *self)
{
  check (self, g_main_context_acquire (held->main_context) == !inner_is_owned_here (held),
         "inner %u is owned: %d", held->id, inner_is_owned_here (held));
  if (inner_is_owned_here (held))
    return;
  g_main_context_ref (held->main_context);
  held->held = TRUE;
}

static void
release (Model *self)
{
  g_main_context_release (held->main_context);
  g_main_context_unref (held->main_context);
  held->held = FALSE;
  held->retry = fuzz_time_now () + RETRY_US;
}

void
hold_inner (Model *self)
{
  held = is_other () ? NULL : inner_pick (self);
  if (held == NULL)
    return;
  model_say (self, "has another thread %s inner %u", held->held ? "let go of" : "take", held->id);
  do_in_other (self, held->held ? release : acquire);
}

void
let_go_of_all_inners (Model *self)
{
  for (guint i = 0; i < self->inners->len; i++)
    {
      held = self->inners->pdata[i];
      if (held->held)
        do_in_other (self, release);
    }
}

static void
called_in (gpointer data)
{
  Inner *inner = data;
  Model *self = inner->model;

  check (self, g_main_context_get_thread_default () == inner->main_context,
         "another main context is the default");
  inner->calling++;
  self->depth++;
  model_operate_inside (self);
  self->depth--;
  inner->calling--;
}

void
call_in_inner (Model *self)
{
  Inner *inner = inner_pick (self);
  guint64 before;

  if (inner == NULL || self->context == NULL || self->closed || !inner->served || inner->fading ||
      is_owned_elsewhere (inner))
    return;
  model_say (self, "calls in inner %u", inner->id);
  gaio_context_call_in (self->context, inner->main_context, called_in, inner);
  before = inner->n_prepares;
  if (self->closed || !inner->served || inner->fading || is_owned_elsewhere (inner))
    return;
  /* Once more, now that it is known what comes of it. */
  self->passive = TRUE;
  gaio_context_call_in (self->context, inner->main_context, called_in, inner);
  self->passive = FALSE;
  check (self, inner->n_prepares > before, "inner %u is not looked at after a call", inner->id);
}

/* What nobody should do: the user runs an inner context. */
void
iterate_inner (Model *self)
{
  Inner *inner = inner_pick (self), *outer = self->iterated;
  guint64 n_rounds = self->n_rounds;
  GMainContext *main_context;

  if (inner == NULL || is_owned_elsewhere (inner))
    return;
  model_say (self, "iterates inner %u", inner->id);
  main_context = g_main_context_ref (inner->main_context);
  self->iterated = inner;
  inner->iterating++;
  inners_look (self);
  g_main_context_iteration (main_context, FALSE);
  inner->iterating--;
  /* A round inside does not know when this is over. */
  if (self->n_rounds != n_rounds)
    inner->retry = fuzz_time_now () + RETRY_US;
  self->iterated = outer;
  g_main_context_unref (main_context);
}

/* --- All of them --- */

static void
iterate_somehow (Model *self, gboolean under_glib)
{
  if (under_glib && self->attached != -1)
    model_iterate_main (self, self->attached, FALSE);
  else
    model_iterate_for (self, 0);
}

/* So many rounds that the oracle gets impatient, or there is nothing left to do. */
void
let_inners_have_turns (Model *self)
{
  gboolean under_glib = model_byte (self) % 2 == 1, before = self->passive, quiet;
  guint n = inners_patience (self, self->limit) + 2;

  if (self->context == NULL || self->closed || !self->serves)
    return;
  model_say (self, "lets inner contexts have turns");
  self->passive = TRUE;
  for (guint i = 0; i < n; i++)
    iterate_somehow (self, under_glib);
  quiet = self->depth == 0 && inners_are_quiet (self) && !model_has_things_to_do (self);
  check (self, !model_iterate_for (self, 0) || !quiet, "there are turns that serve nothing");
  if (quiet)
    inners_check_count (self);
  self->passive = before;
  fuzz_time_pass (fuzz_time_now ());
}

static void
do_nothing (gpointer data)
{
}

/* A callback sets the sweep off, which sees what nobody was told of. */
void
let_inners_be_swept (Model *self)
{
  g_autoptr (GArray) before = g_array_new (FALSE, FALSE, sizeof (guint64));

  if (self->context == NULL || self->closed || !self->serves || self->depth > 0 || self->limit > 0)
    return;
  model_say (self, "lets inner contexts be swept");
  self->passive = TRUE;
  gaio_context_defer (self->context, do_nothing, NULL, NULL);
  model_iterate_for (self, 0);
  for (guint i = 0; i < self->inners->len; i++)
    g_array_append_val (before, ((Inner *) self->inners->pdata[i])->n_prepares);
  for (guint i = 0; i < N_TICKS; i++)
    {
      fuzz_time_pass (fuzz_time_now () + TICK_US);
      model_iterate_for (self, 0);
      model_iterate_for (self, 0);
    }
  self->passive = FALSE;
  inners_mark_swept (self);
  for (guint i = 0; i < self->inners->len; i++)
    {
      Inner *inner = self->inners->pdata[i];

      check (self,
             !inner->served || inner->fading || inner->held ||
                 inner->n_prepares > g_array_index (before, guint64, i),
             "inner %u has not been swept", inner->id);
    }
}
