/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-ready-set.h"

/* --- The function --- */

static void
function_is_called_once_a_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  Member members[5] = { 0 };

  batch_start (&batch, loop);
  for (guint i = 0; i < G_N_ELEMENTS (members); i++)
    member_start (&members[i], &batch, test_eventfd (i != 3), G_IO_IN, i);
  for (guint round = 1; round <= 4; round++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (batch.calls, ==, round);
      g_assert_cmpuint (batch.n_ready, ==, 4);
    }
  for (guint i = 0; i < G_N_ELEMENTS (members); i++)
    test_drain (members[i].fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (batch.calls, ==, 4);
  for (guint i = 0; i < G_N_ELEMENTS (members); i++)
    member_stop (&members[i]);
}

static void
assert_all_are_gathered_at_once (TestLoop *loop, guint n)
{
  g_auto (Batch) batch = { NULL };
  g_autofree Member *members = g_new0 (Member, n);
  g_autofree guint8 *seen = g_new0 (guint8, n);

  batch_start (&batch, loop);
  for (guint i = 0; i < n; i++)
    member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
  test_loop_step (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_cmpuint (batch.n_records, ==, n);
  for (guint i = 0; i < n; i++)
    {
      g_assert_cmpuint (batch.records[i].token, <, n);
      g_assert_cmpuint (seen[batch.records[i].token]++, ==, 0);
      g_assert_cmpint (batch.records[i].fd, ==, members[batch.records[i].token].fd);
    }
  for (guint i = 0; i < n; i++)
    member_stop (&members[i]);
}

static void
all_that_is_ready_is_gathered (TestLoop *loop, gconstpointer mode)
{
  if (!test_may_open (720))
    return;
  assert_all_are_gathered_at_once (loop, 127);
  assert_all_are_gathered_at_once (loop, 128);
  assert_all_are_gathered_at_once (loop, 129);
  assert_all_are_gathered_at_once (loop, 700);
}

static void
limit_does_not_cut_a_batch (TestLoop *loop, gconstpointer mode)
{
  if (!test_may_open (320))
    return;
  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  assert_all_are_gathered_at_once (loop, 300);
}

static void
without_a_function_nothing_spins_under_glib (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_assert_sleeps (loop);
  test_drain (member.fd);
  test_signal (member.fd);
  test_loop_assert_sleeps (loop);
}

static void
function_set_later_gets_what_is_ready (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  batch_set_func (&batch);
  test_loop_step (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_cmpuint (batch.n_records, ==, 1);
}

static void
function_taken_away_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  gaio_ready_set_set_func (batch.set, NULL, NULL, NULL);
  test_loop_settle (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_cmpuint (batch.notifies, ==, 1);
  if (loop->mode == TEST_GLIB)
    test_loop_assert_sleeps (loop);
}

static void
replaced_function_is_notified_once (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) first = { NULL };
  Batch second;
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&first, loop);
  second = first;
  gaio_ready_set_set_func (first.set, batch_called, &second, batch_notified);
  test_loop_settle (loop);
  g_assert_cmpuint (first.notifies, ==, 1);
  g_assert_cmpuint (second.notifies, ==, 0);
  member_start (&member, &first, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  g_assert_cmpuint (first.calls, ==, 0);
  g_assert_cmpuint (second.calls, ==, 1);
  gaio_ready_set_set_func (first.set, NULL, NULL, NULL);
  test_loop_settle (loop);
  g_assert_cmpuint (first.notifies, ==, 1);
  g_assert_cmpuint (second.notifies, ==, 1);
  g_free (second.records);
}

static void
take_the_function_away (Batch *self)
{
  gaio_ready_set_set_func (self->set, NULL, NULL, NULL);
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
remove_member (TestWatch *self)
{
  gaio_handler_remove (self->other->handler);
}

static void
function_is_not_called_for_what_was_removed (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  TestWatch target = TEST_WATCH_INIT;

  batch_start (&batch, loop);
  watch.act = remove_member;
  watch.other = &target;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  target.handler = member.handler;
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (batch.calls, ==, 0);
}

static void
function_replaced_by_itself_is_notified_after_its_return (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  batch.act = take_the_function_away;
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  test_loop_settle (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_cmpuint (batch.notifies, ==, 1);
}

static void
step_once (Batch *self)
{
  test_loop_step (self->loop);
}

static void
function_is_not_called_again_in_a_nested_loop (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  batch_start (&batch, loop);
  batch.act = step_once;
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 1; i <= 4; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (batch.calls, ==, i);
      g_assert_cmpuint (batch.deepest, ==, 1);
      g_assert_cmpuint (watch.calls, >=, i);
    }
}

static void
sleep_without_draining (Batch *self)
{
  test_loop_assert_sleeps (self->loop);
}

static void
nested_loop_of_the_function_sleeps (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  Member members[3] = { 0 };

  batch_start (&batch, loop);
  batch.act = sleep_without_draining;
  for (guint i = 0; i < 3; i++)
    member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (batch.calls, ==, i);
      g_assert_cmpuint (batch.n_ready, ==, 3);
    }
  g_assert_cmpuint (batch.deepest, ==, 1);
  for (guint i = 0; i < 3; i++)
    member_stop (&members[i]);
}

static void
set_and_handlers_take_turns (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  Member members[4] = { 0 };
  TestWatch watches[2] = { 0 };

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  batch_start (&batch, loop);
  for (guint i = 0; i < G_N_ELEMENTS (members); i++)
    member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
  for (guint i = 0; i < 300; i++)
    test_loop_step (loop);
  g_assert_cmpuint (batch.calls + watches[0].calls + watches[1].calls, ==, 300);
  g_assert_cmpuint (batch.calls, >=, 40);
  g_assert_cmpuint (watches[0].calls, >=, 40);
  g_assert_cmpuint (watches[1].calls, >=, 40);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
  for (guint i = 0; i < G_N_ELEMENTS (members); i++)
    member_stop (&members[i]);
}

static void
two_sets_take_turns (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) first = { NULL };
  g_auto (Batch) second = { NULL };
  g_auto (Member) a = MEMBER_INIT;
  g_auto (Member) b = MEMBER_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  batch_start (&first, loop);
  batch_start (&second, loop);
  member_start (&a, &first, test_eventfd (1), G_IO_IN, 1);
  member_start (&b, &second, test_eventfd (1), G_IO_IN, 2);
  for (guint i = 0; i < 40; i++)
    test_loop_step (loop);
  g_assert_cmpuint (first.calls, >=, 10);
  g_assert_cmpuint (second.calls, >=, 10);
  g_assert_cmpuint (first.records[0].token, ==, 1);
  g_assert_cmpuint (second.records[0].token, ==, 2);
}

/* --- Endings --- */

static void
closed_context_empties_the_set (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  g_autoptr (GaioHandler) handler = NULL;
  g_autoptr (GError) error = NULL;

  batch_start (&batch, loop);
  batch.takes = FALSE;
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  gaio_context_close (loop->context);
  test_loop_settle (loop);
  g_assert_cmpuint (batch.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (member.handler));
  batch_take (&batch);
  g_assert_null (batch.records);
  handler = gaio_ready_set_add_fd (batch.set, member.fd, G_IO_IN, 1, &error);
  g_assert_null (handler);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  /* On a closed context a function is given up at once, and its notify runs once. */
  batch.notifies = 0;
  batch_set_func (&batch);
  g_assert_cmpuint (batch.notifies, ==, 1);
}

static void
close_context (Batch *self)
{
  gaio_context_close (self->loop->context);
  g_assert_cmpuint (self->notifies, ==, 0);
}

static void
close_in_the_function_is_safe (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  batch.act = close_context;
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  test_loop_settle (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_cmpuint (batch.notifies, ==, 1);
}

static void
outlives_its_context (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  g_clear_pointer (&loop->main_context, g_main_context_unref);
  gaio_context_close (loop->context);
  g_clear_object (&loop->context);
  g_assert_cmpuint (batch.notifies, ==, 1);
  batch_take (&batch);
  g_assert_null (batch.records);
}

static void
set_dropped_with_members_leaves_no_noise (TestLoop *loop, gconstpointer mode)
{
  Batch batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  gaio_handler_remove (member.handler);
  g_clear_object (&batch.set);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (batch.calls, ==, 0);
  g_assert_cmpuint (batch.notifies, ==, 1);
}

/* Bindings can make one without a context. */
static void
misuse_is_a_critical (void)
{
  Batch batch = { .set = g_object_new (GAIO_TYPE_READY_SET, NULL) };
  gsize length = 0;
  guint i;

  for (i = 0; i < 3; i++)
    test_expect_critical ("*self->core != NULL*");
  g_assert_null (gaio_ready_set_take (batch.set, &length));
  g_assert_null (gaio_ready_set_add_fd (batch.set, 0, G_IO_IN, 1, NULL));
  batch_set_func (&batch);
  g_test_assert_expected_messages ();
  g_assert_cmpuint (batch.notifies, ==, 1);
  g_object_unref (batch.set);
}

/* --- Other threads --- */

typedef struct
{
  TestLoop *loop;
  gint stopping;
  gint taken;
} Owner;

static gpointer
owner_run (gpointer data)
{
  Owner *self = data;

  while (!g_atomic_int_get (&self->stopping))
    test_loop_step_full (self->loop, TRUE);
  return NULL;
}

static void
owner_take (GaioReadySet *set, guint n_ready, gpointer user_data)
{
  Owner *self = user_data;
  gsize length;

  g_free (gaio_ready_set_take (set, &length));
  g_atomic_int_add (&self->taken, length / sizeof (GaioReadyRecord));
}

static void
another_thread_adds_and_removes_members (TestLoop *loop, gconstpointer mode)
{
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (loop->context);
  Owner owner = { .loop = loop };
  Batch batch = { .set = set };
  GThread *thread;

  gaio_ready_set_set_func (set, owner_take, &owner, NULL);
  thread = g_thread_new ("owner", owner_run, &owner);
  for (guint i = 0; i < 100; i++)
    {
      Member members[5] = { 0 };
      gint taken = g_atomic_int_get (&owner.taken);

      for (guint k = 0; k < G_N_ELEMENTS (members); k++)
        member_start (&members[k], &batch, test_eventfd (1), G_IO_IN, k);
      while (i % 2 == 0 && g_atomic_int_get (&owner.taken) == taken)
        g_thread_yield ();
      for (guint k = 0; k < G_N_ELEMENTS (members); k++)
        member_stop (&members[k]);
    }
  g_atomic_int_set (&owner.stopping, TRUE);
  gaio_context_wakeup (loop->context);
  g_thread_join (thread);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/ready-set/function-is-called-once-a-round", function_is_called_once_a_round);
  test_add ("/ready-set/all-that-is-ready-is-gathered", all_that_is_ready_is_gathered);
  test_add ("/ready-set/limit-does-not-cut-a-batch", limit_does_not_cut_a_batch);
  test_add_mode ("/ready-set/without-a-function-nothing-spins-under-glib",
                 without_a_function_nothing_spins_under_glib, TEST_GLIB);
  test_add ("/ready-set/function-set-later-gets-what-is-ready",
            function_set_later_gets_what_is_ready);
  test_add ("/ready-set/function-taken-away-is-not-called", function_taken_away_is_not_called);
  test_add ("/ready-set/replaced-function-is-notified-once", replaced_function_is_notified_once);
  test_add ("/ready-set/function-is-not-called-for-what-was-removed",
            function_is_not_called_for_what_was_removed);
  test_add ("/ready-set/function-replaced-by-itself-is-notified-after-its-return",
            function_replaced_by_itself_is_notified_after_its_return);
  test_add_nested ("/ready-set/function-is-not-called-again-in-a-nested-loop",
                   function_is_not_called_again_in_a_nested_loop);
  test_add_nested ("/ready-set/nested-loop-of-the-function-sleeps",
                   nested_loop_of_the_function_sleeps);
  test_add ("/ready-set/set-and-handlers-take-turns", set_and_handlers_take_turns);
  test_add ("/ready-set/two-sets-take-turns", two_sets_take_turns);
  test_add ("/ready-set/closed-context-empties-the-set", closed_context_empties_the_set);
  test_add ("/ready-set/close-in-the-function-is-safe", close_in_the_function_is_safe);
  test_add ("/ready-set/outlives-its-context", outlives_its_context);
  test_add ("/ready-set/another-thread-adds-and-removes-members",
            another_thread_adds_and_removes_members);
  test_add ("/ready-set/set-dropped-with-members-leaves-no-noise",
            set_dropped_with_members_leaves_no_noise);
  g_test_add_func ("/ready-set/misuse-is-a-critical", misuse_is_a_critical);
  return g_test_run ();
}
