/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

#include "base/gaio-call-queue-private.h"

/* More than two blocks, and no multiple of one. */
#define N 100

static void
push (GaioCallQueue *queue, guint64 seq)
{
  gaio_call_queue_push (queue, &(GaioCall){ .seq = seq });
}

static void
push_many (GaioCallQueue *queue, guint64 first, guint n)
{
  for (guint i = 0; i < n; i++)
    push (queue, first + i);
}

static void
assert_pops (GaioCallQueue *queue, guint64 first, guint n)
{
  GaioCall call;

  for (guint i = 0; i < n; i++)
    {
      g_assert_cmpuint (gaio_call_queue_first (queue)->seq, ==, first + i);
      g_assert_true (gaio_call_queue_pop (queue, &call));
      g_assert_cmpuint (call.seq, ==, first + i);
    }
}

static void
assert_empty (GaioCallQueue *queue)
{
  GaioCall call;

  g_assert_cmpuint (queue->n_calls, ==, 0);
  g_assert_null (gaio_call_queue_first (queue));
  g_assert_false (gaio_call_queue_pop (queue, &call));
}

static void
is_empty_from_the_start (void)
{
  GaioCallQueue queue = { 0 };

  assert_empty (&queue);
  gaio_call_queue_clear (&queue);
}

static void
keeps_all_of_a_call (void)
{
  GaioCall in = { g_free, &in, g_free, 7 };
  GaioCallQueue queue = { 0 };
  GaioCall out;

  gaio_call_queue_push (&queue, &in);
  g_assert_true (gaio_call_queue_pop (&queue, &out));
  g_assert_cmpmem (&in, sizeof in, &out, sizeof out);
  gaio_call_queue_clear (&queue);
}

/* As often as makes each place in a block the first and the last once. */
static void
is_first_in_first_out (void)
{
  GaioCallQueue queue = { 0 };
  guint64 first = 0;

  for (guint n = 1; n <= N; n++)
    {
      push_many (&queue, first, n);
      g_assert_cmpuint (queue.n_calls, ==, n);
      assert_pops (&queue, first, n);
      assert_empty (&queue);
      first += n;
    }
  gaio_call_queue_clear (&queue);
}

static void
keeps_its_order_while_it_grows (void)
{
  GaioCallQueue queue = { 0 };
  guint64 next_in = 0, next_out = 0;

  for (guint i = 0; i < N; i++)
    {
      push_many (&queue, next_in, 3);
      next_in += 3;
      assert_pops (&queue, next_out, 2);
      next_out += 2;
      g_assert_cmpuint (queue.n_calls, ==, next_in - next_out);
    }
  assert_pops (&queue, next_out, next_in - next_out);
  assert_empty (&queue);
  gaio_call_queue_clear (&queue);
}

/* Whatever of either has been taken before. */
static void
prepends_what_is_older (void)
{
  for (guint n_old = 0; n_old <= N; n_old += 7)
    for (guint n_new = 0; n_new <= N; n_new += 9)
      {
        GaioCallQueue old = { 0 }, new = { 0 };

        push_many (&old, 0, 5 + n_old);
        push_many (&new, n_old, 4 + n_new);
        assert_pops (&old, 0, 5);
        assert_pops (&new, n_old, 4);
        gaio_call_queue_prepend_all (&new, &old);
        assert_empty (&old);
        assert_pops (&new, 5, n_old);
        assert_pops (&new, n_old + 4, n_new);
        assert_empty (&new);
        push (&old, 1);
        push (&new, 2);
        assert_pops (&old, 1, 1);
        assert_pops (&new, 2, 1);
        gaio_call_queue_clear (&old);
        gaio_call_queue_clear (&new);
      }
}

static void
clearing_frees_what_was_left (void)
{
  GaioCallQueue queue = { 0 };

  push_many (&queue, 0, N);
  assert_pops (&queue, 0, 1);
  gaio_call_queue_clear (&queue);
  assert_empty (&queue);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/call-queue/is-empty-from-the-start", is_empty_from_the_start);
  g_test_add_func ("/call-queue/keeps-all-of-a-call", keeps_all_of_a_call);
  g_test_add_func ("/call-queue/is-first-in-first-out", is_first_in_first_out);
  g_test_add_func ("/call-queue/keeps-its-order-while-it-grows", keeps_its_order_while_it_grows);
  g_test_add_func ("/call-queue/prepends-what-is-older", prepends_what_is_older);
  g_test_add_func ("/call-queue/clearing-frees-what-was-left", clearing_frees_what_was_left);
  return g_test_run ();
}
