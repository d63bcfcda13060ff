/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "test-ready-set.h"

/* Gathers without the function: the bare iterate() does, the set being polled for by take(). */
static void
gather (Batch *batch)
{
  gaio_context_iterate (batch->loop->context, 0);
}

/* --- Records --- */

static void
record_layout_is_the_documented_one (void)
{
  g_assert_cmpuint (sizeof (GaioReadyRecord), ==, 16);
  g_assert_cmpuint (G_STRUCT_OFFSET (GaioReadyRecord, token), ==, 0);
  g_assert_cmpuint (G_STRUCT_OFFSET (GaioReadyRecord, fd), ==, 8);
  g_assert_cmpuint (G_STRUCT_OFFSET (GaioReadyRecord, condition), ==, 12);
}

static void
record_tells_token_fd_and_condition (TestLoop *loop, gconstpointer mode)
{
  const guint64 token = G_GUINT64_CONSTANT (0xfedcba9876543210);
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  guint64 read_token;
  gint32 read_fd;
  guint32 read_condition;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN | G_IO_OUT, token);
  test_loop_step (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_cmpuint (batch.n_records, ==, 1);
  memcpy (&read_token, (guint8 *) batch.records, 8);
  memcpy (&read_fd, (guint8 *) batch.records + 8, 4);
  memcpy (&read_condition, (guint8 *) batch.records + 12, 4);
  g_assert_cmpuint (read_token, ==, token);
  g_assert_cmpint (read_fd, ==, member.fd);
  g_assert_cmpuint (read_condition, ==, G_IO_IN | G_IO_OUT);
}

static void
taking_from_an_empty_set_gives_nothing (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  batch_take (&batch);
  g_assert_null (batch.records);
  g_assert_cmpuint (batch.n_records, ==, 0);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_records, ==, 1);
  batch_take (&batch);
  g_assert_null (batch.records);
}

static void
untaken_readiness_merges_per_watch (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) a = MEMBER_INIT;
  g_auto (Member) b = MEMBER_INIT;
  gint fds[2];

  test_socketpair (fds);
  batch_start (&batch, loop);
  batch.takes = FALSE;
  member_start (&a, &batch, fds[0], G_IO_IN | G_IO_OUT, 7);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_ready, ==, 1);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  member_start (&b, &batch, test_eventfd (1), G_IO_IN, 8);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_ready, ==, 2);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 2);
  g_assert_cmpuint (batch.records[0].token + batch.records[1].token, ==, 15);
  for (guint i = 0; i < 2; i++)
    g_assert_cmpuint (batch.records[i].condition, ==,
                      batch.records[i].token == 7 ? (G_IO_IN | G_IO_OUT) : G_IO_IN);
  close (fds[1]);
}

static void
merging_keeps_what_came_earlier (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  gint fds[2];
  char fill[1 << 16] = { 0 };

  test_socketpair (fds);
  batch_init (&batch, loop);
  member_start (&member, &batch, fds[0], G_IO_IN | G_IO_OUT, 1);
  gather (&batch);
  /* Now it is readable and no longer writable. */
  while (write (fds[0], fill, sizeof fill) > 0)
    ;
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  gather (&batch);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].condition, ==, G_IO_IN | G_IO_OUT);
  gather (&batch);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].condition, ==, G_IO_IN);
  close (fds[1]);
}

static void
removal_takes_its_record_out (TestLoop *loop, gconstpointer mode)
{
  for (guint which = 0; which < 3; which++)
    {
      g_auto (Batch) batch = { NULL };
      Member members[3] = { 0 };

      batch_init (&batch, loop);
      for (guint i = 0; i < 3; i++)
        member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
      gather (&batch);
      gaio_handler_remove (members[which].handler);
      batch_take (&batch);
      g_assert_cmpuint (batch.n_records, ==, 2);
      for (guint i = 0; i < 2; i++)
        {
          g_assert_cmpuint (batch.records[i].token, !=, which);
          g_assert_cmpint (batch.records[i].fd, ==, members[batch.records[i].token].fd);
        }
      g_assert_cmpuint (batch.records[0].token, !=, batch.records[1].token);
      for (guint i = 0; i < 3; i++)
        member_stop (&members[i]);
    }
}

static void
removal_of_all_leaves_it_empty (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  Member members[3] = { 0 };

  batch_init (&batch, loop);
  for (guint i = 0; i < 3; i++)
    member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
  gather (&batch);
  for (guint i = 0; i < 3; i++)
    member_stop (&members[i]);
  batch_take (&batch);
  g_assert_null (batch.records);
  batch_set_func (&batch);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (batch.calls, ==, 0);
}

static void
changed_condition_filters_its_record (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) narrowed = MEMBER_INIT;
  g_auto (Member) silenced = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&narrowed, &batch, test_eventfd (1), G_IO_IN | G_IO_OUT, 1);
  member_start (&silenced, &batch, test_eventfd (1), G_IO_IN | G_IO_OUT, 2);
  gather (&batch);
  g_assert_true (gaio_handler_set_condition (narrowed.handler, G_IO_OUT, NULL));
  g_assert_true (gaio_handler_set_condition (silenced.handler, 0, NULL));
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].token, ==, 1);
  g_assert_cmpuint (batch.records[0].condition, ==, G_IO_OUT);
}

/* Recorded and silent, until it is asked for something else: then the record no longer counts. */
static void
changed_condition_ends_the_silence (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_OUT, 1);
  test_loop_step (loop);
  g_assert_true (gaio_handler_set_condition (member.handler, G_IO_IN, NULL));
  test_loop_step (loop);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].condition, ==, G_IO_IN);
}

static void
go_on_without_function (Batch *batch)
{
  batch->act = NULL;
  gather (batch);
  gaio_ready_set_set_func (batch->set, NULL, NULL, NULL);
  gather (batch);
  batch_take (batch);
  g_assert_cmpuint (batch->n_records, ==, 1);
}

/* While it ran it was not to be called, and what was ready was left aside. */
static void
removed_function_ends_the_silence (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  batch.act = go_on_without_function;
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
}

static void
hang_up_is_recorded (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) heard = MEMBER_INIT;
  g_auto (Member) mute = MEMBER_INIT;
  gint fds[2];

  test_pipe (fds);
  batch_start (&batch, loop);
  member_start (&heard, &batch, fds[0], G_IO_PRI, 1);
  member_start (&mute, &batch, dup (fds[0]), 0, 2);
  close (fds[1]);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].token, ==, 1);
  g_assert_cmpuint (batch.records[0].condition, ==, G_IO_HUP);
}

/* --- Without a function: iterate() and take() --- */

static void
iterate_gathers_without_a_function (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&member, &batch, test_eventfd (0), G_IO_IN, 5);
  gather (&batch);
  batch_take (&batch);
  g_assert_null (batch.records);
  test_signal (member.fd);
  /* No callback has run. */
  g_assert_false (gaio_context_iterate (loop->context, -1));
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].token, ==, 5);
  /* Level-triggered, as everything. */
  gather (&batch);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
}

static void
iterate_gathers_all_without_a_function (TestLoop *loop, gconstpointer mode)
{
  const guint n = 500;
  g_auto (Batch) batch = { NULL };
  g_autofree Member *members = g_new0 (Member, n);

  if (!test_may_open (n + 20))
    return;
  batch_init (&batch, loop);
  for (guint i = 0; i < n; i++)
    member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
  gather (&batch);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, n);
  for (guint i = 0; i < n; i++)
    member_stop (&members[i]);
}

static void
detached_it_is_polled_for_again (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_assert_sleeps (loop);
  gaio_context_detach (loop->context);
  for (guint i = 0; i < 3; i++)
    {
      gather (&batch);
      batch_take (&batch);
      g_assert_cmpuint (batch.n_records, ==, 1);
    }
  g_assert_true (gaio_context_attach (loop->context, loop->main_context, NULL));
}

/* --- Members --- */

static void
member_is_a_handler_like_any_other (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  g_autoptr (GaioContext) context = NULL;
  g_autoptr (GError) error = NULL;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_PRI, 1);
  context = gaio_handler_dup_context (member.handler);
  g_assert_true (context == loop->context);
  g_assert_cmpint (gaio_handler_get_fd (member.handler), ==, member.fd);
  g_assert_cmpuint (gaio_handler_get_condition (member.handler), ==, G_IO_PRI);
  test_loop_settle (loop);
  g_assert_cmpuint (batch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (member.handler, G_IO_IN, &error));
  test_loop_step (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  gaio_handler_remove (member.handler);
  gaio_handler_remove (member.handler);
  gaio_handler_remove_sync (member.handler);
  g_assert_true (gaio_handler_is_removed (member.handler));
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
  g_assert_false (gaio_handler_set_condition (member.handler, G_IO_IN, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_REMOVED);
}

static void
unref_of_a_member_never_removes (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  g_clear_pointer (&member.handler, gaio_handler_unref);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_records, ==, 1);
  test_drain (member.fd);
}

static void
refused_members_change_nothing (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;
  g_autoptr (GaioHandler) handler = NULL;
  g_autoptr (GError) error = NULL;
  gint fd = test_eventfd (0);
  gint number = fd;

  test_close (&fd);
  batch_start (&batch, loop);
  handler = gaio_ready_set_add_fd (batch.set, number, G_IO_IN, 1, &error);
  g_assert_null (handler);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  g_clear_error (&error);
  handler = gaio_ready_set_add_fd (batch.set, -1, G_IO_IN, 1, &error);
  g_assert_null (handler);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 2);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].token, ==, 2);
}

static void
one_fd_twice_gives_two_records (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) a = MEMBER_INIT;
  g_auto (Member) b = MEMBER_INIT;
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  batch_start (&batch, loop);
  member_start (&a, &batch, test_eventfd (1), G_IO_IN, 1);
  member_start (&b, &batch, a.fd, G_IO_OUT, 2);
  b.fd = -1;
  test_watch_start (&watch, loop, a.fd, G_IO_IN);
  watch.fd = -1;
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (batch.n_records, ==, 2);
  for (guint i = 0; i < 2; i++)
    g_assert_cmpuint (batch.records[i].condition, ==,
                      batch.records[i].token == 1 ? G_IO_IN : G_IO_OUT);
  g_assert_cmpuint (batch.records[0].token + batch.records[1].token, ==, 3);
}

static void
always_ready_files_are_recorded (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) file = MEMBER_INIT;
  g_auto (Member) event = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&file, &batch, test_open ("/dev/null"), G_IO_IN, 1);
  member_start (&event, &batch, test_eventfd (1), G_IO_IN, 2);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (batch.calls, ==, i);
      g_assert_cmpuint (batch.n_records, ==, 2);
    }
  gaio_handler_remove (file.handler);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].token, ==, 2);
}

static void
always_ready_file_without_a_function_lets_glib_sleep (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) file = MEMBER_INIT;

  batch_init (&batch, loop);
  member_start (&file, &batch, test_open ("/dev/null"), G_IO_IN, 1);
  test_loop_assert_sleeps (loop);
  batch_set_func (&batch);
  g_assert_true (test_loop_step (loop));
  g_assert_cmpuint (batch.n_records, ==, 1);
}

static void
member_closed_without_removal_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  test_close (&member.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
}

static void
reused_number_does_not_wake_a_dormant_member (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  g_auto (Member) member = MEMBER_INIT;

  batch_start (&batch, loop);
  member_start (&member, &batch, test_eventfd (1), G_IO_IN, 1);
  test_loop_step (loop);
  test_move_fd (test_eventfd (1), member.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (batch.calls, ==, 1);
}

static void
removed_members_are_not_counted_as_ready (TestLoop *loop, gconstpointer mode)
{
  g_auto (Batch) batch = { NULL };
  Member members[3] = { 0 };

  batch_start (&batch, loop);
  batch.takes = FALSE;
  for (guint i = 0; i < 3; i++)
    member_start (&members[i], &batch, test_eventfd (1), G_IO_IN, i);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_ready, ==, 3);
  member_stop (&members[0]);
  member_stop (&members[2]);
  test_loop_step (loop);
  g_assert_cmpuint (batch.n_ready, ==, 1);
  batch_take (&batch);
  g_assert_cmpuint (batch.n_records, ==, 1);
  g_assert_cmpuint (batch.records[0].token, ==, 1);
  member_stop (&members[1]);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/ready-set/record-layout-is-the-documented-one",
                   record_layout_is_the_documented_one);
  test_add ("/ready-set/record-tells-token-fd-and-condition", record_tells_token_fd_and_condition);
  test_add ("/ready-set/taking-from-an-empty-set-gives-nothing",
            taking_from_an_empty_set_gives_nothing);
  test_add ("/ready-set/untaken-readiness-merges-per-watch", untaken_readiness_merges_per_watch);
  test_add_mode ("/ready-set/merging-keeps-what-came-earlier", merging_keeps_what_came_earlier,
                 TEST_ITERATE);
  test_add_mode ("/ready-set/removal-takes-its-record-out", removal_takes_its_record_out,
                 TEST_ITERATE);
  test_add_mode ("/ready-set/removal-of-all-leaves-it-empty", removal_of_all_leaves_it_empty,
                 TEST_ITERATE);
  test_add_mode ("/ready-set/changed-condition-filters-its-record",
                 changed_condition_filters_its_record, TEST_ITERATE);
  test_add ("/ready-set/changed-condition-ends-the-silence", changed_condition_ends_the_silence);
  test_add ("/ready-set/removed-function-ends-the-silence", removed_function_ends_the_silence);
  test_add ("/ready-set/hang-up-is-recorded", hang_up_is_recorded);
  test_add_mode ("/ready-set/iterate-gathers-without-a-function",
                 iterate_gathers_without_a_function, TEST_ITERATE);
  test_add_mode ("/ready-set/detached-it-is-polled-for-again", detached_it_is_polled_for_again,
                 TEST_GLIB);
  test_add_mode ("/ready-set/iterate-gathers-all-without-a-function",
                 iterate_gathers_all_without_a_function, TEST_ITERATE);
  test_add ("/ready-set/member-is-a-handler-like-any-other", member_is_a_handler_like_any_other);
  test_add ("/ready-set/unref-of-a-member-never-removes", unref_of_a_member_never_removes);
  test_add ("/ready-set/refused-members-change-nothing", refused_members_change_nothing);
  test_add ("/ready-set/one-fd-twice-gives-two-records", one_fd_twice_gives_two_records);
  test_add ("/ready-set/always-ready-files-are-recorded", always_ready_files_are_recorded);
  test_add_mode ("/ready-set/always-ready-file-without-a-function-lets-glib-sleep",
                 always_ready_file_without_a_function_lets_glib_sleep, TEST_GLIB);
  test_add ("/ready-set/member-closed-without-removal-is-dormant",
            member_closed_without_removal_is_dormant);
  test_add ("/ready-set/reused-number-does-not-wake-a-dormant-member",
            reused_number_does_not_wake_a_dormant_member);
  test_add ("/ready-set/removed-members-are-not-counted-as-ready",
            removed_members_are_not_counted_as_ready);
  return g_test_run ();
}
