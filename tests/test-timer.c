/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/syscall.h>

#include "test-timer.h"

/* --- When --- */

static void
check_not_early (gpointer data)
{
  Story *story = data;

  g_assert_cmpint (g_get_monotonic_time (), >=, story->deadline);
  story->calls++;
}

static void
test_never_early (gconstpointer nested)
{
  const gint64 delays[] = { 0, 1, 50, 999, 1000, 1001, 2500, 10001 };
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, check_not_early, &story);

  for (guint i = 0; i < G_N_ELEMENTS (delays); i++)
    {
      gint64 before = g_get_monotonic_time ();

      gaio_timer_arm (timer, delays[i]);
      story.deadline = gaio_timer_get_deadline (timer);
      g_assert_cmpint (story.deadline, >=, before + delays[i]);
      g_assert_cmpint (story.deadline, <=, g_get_monotonic_time () + delays[i]);
      rig_until (&rig, story.calls == i + 1);
    }
}

static void
test_arm_at_never_early (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, check_not_early, &story);

  for (guint i = 0; i < 20; i++)
    {
      story.deadline = g_get_monotonic_time () + 137 * i;
      gaio_timer_arm_at (timer, story.deadline);
      rig_until (&rig, story.calls == i + 1);
    }
}

static void
test_deadline_of (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, count_once, &calls);
  gint64 far = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  gaio_timer_arm_at (timer, far);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, far);
  gaio_timer_disarm (timer);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  gaio_timer_arm_at (timer, PAST);
  rig_until (&rig, calls == 1);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  gaio_timer_arm (timer, 1000);
  gaio_timer_remove (timer);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
}

static void
test_past_fires_in_next_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, count_once, &calls);

  gaio_timer_arm_at (timer, PAST);
  g_assert_cmpuint (calls, ==, 0);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 1);
  gaio_timer_arm (timer, 0);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 2);
  gaio_timer_arm_at (timer, 0);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 3);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 3);
}

static void
test_minus_one_disarms (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioTimer) timer = add_timer (&rig, never_once, NULL);

  gaio_timer_arm (timer, 0);
  gaio_timer_arm (timer, -1);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  gaio_timer_arm_at (timer, PAST);
  gaio_timer_arm_at (timer, -1);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  rig_assert_sleeps (&rig);
}

static void
test_overflow_is_never (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioTimer) relative = add_timer (&rig, never_once, NULL);
  g_autoptr (GaioTimer) absolute = add_timer (&rig, never_once, NULL);
  g_autoptr (GaioTimer) almost = add_timer (&rig, never_once, NULL);

  gaio_timer_arm (relative, G_MAXINT64);
  gaio_timer_arm_at (absolute, G_MAXINT64);
  gaio_timer_arm (almost, G_MAXINT64 / 1000 + 1);
  g_assert_cmpint (gaio_timer_get_deadline (relative), >, g_get_monotonic_time ());
  rig_settle (&rig);
  rig_assert_sleeps (&rig);
}

static void
test_earlier_deadline_replaces_later (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, count_once, &calls);

  gaio_timer_arm (timer, 3600 * (gint64) G_USEC_PER_SEC);
  rig_settle (&rig);
  gaio_timer_arm (timer, 1000);
  rig_until (&rig, calls == 1);
}

static void
test_later_deadline_replaces_earlier (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, check_not_early, &story);

  gaio_timer_arm (timer, 0);
  rig_settle (&rig);
  gaio_timer_arm (timer, 1000);
  gaio_timer_arm (timer, 30 * 1000);
  story.deadline = gaio_timer_get_deadline (timer);
  rig_until (&rig, story.calls == 2);
}

/* Rounding up to milliseconds would make this timer at least 700 us late, each time. */
static void
test_microseconds (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, count_once, &calls);
  gint64 best = G_MAXINT64;

  if (nested == NULL && syscall (SYS_epoll_pwait2, -1, NULL, 0, NULL, NULL, 0) == -1 &&
      errno == ENOSYS)
    {
      g_test_skip ("no epoll_pwait2() here: iterate() knows milliseconds only");
      return;
    }
  if (nested != NULL && !test_has_timerfd ())
    return;
  for (gint64 until = g_get_monotonic_time () + GUARD_US; best > 500;)
    {
      guint before = calls;
      gint64 deadline, late;

      gaio_timer_arm (timer, 1300);
      deadline = gaio_timer_get_deadline (timer);
      rig_until (&rig, calls > before);
      late = g_get_monotonic_time () - deadline;
      best = MIN (best, late);
      g_assert_cmpint (g_get_monotonic_time (), <, until);
    }
}

/* --- Order --- */

static void
test_equal_deadlines_fire_in_arming_order (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'a' }, { log, 'b' }, { log, 'c' } };
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioTimer) a = add_timer (&rig, mark_once, &marks[0]);
  g_autoptr (GaioTimer) b = add_timer (&rig, mark_once, &marks[1]);
  g_autoptr (GaioTimer) c = add_timer (&rig, mark_once, &marks[2]);

  gaio_timer_arm_at (b, 1000);
  gaio_timer_arm_at (a, 1000);
  gaio_timer_arm_at (c, 1000);
  rig_until (&rig, log->len == 3);
  g_assert_cmpstr (log->str, ==, "bac");

  g_string_truncate (log, 0);
  gaio_timer_arm_at (a, 1000);
  gaio_timer_arm_at (b, 1000);
  gaio_timer_arm_at (c, 1000);
  gaio_timer_arm_at (a, 1000);
  rig_until (&rig, log->len == 3);
  g_assert_cmpstr (log->str, ==, "bca");
}

static void
test_earliest_first (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'a' }, { log, 'b' }, { log, 'c' } };
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioTimer) a = add_timer (&rig, mark_once, &marks[0]);
  g_autoptr (GaioTimer) b = add_timer (&rig, mark_once, &marks[1]);
  g_autoptr (GaioTimer) c = add_timer (&rig, mark_once, &marks[2]);

  gaio_timer_arm_at (a, 3000);
  gaio_timer_arm_at (b, 2000);
  gaio_timer_arm_at (c, 1000);
  rig_until (&rig, log->len == 3);
  g_assert_cmpstr (log->str, ==, "cba");
}

typedef struct
{
  guint64 *order;
  guint *calls;
  gint64 deadline;
  guint index;
} Runner;

/* Deadline first, then the order of arming. */
static void
check_order (gpointer data)
{
  Runner *runner = data;
  guint64 key = ((guint64) runner->deadline << 20) | runner->index;

  g_assert_cmpuint (key, >, *runner->order);
  g_assert_cmpint (runner->deadline, <=, g_get_monotonic_time ());
  *runner->order = key;
  ++*runner->calls;
}

static void
test_ten_thousand (gconstpointer nested)
{
  const guint n = 10000;
  guint64 order = 0;
  guint calls = 0;
  g_autofree Runner *runners = g_new0 (Runner, n);
  g_autofree GaioTimer **timers = g_new0 (GaioTimer *, n);
  g_auto (Rig) rig = rig_new (nested);
  gint64 start = g_get_monotonic_time ();

  for (guint i = 0; i < n; i++)
    {
      runners[i] = (Runner){ &order, &calls, start + g_test_rand_int_range (-2000, 2000), i };
      timers[i] = add_timer (&rig, check_order, &runners[i]);
      gaio_timer_arm_at (timers[i], 60 * G_USEC_PER_SEC + start);
    }
  for (guint i = 0; i < n; i++)
    gaio_timer_arm_at (timers[i], runners[i].deadline);
  for (guint i = 0; i < n; i += 10)
    gaio_timer_disarm (timers[i]);
  rig_until (&rig, calls == n - n / 10);
  for (guint i = 0; i < n; i++)
    gaio_clear_timer (&timers[i]);
  rig_settle (&rig);
  g_assert_cmpuint (stat_of (rig.context, "timers"), ==, 0);
}

/* --- Timeouts --- */

static void
test_timeout_repeats_without_drift (gconstpointer nested)
{
  const gint64 interval = 700;
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  gint64 before = g_get_monotonic_time ();
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timeout (rig.context, interval, count_again, &calls, NULL);
  gint64 first = gaio_timer_get_deadline (timer);

  g_assert_cmpint (first, >=, before + interval);
  for (guint i = 1; i <= 20; i++)
    {
      gint64 last = gaio_timer_get_deadline (timer);

      rig_until (&rig, calls == i);
      g_assert_cmpint (g_get_monotonic_time (), >=, last);
      g_assert_cmpint (gaio_timer_get_deadline (timer), >, last);
      g_assert_cmpint ((gaio_timer_get_deadline (timer) - first) % interval, ==, 0);
    }
}

static void
test_timeout_skips_missed_ticks (gconstpointer nested)
{
  const gint64 interval = 10 * 1000;
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timeout (rig.context, interval, count_again, &calls, NULL);
  gint64 first = gaio_timer_get_deadline (timer);
  gint64 before;

  g_usleep (5 * interval);
  before = g_get_monotonic_time ();
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 1);
  g_assert_cmpint (gaio_timer_get_deadline (timer), >, before);
  g_assert_cmpint ((gaio_timer_get_deadline (timer) - first) % interval, ==, 0);
}

static void
test_endless_timeout_never_fires (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timeout (rig.context, G_MAXINT64, count_again, &calls, NULL);

  rig_assert_sleeps (&rig);
  gaio_timer_arm (timer, 0);
  rig_until (&rig, calls == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (calls, ==, 1);
}

static gboolean
remove_after_three (gpointer data)
{
  Story *story = data;

  return ++story->calls < 3 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void
test_timeout_ends_when_it_returns_false (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timeout (rig.context, 100, remove_after_three, &story, note_after_callback);

  rig_until (&rig, story.notified == 1);
  g_assert_cmpuint (story.calls, ==, 3);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  gaio_timer_arm (timer, 0);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.calls, ==, 3);
  g_assert_cmpuint (story.notified, ==, 1);
}

static gboolean
remove_self_and_continue (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  gaio_timer_remove (story->timer);
  story->depth--;
  return G_SOURCE_CONTINUE;
}

static void
test_timeout_removed_in_own_callback (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.timer = gaio_context_add_timeout (rig.context, 100, remove_self_and_continue, &story,
                                          note_after_callback);
  rig_until (&rig, story.notified == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
  gaio_clear_timer (&story.timer);
}

static gboolean
run_nested_in_timeout (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->depth, ==, 0);
  story->depth++;
  if (story->calls++ == 0)
    rig_assert_sleeps (story->rig);
  story->depth--;
  return G_SOURCE_CONTINUE;
}

static void
test_timeout_is_not_called_again_while_it_runs_a_nested_loop (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.timer = gaio_context_add_timeout (rig.context, 1000, run_nested_in_timeout, &story, NULL);
  rig_until (&rig, story.calls == 3);
  gaio_clear_timer (&story.timer);
}

static void
test_timeout_of_zero_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const gint64 bad[] = { 0, -1, G_MININT64 };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      GaioTimer *timer = NULL;

      expect_critical (timer = gaio_context_add_timeout (context, bad[i], count_again, NULL, NULL));
      g_assert_null (timer);
    }
  g_assert_cmpuint (stat_of (context, "timers"), ==, 0);
}

/* --- What it costs the loop of GLib --- */

/* A timer as a ready time of the source would wake the loop twice, or round to milliseconds. */
static void
test_one_poll_per_timer_and_no_timeout (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, count_once, &calls);
  guint interruptions = test_interruptions ();

  if (!test_has_timerfd ())
    return;
  rig_settle (&rig);
  atomic_store (&glib_polls, 0);
  for (guint i = 1; i <= 100; i++)
    {
      gaio_timer_arm (timer, 300);
      while (calls < i)
        {
          g_main_context_iteration (rig.main_context, TRUE);
          g_assert_cmpint (atomic_load (&glib_poll_timeout), <=, 0);
        }
    }
  g_assert_cmpuint (atomic_load (&glib_polls), <=, 101 + test_interruptions () - interruptions);
}

static void
test_arming_often_wakes_nobody (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  g_autoptr (GaioTimer) timer = add_timer (&rig, never_once, NULL);

  rig_settle (&rig);
  for (guint i = 0; i < 1000; i++)
    gaio_timer_arm (timer, (2000 - i) * (gint64) G_USEC_PER_SEC);
  rig_assert_sleeps (&rig);
}

/* GLib has been told of a deadline that is none any more: it wakes once at most, and so does
 * iterate(), which has a timeout of its own. */
static void
test_stale_deadline_does_not_spin (gconstpointer iterate)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, never_once, NULL);
  g_autoptr (GaioTimer) other = add_timer (&rig, count_once, &calls);

  gaio_timer_arm (timer, 1000);
  main_context_n_fds (rig.main_context);
  gaio_timer_disarm (timer);
  g_usleep (2000);
  if (iterate == NULL)
    {
      rig_assert_sleeps (&rig);
      return;
    }
  gaio_timer_arm (other, 20 * 1000);
  for (guint n = 0; n < 8 && calls == 0; n++)
    gaio_context_iterate (rig.context, GUARD_US);
  g_assert_cmpuint (calls, ==, 1);
}

/* The two ways to wait do not share what they tell the kernel. */
static void
test_glib_and_iterate_take_turns (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  guint calls = 0;
  g_autoptr (GaioTimer) timer = add_timer (&rig, count_once, &calls);

  for (guint i = 0; i < 10; i++)
    {
      gaio_timer_arm (timer, 500);
      gaio_context_iterate (rig.context, 0);
      rig_until (&rig, calls == 2 * i + 1);
      gaio_timer_arm (timer, 500);
      main_context_n_fds (rig.main_context);
      iterate_until (rig.context, calls == 2 * i + 2);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/timer/never-early", test_never_early);
  add_both ("/timer/arm-at-never-early", test_arm_at_never_early);
  add_both ("/timer/deadline-is-told-and-minus-one-is-none", test_deadline_of);
  add_both ("/timer/past-fires-in-next-round", test_past_fires_in_next_round);
  add_both ("/timer/minus-one-disarms", test_minus_one_disarms);
  add_both ("/timer/overflowing-delay-never-fires-and-does-not-spin", test_overflow_is_never);
  add_both ("/timer/earlier-deadline-replaces-later", test_earlier_deadline_replaces_later);
  add_both ("/timer/later-deadline-replaces-earlier", test_later_deadline_replaces_earlier);
  add_both ("/timer/is-finer-than-a-millisecond", test_microseconds);
  add_both ("/timer/equal-deadlines-fire-in-arming-order",
            test_equal_deadlines_fire_in_arming_order);
  add_both ("/timer/earliest-fires-first", test_earliest_first);
  add_both ("/timer/ten-thousand-fire-in-order", test_ten_thousand);
  add_both ("/timeout/repeats-without-drift", test_timeout_repeats_without_drift);
  add_both ("/timeout/skips-missed-ticks", test_timeout_skips_missed_ticks);
  add_both ("/timeout/overflowing-interval-never-fires", test_endless_timeout_never_fires);
  add_both ("/timeout/ends-when-it-returns-false", test_timeout_ends_when_it_returns_false);
  add_both ("/timeout/removed-in-own-callback", test_timeout_removed_in_own_callback);
  add_both ("/timeout/not-called-again-while-it-runs-a-nested-loop",
            test_timeout_is_not_called_again_while_it_runs_a_nested_loop);
  g_test_add_func ("/timeout/interval-of-zero-is-a-critical", test_timeout_of_zero_is_a_critical);
  g_test_add_func ("/timer/costs-glib-one-poll-and-no-timeout",
                   test_one_poll_per_timer_and_no_timeout);
  g_test_add_data_func ("/timer/stale-deadline-does-not-spin/glib", NULL,
                        test_stale_deadline_does_not_spin);
  g_test_add_data_func ("/timer/stale-deadline-does-not-spin/iterate", GINT_TO_POINTER (TRUE),
                        test_stale_deadline_does_not_spin);
  g_test_add_func ("/timer/glib-and-iterate-take-turns", test_glib_and_iterate_take_turns);
  g_test_add_func ("/timer/arming-often-wakes-nobody", test_arming_often_wakes_nobody);
  return g_test_run ();
}
