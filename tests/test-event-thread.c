/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gio/gio.h>
#include <sched.h>

#include "test-event-thread.h"

static gboolean
called_again (gpointer data)
{
  called (data);
  return G_SOURCE_REMOVE;
}

static void
count_here (gpointer data)
{
  Story *story = data;

  g_assert_false (pthread_equal (pthread_self (), story->self));
  atomic_fetch_add (&story->calls, 1);
}

/* --- Its contexts --- */

static void
check_contexts (gpointer data)
{
  Story *story = data;
  g_autoptr (GaioContext) shared = gaio_context_ref_thread_default ();

  g_assert_true (g_main_context_get_thread_default () == story->main_context);
  g_assert_true (g_main_context_is_owner (story->main_context));
  g_assert_true (shared == story->context);
  g_assert_true (gaio_context_get_current () == story->context);
  called (story);
}

static void
test_runs_its_contexts (void)
{
  Story story;
  g_autoptr (GaioContext) shared = NULL;

  story_begin (&story);
  g_assert_nonnull (story.main_context);
  g_assert_true (story.main_context != g_main_context_default ());
  g_assert_null (g_main_context_get_thread_default ());
  shared = gaio_context_ref_for_main_context (story.main_context);
  g_assert_true (shared == story.context);
  gaio_context_defer (story.context, check_contexts, &story, NULL);
  wait_for_number (&story.calls, 1);
  g_assert_false (pthread_equal (story.self, pthread_self ()));
  story_end (&story);
}

static gboolean
ready_once (gint fd, GIOCondition condition, gpointer data)
{
  called (data);
  return G_SOURCE_REMOVE;
}

static void
test_serves_fds_timers_and_invocations (void)
{
  gint fd = eventfd_new (1);
  g_autoptr (GaioTimer) timer = NULL;
  Story story;

  story_begin (&story);
  timer = gaio_context_add_timer (story.context, called, &story, NULL);
  gaio_timer_arm (timer, 1000);
  gaio_handler_unref (add_fd (story.context, fd, G_IO_IN, ready_once, &story, NULL));
  /* ThreadSanitizer does not see the lock of GLib that comes between attaching and freeing. */
#ifdef __SANITIZE_THREAD__
  gaio_context_defer (story.context, called, &story, NULL);
#else
  g_main_context_invoke (story.main_context, called_again, &story);
#endif
  wait_for_number (&story.calls, 3);
  g_assert_false (pthread_equal (story.self, pthread_self ()));
  story_end (&story);
  close (fd);
}

static void
query_finished (GObject *source, GAsyncResult *result, gpointer data)
{
  Story *story = data;
  g_autoptr (GFileInfo) info = g_file_query_info_finish (G_FILE (source), result, NULL);

  g_assert_nonnull (info);
  g_assert_true (pthread_equal (pthread_self (), story->self));
  g_assert_true (g_main_context_is_owner (story->main_context));
  atomic_fetch_add (&story->calls, 1);
}

static void
query_info (gpointer data)
{
  Story *story = data;
  g_autoptr (GFile) file = g_file_new_for_path ("/");

  story->self = pthread_self ();
  g_file_query_info_async (file, "standard::*", G_FILE_QUERY_INFO_NONE, G_PRIORITY_DEFAULT, NULL,
                           query_finished, story);
}

/* GIO asks a pool of threads, whose locks ThreadSanitizer does not see. */
static void
test_gio_completes_in_it (void)
{
  Story story;

#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer does not see the locks of GLib");
  return;
#endif
  story_begin (&story);
  gaio_context_defer (story.context, query_info, &story, NULL);
  wait_for_number (&story.calls, 1);
  story_end (&story);
}

static void
task_finished (GObject *source, GAsyncResult *result, gpointer data)
{
  Story *story = data;

  g_assert_true (g_task_propagate_boolean (G_TASK (result), NULL));
  g_assert_true (g_main_context_is_owner (story->main_context));
  atomic_fetch_add (&story->calls, 1);
}

static void
return_from_task (gpointer data)
{
  Story *story = data;
  g_autoptr (GTask) task = g_task_new (NULL, NULL, task_finished, story);

  g_assert_true (g_task_get_context (task) == story->main_context);
  g_task_return_boolean (task, TRUE);
}

static void
test_tasks_complete_in_it (void)
{
  Story story;

  story_begin (&story);
  gaio_context_defer (story.context, return_from_task, &story, NULL);
  wait_for_number (&story.calls, 1);
  story_end (&story);
}

static void
quit (gpointer loop)
{
  g_main_loop_quit (loop);
}

static void
nest (gpointer data)
{
  Story *story = data;
  g_autoptr (GMainLoop) loop = g_main_loop_new (story->main_context, FALSE);

  gaio_context_defer (story->context, called, story, NULL);
  gaio_context_defer (story->context, quit, loop, NULL);
  g_main_loop_run (loop);
  g_assert_cmpuint (story->calls, ==, 1);
  called (story);
}

static void
test_callbacks_nest_loops (void)
{
  Story story;

  story_begin (&story);
  gaio_context_defer (story.context, nest, &story, NULL);
  wait_for_number (&story.calls, 2);
  story_end (&story);
}

/* --- What is scheduled when it stops --- */

/* More than the last rounds could serve. */
static void
test_last_bottom_halves_run (void)
{
  const guint n = 20000;
  Story story;
  guint calls = 0;

  story_begin (&story);
  close_gate (&story);
  for (guint i = 0; i < n; i++)
    gaio_context_defer (story.context, count_once, &calls, NULL);
  atomic_store (&story.open, TRUE);
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (calls, ==, n);
  story_end (&story);
}

static void
test_last_invocations_run (void)
{
  Story story;
  g_autoptr (GSource) idle = g_idle_source_new ();

  story_begin (&story);
  close_gate (&story);
  g_source_set_callback (idle, called_again, &story, NULL);
  g_source_attach (idle, story.main_context);
  for (guint i = 0; i < 500; i++)
    g_main_context_invoke (story.main_context, called_again, &story);
  atomic_store (&story.open, TRUE);
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.calls, ==, 1 + 500 + 1);
  story_end (&story);
}

static void
defer_next (gpointer data)
{
  Story *story = data;

  if (--story->left > 0)
    gaio_context_defer (story->context, defer_next, story, NULL);
}

static void
test_what_the_last_ones_schedule_runs (void)
{
  Story story;

  story_begin (&story);
  close_gate (&story);
  story.left = 50;
  gaio_context_defer (story.context, defer_next, &story, NULL);
  atomic_store (&story.open, TRUE);
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.left, ==, 0);
  story_end (&story);
}

static void
schedule_again (gpointer data)
{
  Story *story = data;

  story->left++;
  gaio_bottom_half_schedule (story->bh);
}

static gboolean
again_for_ever (gpointer data)
{
  return G_SOURCE_CONTINUE;
}

/* An idle call, which a bottom half that is always there would starve, runs all the same. */
static void
test_endless_ones_do_not_keep_it (void)
{
  gint fd = eventfd_new (1);
  g_autoptr (GSource) endless = g_idle_source_new ();
  g_autoptr (GSource) idle = g_idle_source_new ();
  guint reads = 0;
  Story story;

  story_begin (&story);
  close_gate (&story);
  story.bh = gaio_context_add_bottom_half (story.context, schedule_again, &story, NULL);
  gaio_bottom_half_schedule (story.bh);
  watch_fd (story.context, fd, count_fd, &reads);
  g_source_set_callback (endless, again_for_ever, NULL, NULL);
  g_source_attach (endless, story.main_context);
  g_source_set_callback (idle, called_again, &story, NULL);
  g_source_attach (idle, story.main_context);
  atomic_store (&story.open, TRUE);
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.left, >, 0);
  g_assert_cmpuint (reads, >, 0);
  g_assert_cmpuint (story.calls, ==, 2);
  gaio_clear_bottom_half (&story.bh);
  story_end (&story);
  close (fd);
}

static void
invoke_from_notify (gpointer data)
{
  Story *story = data;

  g_main_context_invoke_full (story->main_context, G_PRIORITY_LOW, called_again, story, NULL);
  g_main_context_invoke (story->main_context, called_again, story);
}

static void
test_what_the_notifies_schedule_runs (void)
{
  Story story;

  story_begin (&story);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, invoke_from_notify));
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.calls, ==, 2);
  story_end (&story);
}

/* --- Afterwards --- */

static void
test_stop_closes_the_context (void)
{
  g_autoptr (GError) error = NULL;
  gint fd = eventfd_new (1);
  Story story;
  guint n = 0;

  story_begin (&story);
  story.self = pthread_self ();
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, count_here));
  gaio_handler_unref (add_fd (story.context, fd, 0, never_fd, &story, count_here));
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.calls, ==, 2);
  g_assert_true (gaio_context_is_closed (story.context));
  g_assert_null (
      gaio_context_add_fd (story.context, fd, G_IO_IN, never_fd, &n, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  gaio_context_defer (story.context, never_once, &n, count_once);
  g_assert_cmpuint (n, ==, 2);
  g_assert_true (gaio_thread_get_context (story.thread) == story.context);
  g_assert_true (gaio_thread_get_main_context (story.thread) == story.main_context);
  story_end (&story);
  close (fd);
}

static void
test_main_context_outlives_it (void)
{
  g_autoptr (GMainContext) main_context = NULL;
  g_autoptr (GaioContext) before = NULL;
  g_autoptr (GaioContext) fresh = NULL;
  Story story;

  story_begin (&story);
  main_context = g_main_context_ref (story.main_context);
  before = g_object_ref (story.context);
  story_end (&story);
  fresh = gaio_context_ref_for_main_context (main_context);
  g_assert_true (fresh != before);
  g_assert_false (gaio_context_is_closed (fresh));
  assert_serves (fresh, main_context);
}

/* --- A loop nested in a callback --- */

static void
run_until_quit (gpointer data)
{
  Story *story = data;

  called (story);
  while (!atomic_load (&story->open))
    g_main_context_iteration (story->main_context, TRUE);
  /* Whoever stops it waits. */
  g_assert_false (gaio_context_is_closed (story->context));
  called (story);
}

static void *
open_from_elsewhere (gpointer data)
{
  Story *story = data;

  for (guint i = 0; i < 1000; i++)
    sched_yield ();
  atomic_store (&story->open, TRUE);
  g_main_context_wakeup (story->main_context);
  return NULL;
}

static void
test_stop_waits_for_a_nested_loop (void)
{
  pthread_t thread;
  Story story;

  story_begin (&story);
  gaio_context_defer (story.context, run_until_quit, &story, NULL);
  wait_for_number (&story.calls, 1);
  thread = spawn (open_from_elsewhere, &story);
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.calls, ==, 2);
  join (thread);
  story_end (&story);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/event-thread/runs-its-contexts", test_runs_its_contexts);
  g_test_add_func ("/event-thread/serves-fds-timers-and-invocations",
                   test_serves_fds_timers_and_invocations);
  g_test_add_func ("/event-thread/tasks-complete-in-it", test_tasks_complete_in_it);
  g_test_add_func ("/event-thread/callbacks-nest-loops", test_callbacks_nest_loops);
  g_test_add_func ("/event-thread/last-bottom-halves-run", test_last_bottom_halves_run);
  g_test_add_func ("/event-thread/last-invocations-run", test_last_invocations_run);
  g_test_add_func ("/event-thread/what-the-last-ones-schedule-runs",
                   test_what_the_last_ones_schedule_runs);
  g_test_add_func ("/event-thread/endless-ones-do-not-keep-it", test_endless_ones_do_not_keep_it);
  g_test_add_func ("/event-thread/what-the-notifies-schedule-runs",
                   test_what_the_notifies_schedule_runs);
  g_test_add_func ("/event-thread/stop-closes-the-context", test_stop_closes_the_context);
  g_test_add_func ("/event-thread/main-context-outlives-it", test_main_context_outlives_it);
  g_test_add_func ("/event-thread/stop-waits-for-a-nested-loop", test_stop_waits_for_a_nested_loop);
  /* Last: GIO's pool may hold the task, and with it the main context and its fd, a little longer.
   */
  g_test_add_func ("/event-thread/gio-completes-in-it", test_gio_completes_in_it);
  return g_test_run ();
}
