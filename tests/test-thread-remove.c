/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-thread.h"

/* --- Adding and removing --- */

static void
test_fd_added_from_thread_wakes (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  for (guint i = 0; i < 300; i++)
    {
      atomic_uint calls = 0;
      g_autoptr (GaioHandler) handler =
          add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);

      wait_for (atomic_load (&calls) > 0);
      gaio_handler_remove_sync (handler);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

typedef struct
{
  Loop *loop;
  atomic_uint calls;
  atomic_uint notified;
  guint rounds;
} Load;

static void
add_and_remove_once (Load *load, guint i)
{
  gint fd = eventfd_new (i % 2);
  g_autoptr (GaioHandler) handler =
      add_fd (load->loop->context, fd, i % 3 ? G_IO_IN : 0, count_atomic_fd, &load->calls, NULL);
  GaioTimer *timer =
      gaio_context_add_timer (load->loop->context, count_atomic, &load->notified, count_atomic);

  g_assert_true (gaio_handler_set_condition (handler, G_IO_IN, NULL));
  gaio_timer_arm (timer, 3600 * (gint64) G_USEC_PER_SEC);
  if (i % 5 == 0)
    sched_yield ();
  if (i % 2)
    gaio_handler_remove (handler);
  else
    gaio_handler_remove_sync (handler);
  close (fd);
  gaio_clear_timer (&timer);
}

static void *
add_and_remove (gpointer data)
{
  Load *load = data;

  for (guint i = 0; i < load->rounds; i++)
    add_and_remove_once (load, i);
  return NULL;
}

static void
test_adds_and_removes_under_load (gconstpointer nested)
{
  Loop loop;
  Load load = { .loop = &loop, .rounds = 400 };
  gint fd = eventfd_new (1);
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  watch_fd (loop.context, fd, count_atomic_fd, &load.calls);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (add_and_remove, &load);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  g_assert_cmpuint (stat_of (loop.context, "handlers"), ==, 1);
  g_assert_cmpuint (stat_of (loop.context, "timers"), ==, 0);
  loop_stop (&loop);
  loop_free (&loop);
  g_assert_cmpuint (atomic_load (&load.notified), ==, N_THREADS * 400);
  close (fd);
}

/* The memory of a handler is its remover's as soon as remove_sync() is back. */
static gboolean
touch_memory (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  sched_yield ();
  return G_SOURCE_CONTINUE;
}

static void
test_remove_sync_gives_the_data_back (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  for (guint i = 0; i < 500; i++)
    {
      guint *data = g_new0 (guint, 1);
      g_autoptr (GaioHandler) handler =
          add_fd (loop.context, fd, G_IO_IN, touch_memory, data, NULL);

      if (i % 3 == 0)
        sched_yield ();
      gaio_handler_remove_sync (handler);
      *data = 0;
      g_free (data);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

/* --- While a callback runs --- */

static void
assert_notified_after_the_callback (Blocker *blocker)
{
  g_assert_cmpuint (atomic_load (&blocker->notified), ==, 0);
  eventfd_add (blocker->go);
  eventfd_wait (blocker->notified_fd);
  loop_barrier (blocker->loop);
  g_assert_cmpuint (atomic_load (&blocker->notified), ==, 1);
  g_assert_cmpuint (blocker->calls, ==, 1);
  g_assert_true (blocker->on_owner);
}

static void
test_handler_removed_during_its_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, block_fd, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  gaio_handler_remove (blocker.handler);
  gaio_handler_remove (blocker.handler);
  g_assert_true (gaio_handler_is_removed (blocker.handler));
  assert_notified_after_the_callback (&blocker);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_timer_removed_during_its_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.timer = gaio_context_add_timer (loop.context, block, &blocker, note_blocker);
  gaio_timer_arm (blocker.timer, 0);
  eventfd_wait (blocker.entered);
  gaio_timer_arm (blocker.timer, 0);
  gaio_timer_remove (blocker.timer);
  assert_notified_after_the_callback (&blocker);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
}

static void
test_bottom_half_removed_during_its_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.bh = gaio_context_add_bottom_half (loop.context, block, &blocker, note_blocker);
  gaio_bottom_half_schedule (blocker.bh);
  eventfd_wait (blocker.entered);
  gaio_bottom_half_schedule (blocker.bh);
  gaio_bottom_half_remove (blocker.bh);
  assert_notified_after_the_callback (&blocker);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
}

static void *
remove_sync (gpointer data)
{
  Blocker *blocker = data;

  gaio_handler_remove_sync (blocker->handler);
  g_assert_false (atomic_load (&blocker->running));
  return NULL;
}

static void
test_remove_sync_waits_for_the_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, block_fd, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (remove_sync, &blocker);
  wait_for (gaio_handler_is_removed (blocker.handler));
  for (guint i = 0; i < 100; i++)
    sched_yield ();
  eventfd_add (blocker.go);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  eventfd_wait (blocker.notified_fd);
  g_assert_cmpuint (blocker.calls, ==, 1);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
block_set (GaioReadySet *set, guint n_ready, gpointer data)
{
  block (data);
}

static void
let_others_wait (void)
{
  for (guint i = 0; i < 100; i++)
    sched_yield ();
}

static void *
remove_sync_and_say (gpointer data)
{
  Blocker *blocker = data;

  gaio_handler_remove_sync (blocker->handler);
  atomic_fetch_add (&blocker->returned, 1);
  return NULL;
}

/* It waits for a call that may know of it. The other member has the function called again, which is
 * none of its business. */
static void
test_remove_sync_of_a_member_waits_for_the_function (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1), other_fd = eventfd_new (1);
  GaioReadySet *set;
  GaioHandler *other;
  pthread_t thread;

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  set = gaio_ready_set_new (loop.context);
  blocker.handler = set_add (set, fd);
  other = set_add (set, other_fd);
  gaio_ready_set_set_func (set, block_set, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  thread = spawn (remove_sync_and_say, &blocker);
  wait_for (gaio_handler_is_removed (blocker.handler));
  let_others_wait ();
  g_assert_cmpuint (atomic_load (&blocker.returned), ==, 0);
  eventfd_add (blocker.go);
  eventfd_wait (blocker.entered);
  join (thread);
  gaio_clear_handler (&other);
  gaio_ready_set_set_func (set, NULL, NULL, NULL);
  eventfd_add (blocker.go);
  eventfd_wait (blocker.notified_fd);
  g_assert_cmpuint (blocker.calls, ==, 2);
  gaio_handler_remove_sync (blocker.handler);
  g_object_unref (set);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
  close (other_fd);
}

/* Nobody but the handlers holds the set, which goes before the one who waits knows. */
static void
test_remove_sync_of_a_member_waits_for_a_replaced_function (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);
  GaioReadySet *set;
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  set = gaio_ready_set_new (loop.context);
  blocker.handler = set_add (set, fd);
  gaio_ready_set_set_func (set, block_set, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  gaio_ready_set_set_func (set, NULL, NULL, NULL);
  g_object_unref (set);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (remove_sync, &blocker);
  wait_for (gaio_handler_is_removed (blocker.handler));
  let_others_wait ();
  eventfd_add (blocker.go);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  eventfd_wait (blocker.notified_fd);
  g_assert_cmpuint (blocker.calls, ==, 1);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_remove_sync_of_an_idle_handler_returns (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;
  gint fd = eventfd_new (1);
  g_autoptr (GaioHandler) handler = add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once);

  gaio_handler_remove_sync (handler);
  gaio_handler_remove_sync (handler);
  g_assert_true (gaio_handler_is_removed (handler));
  gaio_context_iterate (context, 0);
  g_assert_cmpuint (notified, ==, 1);
  close (fd);
}

/* --- Changes from another thread hold from the end of a call in flight --- */

static void
test_removed_is_not_called_again (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  for (guint i = 0; i < 20; i++)
    {
      atomic_uint calls = 0;
      g_autoptr (GaioHandler) handler =
          add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
      guint before;

      wait_for (atomic_load (&calls) > 2);
      gaio_handler_remove (handler);
      loop_barrier (&loop);
      before = atomic_load (&calls);
      loop_barrier (&loop);
      g_assert_cmpuint (atomic_load (&calls), ==, before);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

static void
test_condition_changes_from_thread (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);
  atomic_uint calls = 0;
  GaioHandler *handler;

  loop_start (&loop, nested);
  handler = add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
  for (guint i = 0; i < 20; i++)
    {
      guint before = atomic_load (&calls);

      wait_for (atomic_load (&calls) > before);
      g_assert_true (gaio_handler_set_condition (handler, 0, NULL));
      loop_barrier (&loop);
      before = atomic_load (&calls);
      loop_barrier (&loop);
      g_assert_cmpuint (atomic_load (&calls), ==, before);
      g_assert_true (gaio_handler_set_condition (handler, G_IO_IN, NULL));
    }
  gaio_handler_remove_sync (handler);
  gaio_clear_handler (&handler);
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/thread/fd-added-wakes-the-loop", test_fd_added_from_thread_wakes);
  add_both ("/thread/adds-and-removes-under-load", test_adds_and_removes_under_load);
  add_both ("/thread/handler-removed-during-its-callback",
            test_handler_removed_during_its_callback);
  add_both ("/thread/timer-removed-during-its-callback", test_timer_removed_during_its_callback);
  add_both ("/thread/bottom-half-removed-during-its-callback",
            test_bottom_half_removed_during_its_callback);
  add_both ("/thread/removed-is-not-called-again", test_removed_is_not_called_again);
  add_both ("/thread/condition-changes", test_condition_changes_from_thread);
  add_both ("/thread/remove-sync-gives-the-data-back", test_remove_sync_gives_the_data_back);
  add_both ("/thread/remove-sync-waits-for-the-callback", test_remove_sync_waits_for_the_callback);
  add_both ("/thread/remove-sync-of-a-member-waits-for-the-function",
            test_remove_sync_of_a_member_waits_for_the_function);
  add_both ("/thread/remove-sync-of-a-member-waits-for-a-replaced-function",
            test_remove_sync_of_a_member_waits_for_a_replaced_function);
  g_test_add_func ("/thread/remove-sync-of-an-idle-handler-returns",
                   test_remove_sync_of_an_idle_handler_returns);
  return g_test_run ();
}
