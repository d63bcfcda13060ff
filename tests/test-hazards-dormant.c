/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

/* --- Closed without removal --- */

static void
closed_without_removal_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  test_close (&watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 0);
  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 1);
}

static void
removal_after_the_close_is_quiet (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_close (&watch.fd);
  test_watch_stop (&watch);
  g_assert_cmpuint (watch.calls, ==, 0);
  test_loop_assert_sleeps (loop);
}

static void
reused_number_does_not_wake_the_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  test_move_fd (test_eventfd (1), watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
}

/* All eventfds share one inode: nothing tells the new one from the old but that it is added. */
static void
whoever_adds_a_reused_number_hears_of_the_new_file (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) newer = TEST_WATCH_INIT;
  g_auto (TestWatch) older = TEST_WATCH_INIT;

  test_watch_start (&older, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  test_move_fd (test_eventfd (0), older.fd);
  test_watch_start (&newer, loop, g_steal_fd (&older.fd), G_IO_IN);
  test_loop_settle (loop);
  test_signal (newer.fd);
  test_run_until (loop, newer.calls > 0);
}

static void
somebody_else_adds_the_reused_number (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) newer = TEST_WATCH_INIT;
  g_auto (TestWatch) older = TEST_WATCH_INIT;

  test_watch_start (&older, loop, test_socket (), G_IO_IN);
  test_move_fd (test_eventfd (1), older.fd);
  test_watch_start (&newer, loop, g_steal_fd (&older.fd), G_IO_IN);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (newer.calls, ==, i);
    }
  test_drain (newer.fd);
  test_loop_assert_sleeps (loop);
  /* The older one has no part in the new file, and takes none of it away. */
  test_watch_stop (&older);
  test_signal (newer.fd);
  test_loop_step (loop);
  g_assert_cmpuint (newer.calls, ==, 4);
  g_assert_cmpuint (older.calls, ==, 0);
}

static void
the_newer_of_two_leaves_first (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) newer = TEST_WATCH_INIT;
  g_auto (TestWatch) older = TEST_WATCH_INIT;

  test_watch_start (&older, loop, test_socket (), G_IO_IN);
  test_move_fd (test_eventfd (1), older.fd);
  test_watch_start (&newer, loop, older.fd, G_IO_IN);
  newer.fd = -1;
  test_watch_stop (&newer);
  /* The new file is open and readable under the number of the older one. */
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (older.calls, ==, 0);
}

static void
set_condition_does_not_wake_the_dormant (TestLoop *loop, gconstpointer mode)
{
  for (guint reused = 0; reused < 2; reused++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;
      g_autoptr (GError) error = NULL;

      test_watch_start (&watch, loop, test_socket (), G_IO_IN);
      if (reused)
        test_move_fd (test_eventfd (1), watch.fd);
      else
        test_close (&watch.fd);
      g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_IN | G_IO_OUT, &error));
      g_assert_error (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
      g_assert_cmpuint (gaio_handler_get_condition (watch.handler), ==, G_IO_IN);
      test_loop_assert_sleeps (loop);
      g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_OUT, NULL));
      test_loop_assert_sleeps (loop);
      g_assert_cmpuint (watch.calls, ==, 0);
    }
}

/* The context opens fds of its own when it first needs them: a timer's may get the very number. */
static void
own_fds_under_a_dormant_number_are_safe (TestLoop *loop, gconstpointer mode)
{
  for (guint removes = 0; removes < 2; removes++)
    {
      TestLoop fresh = { 0 };
      g_auto (TestWatch) watch = TEST_WATCH_INIT;

      test_loop_set_up (&fresh, mode);
      test_watch_start (&watch, &fresh, test_eventfd (1), G_IO_IN);
      test_close (&watch.fd);
      test_loop_assert_sleeps (&fresh);
      if (removes)
        gaio_handler_remove (watch.handler);
      else
        g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_OUT, NULL));
      test_loop_assert_sleeps (&fresh);
      g_assert_cmpuint (watch.calls, ==, 0);
      test_watch_stop (&watch);
      test_loop_tear_down (&fresh, mode);
    }
}

static void
close_own_fd (TestWatch *self)
{
  test_close (&self->fd);
}

static void
closed_in_its_own_callback_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = close_own_fd;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
close_own_fd_and_step (TestWatch *self)
{
  test_loop_step (self->loop);
  test_close (&self->fd);
  test_loop_assert_sleeps (self->loop);
}

static void
closed_in_a_nested_loop_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = close_own_fd_and_step;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

/* --- Files that epoll refuses (EPERM) --- */

static void
closed_always_ready_file_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  test_close (&watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
reused_number_does_not_wake_the_dormant_always_ready (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_IN);
  test_loop_step (loop);
  test_move_fd (test_open ("/"), watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
assert_heir_alone_is_called (TestLoop *loop, gint from, gint to)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  test_watch_start (&victim, loop, from, G_IO_IN);
  test_move_fd (to, victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (heir.calls, ==, i);
    }
  test_watch_stop (&victim);
  test_loop_step (loop);
  g_assert_cmpuint (heir.calls, >=, 4);
  g_assert_cmpuint (victim.calls, ==, 0);
}

static void
number_moves_between_kinds_of_files (TestLoop *loop, gconstpointer mode)
{
  assert_heir_alone_is_called (loop, test_eventfd (0), test_open ("/"));
  assert_heir_alone_is_called (loop, test_eventfd (1), test_open ("/dev/null"));
  assert_heir_alone_is_called (loop, test_open ("/dev/null"), test_eventfd (1));
  assert_heir_alone_is_called (loop, test_open ("/dev/null"), test_open ("/"));
  /* Of one file system. */
  assert_heir_alone_is_called (loop, test_open ("/dev/null"), test_open ("/dev/zero"));
  test_loop_assert_sleeps (loop);
}

static void
number_goes_from_a_closed_file_to_a_silent_one (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  test_watch_start (&victim, loop, test_open ("/dev/null"), G_IO_IN);
  test_move_fd (test_eventfd (0), victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (heir.calls + victim.calls, ==, 0);
}

/* What is left over is asked whether its file is the same still; but its number is the heir's. */
static void
removed_while_left_over_leaves_its_heir_alone (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) first = TEST_WATCH_INIT;
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  test_watch_start (&first, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_open ("/dev/null"), G_IO_IN);
  test_run_until (loop, first.calls > 0);
  gaio_clear_handler (&victim.handler);
  test_move_fd (test_open ("/"), victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  test_run_until (loop, heir.calls > 0);
}

static void
always_ready_file_is_silent_for_what_it_never_has (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_PRI);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, NULL));
  test_run_until (loop, watch.calls > 0);
  g_assert_cmpint (watch.condition, ==, G_IO_IN);
}

static void
nest_three_rounds (TestWatch *watch)
{
  for (guint i = 0; i < 3; i++)
    test_loop_step (watch->loop);
}

/* One callback a round: those that run have no need of it. */
static void
running_always_ready_handler_takes_no_place (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) outer = TEST_WATCH_INIT;
  g_auto (TestWatch) other = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  outer.act = nest_three_rounds;
  test_watch_start (&outer, loop, test_open ("/dev/null"), G_IO_IN);
  test_watch_start (&other, loop, test_open ("/dev/zero"), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (outer.calls, ==, 1);
  g_assert_cmpuint (outer.deepest, ==, 1);
  g_assert_cmpuint (other.calls, ==, 3);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/hazards/closed-without-removal-is-dormant", closed_without_removal_is_dormant);
  test_add ("/hazards/removal-after-the-close-is-quiet", removal_after_the_close_is_quiet);
  test_add ("/hazards/reused-number-does-not-wake-the-dormant",
            reused_number_does_not_wake_the_dormant);
  test_add ("/hazards/whoever-adds-a-reused-number-hears-of-the-new-file",
            whoever_adds_a_reused_number_hears_of_the_new_file);
  test_add ("/hazards/always-ready-file-is-silent-for-what-it-never-has",
            always_ready_file_is_silent_for_what_it_never_has);
  test_add_nested ("/hazards/running-always-ready-handler-takes-no-place",
                   running_always_ready_handler_takes_no_place);
  test_add ("/hazards/somebody-else-adds-the-reused-number", somebody_else_adds_the_reused_number);
  test_add ("/hazards/the-newer-of-two-leaves-first", the_newer_of_two_leaves_first);
  test_add ("/hazards/set-condition-does-not-wake-the-dormant",
            set_condition_does_not_wake_the_dormant);
  test_add ("/hazards/own-fds-under-a-dormant-number-are-safe",
            own_fds_under_a_dormant_number_are_safe);
  test_add ("/hazards/closed-in-its-own-callback-is-dormant",
            closed_in_its_own_callback_is_dormant);
  test_add_nested ("/hazards/closed-in-a-nested-loop-is-dormant",
                   closed_in_a_nested_loop_is_dormant);
  test_add ("/hazards/closed-always-ready-file-is-dormant", closed_always_ready_file_is_dormant);
  test_add ("/hazards/reused-number-does-not-wake-the-dormant-always-ready",
            reused_number_does_not_wake_the_dormant_always_ready);
  test_add ("/hazards/removed-while-left-over-leaves-its-heir-alone",
            removed_while_left_over_leaves_its_heir_alone);
  test_add ("/hazards/number-moves-between-kinds-of-files", number_moves_between_kinds_of_files);
  test_add ("/hazards/number-goes-from-a-closed-file-to-a-silent-one",
            number_goes_from_a_closed_file_to_a_silent_one);
  return g_test_run ();
}
