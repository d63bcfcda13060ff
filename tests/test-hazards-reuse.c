/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

static void
remove_other_and_reuse_its_number (TestWatch *self)
{
  TestWatch *victim = self->other;
  TestWatch *heir = victim->other;

  if (self->calls > 1)
    return;
  gaio_handler_remove (victim->handler);
  test_move_fd (test_eventfd (0), victim->fd);
  test_watch_start (heir, self->loop, g_steal_fd (&victim->fd), G_IO_IN);
}

static void
removed_and_reused_in_one_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;
  g_auto (TestWatch) culprit = TEST_WATCH_INIT;

  culprit.act = remove_other_and_reuse_its_number;
  culprit.drains = TRUE;
  culprit.other = &victim;
  victim.other = &heir;
  test_watch_start (&culprit, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
  g_assert_cmpuint (heir.calls, ==, 0);
  test_signal (heir.fd);
  test_loop_step (loop);
  g_assert_cmpuint (heir.calls, ==, 1);
}

static void
reuse_number_of_other (TestWatch *self)
{
  TestWatch *victim = self->other;
  TestWatch *heir = victim->other;

  if (self->calls > 1)
    return;
  test_move_fd (test_eventfd (1), victim->fd);
  test_watch_start (heir, self->loop, g_steal_fd (&victim->fd), G_IO_IN);
}

static void
closed_and_added_by_another_in_one_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;
  g_auto (TestWatch) culprit = TEST_WATCH_INIT;

  culprit.act = reuse_number_of_other;
  culprit.drains = TRUE;
  culprit.other = &victim;
  victim.other = &heir;
  test_watch_start (&culprit, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_readable_pipe (), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
  g_assert_cmpuint (heir.calls, ==, 0);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
  g_assert_cmpuint (heir.calls, ==, 2);
}

static void
close_and_change_other (TestWatch *self)
{
  TestWatch *victim = self->other;

  if (self->calls > 1)
    return;
  test_move_fd (test_eventfd (1), victim->fd);
  g_assert_false (gaio_handler_set_condition (victim->handler, G_IO_IN | G_IO_OUT, NULL));
}

static void
closed_and_changed_in_one_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) victim = TEST_WATCH_INIT;
  g_auto (TestWatch) culprit = TEST_WATCH_INIT;

  culprit.act = close_and_change_other;
  culprit.drains = TRUE;
  culprit.other = &victim;
  test_watch_start (&culprit, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_readable_pipe (), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (culprit.calls, ==, 1);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
}

static void
replace_oneself_and_wait (TestWatch *self)
{
  gint number = g_steal_fd (&self->fd);

  gaio_clear_handler (&self->handler);
  test_move_fd (test_eventfd (1), number);
  test_watch_start (self->other, self->loop, number, G_IO_IN);
  test_run_until (self->loop, self->other->calls > 0);
}

static void
number_is_reused_in_its_own_callback (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = replace_oneself_and_wait;
  watch.other = &heir;
  heir.drains = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_cmpuint (heir.calls, ==, 1);
}

static void
remove_free_and_close_other (TestWatch *self)
{
  if (self->other->handler == NULL)
    return;
  gaio_clear_handler (&self->other->handler);
  test_close (&self->other->fd);
  test_loop_step (self->loop);
}

static void
freed_while_on_the_ready_list (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[12] = { 0 };
  guint calls = 0;

  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      watches[i].act = remove_free_and_close_other;
      watches[i].other = &watches[(i + 1) % G_N_ELEMENTS (watches)];
      test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
    }
  test_loop_step (loop);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      g_assert_cmpuint (watches[i].deepest, <=, 1);
      calls += watches[i].calls;
    }
  g_assert_cmpuint (calls, >=, 1);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
}

static void
outlast_and_free_other (TestWatch *self)
{
  gint64 until = g_get_monotonic_time () + 2000;

  while (g_get_monotonic_time () < until)
    ;
  gaio_clear_handler (&self->other->handler);
  test_close (&self->other->fd);
}

static void
freed_while_left_over (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 0, 1000);
  a.act = b.act = outlast_and_free_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, >=, 1);
  g_assert_true (a.calls == 0 || b.calls == 0);
}

static void
free_other (TestWatch *self)
{
  gaio_clear_handler (&self->other->handler);
}

static void
freed_while_left_over_on_one_fd (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;
  g_auto (TestWatch) c = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  a.act = free_other;
  a.other = &b;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, a.fd, G_IO_IN);
  b.fd = -1;
  test_watch_start (&c, loop, a.fd, G_IO_IN);
  c.fd = -1;
  for (guint i = 0; i < 10; i++)
    test_loop_step (loop);
  g_assert_cmpuint (a.calls + c.calls, ==, 10);
  g_assert_cmpuint (b.calls, ==, 0);
  g_assert_cmpuint (c.calls, >=, 3);
}

static void
drain_other_and_step (TestWatch *self)
{
  test_drain (self->other->fd);
  test_loop_step (self->loop);
}

/* As another source of the nested loop might. */
static void
consumed_during_a_nested_loop_is_not_reported (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = drain_other_and_step;
  a.drains = TRUE;
  a.other = &b;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 0);
}

static void
close_takes_the_dormant_along (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  test_watch_start (&victim, loop, test_eventfd (0), G_IO_IN);
  test_move_fd (test_eventfd (1), victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  gaio_context_close (loop->context);
  g_assert_cmpuint (victim.notifies, ==, 1);
  g_assert_cmpuint (heir.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (victim.handler));
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/hazards/removed-and-reused-in-one-round", removed_and_reused_in_one_round);
  test_add ("/hazards/closed-and-added-by-another-in-one-round",
            closed_and_added_by_another_in_one_round);
  test_add ("/hazards/closed-and-changed-in-one-round", closed_and_changed_in_one_round);
  test_add_nested ("/hazards/number-is-reused-in-its-own-callback",
                   number_is_reused_in_its_own_callback);
  test_add_nested ("/hazards/freed-while-on-the-ready-list", freed_while_on_the_ready_list);
  test_add ("/hazards/freed-while-left-over", freed_while_left_over);
  test_add ("/hazards/freed-while-left-over-on-one-fd", freed_while_left_over_on_one_fd);
  test_add_nested ("/hazards/consumed-during-a-nested-loop-is-not-reported",
                   consumed_during_a_nested_loop_is_not_reported);
  test_add ("/hazards/close-takes-the-dormant-along", close_takes_the_dormant_along);
  return g_test_run ();
}
