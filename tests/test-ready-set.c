/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

#include <poll.h>
#include <string.h>

/* --- A set, its function, and what it was told --- */

typedef struct _Batch Batch;

struct _Batch
{
  TestLoop *loop;
  GaioReadySet *set;
  gboolean takes;             /* in the function */
  void (*act) (Batch *batch); /* what the function does beside */
  guint calls;
  guint depth;
  guint deepest;
  guint n_ready; /* of the last call */
  guint notifies;
  GaioReadyRecord *records; /* of the last take */
  guint n_records;
};

static void
batch_take (Batch *self)
{
  gsize length = 99;

  g_free (self->records);
  self->records = (gpointer) gaio_ready_set_take (self->set, &length);
  g_assert_cmpuint (length % sizeof (GaioReadyRecord), ==, 0);
  g_assert_true ((self->records == NULL) == (length == 0));
  self->n_records = length / sizeof (GaioReadyRecord);
}

static void
batch_called (GaioReadySet *set, guint n_ready, gpointer user_data)
{
  Batch *self = user_data;

  g_assert_cmpuint (self->notifies, ==, 0);
  g_assert_true (set == self->set);
  g_assert_cmpuint (n_ready, >, 0);
  self->calls++;
  self->depth++;
  self->deepest = MAX (self->deepest, self->depth);
  self->n_ready = n_ready;
  if (self->takes)
    {
      batch_take (self);
      g_assert_cmpuint (self->n_records, ==, n_ready);
    }
  if (self->act != NULL && !self->loop->stopping)
    self->act (self);
  self->depth--;
}

static void
batch_notified (gpointer user_data)
{
  Batch *self = user_data;

  g_assert_cmpuint (self->depth, ==, 0);
  self->notifies++;
}

static void
batch_set_func (Batch *self)
{
  gaio_ready_set_set_func (self->set, batch_called, self, batch_notified);
}

/* Without its function yet. */
static void
batch_init (Batch *self, TestLoop *loop)
{
  *self = (Batch){ .loop = loop, .set = gaio_ready_set_new (loop->context), .takes = TRUE };
}

static void
batch_start (Batch *self, TestLoop *loop)
{
  batch_init (self, loop);
  batch_set_func (self);
}

static void
batch_stop (Batch *self)
{
  if (self->set == NULL)
    return;
  gaio_ready_set_set_func (self->set, NULL, NULL, NULL);
  test_loop_settle (self->loop);
  g_clear_object (&self->set);
  g_clear_pointer (&self->records, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Batch, batch_stop)

/* A member: an fd of its own and its handle. */
typedef struct
{
  gint fd;
  GaioHandler *handler;
} Member;

static void
member_start (Member *self, Batch *batch, gint fd, GIOCondition condition, guint64 token)
{
  g_autoptr (GError) error = NULL;

  self->fd = fd;
  self->handler = gaio_ready_set_add_fd (batch->set, fd, condition, token, &error);
  g_assert_no_error (error);
  g_assert_nonnull (self->handler);
}

static void
member_stop (Member *self)
{
  gaio_clear_handler (&self->handler);
  test_close (&self->fd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Member, member_stop)

/* clang-format off */
#define MEMBER_INIT { .fd = -1 }
/* clang-format on */

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

static void
add_record_tests (void)
{
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
}

static void
add_function_tests (void)
{
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
  test_add_mode ("/ready-set/iterate-gathers-without-a-function",
                 iterate_gathers_without_a_function, TEST_ITERATE);
  test_add_mode ("/ready-set/detached-it-is-polled-for-again", detached_it_is_polled_for_again,
                 TEST_GLIB);
  test_add_mode ("/ready-set/iterate-gathers-all-without-a-function",
                 iterate_gathers_all_without_a_function, TEST_ITERATE);
}

static void
add_member_tests (void)
{
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
}

static void
add_ending_tests (void)
{
  test_add ("/ready-set/closed-context-empties-the-set", closed_context_empties_the_set);
  test_add ("/ready-set/close-in-the-function-is-safe", close_in_the_function_is_safe);
  test_add ("/ready-set/outlives-its-context", outlives_its_context);
  test_add ("/ready-set/another-thread-adds-and-removes-members",
            another_thread_adds_and_removes_members);
  test_add ("/ready-set/set-dropped-with-members-leaves-no-noise",
            set_dropped_with_members_leaves_no_noise);
  g_test_add_func ("/ready-set/misuse-is-a-critical", misuse_is_a_critical);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  add_record_tests ();
  add_function_tests ();
  add_member_tests ();
  add_ending_tests ();
  return g_test_run ();
}
