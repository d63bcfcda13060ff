/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-stand-in.h"
#include "test-thread.h"

/* --- Where others come in between: these, too, stand in for what the library calls --- */

static _Thread_local gboolean lets_others_in;

static void
let_others_in (void)
{
  for (guint i = 0; lets_others_in && i < 50; i++)
    sched_yield ();
}

int
pthread_mutex_unlock (pthread_mutex_t *mutex)
{
  int errsv = NEXT (pthread_mutex_unlock) (mutex);

  let_others_in ();
  return errsv;
}

guint
g_source_attach (GSource *source, GMainContext *main_context)
{
  let_others_in ();
  return NEXT (g_source_attach) (source, main_context);
}

/* --- close() and the last unref --- */

static void
test_close_during_a_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, block_fd, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  gaio_context_close (loop.context);
  g_assert_true (gaio_context_is_closed (loop.context));
  g_assert_cmpuint (atomic_load (&blocker.notified), ==, 0);
  eventfd_add (blocker.go);
  eventfd_wait (blocker.notified_fd);
  loop_stop (&loop);
  g_assert_cmpuint (blocker.calls, ==, 1);
  g_assert_cmpuint (atomic_load (&blocker.notified), ==, 1);
  g_assert_true (blocker.on_owner);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_close_while_the_loop_sleeps (gconstpointer nested)
{
  for (guint i = 0; i < 20; i++)
    {
      Loop loop;
      Blocker blocker;

      loop_start (&loop, nested);
      blocker_init (&blocker, &loop);
      gaio_timer_unref (gaio_context_add_timer (loop.context, never_once, &blocker, note_blocker));
      gaio_context_close (loop.context);
      eventfd_wait (blocker.notified_fd);
      if (nested != NULL)
        g_assert_true (blocker.on_owner);
      loop_stop (&loop);
      g_assert_cmpuint (atomic_load (&blocker.notified), ==, 1);
      if (nested != NULL)
        g_assert_cmpint (main_context_n_fds (loop.main_context), ==, 1);
      blocker_clear (&blocker);
      loop_free (&loop);
    }
}

static void *
clear_timer (gpointer timer)
{
  GaioTimer *own = timer;

  gaio_clear_timer (&own);
  return NULL;
}

static void *
close_only (gpointer context)
{
  gaio_context_close (context);
  return NULL;
}

/* The owner need not be inside a round to be waited for. */
static void
test_owner_outside_a_round_runs_the_notifies (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  guint notified = 0;
  GaioTimer *timer = gaio_context_add_timer (rig.context, never_once, &notified, count_once);

  gaio_context_defer (rig.context, never_once, &notified, count_once);
  g_assert_true (g_main_context_acquire (rig.main_context));
  join (spawn (clear_timer, timer));
  join (spawn (close_only, rig.context));
  g_assert_true (gaio_context_is_closed (rig.context));
  g_assert_cmpuint (notified, ==, 0);
  rig_until (&rig, notified == 2);
  rig_settle (&rig);
  g_assert_cmpint (main_context_n_fds (rig.main_context), ==, 1);
  g_main_context_release (rig.main_context);
}

/* The owner never comes round to it, because its main context goes first. */
static void
test_owner_frees_the_main_context_of_a_closed_one (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GMainContext *main_context = main_context_new ();
  guint notified = 0;

  attach (context, main_context);
  gaio_context_defer (context, never_once, &notified, count_once);
  g_assert_true (g_main_context_acquire (main_context));
  join (spawn (close_only, context));
  g_assert_cmpuint (notified, ==, 0);
  g_main_context_release (main_context);
  g_main_context_unref (main_context);
  g_assert_cmpuint (notified, ==, 1);
}

static void *
close_context (gpointer context)
{
  gaio_context_close (context);
  g_assert_true (gaio_context_is_closed (context));
  return NULL;
}

static void
test_close_from_many_threads_notifies_once (gconstpointer nested)
{
  for (guint i = 0; i < 20; i++)
    {
      Loop loop;
      atomic_uint notified = 0;
      pthread_t threads[N_THREADS];

      loop_start (&loop, nested);
      for (guint k = 0; k < 50; k++)
        gaio_timer_unref (
            gaio_context_add_timer (loop.context, never_once, &notified, count_atomic));
      for (guint k = 0; k < G_N_ELEMENTS (threads); k++)
        threads[k] = spawn (close_context, loop.context);
      for (guint k = 0; k < G_N_ELEMENTS (threads); k++)
        join (threads[k]);
      wait_for (atomic_load (&notified) == 50);
      loop_stop (&loop);
      loop_free (&loop);
      g_assert_cmpuint (atomic_load (&notified), ==, 50);
    }
}

static void
note_thread (gpointer data)
{
  *(pthread_t *) data = pthread_self ();
}

static void *
unref_and_check (gpointer data)
{
  pthread_t notified = 0;
  GaioContext *context = data;

  gaio_context_defer (context, never_once, &notified, note_thread);
  g_object_unref (context);
  g_assert_true (pthread_equal (notified, pthread_self ()));
  return NULL;
}

static void
test_last_unref_where_nobody_owns_notifies_in_the_caller (void)
{
  join (spawn (unref_and_check, gaio_context_new ()));
}

static void *
close_and_check (gpointer data)
{
  pthread_t notified = 0;
  GaioContext *context = data;

  gaio_context_defer (context, never_once, &notified, note_thread);
  gaio_context_close (context);
  g_assert_true (pthread_equal (notified, pthread_self ()));
  return NULL;
}

static void
test_close_where_nobody_owns_notifies_in_the_caller (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);

  join (spawn (close_and_check, rig.context));
}

typedef struct
{
  GaioContext *context;
  gint entered;
  gint go;
} SlowClose;

static void
take_time (gpointer data)
{
  SlowClose *slow = data;

  eventfd_add (slow->entered);
  eventfd_wait (slow->go);
}

static void *
close_slowly (gpointer data)
{
  SlowClose *slow = data;

  gaio_context_close (slow->context);
  return NULL;
}

/* Whoever iterates cannot know that another thread is just closing it. */
static void
test_iterate_while_another_thread_closes_is_quiet (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  SlowClose slow = { context, eventfd_new (0), eventfd_new (0) };
  pthread_t thread;

  gaio_context_defer (context, never_once, &slow, take_time);
  thread = spawn (close_slowly, &slow);
  eventfd_wait (slow.entered);
  g_assert_false (gaio_context_iterate (context, 0));
  g_assert_false (gaio_context_iterate (context, -1));
  eventfd_add (slow.go);
  join (thread);
  close (slow.entered);
  close (slow.go);
}

typedef struct
{
  GaioContext *context;
  pthread_t owner;
  guint calls;
  guint notified;
  gboolean running;
} Last;

static void *
unref_in_thread (gpointer context)
{
  g_object_unref (context);
  return NULL;
}

static void
let_thread_unref (gpointer data)
{
  Last *last = data;

  last->running = TRUE;
  last->calls++;
  join (spawn (unref_in_thread, last->context));
  g_assert_cmpuint (last->notified, ==, 0);
  last->running = FALSE;
}

static void
note_last (gpointer data)
{
  Last *last = data;

  g_assert_false (last->running);
  g_assert_true (pthread_equal (last->owner, pthread_self ()));
  last->notified++;
}

/* As a garbage collector may. */
static void
test_last_unref_from_a_thread_during_a_callback (void)
{
  Last last = { .context = gaio_context_new (), .owner = pthread_self () };

  gaio_context_defer (last.context, let_thread_unref, &last, note_last);
  gaio_context_defer (last.context, never_once, &last, note_last);
  g_assert_true (gaio_context_iterate (last.context, 0));
  g_assert_cmpuint (last.calls, ==, 1);
  g_assert_cmpuint (last.notified, ==, 2);
}

static void
test_source_destroyed_under_a_running_loop (void)
{
  for (guint i = 0; i < 50; i++)
    {
      Loop loop;
      atomic_uint notified = 0;
      g_autoptr (GSource) source = NULL;

      loop_init (&loop, GINT_TO_POINTER (TRUE));
      source = gaio_context_create_source (loop.context, NULL);
      g_assert_nonnull (source);
      g_source_attach (source, loop.main_context);
      loop_spawn (&loop);
      gaio_timer_unref (gaio_context_add_timer (loop.context, never_once, &notified, count_atomic));
      if (i % 2)
        loop_barrier (&loop);
      g_object_unref (g_steal_pointer (&loop.context));
      g_source_destroy (source);
      wait_for (atomic_load (&notified) == 1);
      loop_stop (&loop);
      g_main_context_unref (loop.main_context);
      close (loop.started);
    }
}

static void
make_ready_and_block (gpointer data)
{
  Blocker *blocker = data;

  eventfd_add (gaio_handler_get_fd (blocker->handler));
  gaio_bottom_half_schedule (blocker->bh);
}

/* The round that is running is not disturbed: it serves what it has gathered. */
static void
test_moved_during_a_callback (void)
{
  Loop loop;
  Blocker blocker;
  g_autoptr (GMainContext) other = main_context_new ();
  atomic_uint calls = 0;
  gint fd = eventfd_new (0);

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  blocker_init (&blocker, &loop);
  blocker.bh = gaio_context_add_bottom_half (loop.context, block, &blocker, NULL);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
  gaio_context_defer (loop.context, make_ready_and_block, &blocker, NULL);
  eventfd_wait (blocker.entered);
  gaio_context_detach (loop.context);
  attach (loop.context, other);
  g_main_context_iteration (other, FALSE);
  g_assert_cmpuint (atomic_load (&calls), ==, 0);
  eventfd_add (blocker.go);
  wait_for (atomic_load (&calls) == 1);
  main_context_until (other, atomic_load (&calls) > 1);
  gaio_handler_remove_sync (blocker.handler);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_detach_under_a_running_loop (void)
{
  Loop loop;

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  for (guint i = 0; i < 50; i++)
    {
      loop_barrier (&loop);
      gaio_context_detach (loop.context);
      wait_for (gaio_context_attach (loop.context, loop.main_context, NULL));
    }
  loop_barrier (&loop);
  loop_stop (&loop);
  loop_free (&loop);
}

/* Two threads then look at its fds for the last time: who closes it, and the owner of the main
 * context, who has yet to destroy the source. */
static void
test_closed_right_after_a_detach (void)
{
  Loop loop;
  gint fd = eventfd_new (0);

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  for (guint i = 0; i < 100; i++)
    {
      GaioContext *context = gaio_context_new ();
      guint notified = 0;

      attach (context, loop.main_context);
      gaio_handler_unref (add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once));
      loop_barrier (&loop);
      gaio_context_detach (context);
      lets_others_in = TRUE;
      gaio_context_close (context);
      lets_others_in = FALSE;
      g_assert_cmpuint (notified, ==, 1);
      g_object_unref (context);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

typedef struct
{
  GaioContext *context;
  atomic_bool stop;
} Detacher;

static void *
detach_again_and_again (gpointer data)
{
  Detacher *detacher = data;

  while (!atomic_load (&detacher->stop))
    {
      gaio_context_detach (detacher->context);
      sched_yield ();
    }
  return NULL;
}

/* A source that is not attached yet is nobody else's to destroy. */
static void
test_attach_while_another_detaches (void)
{
  Loop loop;
  Detacher detacher = { gaio_context_new (), FALSE };
  pthread_t thread;

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  thread = spawn (detach_again_and_again, &detacher);
  lets_others_in = TRUE;
  for (guint i = 0; i < 100; i++)
    gaio_context_attach (detacher.context, loop.main_context, NULL);
  lets_others_in = FALSE;
  atomic_store (&detacher.stop, TRUE);
  join (thread);
  gaio_context_detach (detacher.context);
  g_object_unref (detacher.context);
  loop_stop (&loop);
  loop_free (&loop);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/thread/close-during-a-callback", test_close_during_a_callback);
  add_both ("/thread/close-while-the-loop-sleeps", test_close_while_the_loop_sleeps);
  add_both ("/thread/close-from-many-notifies-once", test_close_from_many_threads_notifies_once);
  add_both ("/thread/close-where-nobody-owns-notifies-in-the-caller",
            test_close_where_nobody_owns_notifies_in_the_caller);
  g_test_add_func ("/thread/iterate-while-another-closes-is-quiet",
                   test_iterate_while_another_thread_closes_is_quiet);
  g_test_add_func ("/thread/last-unref-where-nobody-owns-notifies-in-the-caller",
                   test_last_unref_where_nobody_owns_notifies_in_the_caller);
  g_test_add_func ("/thread/owner-outside-a-round-runs-the-notifies",
                   test_owner_outside_a_round_runs_the_notifies);
  g_test_add_func ("/thread/owner-frees-the-main-context-of-a-closed-one",
                   test_owner_frees_the_main_context_of_a_closed_one);
  g_test_add_func ("/thread/last-unref-during-a-callback",
                   test_last_unref_from_a_thread_during_a_callback);
  g_test_add_func ("/thread/source-destroyed-under-a-running-loop",
                   test_source_destroyed_under_a_running_loop);
  g_test_add_func ("/thread/moved-during-a-callback", test_moved_during_a_callback);
  g_test_add_func ("/thread/detach-under-a-running-loop", test_detach_under_a_running_loop);
  g_test_add_func ("/thread/attach-while-another-detaches", test_attach_while_another_detaches);
  g_test_add_func ("/thread/closed-right-after-a-detach", test_closed_right_after_a_detach);
  return g_test_run ();
}
