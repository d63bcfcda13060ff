/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <string.h>

#include <gio/gio.h>

#include "test-support.h"

/* The same program over GLib alone and over main contexts that a context serves: what each of its
 * connections meets has to be the same, in the same order. */

/* Before the guards of others, which know nothing of logs. */
#define STUCK_US (GUARD_US * 2 / 3)

/* More than any scenario takes. */
#define SCENARIO_FDS 200

typedef enum
{
  PLACE_GLIB,    /* all in the default main context, and no context at all */
  PLACE_NESTED,  /* served by a context that is nested in it */
  PLACE_RUN,     /* served in gaio_context_run() */
  PLACE_ITERATE, /* served in gaio_context_iterate(), which nobody runs GLib beside */
  PLACE_THREAD,  /* served by a GaioThread */
} Place;

static const char *const place_names[] = { "glib", "nested", "run", "iterate", "thread" };

typedef struct _Party Party;
typedef struct _Run Run;
typedef void (*PartyFunc) (Party *party);
typedef void (*RunFunc) (Run *run);

typedef struct _Scenario Scenario;

typedef struct
{
  Scenario *scenario;
  Place place;
} ScenarioTest;

/* A program, and what it has logged over GLib. */
struct _Scenario
{
  const char *path;
  RunFunc begin;
  gboolean has_pipes; /* which GIO asks epoll about */
  char *expected;
  ScenarioTest tests[PLACE_THREAD + 1];
};

/* A scenario in a place. */
struct _Run
{
  const Scenario *scenario;
  Place place;
  GaioContext *context;      /* NULL over GLib alone */
  GCancellable *cancellable; /* ends gaio_context_run() */
  GPtrArray *parties;
  atomic_uint n_owners; /* that have not gone */
  guint n_open;         /* parties that have not ended */
  gboolean over;        /* all have */
  gboolean stuck;       /* not all have, but it took too long */
  gint fd;              /* tells another thread so */
  char *log;            /* of all parties, at the end */
  gpointer data;        /* of the scenario */
  GDestroyNotify free_data;
};

/* One connection, or what else has a main context to itself. The rest is up to the scenario. */
struct _Party
{
  Run *run;
  char *name;
  GObject *owner;      /* with a reference */
  GMainContext *inner; /* NULL over GLib alone */
  GString *log;
  gboolean ended;
  GIOStream *stream;         /* with a reference, or NULL */
  GDataInputStream *lines;   /* with a reference, or NULL */
  GCancellable *cancellable; /* with a reference, or NULL */
  GBytes *bytes;             /* with a reference, or NULL */
  Party *other;
  guint step;
  gint fd; /* closed with it, or -1 */
  char buffer[64];
  gpointer data;
  GDestroyNotify free_data;
};

/* --- What a scenario calls --- */

/* In whichever thread. */
static inline void
owner_gone (gpointer run, GObject *owner)
{
  atomic_fetch_sub (&((Run *) run)->n_owners, 1);
}

/* One for @owner, or for an object of its own. */
static inline Party *
party_new (Run *run, const char *name, gpointer owner)
{
  Party *self = g_new0 (Party, 1);
  g_autoptr (GError) error = NULL;

  self->run = run;
  self->name = g_strdup (name);
  self->owner = owner != NULL ? g_object_ref (owner) : g_object_new (G_TYPE_OBJECT, NULL);
  self->log = g_string_new (NULL);
  self->fd = -1;
  if (run->context != NULL)
    self->inner = gaio_context_create_main_context (run->context, self->owner, &error);
  g_assert_no_error (error);
  g_object_weak_ref (self->owner, owner_gone, run);
  atomic_fetch_add (&run->n_owners, 1);
  g_ptr_array_add (run->parties, self);
  run->n_open++;
  return self;
}

static inline Party *
party_new_for_stream (Run *run, const char *name, gpointer stream)
{
  Party *self = party_new (run, name, stream);

  self->stream = g_object_ref (stream);
  return self;
}

G_GNUC_PRINTF (2, 3)
static inline void
party_log (Party *self, const char *format, ...)
{
  va_list args;

  g_assert_true (g_main_context_get_thread_default () == self->inner);
  g_assert_true (g_main_context_is_owner (self->inner));
  g_string_append_printf (self->log, "%s: ", self->name);
  va_start (args, format);
  g_string_append_vprintf (self->log, format, args);
  va_end (args);
  g_string_append_c (self->log, '\n');
}

static inline void
party_log_result (Party *self, const char *what, const GError *error)
{
  if (error == NULL)
    party_log (self, "%s", what);
  else
    party_log (self, "%s: %s %d", what, g_quark_to_string (error->domain), error->code);
}

static inline void
run_end (Run *self)
{
  self->over = TRUE;
  g_cancellable_cancel (self->cancellable);
  eventfd_add (self->fd);
}

static inline void
party_end (Party *self)
{
  party_log (self, "end");
  g_assert_false (self->ended);
  self->ended = TRUE;
  if (--self->run->n_open == 0)
    run_end (self->run);
}

typedef struct
{
  Party *party;
  PartyFunc func;
} PartyCall;

static inline void
party_call_once (gpointer data)
{
  PartyCall *call = data;

  call->func (call->party);
}

static inline gboolean
party_call_source (gpointer data)
{
  party_call_once (data);
  return G_SOURCE_REMOVE;
}

/* Calls @func as from the main context of @self. */
static inline void
party_call (Party *self, PartyFunc func)
{
  PartyCall call = { self, func };

  if (self->inner == NULL)
    func (self);
  else
    gaio_context_call_in (self->run->context, self->inner, party_call_once, &call);
}

/* Calls @func later, in the main context of @self. */
static inline void
party_later (Party *self, gint priority, PartyFunc func)
{
  GSource *source = g_idle_source_new ();
  PartyCall *call = g_new (PartyCall, 1);

  *call = (PartyCall){ self, func };
  g_source_set_priority (source, priority);
  g_source_set_callback (source, party_call_source, call, g_free);
  g_source_attach (source, self->inner);
  g_source_unref (source);
}

/* Calls @func later, as from a callback that has nothing to do with the main context of @self. */
static inline void
party_outside (Party *self, PartyFunc func)
{
  PartyCall *call = g_new (PartyCall, 1);

  *call = (PartyCall){ self, func };
  if (self->inner != NULL)
    gaio_context_defer (self->run->context, party_call_once, call, g_free);
  else
    g_idle_add_full (G_PRIORITY_DEFAULT, party_call_source, call, g_free);
}

/* --- What runs it --- */

static inline void
party_free (gpointer data)
{
  Party *self = data;

  g_clear_object (&self->lines);
  g_clear_object (&self->stream);
  g_clear_object (&self->cancellable);
  g_clear_pointer (&self->bytes, g_bytes_unref);
  g_clear_object (&self->owner);
  if (self->free_data != NULL)
    self->free_data (self->data);
  g_clear_pointer (&self->inner, g_main_context_unref);
  if (self->fd != -1)
    close (self->fd);
  g_string_free (self->log, TRUE);
  g_free (self->name);
  g_free (self);
}

static inline char *
run_get_log (Run *self)
{
  GString *log = g_string_new (NULL);

  for (guint i = 0; i < self->parties->len; i++)
    {
      Party *party = g_ptr_array_index (self->parties, i);

      g_string_append (log, party->log->str);
      if (!party->ended)
        g_string_append_printf (log, "%s: stuck\n", party->name);
    }
  return g_string_free (log, FALSE);
}

static inline void
run_is_stuck (gpointer data)
{
  Run *self = data;

  self->stuck = TRUE;
  run_end (self);
}

static inline gboolean
run_is_stuck_source (gpointer data)
{
  run_is_stuck (data);
  return G_SOURCE_CONTINUE;
}

static inline GSource *
stuck_source_new (Run *self)
{
  GSource *source = g_timeout_source_new (STUCK_US / 1000);

  g_source_set_callback (source, run_is_stuck_source, self, NULL);
  g_source_attach (source, NULL);
  return source;
}

static inline void
run_until_over (Run *self)
{
  g_autoptr (GError) error = NULL;

  switch (self->place)
    {
    case PLACE_GLIB:
    case PLACE_NESTED:
      while (!self->over)
        g_main_context_iteration (NULL, TRUE);
      break;
    case PLACE_RUN:
      gaio_context_run (self->context, NULL, self->cancellable, &error);
      g_assert_no_error (error);
      break;
    case PLACE_ITERATE:
      while (!self->over)
        gaio_context_iterate (self->context, -1);
      break;
    case PLACE_THREAD:
      g_assert_not_reached ();
    }
}

static inline void
run_begin (gpointer data)
{
  Run *self = data;

  self->scenario->begin (self);
}

static inline void
run_clear_parties (gpointer data)
{
  Run *self = data;

  g_ptr_array_set_size (self->parties, 0);
  if (self->free_data != NULL)
    self->free_data (self->data);
  self->data = NULL;
  eventfd_add (self->fd);
}

static inline guint
run_count_inner (Run *self)
{
  g_autoptr (GVariant) stats = NULL;
  guint n = 0;

  if (self->context == NULL)
    return 0;
  stats = gaio_context_dup_stats (self->context);
  g_assert_true (g_variant_lookup (stats, "main-contexts", "u", &n));
  return n;
}

/* What is left is freed by sources that have been destroyed, or by a thread of a GTask. Then all
 * owners have gone, and nothing is served any longer. A run has detached the context. */
static inline void
run_settle (Run *self)
{
  gint64 until = g_get_monotonic_time () + GUARD_US;
  gboolean busy;

  do
    {
      busy = self->place == PLACE_RUN || self->place == PLACE_ITERATE
                 ? gaio_context_iterate (self->context, 0)
                 : g_main_context_iteration (NULL, FALSE);
      if (g_get_monotonic_time () > until)
        g_error ("%u owners and %u main contexts are left%s", (guint) atomic_load (&self->n_owners),
                 run_count_inner (self), busy ? ", and something goes on" : "");
      sched_yield ();
    }
  while (busy || atomic_load (&self->n_owners) > 0 || run_count_inner (self) > 0);
}

static inline void
run_here (Run *self)
{
  if (self->place != PLACE_ITERATE)
    g_assert_true (g_main_context_acquire (NULL));
  run_begin (self);
  run_until_over (self);
  if (!self->stuck)
    {
      self->log = run_get_log (self);
      run_clear_parties (self);
      run_settle (self);
    }
  if (self->place != PLACE_ITERATE)
    g_main_context_release (NULL);
}

static inline void
run_in_thread (Run *self)
{
  gaio_context_defer (self->context, run_begin, self, NULL);
  eventfd_wait (self->fd);
  if (self->stuck)
    return;
  self->log = run_get_log (self);
  gaio_context_defer (self->context, run_clear_parties, self, NULL);
  eventfd_wait (self->fd);
  while (atomic_load (&self->n_owners) > 0 || run_count_inner (self) > 0)
    sched_yield ();
}

/* Returns the log. One that is stuck can't be cleaned up: the test ends with it. */
static inline char *
run_scenario (const Scenario *scenario, Place place)
{
  Run self = { .scenario = scenario, .place = place, .fd = eventfd_new (0) };
  GaioThread *thread = NULL;
  GaioTimer *timer = NULL;
  GSource *source = NULL;

  self.cancellable = g_cancellable_new ();
  self.parties = g_ptr_array_new_with_free_func (party_free);
  if (place == PLACE_THREAD)
    {
      thread = gaio_thread_new ("serves", NULL);
      self.context = g_object_ref (gaio_thread_get_context (thread));
    }
  else if (place != PLACE_GLIB)
    self.context = gaio_context_new ();
  if (place == PLACE_NESTED)
    attach (self.context, NULL);
  if (self.context == NULL)
    source = stuck_source_new (&self);
  else
    {
      timer = gaio_context_add_timer (self.context, run_is_stuck, &self, NULL);
      gaio_timer_arm (timer, STUCK_US);
    }
  if (thread != NULL)
    run_in_thread (&self);
  else
    run_here (&self);
  if (self.stuck)
    return run_get_log (&self);
  gaio_clear_timer (&timer);
  g_clear_pointer (&source, guard_free);
  if (thread != NULL)
    gaio_thread_stop (thread);
  g_clear_object (&thread);
  g_clear_object (&self.context);
  g_clear_object (&self.cancellable);
  g_ptr_array_unref (self.parties);
  close (self.fd);
  return self.log;
}

/* --- The comparison --- */

static inline void
assert_same_log (const char *expected, const char *actual, const char *place)
{
  g_auto (GStrv) lines = g_strsplit (expected, "\n", -1);
  g_auto (GStrv) others = g_strsplit (actual, "\n", -1);

  for (guint i = 0; lines[i] != NULL || others[i] != NULL; i++)
    {
      const char *line = lines[i] != NULL ? lines[i] : "";
      const char *other = others[i] != NULL ? others[i] : "";

      if (!g_str_equal (line, other))
        g_error ("Line %u is \"%s\" over GLib, but \"%s\" in %s:\n%s", i + 1, line, other, place,
                 actual);
    }
}

static inline void
test_scenario (gconstpointer data)
{
  const ScenarioTest *test = data;
  g_autofree char *actual = NULL;

#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer does not see the locks of GLib");
  return;
#endif
  if (!test_may_open (SCENARIO_FDS) || (test->scenario->has_pipes && !test_has_epoll ()))
    return;
  if (test->scenario->expected == NULL)
    test->scenario->expected = run_scenario (test->scenario, PLACE_GLIB);
  if (g_test_verbose ())
    g_test_message ("Over GLib:\n%s", test->scenario->expected);
  g_assert_null (strstr (test->scenario->expected, ": stuck\n"));
  actual = run_scenario (test->scenario, test->place);
  assert_same_log (test->scenario->expected, actual, place_names[test->place]);
}

/* But for the one that makes the others, which stays. */
static inline gboolean
is_pool_thread (const char *task)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%s/comm", task);
  g_autofree char *name = NULL;

  return g_file_get_contents (path, &name, NULL, NULL) && g_str_has_prefix (name, "pool-") &&
         !g_str_has_prefix (name, "pool-spawner");
}

static inline guint
count_pool_threads (void)
{
  const char *task;
  guint n = 0;
  GDir *dir = g_dir_open ("/proc/self/task", 0, NULL);

  while (dir != NULL && (task = g_dir_read_name (dir)) != NULL)
    n += is_pool_thread (task);
  g_clear_pointer (&dir, g_dir_close);
  return n;
}

/* GLib ends the threads of its pool at leisure, which a leak checker has to be spared. */
static inline void
end_pool_threads (void)
{
  gint64 until = g_get_monotonic_time () + GUARD_US;

  g_thread_pool_set_max_unused_threads (0);
  while (count_pool_threads () > 0 && g_get_monotonic_time () < until)
    g_usleep (1000);
}

/* @scenarios are static. */
static inline int
run_scenarios (Scenario *scenarios, guint n)
{
  int status;

  for (guint i = 0; i < n; i++)
    for (Place place = PLACE_NESTED; place <= PLACE_THREAD; place++)
      {
        ScenarioTest *test = &scenarios[i].tests[place];
        g_autofree char *path = g_strdup_printf ("%s/%s", scenarios[i].path, place_names[place]);

        *test = (ScenarioTest){ &scenarios[i], place };
        g_test_add_data_func (path, test, test_scenario);
      }
  status = g_test_run ();
  end_pool_threads ();
  return status;
}
