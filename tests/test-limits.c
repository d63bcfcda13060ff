/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-support.h"

/* What is always ready, one or several of each kind. */
typedef struct
{
  GaioBottomHalf *bh;
  GaioTimer *timer;
  GaioHandler *handler;
  gint fd;
  guint bh_calls;
  guint timer_calls;
  guint fd_calls;
} Eager;

static void
schedule_again (gpointer data)
{
  Eager *eager = data;

  eager->bh_calls++;
  gaio_bottom_half_schedule (eager->bh);
}

static void
arm_again (gpointer data)
{
  Eager *eager = data;

  eager->timer_calls++;
  gaio_timer_arm (eager->timer, 0);
}

static void
eager_add (Eager *eager, GaioContext *context)
{
  eager->fd = eventfd_new (1);
  eager->bh = gaio_context_add_bottom_half (context, schedule_again, eager, NULL);
  eager->timer = gaio_context_add_timer (context, arm_again, eager, NULL);
  eager->handler = add_fd (context, eager->fd, G_IO_IN, count_fd, &eager->fd_calls, NULL);
  gaio_bottom_half_schedule (eager->bh);
  gaio_timer_arm (eager->timer, 0);
}

static void
eager_remove (Eager *eager)
{
  gaio_clear_bottom_half (&eager->bh);
  gaio_clear_timer (&eager->timer);
  gaio_clear_handler (&eager->handler);
  close (eager->fd);
}

static guint
eager_calls (Eager *eager)
{
  return eager->bh_calls + eager->timer_calls + eager->fd_calls;
}

static void
defer_many (GaioContext *context, guint n, guint *calls)
{
  for (guint i = 0; i < n; i++)
    gaio_context_defer (context, count_once, calls, NULL);
}

/* As good as none. */
static void
test_longest_time_is_no_limit (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;

  gaio_context_set_dispatch_limits (rig.context, 0, G_MAXINT64);
  defer_many (rig.context, 300, &calls);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 300);
}

/* --- How many --- */

static void
test_default_is_128 (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;

  defer_many (rig.context, 300, &calls);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 128);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 256);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 300);
}

static void
test_zero_is_none (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;

  gaio_context_set_dispatch_limits (rig.context, 0, 0);
  defer_many (rig.context, 5000, &calls);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 5000);
}

static void
test_limit_counts_every_kind (gconstpointer nested)
{
  Eager eager[4] = { 0 };
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 3, 0);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_add (&eager[i], rig.context);
  for (guint round = 1; round <= 50; round++)
    {
      guint calls = 0;

      rig_round (&rig, TRUE);
      for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
        calls += eager_calls (&eager[i]);
      g_assert_cmpuint (calls, ==, 3 * round);
    }
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_remove (&eager[i]);
}

static void
test_limit_of_one_starves_nobody (gconstpointer nested)
{
  Eager eager[3] = { 0 };
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 1, 0);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_add (&eager[i], rig.context);
  for (guint round = 0; round < 900; round++)
    rig_round (&rig, TRUE);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    {
      g_assert_cmpuint (eager[i].bh_calls, >=, 30);
      g_assert_cmpuint (eager[i].timer_calls, >=, 30);
      g_assert_cmpuint (eager[i].fd_calls, >=, 30);
      eager_remove (&eager[i]);
    }
}

static void
take_batch (GaioReadySet *set, guint n_ready, gpointer data)
{
  guint *batches = data;
  gsize length;

  ++*batches;
  g_free (gaio_ready_set_take (set, &length));
}

static void
test_limit_of_one_serves_a_ready_set_too (gconstpointer nested)
{
  Eager eager = { 0 };
  guint batches = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (rig.context);
  gint fd = eventfd_new (1);
  g_autoptr (GaioHandler) handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 1, NULL);

  gaio_context_set_dispatch_limits (rig.context, 1, 0);
  gaio_ready_set_set_func (set, take_batch, &batches, NULL);
  eager_add (&eager, rig.context);
  for (guint round = 0; round < 400; round++)
    rig_round (&rig, TRUE);
  g_assert_cmpuint (batches, >=, 30);
  g_assert_cmpuint (eager.bh_calls, >=, 30);
  g_assert_cmpuint (eager.timer_calls, >=, 30);
  g_assert_cmpuint (eager.fd_calls, >=, 30);
  eager_remove (&eager);
  gaio_handler_remove (handler);
  close (fd);
}

static void
test_many_ready_fds_take_turns (gconstpointer nested)
{
  const guint n = 40;
  gint fds[40];
  guint calls[40] = { 0 };
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 7, 0);
  for (guint i = 0; i < n; i++)
    {
      fds[i] = eventfd_new (1);
      watch_fd (rig.context, fds[i], count_fd, &calls[i]);
    }
  for (guint round = 0; round < 20 * n; round++)
    rig_round (&rig, TRUE);
  for (guint i = 0; i < n; i++)
    {
      g_assert_cmpuint (calls[i], >=, 20 * 7 / 2);
      close (fds[i]);
    }
}

/* What the limit leaves over is asked for afresh: here somebody else has drained it meanwhile. */
static void
test_leftovers_are_looked_at_afresh (gconstpointer nested)
{
  gint fds[2] = { eventfd_new (1), eventfd_new (1) };
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 1, 0);
  watch_fd (rig.context, fds[0], count_fd, &calls);
  watch_fd (rig.context, fds[1], count_fd, &calls);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 1);
  g_assert_true (eventfd_take (fds[0]));
  g_assert_true (eventfd_take (fds[1]));
  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 1);
  close (fds[0]);
  close (fds[1]);
}

static void
test_notifies_do_not_count (gconstpointer nested)
{
  guint notified = 0;
  GaioTimer *timers[50];
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 1, 0);
  for (guint i = 0; i < G_N_ELEMENTS (timers); i++)
    timers[i] = gaio_context_add_timer (rig.context, never_once, &notified, count_once);
  for (guint i = 0; i < G_N_ELEMENTS (timers); i++)
    gaio_clear_timer (&timers[i]);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (notified, ==, 50);
}

typedef struct
{
  GaioContext *context;
  guint *last;
  guint number;
} Turn;

static void
check_turn (gpointer data)
{
  Turn *turn = data;

  g_assert_cmpuint (turn->number, ==, *turn->last + 1);
  *turn->last = turn->number;
  if (turn->number > 300)
    return;
  turn->number += 300;
  gaio_context_defer (turn->context, check_turn, turn, NULL);
}

/* What is scheduled in a round goes behind what the limit has left over. */
static void
test_leftovers_keep_their_order (gconstpointer nested)
{
  guint last = 0;
  Turn turns[300];
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 7, 0);
  for (guint i = 0; i < G_N_ELEMENTS (turns); i++)
    {
      turns[i] = (Turn){ rig.context, &last, i + 1 };
      gaio_context_defer (rig.context, check_turn, &turns[i], NULL);
    }
  rig_until (&rig, last == 600);
}

/* --- How long --- */

static void
test_time_limit_serves_everybody_in_the_end (gconstpointer nested)
{
  Eager eager[5] = { 0 };
  guint deferred = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 0, 1);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_add (&eager[i], rig.context);
  defer_many (rig.context, 500, &deferred);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    {
      rig_until (&rig, eager[i].bh_calls > 3);
      rig_until (&rig, eager[i].timer_calls > 3);
      rig_until (&rig, eager[i].fd_calls > 3);
    }
  rig_until (&rig, deferred == 500);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_remove (&eager[i]);
}

/* Else a machine that is slow enough never gets anywhere. */
static void
test_time_limit_leaves_one_callback_a_round (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 0, 1);
  defer_many (rig.context, 1000, &calls);
  while (calls < 1000)
    {
      guint before = calls;

      rig_round (&rig, TRUE);
      g_assert_cmpuint (calls, >, before);
    }
}

static void
spend_time (gpointer data)
{
  gint64 until = g_get_monotonic_time () + 2000;

  ++*(guint *) data;
  while (g_get_monotonic_time () < until)
    ;
}

static void
test_time_limit_ends_the_round (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 0, 1000);
  for (guint i = 0; i < 5; i++)
    gaio_context_defer (rig.context, spend_time, &calls, NULL);
  for (guint i = 1; i <= 5; i++)
    {
      rig_round (&rig, TRUE);
      g_assert_cmpuint (calls, ==, i);
    }
}

static gboolean
spend_time_fd (gint fd, GIOCondition condition, gpointer data)
{
  spend_time (data);
  return G_SOURCE_CONTINUE;
}

/* All are gathered, one is served, and somebody else drains the others before their turn. */
static void
test_time_leftovers_are_looked_at_afresh (gconstpointer nested)
{
  gint fds[5];
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 0, 1000);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      fds[i] = eventfd_new (1);
      watch_fd (rig.context, fds[i], spend_time_fd, &calls);
    }
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 1);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    g_assert_true (eventfd_take (fds[i]));
  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 1);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
}

/* --- The other sources of the loop --- */

static void
test_other_glib_sources_run_in_between (void)
{
  Eager eager[3] = { 0 };
  guint idle_calls = 0;
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  GSource *idle = g_idle_source_new ();

  g_source_set_priority (idle, G_PRIORITY_DEFAULT);
  g_source_set_callback (idle, count_again, &idle_calls, NULL);
  g_source_attach (idle, rig.main_context);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_add (&eager[i], rig.context);
  for (guint round = 0; round < 100; round++)
    rig_round (&rig, TRUE);
  g_assert_cmpuint (idle_calls, >=, 90);
  g_assert_cmpuint (eager_calls (&eager[0]), >=, 90);
  g_source_destroy (idle);
  g_source_unref (idle);
  for (guint i = 0; i < G_N_ELEMENTS (eager); i++)
    eager_remove (&eager[i]);
}

static gboolean
copy_and_end (gpointer data)
{
  guint **counts = data;

  *counts[1] = *counts[0];
  return G_SOURCE_REMOVE;
}

static void
test_a_flood_does_not_keep_glib_waiting (void)
{
  guint calls = 0;
  guint seen = G_MAXUINT;
  guint *counts[] = { &calls, &seen };
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  GSource *idle = g_idle_source_new ();

  g_source_set_priority (idle, G_PRIORITY_DEFAULT);
  g_source_set_callback (idle, copy_and_end, counts, NULL);
  g_source_attach (idle, rig.main_context);
  defer_many (rig.context, 10000, &calls);
  main_context_until (rig.main_context, calls == 10000);
  g_assert_cmpuint (seen, <=, 2 * 128);
  g_source_unref (idle);
}

static void
test_limits_change_while_things_are_pending (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_set_dispatch_limits (rig.context, 10, 0);
  defer_many (rig.context, 100, &calls);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 10);
  gaio_context_set_dispatch_limits (rig.context, 50, 0);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 60);
  gaio_context_set_dispatch_limits (rig.context, 0, 0);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 100);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/limits/default-is-128-callbacks", test_default_is_128);
  add_both ("/limits/longest-time-is-no-limit", test_longest_time_is_no_limit);
  add_both ("/limits/zero-is-none", test_zero_is_none);
  add_both ("/limits/count-callbacks-of-every-kind", test_limit_counts_every_kind);
  add_both ("/limits/one-starves-nobody", test_limit_of_one_starves_nobody);
  add_both ("/limits/one-serves-a-ready-set-too", test_limit_of_one_serves_a_ready_set_too);
  add_both ("/limits/many-ready-fds-take-turns", test_many_ready_fds_take_turns);
  add_both ("/limits/leftovers-are-looked-at-afresh", test_leftovers_are_looked_at_afresh);
  add_both ("/limits/notifies-do-not-count", test_notifies_do_not_count);
  add_both ("/limits/leftovers-keep-their-order", test_leftovers_keep_their_order);
  add_both ("/limits/time-serves-everybody-in-the-end",
            test_time_limit_serves_everybody_in_the_end);
  add_both ("/limits/time-leaves-one-callback-a-round",
            test_time_limit_leaves_one_callback_a_round);
  add_both ("/limits/time-ends-the-round", test_time_limit_ends_the_round);
  add_both ("/limits/time-leftovers-are-looked-at-afresh",
            test_time_leftovers_are_looked_at_afresh);
  add_both ("/limits/change-while-things-are-pending", test_limits_change_while_things_are_pending);
  g_test_add_func ("/limits/other-glib-sources-run-in-between",
                   test_other_glib_sources_run_in_between);
  g_test_add_func ("/limits/a-flood-does-not-keep-glib-waiting",
                   test_a_flood_does_not_keep_glib_waiting);
  return g_test_run ();
}
