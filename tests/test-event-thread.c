/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gio/gio.h>
#include <sched.h>
#include <sys/resource.h>

#include "test-support.h"
#include "test-stand-in.h"

/* --- Threads: these stand in for the C library's --- */

static gboolean no_more_threads;
static _Atomic (pthread_t) dropped; /* whoever detaches this one, */
static atomic_uint n_detached;      /* is counted here */

int
pthread_create (pthread_t *thread,
                const pthread_attr_t *attributes,
                void *(*start) (void *),
                void *data)
{
  return no_more_threads ? EAGAIN : NEXT (pthread_create) (thread, attributes, start, data);
}

int
pthread_detach (pthread_t thread)
{
  if (pthread_equal (thread, atomic_load (&dropped)))
    atomic_fetch_add (&n_detached, 1);
  return NEXT (pthread_detach) (thread);
}

static GaioThread *
thread_new (void)
{
  g_autoptr (GError) error = NULL;
  GaioThread *thread = gaio_thread_new ("test", &error);

  g_assert_no_error (error);
  g_assert_true (GAIO_IS_THREAD (thread));
  return thread;
}

/* What goes on in the thread, seen from outside. */
typedef struct
{
  GaioThread *thread;
  GaioContext *context;
  GMainContext *main_context;
  GaioBottomHalf *bh;
  pthread_t self; /* set by who says that he has been called */
  atomic_uint calls;
  atomic_uint notified;
  atomic_bool open; /* a gate */
  guint left;
} Story;

static void
story_begin (Story *story)
{
  *story = (Story){ .thread = thread_new () };
  story->context = gaio_thread_get_context (story->thread);
  story->main_context = gaio_thread_get_main_context (story->thread);
}

static void
story_end (Story *story)
{
  gaio_thread_stop (story->thread);
  g_assert_finalize_object (story->thread);
}

static void
wait_for_number (atomic_uint *number, guint value)
{
  gint64 guard = g_get_monotonic_time () + GUARD_US;

  while (atomic_load (number) < value)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, guard);
      sched_yield ();
    }
}

static void
called (gpointer data)
{
  Story *story = data;

  story->self = pthread_self ();
  atomic_fetch_add (&story->calls, 1);
}

static gboolean
called_again (gpointer data)
{
  called (data);
  return G_SOURCE_REMOVE;
}

static void
notified (gpointer data)
{
  Story *story = data;

  story->self = pthread_self ();
  atomic_fetch_add (&story->notified, 1);
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
  g_main_context_invoke (story.main_context, called_again, &story);
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

static void
wait_at_gate (gpointer data)
{
  Story *story = data;

  called (story);
  while (!atomic_load (&story->open))
    sched_yield ();
}

/* Keeps the thread busy until the gate is opened. */
static void
close_gate (Story *story)
{
  gaio_context_defer (story->context, wait_at_gate, story, NULL);
  wait_for_number (&story->calls, 1);
}

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

/* --- Who stops it --- */

static void
test_stopped_twice (void)
{
  Story story;

  story_begin (&story);
  gaio_thread_stop (story.thread);
  gaio_thread_stop (story.thread);
  story_end (&story);
}

static void
open_later (gpointer data)
{
  Story *story = data;

  for (guint i = 0; i < 1000; i++)
    sched_yield ();
  atomic_store (&story->open, TRUE);
}

static void *
stop (gpointer data)
{
  Story *story = data;

  gaio_thread_stop (story->thread);
  g_assert_true (atomic_load (&story->open));
  return NULL;
}

static void
test_stopped_by_several_all_wait (void)
{
  pthread_t threads[N_THREADS];
  Story story;

  story_begin (&story);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, open_later));
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (stop, &story);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  story_end (&story);
}

static void
stop_here (gpointer data)
{
  Story *story = data;

  gaio_thread_stop (story->thread);
  gaio_thread_stop (story->thread);
  g_assert_false (gaio_context_is_closed (story->context));
  called (story);
}

static void
test_stops_itself (void)
{
  Story story;

  story_begin (&story);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, notified));
  gaio_context_defer (story.context, stop_here, &story, NULL);
  wait_for_number (&story.notified, 1);
  g_assert_cmpuint (story.calls, ==, 1);
  gaio_thread_stop (story.thread);
  g_assert_true (gaio_context_is_closed (story.context));
  story_end (&story);
}

static void
stop_in_notify (gpointer data)
{
  Story *story = data;

  gaio_thread_stop (story->thread);
  notified (story);
}

static void
test_stops_itself_in_a_notify (void)
{
  Story story;

  story_begin (&story);
  gaio_context_defer (story.context, called, &story, stop_in_notify);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, stop_in_notify));
  wait_for_number (&story.notified, 2);
  gaio_thread_stop (story.thread);
  story_end (&story);
}

/* --- Nobody stops it --- */

/* Whoever drops the last reference may hold a lock that a callback of the thread needs. */
static void
test_last_unref_waits_for_nothing (void)
{
  guint n_fds = count_open_fds ();
  guint calls = 0;
  Story story;

  alarm (GUARD_US / G_USEC_PER_SEC);
  story_begin (&story);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, notified));
  close_gate (&story);
  gaio_context_defer (story.context, count_once, &calls, NULL);
  atomic_store (&dropped, story.self);
  atomic_store (&n_detached, 0);
  g_assert_finalize_object (story.thread);
  alarm (0);
  g_assert_cmpuint (story.notified, ==, 0);
  atomic_store (&story.open, TRUE);
  /* It ends by itself, as if it had been stopped. */
  wait_for_number (&n_detached, 1);
  g_assert_cmpuint (calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
  g_assert_false (pthread_equal (story.self, pthread_self ()));
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
}

/* Also what a garbage collector does in the thread of another one. */
static void
unref_other (gpointer data)
{
  Story *story = data;

  g_object_unref (story->thread);
  atomic_store (&story->open, TRUE);
}

static void
test_last_unref_in_another_thread_waits_for_nothing (void)
{
  Story story, other;

  alarm (GUARD_US / G_USEC_PER_SEC);
  story_begin (&story);
  story_begin (&other);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, notified));
  close_gate (&story);
  atomic_store (&dropped, story.self);
  atomic_store (&n_detached, 0);
  /* The one waits for the other. */
  gaio_context_defer (other.context, unref_other, &story, NULL);
  wait_for_number (&n_detached, 1);
  g_assert_cmpuint (story.notified, ==, 1);
  alarm (0);
  story_end (&other);
}

static void
unref_here (gpointer data)
{
  Story *story = data;

  atomic_store (&dropped, pthread_self ());
  g_assert_finalize_object (story->thread);
  g_assert_false (gaio_context_is_closed (story->context));
  called (story);
}

/* Nobody joins it, but everything of it goes soon. */
static void
test_last_unref_in_the_thread (void)
{
  guint n_fds = count_open_fds ();
  GaioContext *context;
  Story story;

  story_begin (&story);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, notified));
  atomic_store (&n_detached, 0);
  /* The thread may end before the call that asks for it returns. */
  context = g_object_ref (story.context);
  gaio_context_defer (context, unref_here, &story, NULL);
  g_object_unref (context);
  wait_for_number (&n_detached, 1);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
}

static void
unref_in_notify (gpointer data)
{
  Story *story = data;

  g_object_unref (story->thread);
  notified (story);
}

/* While another thread waits for it to stop, which needs a reference of its own. */
static void
test_unref_in_a_last_notify (void)
{
  Story story;

  story_begin (&story);
  g_object_ref (story.thread);
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, unref_in_notify));
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.notified, ==, 1);
  g_assert_finalize_object (story.thread);
}

static void
test_many_come_and_go (void)
{
  guint n_fds = count_open_fds ();

  for (guint i = 0; i < 50; i++)
    {
      Story story;

      story_begin (&story);
      story_end (&story);
    }
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
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

/* --- Somebody closes what is not his --- */

static void
close_set (gpointer data)
{
  Story *story = data;

  close (find_epoll_fd ());
  called (story);
}

/* The context closes itself then, and calls nothing more. */
static void
test_stop_returns_after_the_set_was_closed (gconstpointer by_itself)
{
  Story story;

  story_begin (&story);
  if (find_epoll_fd () == -1)
    {
      g_test_skip ("only epoll has such a set");
      story_end (&story);
      return;
    }
  alarm (GUARD_US / G_USEC_PER_SEC);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  gaio_timer_unref (gaio_context_add_timer (story.context, never_once, &story, notified));
  if (by_itself != NULL)
    {
      gaio_context_defer (story.context, close_set, &story, NULL);
      wait_for_number (&story.calls, 1);
    }
  else
    close_set (&story);
  gaio_thread_stop (story.thread);
  g_test_assert_expected_messages ();
  g_assert_cmpuint (story.notified, ==, 1);
  g_assert_true (gaio_context_is_closed (story.context));
  story_end (&story);
  alarm (0);
}

/* --- Where it cannot be --- */

static void
test_a_forked_child_stops_nothing (void)
{
  pid_t child;
  Story story;

  story_begin (&story);
  child = fork ();
  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      gaio_thread_stop (story.thread);
      g_assert_false (gaio_context_is_closed (story.context));
      g_assert_finalize_object (story.thread);
      leave_child ();
    }
  assert_exits_well (child);
  gaio_context_defer (story.context, called, &story, NULL);
  wait_for_number (&story.calls, 1);
  story_end (&story);
}

/* Its locks are held in the child for ever. */
static void
test_a_forked_child_stops_nothing_also_amid_a_stop (void)
{
  pthread_t thread;
  pid_t child;
  Story story;

  story_begin (&story);
  close_gate (&story);
  thread = spawn (stop, &story);
  for (guint i = 0; i < 1000; i++)
    sched_yield ();
  child = fork ();
  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      gaio_thread_stop (story.thread);
      g_assert_finalize_object (story.thread);
      leave_child ();
    }
  assert_exits_well (child);
  atomic_store (&story.open, TRUE);
  join (thread);
  story_end (&story);
}

static void
thread_ended (void *unused)
{
  leave_child ();
}

/* Back from the callback, it is in a loop that is its parent's. */
static void
fork_here (gpointer data)
{
  pthread_key_t key;
  Story *story = data;
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      g_object_unref (story->thread);
      g_assert_cmpint (pthread_key_create (&key, thread_ended), ==, 0);
      g_assert_cmpint (pthread_setspecific (key, story), ==, 0);
      return;
    }
  assert_exits_well (child);
  called (story);
}

static void
test_a_child_forked_in_it_ends_with_the_callback (gconstpointer at_the_end)
{
  Story story;

  story_begin (&story);
  if (at_the_end)
    close_gate (&story);
  gaio_context_defer (story.context, fork_here, &story, NULL);
  atomic_store (&story.open, TRUE);
  if (!at_the_end)
    wait_for_number (&story.calls, 1);
  gaio_thread_stop (story.thread);
  g_assert_cmpuint (story.calls, ==, at_the_end ? 2 : 1);
  story_end (&story);
}

/* Also while it has nothing to do: nobody else runs a notify of its contexts, in between. */
static void
test_owns_its_main_context_for_life (void)
{
  g_autoptr (GMainContext) main_context = NULL;
  Story story;

  story_begin (&story);
  main_context = g_main_context_ref (story.main_context);
  for (guint i = 1; i <= 1000; i++)
    {
      gaio_context_defer (story.context, called, &story, NULL);
      while (atomic_load (&story.calls) < i)
        g_assert_false (g_main_context_acquire (main_context));
    }
  story_end (&story);
  g_assert_true (g_main_context_acquire (main_context));
  g_main_context_release (main_context);
}

static void
test_no_thread_left (void)
{
  guint n_fds = count_open_fds ();
  g_autoptr (GError) error = NULL;

  no_more_threads = TRUE;
  g_assert_null (gaio_thread_new ("unlucky", &error));
  no_more_threads = FALSE;
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_nonnull (strstr (error->message, "unlucky"));
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
  g_clear_error (&error);
  no_more_threads = TRUE;
  g_assert_null (gaio_thread_new (NULL, &error));
  no_more_threads = FALSE;
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
}

static void
test_no_fd_left (void)
{
  g_autoptr (GError) error = NULL;
  struct rlimit before, none;

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  none = before;
  none.rlim_cur = 0;
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &none), ==, 0);
  g_assert_null (gaio_thread_new ("unlucky", &error));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
}

static void
test_misuse_is_a_critical (void)
{
  g_autoptr (GaioThread) thread = g_object_new (GAIO_TYPE_THREAD, NULL);

  expect_critical (gaio_thread_stop (NULL));
  expect_critical (gaio_thread_stop (thread));
  expect_critical (g_assert_null (gaio_thread_get_context (thread)));
  expect_critical (g_assert_null (gaio_thread_get_main_context (thread)));
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
  g_test_add_func ("/event-thread/stopped-twice", test_stopped_twice);
  g_test_add_func ("/event-thread/stopped-by-several-all-wait", test_stopped_by_several_all_wait);
  g_test_add_func ("/event-thread/stops-itself", test_stops_itself);
  g_test_add_func ("/event-thread/stops-itself-in-a-notify", test_stops_itself_in_a_notify);
  g_test_add_func ("/event-thread/last-unref-waits-for-nothing", test_last_unref_waits_for_nothing);
  g_test_add_func ("/event-thread/last-unref-in-another-thread-waits-for-nothing",
                   test_last_unref_in_another_thread_waits_for_nothing);
  g_test_add_func ("/event-thread/last-unref-in-the-thread", test_last_unref_in_the_thread);
  g_test_add_func ("/event-thread/unref-in-a-last-notify", test_unref_in_a_last_notify);
  g_test_add_func ("/event-thread/many-come-and-go", test_many_come_and_go);
  g_test_add_func ("/event-thread/stop-waits-for-a-nested-loop", test_stop_waits_for_a_nested_loop);
  g_test_add_data_func ("/event-thread/stop-returns-after-the-set-was-closed", NULL,
                        test_stop_returns_after_the_set_was_closed);
  g_test_add_data_func ("/event-thread/stop-returns-after-it-has-closed-the-set-itself",
                        GINT_TO_POINTER (TRUE), test_stop_returns_after_the_set_was_closed);
  g_test_add_data_func ("/event-thread/a-child-forked-in-it-ends-with-the-callback", NULL,
                        test_a_child_forked_in_it_ends_with_the_callback);
  g_test_add_data_func ("/event-thread/a-child-forked-at-the-end-ends-with-the-callback",
                        GINT_TO_POINTER (TRUE), test_a_child_forked_in_it_ends_with_the_callback);
  g_test_add_func ("/event-thread/owns-its-main-context-for-life",
                   test_owns_its_main_context_for_life);
  g_test_add_func ("/event-thread/a-forked-child-stops-nothing", test_a_forked_child_stops_nothing);
  g_test_add_func ("/event-thread/a-forked-child-stops-nothing-also-amid-a-stop",
                   test_a_forked_child_stops_nothing_also_amid_a_stop);
  g_test_add_func ("/event-thread/no-thread-left", test_no_thread_left);
  g_test_add_func ("/event-thread/no-fd-left", test_no_fd_left);
  g_test_add_func ("/event-thread/misuse-is-a-critical", test_misuse_is_a_critical);
  /* Last: GIO's pool may hold the task, and with it the main context and its fd, a little longer.
   */
  g_test_add_func ("/event-thread/gio-completes-in-it", test_gio_completes_in_it);

  return g_test_run ();
}
