/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>

#include "test-stand-in.h"
#include "test-event-thread.h"

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
  /* The thread may end before the call that asks for it returns. ThreadSanitizer does not see how
   * GObject counts references: ours goes when it has ended. */
  context = g_object_ref (story.context);
  gaio_context_defer (context, unref_here, &story, NULL);
  wait_for_number (&n_detached, 1);
  g_object_unref (context);
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

/* Between two rounds it may have to wait: stands in for GLib's. */
static _Atomic (GMainContext *) held_back;
static atomic_uint waits_between;

gboolean
g_main_context_iteration (GMainContext *main_context, gboolean may_block)
{
  if (atomic_load (&held_back) == main_context)
    {
      atomic_store (&waits_between, 1);
      while (atomic_load (&held_back) != NULL)
        sched_yield ();
    }
  return NEXT (g_main_context_iteration) (main_context, may_block);
}

/* Also between two rounds: nobody else runs a notify of its contexts. */
static void
test_owns_its_main_context_for_life (void)
{
  g_autoptr (GMainContext) main_context = NULL;
  Story story;

  story_begin (&story);
  main_context = g_main_context_ref (story.main_context);
  atomic_store (&held_back, main_context);
  gaio_context_defer (story.context, called, &story, NULL);
  wait_for_number (&waits_between, 1);
  g_assert_false (g_main_context_acquire (main_context));
  atomic_store (&held_back, NULL);
  wait_for_number (&story.calls, 1);
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
  return g_test_run ();
}
