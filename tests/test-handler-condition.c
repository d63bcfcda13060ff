/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>

#include "test-util.h"

/* --- Conditions --- */

static void
hang_up_reaches_every_condition (TestLoop *loop, gconstpointer mode)
{
  const GIOCondition conditions[] = { G_IO_IN, G_IO_PRI, G_IO_HUP, G_IO_ERR, G_IO_IN | G_IO_OUT };

  for (guint i = 0; i < G_N_ELEMENTS (conditions); i++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;
      gint fds[2];

      test_pipe (fds);
      test_watch_start (&watch, loop, fds[0], conditions[i]);
      test_loop_settle (loop);
      close (fds[1]);
      g_assert_true (test_loop_step (loop));
      g_assert_cmpuint (watch.calls, ==, 1);
      g_assert_cmpuint (watch.condition, ==, G_IO_HUP);
    }
}

static void
error_reaches_every_condition (TestLoop *loop, gconstpointer mode)
{
  const GIOCondition conditions[] = { G_IO_IN, G_IO_PRI, G_IO_HUP, G_IO_ERR };

  for (guint i = 0; i < G_N_ELEMENTS (conditions); i++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;
      gint fds[2];

      test_pipe (fds);
      test_watch_start (&watch, loop, fds[1], conditions[i]);
      test_loop_settle (loop);
      close (fds[0]);
      g_assert_true (test_loop_step (loop));
      g_assert_cmpuint (watch.calls, ==, 1);
      g_assert_cmpuint (watch.condition, ==, G_IO_ERR);
    }
}

static void
half_close_is_reported_to_who_asks (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) asks = TEST_WATCH_INIT;
  g_auto (TestWatch) does_not = TEST_WATCH_INIT;
  gint fds[2];

  test_socketpair (fds);
  test_watch_start (&asks, loop, fds[0], (GIOCondition) POLLRDHUP);
  test_watch_start (&does_not, loop, dup (fds[0]), G_IO_PRI);
  g_assert_cmpint (shutdown (fds[1], SHUT_WR), ==, 0);
  test_loop_step (loop);
  g_assert_cmpuint (asks.calls, ==, 1);
  g_assert_cmpuint (asks.condition, ==, POLLRDHUP);
  g_assert_cmpuint (does_not.calls, ==, 0);
  close (fds[1]);
}

static void
condition_zero_is_silent (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint fds[2];

  test_pipe (fds);
  test_watch_start (&watch, loop, fds[0], 0);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  test_loop_assert_sleeps (loop);
  close (fds[1]);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, NULL));
  g_assert_true (test_loop_step (loop));
  g_assert_cmpuint (watch.condition, ==, G_IO_IN | G_IO_HUP);
}

static void
silence_after_noise_is_silent (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint fds[2];

  test_pipe (fds);
  close (fds[1]);
  test_watch_start (&watch, loop, fds[0], G_IO_IN);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
  g_assert_true (gaio_handler_set_condition (watch.handler, 0, NULL));
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
}

/* --- Several on one fd --- */

/* Whoever is on its fd by then. */
static void
held_after_its_removal_is_what_it_was (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) second = TEST_WATCH_INIT;
  g_auto (TestWatch) first = TEST_WATCH_INIT;
  gint fd = test_eventfd (1);

  test_watch_start (&first, loop, fd, G_IO_PRI);
  gaio_handler_remove (first.handler);
  test_run_until (loop, first.notifies > 0);
  test_watch_start (&second, loop, g_steal_fd (&first.fd), G_IO_IN);
  g_assert_true (gaio_handler_is_removed (first.handler));
  g_assert_cmpint (gaio_handler_get_fd (first.handler), ==, fd);
  g_assert_cmpint (gaio_handler_get_condition (first.handler), ==, G_IO_PRI);
  gaio_clear_handler (&first.handler);
  g_assert_false (gaio_handler_is_removed (second.handler));
  test_run_until (loop, second.calls > 0);
}

static void
several_on_one_fd_get_what_each_asked_for (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) in = TEST_WATCH_INIT;
  g_auto (TestWatch) out = TEST_WATCH_INIT;
  g_auto (TestWatch) both = TEST_WATCH_INIT;
  g_auto (TestWatch) mute = TEST_WATCH_INIT;

  test_watch_start (&in, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&out, loop, in.fd, G_IO_OUT);
  test_watch_start (&both, loop, in.fd, G_IO_IN | G_IO_OUT);
  test_watch_start (&mute, loop, in.fd, 0);
  out.fd = both.fd = mute.fd = -1;
  test_loop_step (loop);
  g_assert_cmpuint (in.calls, ==, 1);
  g_assert_cmpuint (in.condition, ==, G_IO_IN);
  g_assert_cmpuint (out.calls, ==, 1);
  g_assert_cmpuint (out.condition, ==, G_IO_OUT);
  g_assert_cmpuint (both.calls, ==, 1);
  g_assert_cmpuint (both.condition, ==, G_IO_IN | G_IO_OUT);
  test_drain (in.fd);
  test_loop_step (loop);
  g_assert_cmpuint (in.calls, ==, 1);
  g_assert_cmpuint (out.calls, ==, 2);
  g_assert_cmpuint (both.calls, ==, 2);
  g_assert_cmpuint (both.condition, ==, G_IO_OUT);
  g_assert_cmpuint (mute.calls, ==, 0);
}

static void
removal_of_one_leaves_the_others_on_its_fd (TestLoop *loop, gconstpointer mode)
{
  for (guint which = 0; which < 3; which++)
    {
      TestWatch watches[3] = { 0 };
      gint fd = test_eventfd (1);

      for (guint i = 0; i < 3; i++)
        {
          test_watch_start (&watches[i], loop, fd, G_IO_IN);
          watches[i].fd = -1;
        }
      gaio_handler_remove (watches[which].handler);
      test_loop_step (loop);
      for (guint i = 0; i < 3; i++)
        g_assert_cmpuint (watches[i].calls, ==, i == which ? 0 : 1);
      for (guint i = 0; i < 3; i++)
        test_watch_stop (&watches[i]);
      test_loop_assert_sleeps (loop);
      close (fd);
    }
}

static void
removal_of_the_writer_ends_its_noise (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) in = TEST_WATCH_INIT;
  g_auto (TestWatch) out = TEST_WATCH_INIT;

  test_watch_start (&in, loop, test_eventfd (0), G_IO_IN);
  test_watch_start (&out, loop, in.fd, G_IO_OUT);
  out.fd = -1;
  test_loop_step (loop);
  g_assert_cmpuint (out.calls, ==, 1);
  test_watch_stop (&out);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (in.calls, ==, 0);
  test_signal (in.fd);
  test_loop_step (loop);
  g_assert_cmpuint (in.calls, ==, 1);
}

static void
removed_by_one_on_its_own_fd_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = test_remove_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, a.fd, G_IO_IN);
  b.fd = -1;
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 2);
}

static void
others_on_its_fd_are_called_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = test_signal_other_and_wait;
  a.other = &b;
  test_watch_start (&a, loop, test_eventfd (0), G_IO_OUT);
  test_watch_start (&b, loop, a.fd, G_IO_IN);
  b.drains = TRUE;
  b.fd = dup (a.fd);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 1);
  g_assert_cmpuint (a.deepest, ==, 1);
  a.act = NULL;
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 2);
}

/* --- Files that epoll refuses --- */

static void
always_ready_files_are_watched (TestLoop *loop, gconstpointer mode)
{
  const char *paths[] = { "/dev/null", "/", "/proc/self/exe" };

  for (guint i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;

      test_watch_start (&watch, loop, test_open (paths[i]), G_IO_IN);
      for (guint n = 1; n <= 3; n++)
        {
          g_assert_true (test_loop_step_full (loop, TRUE));
          g_assert_cmpuint (watch.calls, ==, n);
          g_assert_cmpuint (watch.condition, ==, G_IO_IN);
        }
      g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN | G_IO_OUT, NULL));
      test_loop_step (loop);
      g_assert_cmpuint (watch.condition, ==, G_IO_IN | G_IO_OUT);
      g_assert_true (gaio_handler_set_condition (watch.handler, 0, NULL));
      test_loop_assert_sleeps (loop);
      g_assert_cmpuint (watch.calls, ==, 4);
    }
  test_loop_assert_sleeps (loop);
}

static void
assert_files_leave_room (TestLoop *loop, guint limit)
{
  TestWatch files[6] = { 0 };
  g_auto (TestWatch) event = TEST_WATCH_INIT;
  guint calls = 0;

  gaio_context_set_dispatch_limits (loop->context, limit, 0);
  for (guint i = 0; i < G_N_ELEMENTS (files); i++)
    test_watch_start (&files[i], loop, test_open (i % 2 ? "/dev/null" : "/"), G_IO_IN);
  test_watch_start (&event, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 0; i < 300; i++)
    test_loop_step (loop);
  for (guint i = 0; i < G_N_ELEMENTS (files); i++)
    {
      g_assert_cmpuint (files[i].calls, >=, 20);
      calls += files[i].calls;
    }
  g_assert_cmpuint (event.calls, >=, 20);
  g_assert_cmpuint (calls + event.calls, <=, 300 * limit);
  for (guint i = 0; i < G_N_ELEMENTS (files); i++)
    test_watch_stop (&files[i]);
}

static void
always_ready_files_starve_nobody (TestLoop *loop, gconstpointer mode)
{
  for (guint limit = 1; limit <= 5; limit++)
    assert_files_leave_room (loop, limit);
}

static void
always_ready_file_lets_a_nested_loop_sleep (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = test_assert_sleeps;
  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_IN);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
  g_assert_cmpuint (watch.deepest, ==, 1);
}

static void
always_ready_file_removed_while_ready_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = test_remove_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_open ("/dev/null"), G_IO_IN);
  test_watch_start (&b, loop, test_open ("/"), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
}

static void
always_ready_file_takes_several (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  test_watch_start (&a, loop, test_open ("/dev/null"), G_IO_IN);
  test_watch_start (&b, loop, a.fd, G_IO_OUT);
  b.fd = -1;
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (a.condition, ==, G_IO_IN);
  g_assert_cmpuint (b.calls, ==, 1);
  g_assert_cmpuint (b.condition, ==, G_IO_OUT);
  test_watch_stop (&b);
  test_loop_step (loop);
  g_assert_cmpuint (b.calls, ==, 1);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/handler/hang-up-reaches-every-condition", hang_up_reaches_every_condition);
  test_add ("/handler/error-reaches-every-condition", error_reaches_every_condition);
  test_add ("/handler/half-close-is-reported-to-who-asks", half_close_is_reported_to_who_asks);
  test_add ("/handler/condition-zero-is-silent", condition_zero_is_silent);
  test_add ("/handler/silence-after-noise-is-silent", silence_after_noise_is_silent);
  test_add ("/handler/held-after-its-removal-is-what-it-was",
            held_after_its_removal_is_what_it_was);
  test_add ("/handler/several-on-one-fd-get-what-each-asked-for",
            several_on_one_fd_get_what_each_asked_for);
  test_add ("/handler/removal-of-one-leaves-the-others-on-its-fd",
            removal_of_one_leaves_the_others_on_its_fd);
  test_add ("/handler/removal-of-the-writer-ends-its-noise", removal_of_the_writer_ends_its_noise);
  test_add ("/handler/removed-by-one-on-its-own-fd-is-not-called",
            removed_by_one_on_its_own_fd_is_not_called);
  test_add_nested ("/handler/others-on-its-fd-are-called-in-a-nested-loop",
                   others_on_its_fd_are_called_in_a_nested_loop);
  test_add ("/handler/always-ready-files-are-watched", always_ready_files_are_watched);
  test_add ("/handler/always-ready-files-starve-nobody", always_ready_files_starve_nobody);
  test_add_nested ("/handler/always-ready-file-lets-a-nested-loop-sleep",
                   always_ready_file_lets_a_nested_loop_sleep);
  test_add ("/handler/always-ready-file-removed-while-ready-is-not-called",
            always_ready_file_removed_while_ready_is_not_called);
  test_add ("/handler/always-ready-file-takes-several", always_ready_file_takes_several);
  return g_test_run ();
}
