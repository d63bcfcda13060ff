/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

static void
first_ready_is_first_called (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[5] = { 0 };
  const char *order = "dbeac";

  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      watches[i].tag = 'a' + i;
      watches[i].drains = TRUE;
      test_watch_start (&watches[i], loop, test_eventfd (0), G_IO_IN);
    }
  test_loop_settle (loop);
  for (const char *c = order; *c != 0; c++)
    test_signal (watches[*c - 'a'].fd);
  test_loop_step (loop);
  g_assert_cmpstr (loop->log->str, ==, order);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
}

static void
log_call (gpointer log)
{
  g_string_append_c (log, 't');
}

static void
log_bottom_half (gpointer log)
{
  g_string_append_c (log, 'b');
}

static void
assert_order_of_a_round (TestLoop *loop)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  GaioTimer *timer = gaio_context_add_timer (loop->context, log_call, loop->log, NULL);
  GaioBottomHalf *half =
      gaio_context_add_bottom_half (loop->context, log_bottom_half, loop->log, NULL);

  g_string_truncate (loop->log, 0);
  watch.tag = 'h';
  gaio_timer_arm (timer, 0);
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_bottom_half_schedule (half);
  test_loop_step (loop);
  g_assert_cmpstr (loop->log->str, ==, "bht");
  gaio_clear_timer (&timer);
  gaio_clear_bottom_half (&half);
}

static void
comes_after_bottom_halves_and_before_timers (TestLoop *loop, gconstpointer mode)
{
  assert_order_of_a_round (loop);
  assert_order_of_a_round (loop);
}

/* One event is for all of them, so that a limit leaves some over. */
static void
start_on_one_fd (TestWatch *watches, guint n, TestLoop *loop, gint fd)
{
  for (guint i = 0; i < n; i++)
    {
      test_watch_start (&watches[i], loop, fd, G_IO_IN);
      watches[i].fd = -1;
    }
}

/* What a limit has cut off may come first the next time, but not for ever. */
static void
order_is_the_same_after_a_limit (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[3] = { 0 };
  gint fd = test_eventfd (1);

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  start_on_one_fd (watches, 3, loop, fd);
  test_loop_step (loop);
  g_assert_cmpuint (watches[0].calls, ==, 1);
  g_assert_cmpuint (watches[1].calls, ==, 0);
  gaio_context_set_dispatch_limits (loop->context, 128, 0);
  test_loop_step (loop);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
  assert_order_of_a_round (loop);
  close (fd);
}

typedef struct
{
  GaioTimer *timer;
  GaioBottomHalf *half;
  guint timer_calls;
  guint half_calls;
} Restless;

static void
arm_again (gpointer restless)
{
  Restless *self = restless;

  self->timer_calls++;
  gaio_timer_arm (self->timer, 0);
}

static void
schedule_again (gpointer restless)
{
  Restless *self = restless;

  self->half_calls++;
  gaio_bottom_half_schedule (self->half);
}

static void
no_kind_of_callback_starves (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  Restless restless = { NULL };

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  restless.timer = gaio_context_add_timer (loop->context, arm_again, &restless, NULL);
  restless.half = gaio_context_add_bottom_half (loop->context, schedule_again, &restless, NULL);
  gaio_timer_arm (restless.timer, 0);
  gaio_bottom_half_schedule (restless.half);
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 0; i < 90; i++)
    test_loop_step (loop);
  g_assert_cmpuint (watch.calls + restless.timer_calls + restless.half_calls, <=, 90);
  g_assert_cmpuint (watch.calls, >=, 20);
  g_assert_cmpuint (restless.timer_calls, >=, 20);
  g_assert_cmpuint (restless.half_calls, >=, 20);
  gaio_clear_timer (&restless.timer);
  gaio_clear_bottom_half (&restless.half);
}

static void
limit_bounds_a_round (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[10] = { 0 };
  guint calls = 0;

  gaio_context_set_dispatch_limits (loop->context, 3, 0);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      watches[i].tag = 'x';
      test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
    }
  for (guint round = 1; round <= 10; round++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (loop->log->len, ==, 3 * round);
    }
  /* Thirty calls for ten, always ready: they take turns. */
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      g_assert_cmpuint (watches[i].calls, >=, 2);
      calls += watches[i].calls;
    }
  g_assert_cmpuint (calls, ==, 30);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
}

static void
left_over_by_a_limit_is_looked_at_afresh (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  /* As another source might. */
  test_drain (a.fd);
  test_drain (b.fd);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
}

static void
left_over_on_one_fd_is_looked_at_afresh (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[3] = { 0 };
  gint fd = test_eventfd (1);
  guint calls = 0;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  start_on_one_fd (watches, 3, loop, fd);
  test_loop_step (loop);
  test_drain (fd);
  test_loop_settle (loop);
  test_loop_assert_sleeps (loop);
  for (guint i = 0; i < 3; i++)
    calls += watches[i].calls;
  g_assert_cmpuint (calls, ==, 1);
  for (guint i = 0; i < 3; i++)
    test_watch_stop (&watches[i]);
  close (fd);
}

static void
several_on_one_fd_take_turns (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[3] = { 0 };
  g_auto (TestWatch) alone = TEST_WATCH_INIT;
  gint fd = test_eventfd (1);

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  start_on_one_fd (watches, 3, loop, fd);
  test_watch_start (&alone, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 0; i < 80; i++)
    test_loop_step (loop);
  for (guint i = 0; i < 3; i++)
    g_assert_cmpuint (watches[i].calls, >=, 10);
  g_assert_cmpuint (alone.calls, >=, 10);
  for (guint i = 0; i < 3; i++)
    test_watch_stop (&watches[i]);
  close (fd);
}

static void
outlast_the_limit (TestWatch *self)
{
  gint64 until = g_get_monotonic_time () + 2000;

  while (g_get_monotonic_time () < until)
    ;
}

static void
left_over_by_a_time_limit_is_looked_at_afresh (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 0, 1000);
  a.act = b.act = outlast_the_limit;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  test_drain (a.fd);
  test_drain (b.fd);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
}

static void
a_time_limit_starves_nobody (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 0, 1000);
  a.act = b.act = outlast_the_limit;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 0; i < 8; i++)
    test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 8);
  g_assert_cmpuint (a.calls, >=, 2);
  g_assert_cmpuint (b.calls, >=, 2);
}

static void
tiniest_time_limit_lets_one_through (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 0, 1);
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 1; i <= 20; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (a.calls + b.calls, >=, i);
    }
}

static void
without_a_limit_all_are_served (TestLoop *loop, gconstpointer mode)
{
  const guint n = 300;
  g_autofree TestWatch *watches = g_new0 (TestWatch, n);

  if (!test_may_open (n + 20))
    return;
  gaio_context_set_dispatch_limits (loop->context, 0, 0);
  for (guint i = 0; i < n; i++)
    {
      watches[i].drains = TRUE;
      test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
    }
  test_loop_settle (loop);
  for (guint i = 0; i < n; i++)
    g_assert_cmpuint (watches[i].calls, ==, 1);
  for (guint i = 0; i < n; i++)
    test_watch_stop (&watches[i]);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/handler/first-ready-is-first-called", first_ready_is_first_called);
  test_add ("/handler/comes-after-bottom-halves-and-before-timers",
            comes_after_bottom_halves_and_before_timers);
  test_add ("/handler/order-is-the-same-after-a-limit", order_is_the_same_after_a_limit);
  test_add ("/handler/no-kind-of-callback-starves", no_kind_of_callback_starves);
  test_add ("/handler/limit-bounds-a-round", limit_bounds_a_round);
  test_add ("/handler/left-over-by-a-limit-is-looked-at-afresh",
            left_over_by_a_limit_is_looked_at_afresh);
  test_add ("/handler/left-over-on-one-fd-is-looked-at-afresh",
            left_over_on_one_fd_is_looked_at_afresh);
  test_add ("/handler/several-on-one-fd-take-turns", several_on_one_fd_take_turns);
  test_add ("/handler/left-over-by-a-time-limit-is-looked-at-afresh",
            left_over_by_a_time_limit_is_looked_at_afresh);
  test_add ("/handler/a-time-limit-starves-nobody", a_time_limit_starves_nobody);
  test_add ("/handler/tiniest-time-limit-lets-one-through", tiniest_time_limit_lets_one_through);
  test_add ("/handler/without-a-limit-all-are-served", without_a_limit_all_are_served);
  return g_test_run ();
}
