/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

/* --- What callbacks may do --- */

static void
remove_own (TestWatch *self)
{
  gaio_handler_remove (self->handler);
  g_assert_true (gaio_handler_is_removed (self->handler));
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
self_removal_notifies_once_after_the_return (TestLoop *loop, gconstpointer mode)
{
  for (guint removes = 0; removes < 2; removes++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;

      watch.act = remove_own;
      watch.removes = removes;
      test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
      test_loop_settle (loop);
      g_assert_cmpuint (watch.calls, ==, 1);
      g_assert_cmpuint (watch.notifies, ==, 1);
    }
}

static void
clear_own (TestWatch *self)
{
  gaio_clear_handler (&self->handler);
}

static void
clearing_oneself_in_the_callback_is_safe (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = clear_own;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
remove_and_step (TestWatch *self)
{
  gaio_handler_remove (self->handler);
  test_loop_step (self->loop);
  test_loop_step (self->loop);
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
self_removal_waits_for_the_return_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = remove_and_step;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
start_other (TestWatch *self)
{
  if (self->calls == 1)
    test_watch_start (self->other, self->loop, test_eventfd (1), G_IO_IN);
}

static void
one_added_in_a_callback_is_called_in_the_next_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) late = TEST_WATCH_INIT;
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = start_other;
  watch.other = &late;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (late.calls, ==, 0);
  test_loop_step (loop);
  g_assert_cmpuint (late.calls, ==, 1);
}

static void
removed_while_ready_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = test_remove_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  /* Whoever came first has removed the other. */
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 2);
  g_assert_true (a.calls == 0 || b.calls == 0);
}

static void
removed_among_many_is_not_called (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[9] = { 0 };
  guint calls = 0;

  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      watches[i].act = test_remove_other;
      watches[i].other = &watches[(i + 1) % G_N_ELEMENTS (watches)];
      test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
    }
  test_loop_step (loop);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      calls += watches[i].calls;
      g_assert_true (watches[i].calls == 0 || gaio_handler_is_removed (watches[i].other->handler));
    }
  /* In their order each second one falls; the last may remove the first, which has been called. */
  g_assert_cmpuint (calls, ==, 5);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
}

static void
silence_other (TestWatch *self)
{
  g_assert_true (gaio_handler_set_condition (self->other->handler, 0, NULL));
}

static void
silenced_while_ready_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = silence_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
}

static void
ask_other_for_out (TestWatch *self)
{
  g_assert_true (gaio_handler_set_condition (self->other->handler, G_IO_OUT, NULL));
}

static void
changed_condition_filters_what_was_gathered (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = ask_other_for_out;
  a.other = &b;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  /* An eventfd with a value in it is readable and writable. */
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN | G_IO_OUT);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 1);
  g_assert_cmpuint (b.condition, ==, G_IO_OUT);
}

static void
close_context (TestWatch *self)
{
  gaio_context_close (self->loop->context);
  g_assert_true (gaio_context_is_closed (self->loop->context));
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
close_in_a_callback_ends_the_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = close_context;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  g_assert_cmpuint (a.notifies, ==, 1);
  g_assert_cmpuint (b.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (a.handler));
  g_assert_true (gaio_handler_is_removed (b.handler));
}

static void
close_and_step (TestWatch *self)
{
  close_context (self);
  test_loop_step (self->loop);
  test_loop_step (self->loop);
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
close_in_a_callback_waits_for_it_to_unwind (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = close_and_step;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  g_assert_cmpuint (a.notifies, ==, 1);
  g_assert_cmpuint (b.notifies, ==, 1);
}

static void
drop_context (TestWatch *self)
{
  if (self->loop->context == NULL)
    return;
  gaio_context_detach (self->loop->context);
  g_clear_object (&self->loop->context);
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
last_unref_in_a_callback_is_safe (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;
  GaioContext *weak = loop->context;

  g_object_add_weak_pointer (G_OBJECT (loop->context), (gpointer *) &weak);
  a.act = b.act = drop_context;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_null (weak);
  /* Under GLib the source, which is being dispatched, still has a reference. */
  if (loop->mode == TEST_ITERATE)
    g_assert_cmpuint (a.calls + b.calls, ==, 1);
  g_assert_cmpuint (a.notifies, ==, 1);
  g_assert_cmpuint (b.notifies, ==, 1);
}

/* --- Nested loops --- */

static void
step_once (TestWatch *self)
{
  test_loop_step (self->loop);
}

static void
is_not_called_again_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = step_once;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (0), G_IO_IN);
  for (guint i = 1; i <= 4; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (a.calls, ==, i);
    }
  g_assert_cmpuint (a.deepest, ==, 1);
}

static void
others_are_called_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = test_signal_other_and_wait;
  a.other = &b;
  b.drains = TRUE;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (0), G_IO_IN);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (a.calls, ==, i);
      g_assert_cmpuint (b.calls, ==, i);
    }
  g_assert_cmpuint (a.deepest, ==, 1);
}

static void
served_by_a_nested_round_is_not_served_again (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = step_once;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 1);
  /* It has not been consumed, so the next round has it again. */
  a.act = NULL;
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 2);
  g_assert_cmpuint (b.calls, ==, 2);
}

static void
nested_loop_sleeps (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = test_assert_sleeps;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (watch.calls, ==, i);
    }
  g_assert_cmpuint (watch.deepest, ==, 1);
}

static void
new_readiness_after_a_nested_loop_is_reported (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = test_assert_sleeps;
  watch.drains = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  test_signal (watch.fd);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
}

static void
sleep_and_ask_for_out (TestWatch *self)
{
  if (self->calls > 1)
    return;
  test_loop_assert_sleeps (self->loop);
  g_assert_true (gaio_handler_set_condition (self->handler, G_IO_OUT, NULL));
  test_loop_assert_sleeps (self->loop);
}

static void
condition_set_during_a_nested_loop_holds_after_it (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = sleep_and_ask_for_out;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
  g_assert_cmpuint (watch.condition, ==, G_IO_OUT);
}

static void
sleep_and_silence (TestWatch *self)
{
  test_loop_assert_sleeps (self->loop);
  g_assert_true (gaio_handler_set_condition (self->handler, 0, NULL));
  test_loop_assert_sleeps (self->loop);
}

static void
silence_set_during_a_nested_loop_holds_after_it (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = sleep_and_silence;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
step_to_depth_three (TestWatch *self)
{
  if (self->depth < 3)
    test_loop_step (self->loop);
}

static void
can_recurse_is_called_again_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = step_to_depth_three;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_handler_set_can_recurse (watch.handler, TRUE);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 3);
  g_assert_cmpuint (watch.deepest, ==, 3);
  gaio_handler_set_can_recurse (watch.handler, FALSE);
  watch.deepest = 0;
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 4);
  g_assert_cmpuint (watch.deepest, ==, 1);
}

static void
recurse_then_remove (TestWatch *self)
{
  if (self->depth < 3)
    test_loop_step (self->loop);
  else
    gaio_handler_remove (self->handler);
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
removed_in_the_deepest_call_notifies_after_the_outermost (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = recurse_then_remove;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_handler_set_can_recurse (watch.handler, TRUE);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 3);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
step_then_remove_other (TestWatch *self)
{
  if (self->depth > 1)
    return;
  test_loop_step (self->loop);
  gaio_handler_remove (self->other->handler);
}

static void
inner_removes_outer (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = step_once;
  b.act = test_remove_other;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (a.notifies, ==, 1);
  g_assert_cmpuint (b.calls, ==, 2);
}

static void
two_that_nest_each_other (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = step_then_remove_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 1);
  g_assert_cmpuint (a.deepest, ==, 1);
  g_assert_cmpuint (b.deepest, ==, 1);
  g_assert_cmpuint (a.notifies, ==, 1);
  g_assert_cmpuint (b.notifies, ==, 1);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/handler/self-removal-notifies-once-after-the-return",
            self_removal_notifies_once_after_the_return);
  test_add ("/handler/clearing-oneself-in-the-callback-is-safe",
            clearing_oneself_in_the_callback_is_safe);
  test_add_nested ("/handler/self-removal-waits-for-the-return-in-a-nested-loop",
                   self_removal_waits_for_the_return_in_a_nested_loop);
  test_add ("/handler/one-added-in-a-callback-is-called-in-the-next-round",
            one_added_in_a_callback_is_called_in_the_next_round);
  test_add ("/handler/removed-while-ready-is-not-called", removed_while_ready_is_not_called);
  test_add ("/handler/removed-among-many-is-not-called", removed_among_many_is_not_called);
  test_add ("/handler/silenced-while-ready-is-not-called", silenced_while_ready_is_not_called);
  test_add ("/handler/changed-condition-filters-what-was-gathered",
            changed_condition_filters_what_was_gathered);
  test_add ("/handler/close-in-a-callback-ends-the-round", close_in_a_callback_ends_the_round);
  test_add_nested ("/handler/close-in-a-callback-waits-for-it-to-unwind",
                   close_in_a_callback_waits_for_it_to_unwind);
  test_add ("/handler/last-unref-in-a-callback-is-safe", last_unref_in_a_callback_is_safe);
  test_add_nested ("/handler/is-not-called-again-in-a-nested-loop",
                   is_not_called_again_in_a_nested_loop);
  test_add_nested ("/handler/others-are-called-in-a-nested-loop",
                   others_are_called_in_a_nested_loop);
  test_add_nested ("/handler/served-by-a-nested-round-is-not-served-again",
                   served_by_a_nested_round_is_not_served_again);
  test_add_nested ("/handler/nested-loop-sleeps", nested_loop_sleeps);
  test_add_nested ("/handler/new-readiness-after-a-nested-loop-is-reported",
                   new_readiness_after_a_nested_loop_is_reported);
  test_add_nested ("/handler/condition-set-during-a-nested-loop-holds-after-it",
                   condition_set_during_a_nested_loop_holds_after_it);
  test_add_nested ("/handler/silence-set-during-a-nested-loop-holds-after-it",
                   silence_set_during_a_nested_loop_holds_after_it);
  test_add_nested ("/handler/can-recurse-is-called-again-in-a-nested-loop",
                   can_recurse_is_called_again_in_a_nested_loop);
  test_add_nested ("/handler/removed-in-the-deepest-call-notifies-after-the-outermost",
                   removed_in_the_deepest_call_notifies_after_the_outermost);
  test_add_nested ("/handler/inner-removes-outer", inner_removes_outer);
  test_add_nested ("/handler/two-that-nest-each-other", two_that_nest_each_other);
  return g_test_run ();
}
