/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

#include <malloc.h>
#include <poll.h>
#include <string.h>

/* --- What the calls do --- */

static void
says_what_it_watches (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GaioContext) context = NULL;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN | G_IO_PRI);
  context = gaio_handler_dup_context (watch.handler);
  g_assert_true (context == loop->context);
  g_assert_cmpint (gaio_handler_get_fd (watch.handler), ==, watch.fd);
  g_assert_cmpuint (gaio_handler_get_condition (watch.handler), ==, G_IO_IN | G_IO_PRI);
  g_assert_false (gaio_handler_is_removed (watch.handler));
  gaio_handler_set_name (watch.handler, "a name");
}

static void
is_called_with_what_is_ready (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  test_signal (watch.fd);
  g_assert_true (test_loop_step (loop));
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpint (watch.called_fd, ==, watch.fd);
  g_assert_cmpuint (watch.condition, ==, G_IO_IN);
}

static void
is_level_triggered (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 1; i <= 5; i++)
    {
      g_assert_true (test_loop_step (loop));
      g_assert_cmpuint (watch.calls, ==, i);
    }
  test_drain (watch.fd);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 5);
}

static void
reports_no_more_than_was_asked (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint fds[2];

  test_socketpair (fds);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  test_watch_start (&watch, loop, fds[0], G_IO_OUT);
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_OUT);
  close (fds[1]);
}

static void
set_condition_changes_what_is_reported (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;
  gint fds[2];

  test_socketpair (fds);
  test_watch_start (&watch, loop, fds[0], G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN | G_IO_OUT, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (gaio_handler_get_condition (watch.handler), ==, G_IO_IN | G_IO_OUT);
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_OUT);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_IN | G_IO_OUT);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, &error));
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_IN);
  close (fds[1]);
}

static void
set_condition_of_a_removed_one_fails (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_handler_remove (watch.handler);
  g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_IN, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_REMOVED);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
}

static void
remove_is_idempotent (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_handler_remove (watch.handler);
  g_assert_true (gaio_handler_is_removed (watch.handler));
  gaio_handler_remove (watch.handler);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
  gaio_handler_remove (watch.handler);
  gaio_handler_remove_sync (watch.handler);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_cmpuint (watch.calls, ==, 0);
}

static void
returning_false_removes (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;

  watch.removes = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (watch.handler));

  /* The context itself has not taken it for an answer of its own. */
  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 1);
}

static void
unref_never_removes (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.drains = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  g_clear_pointer (&watch.handler, gaio_handler_unref);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 0);
  watch.removes = TRUE;
  test_signal (watch.fd);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
clear_removes_and_unrefs (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GaioHandler) kept = NULL;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  kept = gaio_handler_ref (watch.handler);
  gaio_clear_handler (&watch.handler);
  g_assert_null (watch.handler);
  gaio_clear_handler (&watch.handler);
  g_assert_true (gaio_handler_is_removed (kept));
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
outlives_its_context (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  g_clear_pointer (&loop->main_context, g_main_context_unref);
  g_clear_object (&loop->context);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (watch.handler));
  g_assert_cmpint (gaio_handler_get_fd (watch.handler), ==, watch.fd);
  g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_IN, &error));
  gaio_handler_remove (watch.handler);
  gaio_handler_remove_sync (watch.handler);
}

/* --- What cannot be added --- */

static void
assert_add_fails (TestLoop *loop, gint fd, GaioError code)
{
  TestWatch watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;
  g_autofree gchar *number = g_strdup_printf ("fd %d", fd);

  watch.handler = gaio_context_add_fd (loop->context, fd, G_IO_IN, test_watch_called, &watch,
                                       test_watch_notified, &error);
  g_assert_error (error, GAIO_ERROR, (gint) code);
  g_assert_null (watch.handler);
  /* In the caller, before it returned. */
  g_assert_cmpuint (watch.notifies, ==, 1);
  if (code == GAIO_ERROR_BAD_FD)
    g_assert_nonnull (strstr (error->message, number));
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
adding_a_closed_fd_fails (TestLoop *loop, gconstpointer mode)
{
  gint fd = test_eventfd (1);
  gint number = fd;

  test_close (&fd);
  assert_add_fails (loop, number, GAIO_ERROR_BAD_FD);
  /* The refusal has left nothing behind that would make it fail again. */
  fd = test_eventfd (1);
  g_assert_cmpint (fd, ==, number);
  {
    g_auto (TestWatch) watch = TEST_WATCH_INIT;

    test_watch_start (&watch, loop, fd, G_IO_IN);
    test_loop_step (loop);
    g_assert_cmpuint (watch.calls, ==, 1);
  }
}

static void
adding_a_negative_fd_fails (TestLoop *loop, gconstpointer mode)
{
  assert_add_fails (loop, -1, GAIO_ERROR_BAD_FD);
  assert_add_fails (loop, G_MININT, GAIO_ERROR_BAD_FD);
}

/* What is on the heap, where the allocator tells. */
static gsize
heap_size (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

static void
adding_an_impossible_fd_fails (TestLoop *loop, gconstpointer mode)
{
  gsize before = heap_size ();

  assert_add_fails (loop, G_MAXINT, GAIO_ERROR_BAD_FD);
  g_assert_cmpuint (heap_size (), <, before + (1 << 20));
}

static void
adding_to_a_closed_context_fails (TestLoop *loop, gconstpointer mode)
{
  gint fd = test_eventfd (1);

  gaio_context_close (loop->context);
  assert_add_fails (loop, fd, GAIO_ERROR_CLOSED);
  close (fd);
}

static void
adding_without_a_function_is_a_critical (TestLoop *loop, gconstpointer mode)
{
  gint fd = test_eventfd (1);
  g_autoptr (GaioHandler) handler = NULL;

  test_expect_critical ("*func*");
  handler = gaio_context_add_fd (loop->context, fd, G_IO_IN, NULL, NULL, NULL, NULL);
  g_test_assert_expected_messages ();
  g_assert_null (handler);
  close (fd);
}

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
remove_other (TestWatch *self)
{
  gaio_handler_remove (self->other->handler);
}

static void
removed_while_ready_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = remove_other;
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
      watches[i].act = remove_other;
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
signal_other_and_wait (TestWatch *self)
{
  guint before = self->other->calls;

  test_signal (self->other->fd);
  test_run_until (self->loop, self->other->calls > before);
}

static void
others_are_called_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = signal_other_and_wait;
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
sleep_without_draining (TestWatch *self)
{
  test_loop_assert_sleeps (self->loop);
}

static void
nested_loop_sleeps (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = sleep_without_draining;
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

  watch.act = sleep_without_draining;
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
  b.act = remove_other;
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

  a.act = b.act = remove_other;
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

  a.act = signal_other_and_wait;
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

  watch.act = sleep_without_draining;
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

  a.act = b.act = remove_other;
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

/* --- Order and fairness --- */

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

/* --- Other threads --- */

typedef struct
{
  TestLoop *loop;
  GThread *thread;
  gint stopping;
  GaioHandler *handler;
  gint fd;
  gint calls;
  gint finished;
  gint notified;
} Worker;

static gpointer
worker_run (gpointer data)
{
  Worker *self = data;

  while (!g_atomic_int_get (&self->stopping))
    test_loop_step_full (self->loop, TRUE);
  return NULL;
}

static void
worker_start (Worker *self, TestLoop *loop)
{
  *self = (Worker){ .loop = loop, .fd = test_eventfd (1) };
  self->thread = g_thread_new ("owner", worker_run, self);
}

static void
worker_stop (Worker *self)
{
  g_atomic_int_set (&self->stopping, TRUE);
  gaio_context_wakeup (self->loop->context);
  g_thread_join (self->thread);
  gaio_clear_handler (&self->handler);
  close (self->fd);
}

static void
wait_for (gint *value, gint least)
{
  gint64 deadline = g_get_monotonic_time () + TEST_PATIENCE_US;

  while (g_atomic_int_get (value) < least)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, deadline);
      g_usleep (100);
    }
}

static gboolean
worker_called (gint fd, GIOCondition condition, gpointer user_data)
{
  Worker *self = user_data;

  g_assert_false (g_atomic_int_get (&self->notified));
  g_atomic_int_inc (&self->calls);
  return G_SOURCE_CONTINUE;
}

static void
worker_notified (gpointer user_data)
{
  Worker *self = user_data;

  g_assert_true (g_thread_self () == self->thread);
  g_atomic_int_inc (&self->notified);
}

static void
worker_watch (Worker *self, GaioFdFunc func)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_context_add_fd (self->loop->context, self->fd, G_IO_IN, func, self,
                                              worker_notified, &error);

  g_assert_no_error (error);
  g_atomic_pointer_set (&self->handler, handler);
}

static void
another_thread_adds_and_removes (TestLoop *loop, gconstpointer mode)
{
  Worker worker;
  gint calls;

  worker_start (&worker, loop);
  worker_watch (&worker, worker_called);
  wait_for (&worker.calls, 10);
  gaio_handler_remove (worker.handler);
  wait_for (&worker.notified, 1);
  calls = g_atomic_int_get (&worker.calls);
  worker_stop (&worker);
  g_assert_cmpint (worker.calls, ==, calls);
  g_assert_cmpint (worker.notified, ==, 1);
}

static void
another_thread_changes_the_condition (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  worker_watch (&worker, worker_called);
  for (gint i = 1; i <= 20; i++)
    {
      g_assert_true (gaio_handler_set_condition (worker.handler, 0, NULL));
      g_assert_true (gaio_handler_set_condition (worker.handler, G_IO_IN, NULL));
      wait_for (&worker.calls, g_atomic_int_get (&worker.calls) + 1);
    }
  gaio_handler_remove (worker.handler);
  wait_for (&worker.notified, 1);
  worker_stop (&worker);
}

/* Stays in the callback until the removal has begun, and then some. */
static gboolean
worker_called_until_removed (gint fd, GIOCondition condition, gpointer user_data)
{
  Worker *self = user_data;

  g_atomic_int_inc (&self->calls);
  while (!gaio_handler_is_removed (g_atomic_pointer_get (&self->handler)))
    g_thread_yield ();
  for (guint i = 0; i < 1000; i++)
    g_thread_yield ();
  g_atomic_int_set (&self->finished, TRUE);
  return G_SOURCE_CONTINUE;
}

static void
remove_sync_waits_for_the_callback (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  /* Silent at first, so that the callback finds the handler stored. */
  test_drain (worker.fd);
  worker_watch (&worker, worker_called_until_removed);
  test_signal (worker.fd);
  wait_for (&worker.calls, 1);
  gaio_handler_remove_sync (worker.handler);
  g_assert_true (g_atomic_int_get (&worker.finished));
  wait_for (&worker.notified, 1);
  worker_stop (&worker);
  g_assert_cmpint (worker.calls, ==, 1);
}

static gboolean
count_on_the_heap (gint fd, GIOCondition condition, gpointer user_data)
{
  g_atomic_int_inc ((gint *) user_data);
  return G_SOURCE_CONTINUE;
}

static void
remove_sync_lets_the_data_be_freed (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  for (guint i = 0; i < 200; i++)
    {
      gint *calls = g_new0 (gint, 1);
      g_autoptr (GaioHandler) handler = gaio_context_add_fd (loop->context, worker.fd, G_IO_IN,
                                                             count_on_the_heap, calls, NULL, NULL);

      g_assert_nonnull (handler);
      if (i % 2 == 0)
        wait_for (calls, 1);
      gaio_handler_remove_sync (handler);
      g_free (calls);
    }
  worker_stop (&worker);
}

static void
remove_waits_for_nobody (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  test_drain (worker.fd);
  worker_watch (&worker, worker_called_until_removed);
  test_signal (worker.fd);
  wait_for (&worker.calls, 1);
  gaio_handler_remove (worker.handler);
  wait_for (&worker.notified, 1);
  g_assert_true (g_atomic_int_get (&worker.finished));
  worker_stop (&worker);
  g_assert_cmpint (worker.calls, ==, 1);
}

static void
remove_other_sync (TestWatch *self)
{
  gaio_handler_remove_sync (self->other->handler);
}

static void
remove_sync_on_the_owner_returns (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = remove_other_sync;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  gaio_handler_remove_sync (a.handler);
  gaio_handler_remove_sync (b.handler);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
}

static void
add_call_tests (void)
{
  test_add ("/handler/says-what-it-watches", says_what_it_watches);
  test_add ("/handler/is-called-with-what-is-ready", is_called_with_what_is_ready);
  test_add ("/handler/is-level-triggered", is_level_triggered);
  test_add ("/handler/reports-no-more-than-was-asked", reports_no_more_than_was_asked);
  test_add ("/handler/set-condition-changes-what-is-reported",
            set_condition_changes_what_is_reported);
  test_add ("/handler/set-condition-of-a-removed-one-fails", set_condition_of_a_removed_one_fails);
  test_add ("/handler/remove-is-idempotent", remove_is_idempotent);
  test_add ("/handler/returning-false-removes", returning_false_removes);
  test_add ("/handler/unref-never-removes", unref_never_removes);
  test_add ("/handler/clear-removes-and-unrefs", clear_removes_and_unrefs);
  test_add ("/handler/outlives-its-context", outlives_its_context);
  test_add ("/handler/adding-a-closed-fd-fails", adding_a_closed_fd_fails);
  test_add ("/handler/adding-a-negative-fd-fails", adding_a_negative_fd_fails);
  test_add ("/handler/adding-an-impossible-fd-fails", adding_an_impossible_fd_fails);
  test_add ("/handler/adding-to-a-closed-context-fails", adding_to_a_closed_context_fails);
  test_add ("/handler/adding-without-a-function-is-a-critical",
            adding_without_a_function_is_a_critical);
}

static void
add_callback_tests (void)
{
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
}

static void
add_nesting_tests (void)
{
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
}

static void
add_condition_tests (void)
{
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
}

static void
add_file_tests (void)
{
  test_add ("/handler/always-ready-files-are-watched", always_ready_files_are_watched);
  test_add ("/handler/always-ready-files-starve-nobody", always_ready_files_starve_nobody);
  test_add_nested ("/handler/always-ready-file-lets-a-nested-loop-sleep",
                   always_ready_file_lets_a_nested_loop_sleep);
  test_add ("/handler/always-ready-file-removed-while-ready-is-not-called",
            always_ready_file_removed_while_ready_is_not_called);
  test_add ("/handler/always-ready-file-takes-several", always_ready_file_takes_several);
}

static void
add_order_tests (void)
{
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
}

static void
add_thread_tests (void)
{
  test_add ("/handler/another-thread-adds-and-removes", another_thread_adds_and_removes);
  test_add ("/handler/another-thread-changes-the-condition", another_thread_changes_the_condition);
  test_add ("/handler/remove-sync-waits-for-the-callback", remove_sync_waits_for_the_callback);
  test_add ("/handler/remove-sync-lets-the-data-be-freed", remove_sync_lets_the_data_be_freed);
  test_add ("/handler/remove-waits-for-nobody", remove_waits_for_nobody);
  test_add ("/handler/remove-sync-on-the-owner-returns", remove_sync_on_the_owner_returns);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  add_call_tests ();
  add_callback_tests ();
  add_nesting_tests ();
  add_condition_tests ();
  add_file_tests ();
  add_order_tests ();
  add_thread_tests ();
  return g_test_run ();
}
