/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-inner-oracle.h"

#include <poll.h>

#include <glib-unix.h>

#include "fuzz-time.h"

/* GLib counts in milliseconds, rounded up, and the library keeps a deadline that comes as much
 * earlier. */
#define LATE_US 2000

#define ALWAYS_POLLED (G_IO_ERR | G_IO_HUP | G_IO_NVAL)

#define foreach_inner(model, inner)                                                                \
  for (guint i_ = 0; i_ < (model)->inners->len; i_++)                                              \
    for (Inner *inner = (model)->inners->pdata[i_]; inner != NULL; inner = NULL)

#define foreach_source(inner, s)                                                                   \
  for (guint s_ = 0; s_ < (inner)->sources->len; s_++)                                             \
    for (InnerSource *s = (inner)->sources->pdata[s_]; s != NULL; s = NULL)

/* It means something that is none of the case's files: anything goes. */
static gboolean
is_wild (InnerSource *s)
{
  return s->kind == INNER_FD && fuzz_files_is_foreign (s->inner->model->files, s->fd);
}

/* --- Those that see it being prepared --- */

typedef struct
{
  GSource parent;
  Inner *inner;
} Observer;

static gboolean
observe_any (GSource *source, gint *timeout_ms)
{
  *timeout_ms = -1;
  ((Observer *) source)->inner->n_prepares++;
  return FALSE;
}

/* The kernel is asked what the number of @s refers to after a turn, but in few sweeps. */
static gboolean
is_mistaken (const InnerSource *s)
{
  return s->moved_in != 0 && s->inner->called_in <= s->moved_in;
}

/* GLib gets here if nothing was ready: so it has looked at everything. */
static gboolean
observe_last (GSource *source, gint *timeout_ms)
{
  *timeout_ms = -1;
  foreach_source (((Observer *) source)->inner, s)
    s->hidden = is_wild (s) || is_mistaken (s);
  return FALSE;
}

static void
attach_observer (Inner *inner, guint which)
{
  static GSourceFuncs funcs[2] = { { .prepare = observe_any }, { .prepare = observe_last } };
  GSource *source = g_source_new (&funcs[which], sizeof (Observer));

  ((Observer *) source)->inner = inner;
  g_source_set_priority (source, which == 0 ? G_MININT : G_MAXINT);
  g_source_attach (source, inner->main_context);
  inner->observers[which] = source;
}

/* --- One inner context --- */

Inner *
inner_new (Model *self, GMainContext *main_context, gboolean plain)
{
  Inner *inner = g_new0 (Inner, 1);

  inner->model = self;
  inner->id = ++self->n_things;
  inner->main_context = main_context;
  inner->referenced = TRUE;
  inner->plain = plain;
  inner->sources = g_ptr_array_new ();
  g_main_context_set_poll_func (main_context, fuzz_time_poll);
  for (guint i = 0; i < G_N_ELEMENTS (inner->observers); i++)
    attach_observer (inner, i);
  g_ptr_array_add (self->inners, inner);
  return inner;
}

guint
inners_count (Model *self)
{
  guint n = 0;

  foreach_inner (self, inner)
    n += !inner->gone;
  return n;
}

Inner *
inner_pick (Model *self)
{
  guint n = inners_count (self);
  guint which = n > 0 ? model_byte (self) % n : 0;

  foreach_inner (self, inner)
    if (!inner->gone && which-- == 0)
      return inner;
  return NULL;
}

void
inner_mark_served (Inner *inner, GObject *owner)
{
  inner->served = TRUE;
  inner->fading = FALSE;
  inner->goes_with_owner = owner != NULL;
  if (owner != NULL)
    inner->owner = owner;
  inner->n_waits = 0;
  inner->model->serves = TRUE;
  foreach_source (inner, s)
    inner_source_touch (s);
}

void
inner_mark_stopped (Inner *inner)
{
  if (!inner->served)
    return;
  model_say (inner->model, "  inner %u is not served any more", inner->id);
  inner->served = inner->goes_with_owner = inner->fading = FALSE;
  inner->ending = inner->running > 0 ? inner->last_round : NULL;
  inner->gone = !inner->referenced;
}

void
inner_mark_unreferenced (Inner *inner)
{
  inner->referenced = FALSE;
  inner->gone = !inner->served || inner->fading;
}

/* Whether the thread that runs the loop owns it, when another thread asks. */
gboolean
inner_is_owned_here (const Inner *inner)
{
  return inner->running > 0 || inner->iterating > 0 || inner->calling > 0;
}

gboolean
inner_has_hidden (Inner *inner)
{
  foreach_source (inner, s)
    if (s->hidden)
      return TRUE;
  return FALSE;
}

/* --- A source --- */

/* What is dispatched by a function of ours begins with this. */
typedef struct
{
  GSource parent;
  InnerSource *source;
} OwnSource;

InnerSource *
inner_source_from (GSource *source)
{
  return ((OwnSource *) source)->source;
}

InnerSource *
inner_source_new (Inner *inner, InnerKind kind, gint priority)
{
  InnerSource *s = g_new0 (InnerSource, 1);

  s->inner = inner;
  s->kind = kind;
  s->id = ++inner->model->n_things;
  s->priority = priority;
  s->fd = -1;
  s->deadline = -1;
  inner_source_touch (s);
  return s;
}

/* @funcs: of those that are not GLib's own. */
void
inner_source_make (InnerSource *s, GSourceFuncs *funcs, GSourceFunc callback)
{
  if (s->kind == INNER_IDLE)
    s->source = g_idle_source_new ();
  else if (s->kind == INNER_FD)
    s->source = g_unix_fd_source_new (s->fd, s->condition);
  else
    {
      s->source = g_source_new (funcs, sizeof (OwnSource));
      ((OwnSource *) s->source)->source = s;
    }
  g_source_set_priority (s->source, s->priority);
  g_source_set_callback (s->source, callback, s, NULL);
  g_ptr_array_add (s->inner->sources, s);
  g_ptr_array_add (s->inner->model->inner_sources, s);
}

InnerSource *
inner_source_pick (Model *self)
{
  Inner *inner = inner_pick (self);

  if (inner == NULL || inner->sources->len == 0)
    return NULL;
  return inner->sources->pdata[model_byte (self) % inner->sources->len];
}

/* A round that has begun owes it nothing. */
void
inner_source_touch (InnerSource *s)
{
  s->last = FALSE;
  s->touched = s->inner->model->n_rounds;
}

void
inner_source_set (InnerSource *s, gboolean value)
{
  s->value = value;
  s->ready |= value;
  s->flagged |= value && s->kind == INNER_READY_TIME;
  inner_source_touch (s);
}

/* GLib has found it ready. */
void
inner_source_flag (InnerSource *s)
{
  s->flagged = TRUE;
  s->flagged_conditions |= s->conditions;
}

void
inner_source_mark_removed (InnerSource *s)
{
  s->removed = TRUE;
  g_ptr_array_remove (s->inner->sources, s);
}

static guint
poll_source (InnerSource *s)
{
  struct pollfd pollfd = { s->fd, (short) (s->condition | POLLIN | POLLOUT | POLLPRI), 0 };

  poll (&pollfd, 1, 0);
  return pollfd.revents & (s->condition | ALWAYS_POLLED);
}

static gboolean
is_ready (InnerSource *s)
{
  switch (s->kind)
    {
    case INNER_IDLE:
      return TRUE;
    case INNER_FD:
      return poll_source (s) != 0;
    case INNER_TIMER:
      return s->deadline != -1 && s->deadline <= fuzz_time_now ();
    default:
      return s->value;
    }
}

/* Ready, and GLib knows or can find out without looking at everything again. */
static gboolean
waits (InnerSource *s)
{
  if (s->inner->fading && !s->last)
    return FALSE;
  if (s->kind == INNER_TIMER && s->deadline + LATE_US > fuzz_time_now ())
    return FALSE;
  return s->running == 0 && !s->hidden && !is_wild (s) && is_ready (s);
}

/* What is ready now has its turn, or at least what comes before it. */
void
inner_mark_ownerless (Inner *inner)
{
  foreach_source (inner, s)
    s->last = waits (s);
  inner->fading = TRUE;
  inner->gone = !inner->referenced;
}

static gboolean
is_owed (const Round *round, InnerSource *s)
{
  return s->ready && s->touched < round->id && waits (s);
}

/* --- Its callback --- */

/* It is called by a turn, or by an iteration of the case. */
static void
check_caller (InnerSource *s)
{
  Inner *inner = s->inner;
  Model *self = inner->model;
  Round *round = self->round;

  if (self->iterated != NULL)
    {
      check (self, self->iterated == inner, "source %u is called in an iteration of inner %u",
             s->id, self->iterated->id);
      return;
    }
  check (self, round != NULL && !self->afar, "source %u is called outside of any round", s->id);
  check (self, g_thread_self () == round->thread, "source %u is called in a foreign thread", s->id);
  check (self, inner->served || inner->ending == round,
         "source %u is called, and inner %u is not served", s->id, inner->id);
  check (self, !self->closed || inner->ending == round,
         "source %u is called after the context was closed", s->id);
  check (self, self->closed || gaio_context_get_current () == self->context,
         "another context is current");
  check (self, g_main_context_get_thread_default () == inner->main_context,
         "source %u: another main context is the default", s->id);
  check (self, s->called_in != round->id, "source %u is called twice in a round", s->id);
  model_commit (self);
}

/* GLib dispatches the highest priority that is ready. */
static void
check_priority (InnerSource *called)
{
  Model *self = called->inner->model;
  Round *round = self->round;

  if (self->iterated != NULL || round->interrupted || round->limit > 0)
    return;
  foreach_source (called->inner, s)
    check (self, s->priority >= called->priority || !is_owed (round, s),
           "source %u is called before %u, which has a higher priority", called->id, s->id);
}

static void
check_was_ready (InnerSource *s, guint condition)
{
  Model *self = s->inner->model;

  if (s->kind == INNER_FD)
    check (self, s->hidden || is_wild (s) || (condition & ~(s->conditions | poll_source (s))) == 0,
           "source %u of fd %d is told %#x", s->id, s->fd, condition);
  check (self, s->hidden || is_wild (s) || s->ready || s->flagged || is_ready (s),
         "source %u is called, and is not ready", s->id);
}

void
inner_source_begin_call (InnerSource *s, guint condition)
{
  Inner *inner = s->inner;
  Model *self = inner->model;

  model_say (self, "source %u of inner %u is called", s->id, inner->id);
  check (self, !s->removed, "source %u is called, but removed", s->id);
  check (self, s->running == 0, "source %u is called inside itself", s->id);
  check (self, g_main_context_is_owner (inner->main_context), "source %u: it is nobody's", s->id);
  check_caller (s);
  check_was_ready (s, condition);
  check_priority (s);
  s->flagged = FALSE;
  s->flagged_conditions = 0;
  foreach_source (inner, other)
    if (other != s && (other->ready || is_ready (other)))
      inner_source_flag (other);
  foreach_source (inner, other)
    other->last = FALSE;
  inner_source_touch (s);
  if (self->round != NULL)
    inner->called_in = self->round->id;
  if (self->iterated == NULL)
    s->called_in = self->round->id;
  inner->n_waits = 0;
  inner->last_round = self->iterated == NULL ? self->round : NULL;
  inner->running++;
  s->running++;
  self->depth++;
}

gboolean
inner_source_end_call (InnerSource *s, gboolean keep)
{
  Model *self = s->inner->model;

  self->depth--;
  s->inner->running--;
  s->running--;
  inner_source_touch (s);
  if (!keep && !s->removed)
    {
      model_say (self, "source %u removes itself", s->id);
      inner_source_mark_removed (s);
    }
  return keep;
}

/* --- What happens to all of them --- */

void
inners_begin (Model *self)
{
  self->inners = g_ptr_array_new ();
  self->inner_sources = g_ptr_array_new ();
}

static void
inner_free (Inner *inner)
{
  for (guint i = 0; i < G_N_ELEMENTS (inner->observers); i++)
    {
      g_source_destroy (inner->observers[i]);
      g_source_unref (inner->observers[i]);
    }
  g_clear_object (&inner->owner);
  if (inner->referenced)
    g_main_context_unref (inner->main_context);
  g_ptr_array_unref (inner->sources);
  g_free (inner);
}

void
inners_end (Model *self)
{
  for (guint i = 0; i < self->inner_sources->len; i++)
    {
      InnerSource *s = self->inner_sources->pdata[i];

      g_source_destroy (s->source);
      g_source_unref (s->source);
      g_free (s);
    }
  g_ptr_array_unref (self->inner_sources);
  foreach_inner (self, inner)
    inner_free (inner);
  g_ptr_array_unref (self->inners);
}

/* What is ready before a round, or an iteration. */
void
inners_look (Model *self)
{
  foreach_inner (self, inner)
    foreach_source (inner, s)
      {
        s->conditions = s->kind == INNER_FD ? poll_source (s) : 0;
        s->ready = is_ready (s);
        s->last = s->last && s->ready;
      }
}

/* Of @s the file under its number may be in the monitor from now on. */
void
inner_source_mark_watched (InnerSource *s)
{
  FuzzFile *file = fuzz_files_lookup (s->inner->model->files, s->fd);

  if (file != NULL)
    file->watched |= G_GUINT64_CONSTANT (1) << (s->fd % 64);
}

/* @number means another file, or none: GLib is not told of it. */
void
inners_number_changed (Model *self, gint number)
{
  foreach_inner (self, inner)
    foreach_source (inner, s)
      if (s->fd == number)
        {
          s->hidden = TRUE;
          s->moved_in = self->n_rounds;
          inner_source_touch (s);
          inner_source_mark_watched (s);
        }
}

void
inners_mark_closed (Model *self)
{
  foreach_inner (self, inner)
    inner_mark_stopped (inner);
}

/* The loop has a duty to it. */
static gboolean
is_due (const Inner *inner)
{
  return inner->served && !inner->held && inner->retry <= fuzz_time_now ();
}

/* How many rounds may pass before it has its turn. A limit leaves it to take turns with everybody,
 * and those of a low priority move up one by one. */
guint
inners_patience (Model *self, guint limit)
{
  guint n = inners_count (self);

  return 4 + 2 * n + (limit > 0 ? 4 * (self->things->len + n + 4) : 0);
}

/* After one for the context, without a loop inside. */
void
inners_check_round (Round *round, Model *self)
{
  foreach_inner (self, inner)
    {
      gboolean owed = FALSE;

      if (!is_due (inner) || inner->called_in >= round->id)
        continue;
      foreach_source (inner, s)
        owed |= is_owed (round, s);
      inner->n_waits = owed ? inner->n_waits + 1 : 0;
      check (self, inner->n_waits <= inners_patience (self, round->limit),
             "inner %u is ready, and waits for %u rounds", inner->id, inner->n_waits);
    }
}

/* After as many sweeps as it takes until the kernel has been asked. */
void
inners_mark_swept (Model *self)
{
  foreach_inner (self, inner)
    foreach_source (inner, s)
      s->moved_in = 0;
}

/* What is expected of the loop changes. */
void
inners_be_patient (Model *self)
{
  foreach_inner (self, inner)
    inner->n_waits = 0;
}

void
inners_end_round (Round *round, Model *self)
{
  foreach_inner (self, inner)
    if (inner->ending == round)
      inner->ending = NULL;
}

static void
check_source_may_sleep (InnerSource *s, gint64 until)
{
  Model *self = s->inner->model;

  check (self, !waits (s), "the loop sleeps, and source %u of inner %u waits", s->id, s->inner->id);
  check (self,
         s->kind != INNER_TIMER || s->running > 0 || s->hidden || s->deadline == -1 ||
             s->inner->fading || until <= s->deadline + LATE_US,
         "the loop sleeps for %d us too long for source %u of inner %u",
         (gint) (until - s->deadline), s->id, s->inner->id);
}

/* The loop is about to sleep until @until. */
void
inners_check_sleep (Model *self, gint64 until)
{
  foreach_inner (self, inner)
    {
      if (is_due (inner))
        foreach_source (inner, s)
          check_source_may_sleep (s, until);
      else if (inner->served && !inner->held)
        foreach_source (inner, s)
          check (self, !waits (s) || until <= inner->retry, "inner %u is not tried again",
                 inner->id);
    }
}

/* Those whose owner has gone are served as long as something is ready, and no longer. */
void
inners_check_count (Model *self)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (self->context);
  guint n = 0, least = 0, most = 0;

  foreach_inner (self, inner)
    {
      least += inner->served && !inner->fading;
      most += inner->served && (!inner->fading || inner->held);
    }
  check (self, g_variant_lookup (stats, "main-contexts", "u", &n), "no main contexts");
  check (self, n >= least && n <= most, "%u inner contexts are served, not %u to %u", n, least,
         most);
}

/* Nothing is ready, or may turn out to be. */
gboolean
inners_are_quiet (Model *self)
{
  foreach_inner (self, inner)
    {
      if (inner->served && inner->retry > fuzz_time_now ())
        return FALSE;
      foreach_source (inner, s)
        if (inner->served && !inner->held && (s->hidden || is_wild (s) || is_ready (s)))
          return FALSE;
    }
  return TRUE;
}
