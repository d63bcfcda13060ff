/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may go wrong in a main context that somebody else iterates. */
#include "test-clock.h"
#include "test-serve.h"

/* --- The thread-default main context --- */

static gboolean
pop_one_more (gpointer data)
{
  Stage *stage = data;

  g_main_context_pop_thread_default (stage->inner);
  return G_SOURCE_REMOVE;
}

static void
test_unbalanced_pop (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, 0, pop_one_more, &stage);
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  g_test_expect_message ("GLib", G_LOG_LEVEL_CRITICAL, "g_main_context_pop_thread_default*");
  until (&stage, calls == 1);
  g_test_assert_expected_messages ();
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  until (&stage, calls == 2);
  stage_end (&stage);
}

/* --- What wakes nobody up, or does --- */

typedef struct
{
  GSource parent;
  gboolean *is_ready;
  guint *calls;
} Looking;

static gboolean
look_prepare (GSource *source, gint *timeout)
{
  *timeout = -1;
  return *((Looking *) source)->is_ready;
}

static gboolean
look_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  ++*((Looking *) source)->calls;
  *((Looking *) source)->is_ready = FALSE;
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs look_funcs = { .prepare = look_prepare, .dispatch = look_dispatch };

static void
set_ready (gpointer data)
{
  *(gboolean *) data = TRUE;
}

static void
test_prepare_looks_at_a_variable (gconstpointer nested)
{
  Stage stage;
  gboolean is_ready = FALSE;
  guint calls = 0;
  GSource *source = g_source_new (&look_funcs, sizeof (Looking));

  stage_begin (&stage, nested);
  ((Looking *) source)->is_ready = &is_ready;
  ((Looking *) source)->calls = &calls;
  g_source_attach (source, stage.inner);
  settle (&stage);
  gaio_context_defer (stage.context, set_ready, &is_ready, NULL);
  until (&stage, calls == 1);
  g_source_destroy (source);
  g_source_unref (source);
  stage_end (&stage);
}

static gboolean
dispatch_callback (GSource *source, GSourceFunc callback, gpointer data)
{
  g_source_set_ready_time (source, -1);
  return callback (data);
}

static GSourceFuncs ready_time_funcs = { .dispatch = dispatch_callback };

static void
test_ready_time_from_outside (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  g_autoptr (GSource) source = g_source_new (&ready_time_funcs, sizeof (GSource));

  stage_begin (&stage, nested);
  g_source_set_callback (source, count_again, &calls, NULL);
  g_source_attach (source, stage.inner);
  settle (&stage);
  for (guint i = 1; i <= 3; i++)
    {
      g_source_set_ready_time (source, 0);
      until (&stage, calls == i);
    }
  g_source_set_ready_time (source, g_get_monotonic_time () + 5000);
  until (&stage, calls == 4);
  g_source_destroy (source);
  stage_end (&stage);
}

typedef struct
{
  GSource parent;
  Stage *stage;
  guint prepares, calls;
} Caller;

/* A source whose prepare() makes calls in its own main context. */
static gboolean
prepare_with_call (GSource *source, gint *timeout_ms)
{
  Caller *self = (Caller *) source;

  *timeout_ms = -1;
  if (self->prepares++ < 3)
    gaio_context_call_in (self->stage->context, self->stage->inner, count_once, &self->calls);
  return FALSE;
}

static GSourceFuncs caller_funcs = { .prepare = prepare_with_call };

static gboolean
run_outer_loop (gpointer stage)
{
  for (guint i = 0; i < 5; i++)
    round_of (stage, FALSE);
  return G_SOURCE_REMOVE;
}

static void
test_called_in_prepare (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  GSource *source = g_source_new (&caller_funcs, sizeof (Caller));
  Caller *self = (Caller *) source;

  stage_begin (&stage, nested);
  self->stage = &stage;
  g_source_attach (source, stage.inner);
  attach_idle (stage.inner, G_PRIORITY_DEFAULT, run_outer_loop, &stage);
  attach_idle (stage.inner, G_PRIORITY_DEFAULT, count_and_stop, &calls);
  for (guint i = 0; i < 20; i++)
    round_of (&stage, FALSE);
  g_assert_cmpuint (self->calls, ==, 3);
  g_assert_cmpuint (calls, ==, 1);
  g_source_destroy (source);
  g_source_unref (source);
  stage_end (&stage);
}

typedef struct
{
  Stage *stage;
  guint turns, calls;
} Cut;

/* While this is ready, a query tells of nothing that has a lower priority. */
static gboolean
attach_lower (gpointer data)
{
  Cut *cut = data;

  if (++cut->turns < 4)
    return G_SOURCE_CONTINUE;
  attach_idle (cut->stage->inner, G_PRIORITY_DEFAULT, count_and_stop, &cut->calls);
  return G_SOURCE_REMOVE;
}

static void
test_query_cut_to_a_priority (gconstpointer nested)
{
  Stage stage;
  Cut cut = { &stage, 0, 0 };

  stage_begin (&stage, nested);
  attach_idle (stage.inner, G_PRIORITY_HIGH, attach_lower, &cut);
  until (&stage, cut.calls == 1);
  settle (&stage);
  attach_idle (stage.inner, G_PRIORITY_DEFAULT, count_and_stop, &cut.calls);
  until (&stage, cut.calls == 2);
  stage_end (&stage);
}

typedef struct
{
  Stage *stage;
  guint n_tokens;
} Steady;

static gboolean
take_token (gint fd, GIOCondition condition, gpointer data)
{
  Steady *steady = data;

  eventfd_take (fd);
  steady->n_tokens++;
  return G_SOURCE_CONTINUE;
}

static void
go_on (gpointer data)
{
  Steady *steady = data;

  if (steady->n_tokens == 0)
    gaio_context_defer (steady->stage->context, go_on, steady, NULL);
}

/* It is never calm, so there is no last look. */
static void
test_number_reused_outside (gconstpointer nested)
{
  Stage stage;
  Steady steady = { &stage, 0 };
  int fd = eventfd_new (0), ready = eventfd_new (1);

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_token, &steady);
  settle (&stage);
  g_assert_cmpint (dup2 (ready, fd), ==, fd);
  gaio_context_defer (stage.context, go_on, &steady, NULL);
  clock_leap (5000);
  for (guint i = 0; steady.n_tokens == 0 && i < 100000; i++)
    round_of (&stage, FALSE);
  clock_leap (0);
  g_assert_cmpuint (steady.n_tokens, ==, 1);
  stage_end (&stage);
  close (fd);
  close (ready);
}

/* --- What may happen to the context --- */

/* The numbers in the wake-up fd are the parent's. */
static void
use_in_child (Stage *stage)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioContext) fresh = gaio_context_new ();

  g_assert_null (gaio_context_create_main_context (stage->context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_clear_error (&error);
  g_assert_false (gaio_context_serve_main_context (fresh, stage->inner, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  gaio_context_stop_serving (stage->context, stage->inner);
  gaio_context_iterate (stage->context, 0);
  _exit (0);
}

static void
test_forked_child (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  pid_t pid;

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  pid = fork ();
  g_assert_cmpint (pid, >=, 0);
  if (pid == 0)
    use_in_child (&stage);
  assert_exits_well (pid);
  until (&stage, calls == 1);
  stage_end (&stage);
}

static void
test_detached (void)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, "nested");
  settle (&stage);
  gaio_context_detach (stage.context);
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  while (calls == 0)
    gaio_context_iterate (stage.context, -1);
  stage_end (&stage);
}

static void
test_outer_freed (void)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, "nested");
  settle (&stage);
  g_clear_pointer (&stage.outer, g_main_context_unref);
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  until (&stage, calls == 1);
  stage_end (&stage);
}

static gboolean
count_atomic_again (gpointer data)
{
  count_atomic (data);
  return G_SOURCE_CONTINUE;
}

static void
test_thread_stops (void)
{
  GaioThread *thread = gaio_thread_new ("serves", NULL);
  atomic_uint calls = 0;
  g_autoptr (GMainContext) inner =
      gaio_context_create_main_context (gaio_thread_get_context (thread), NULL, NULL);
  g_autoptr (GSource) source = g_idle_source_new ();

  g_source_set_callback (source, count_atomic_again, &calls, NULL);
  g_source_attach (source, inner);
  while (atomic_load (&calls) < 10)
    sched_yield ();
  gaio_thread_stop (thread);
  g_object_unref (thread);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/serve-hazards/unbalanced-pop", test_unbalanced_pop);
  add_both ("/serve-hazards/prepare-that-looks-at-a-variable", test_prepare_looks_at_a_variable);
  add_both ("/serve-hazards/ready-time-from-outside", test_ready_time_from_outside);
  add_both ("/serve-hazards/query-cut-to-a-priority", test_query_cut_to_a_priority);
  add_both ("/serve-hazards/called-in-prepare", test_called_in_prepare);
  add_both ("/serve-hazards/number-reused-outside-while-busy", test_number_reused_outside);
  add_both ("/serve-hazards/forked-child", test_forked_child);
  g_test_add_func ("/serve-hazards/detached", test_detached);
  g_test_add_func ("/serve-hazards/outer-main-context-freed", test_outer_freed);
  g_test_add_func ("/serve-hazards/thread-stops", test_thread_stops);
  return g_test_run ();
}
