/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "test-host.h"

/* --- It ends --- */

static void
test_cancelled_before_it_begins (Fixture *self, gconstpointer data)
{
  g_cancellable_cancel (self->cancellable);
  assert_runs (self);
}

/* Which this test runs nothing else in. */
static void
test_null_is_the_default_main_context (Fixture *self, gconstpointer data)
{
  g_clear_pointer (&self->main_context, g_main_context_unref);
  gaio_context_defer (self->context, cancel, self->cancellable, NULL);
  assert_runs (self);
}

/* There is room for so many events at a time, however many callbacks there may be. */
static void
test_no_limit_is_a_limit_for_events (Fixture *self, gconstpointer data)
{
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, go_round, self, NULL);
  guint interruptions = test_interruptions ();

  gaio_context_set_dispatch_limits (self->context, 0, 0);
  self->wanted = 100;
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->calls, ==, 100);
  g_assert_cmpuint (n_epoll_waits, <, 110 + test_interruptions () - interruptions);
  gaio_clear_handler (&handler);
}

static void
test_cancelled_in_a_callback (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, cancel, self->cancellable, NULL);
  assert_runs (self);
}

static void
test_cancelled_by_another_thread (Fixture *self, gconstpointer data)
{
  pthread_t thread = spawn (cancel_from_thread, self);

  gaio_context_defer (self->context, tell_thread, self, NULL);
  assert_runs (self);
  join (thread);
}

static void
detach_context (Fixture *self)
{
  gaio_context_detach (self->context);
}

static void
destroy_source (Fixture *self)
{
  g_source_destroy (self->source);
}

static void *
take_away_and_cancel (void *data)
{
  Fixture *self = data;

  eventfd_wait (self->fd);
  while (!loop_sleeps ())
    sched_yield ();
  self->take_away (self);
  g_cancellable_cancel (self->cancellable);
  return NULL;
}

/* What wakes GLib goes on to end the wait, which has not noticed yet. */
static void
test_taken_away_by_another_thread (Fixture *self, gconstpointer take_away)
{
  pthread_t thread;

  gaio_context_detach (self->context);
  self->take_away = (void (*) (Fixture *)) take_away;
  self->source = gaio_context_create_source (self->context, NULL);
  g_source_attach (self->source, self->main_context);
  thread = spawn (take_away_and_cancel, self);
  gaio_context_defer (self->context, tell_thread, self, NULL);
  assert_runs (self);
  join (thread);
  g_clear_pointer (&self->source, g_source_unref);
}

static void *
detach_and_close (void *data)
{
  Fixture *self = data;

  eventfd_wait (self->fd);
  while (!loop_sleeps ())
    sched_yield ();
  gaio_context_detach (self->context);
  while (!loop_sleeps ())
    sched_yield ();
  gaio_context_close (self->context);
  return NULL;
}

/* --- Between two steps of how a run begins --- */

static _Thread_local gboolean begins;
static atomic_uint step;

enum
{
  NESTED = 1, /* the run has found the context to be nested */
  TAKEN_AWAY
};

static void *
detach_in_between (void *data)
{
  Fixture *self = data;

  /* Relaxed: only the library's lock may be between the two threads. */
  while (atomic_load_explicit (&step, memory_order_relaxed) != NESTED)
    sched_yield ();
  gaio_context_detach (self->context);
  atomic_store_explicit (&step, TAKEN_AWAY, memory_order_relaxed);
  return NULL;
}

/* Stands in for the C library's. */
int
pthread_mutex_unlock (pthread_mutex_t *mutex)
{
  int result = NEXT (pthread_mutex_unlock) (mutex);

  if (!begins)
    return result;
  begins = FALSE;
  atomic_store_explicit (&step, NESTED, memory_order_relaxed);
  while (atomic_load_explicit (&step, memory_order_relaxed) != TAKEN_AWAY)
    sched_yield ();
  return result;
}

/* ThreadSanitizer sees whether the run looks under the lock. */
static void
test_taken_away_as_it_begins (Fixture *self, gconstpointer data)
{
  pthread_t thread;

  atomic_store (&step, 0);
  g_cancellable_cancel (self->cancellable);
  thread = spawn (detach_in_between, self);
  begins = TRUE;
  assert_runs (self);
  join (thread);
  g_assert_cmpuint (atomic_load (&step), ==, TAKEN_AWAY);
}

/* What the run waits with is no longer the context's. */
static void
test_closed_by_another_thread_once_detached (Fixture *self, gconstpointer data)
{
  pthread_t thread = spawn (detach_and_close, self);

  gaio_context_defer (self->context, tell_thread, self, NULL);
  assert_runs (self);
  join (thread);
}

static void
close_context (gpointer context)
{
  gaio_context_close (context);
}

static void
test_closed_in_a_callback (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, close_context, self->context, NULL);
  assert_runs (self);
  g_assert_true (gaio_context_is_closed (self->context));
}

static void
drop_context (gpointer data)
{
  Fixture *self = data;

  gaio_context_close (self->context);
  g_clear_object (&self->context);
}

static void
test_last_reference_dropped_in_a_callback (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, drop_context, self, NULL);
  assert_runs (self);
}

/* --- The set is made anew under it --- */

static void
haunt (gpointer data)
{
  Fixture *self = data;
  gint fd = eventfd_new (1);
  GaioHandler *handler = add_fd (self->context, fd, G_IO_IN, never_fd, NULL, NULL);

  self->copy = dup (fd);
  close (fd);
  gaio_clear_handler (&handler);
}

static void
test_ghost_does_not_cut_it_off (Fixture *self, gconstpointer data)
{
  cancelled_after (self, haunt);
  close (self->copy);
}

static void
close_epoll_fd (gpointer data)
{
  close (find_epoll_fd ());
}

static void
test_closed_epoll_fd_ends_it (Fixture *self, gconstpointer data)
{
  GaioTimer *timer;

  if (!is_epoll (self->context))
    {
      g_test_skip ("only epoll has such a set");
      return;
    }
  timer = gaio_context_add_timer (self->context, close_epoll_fd, NULL, NULL);
  gaio_timer_arm (timer, 1000);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  assert_runs (self);
  g_test_assert_expected_messages ();
  g_assert_true (gaio_context_is_closed (self->context));
  gaio_clear_timer (&timer);
}

static void
do_nothing (gpointer data)
{
}

/* Afterwards GLib's waking up is no business of ours. */
static void
test_leaves_no_trace (Fixture *self, gconstpointer data)
{
  guint64 rounds;

  cancelled_after (self, do_nothing);
  main_context_settle (self->main_context);
  rounds = stat_of (self->context, "rounds");
  for (guint i = 0; i < 10; i++)
    {
      g_main_context_wakeup (self->main_context);
      g_main_context_iteration (self->main_context, FALSE);
    }
  g_assert_cmpuint (stat_of (self->context, "rounds"), ==, rounds);
}

/* --- Taken away between the wait and the dispatch --- */

/* Told of by nothing that would order the memory of the two threads. */
static atomic_bool may_take, has_taken;

static void *
take_between (gpointer data)
{
  Fixture *self = data;

  while (!atomic_load_explicit (&may_take, memory_order_relaxed))
    sched_yield ();
  gaio_context_detach (self->context);
  atomic_store_explicit (&has_taken, true, memory_order_relaxed);
  return NULL;
}

/* GLib asks it after the wait, and before it asks ours. */
static gboolean
let_take (GSource *source)
{
  atomic_store_explicit (&may_take, true, memory_order_relaxed);
  while (!atomic_load_explicit (&has_taken, memory_order_relaxed))
    sched_yield ();
  return TRUE;
}

static gboolean
end_run (GSource *source, GSourceFunc callback, gpointer user_data)
{
  g_cancellable_cancel (((LateSource *) source)->fixture->cancellable);
  return G_SOURCE_REMOVE;
}

static GSourceFuncs let_take_funcs = { late_prepare, let_take, end_run };

/* What the wait has fetched is nothing to the next owner, who sees that it was written: this is for
 * ThreadSanitizer. */
static void
test_taken_away_after_the_wait (Fixture *self, gconstpointer data)
{
  GSource *source = g_source_new (&let_take_funcs, sizeof (LateSource));
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, take_fd, &self->calls, NULL);
  pthread_t thread;

  atomic_store (&may_take, false);
  atomic_store (&has_taken, false);
  ((LateSource *) source)->fixture = self;
  g_source_set_priority (source, G_PRIORITY_HIGH);
  g_source_attach (source, self->main_context);
  thread = spawn (take_between, self);
  eventfd_add (self->fd);
  assert_runs (self);
  join (thread);
  g_assert_cmpuint (self->calls, ==, 0);
  g_assert_true (gaio_context_iterate (self->context, -1));
  g_assert_cmpuint (self->calls, ==, 1);
  attach (self->context, self->main_context);
  g_source_unref (source);
  gaio_clear_handler (&handler);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/host/null-is-the-default-main-context", test_null_is_the_default_main_context);
  add ("/host/no-limit-is-a-limit-for-events", test_no_limit_is_a_limit_for_events);
  add ("/host/cancelled-before-it-begins", test_cancelled_before_it_begins);
  add ("/host/cancelled-in-a-callback", test_cancelled_in_a_callback);
  add ("/host/cancelled-by-another-thread", test_cancelled_by_another_thread);
  add ("/host/closed-by-another-thread-once-detached", test_closed_by_another_thread_once_detached);
  g_test_add ("/host/taken-away-by-another-thread/detached", Fixture, detach_context, set_up,
              test_taken_away_by_another_thread, tear_down);
  g_test_add ("/host/taken-away-by-another-thread/destroyed", Fixture, destroy_source, set_up,
              test_taken_away_by_another_thread, tear_down);
  add ("/host/taken-away-as-it-begins", test_taken_away_as_it_begins);
  add ("/host/closed-in-a-callback", test_closed_in_a_callback);
  add ("/host/last-reference-dropped-in-a-callback", test_last_reference_dropped_in_a_callback);
  add ("/host/ghost-does-not-cut-it-off", test_ghost_does_not_cut_it_off);
  add ("/host/closed-epoll-fd-ends-it", test_closed_epoll_fd_ends_it);
  add ("/host/leaves-no-trace", test_leaves_no_trace);
  add ("/host/taken-away-after-the-wait", test_taken_away_after_the_wait);
  return g_test_run ();
}
