/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/syscall.h>

#include "test-support.h"

/* The test arms it in the past: due in the next round, whatever the clock does. */
#define PAST 1

typedef struct
{
  Rig *rig;
  GaioTimer *timer;
  GaioTimer *other;
  guint calls;
  guint depth;
  guint notified;
  gint64 deadline;
} Story;

static GaioTimer *
add_timer (Rig *rig, GSourceOnceFunc func, gpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (rig->context, func, data, NULL);

  g_assert_nonnull (timer);
  return timer;
}

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

/* --- Changes inside callbacks --- */

static void
rearm_once (gpointer data)
{
  Story *story = data;

  if (story->calls++ < 3)
    gaio_timer_arm (story->timer, 0);
}

static void
test_rearmed_in_callback_fires_in_next_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.timer = add_timer (&rig, rearm_once, &story);
  gaio_timer_arm (story.timer, 0);
  for (guint i = 1; i <= 4; i++)
    {
      rig_round (&rig, FALSE);
      g_assert_cmpuint (story.calls, ==, i);
    }
  rig_round (&rig, FALSE);
  g_assert_cmpuint (story.calls, ==, 4);
  gaio_clear_timer (&story.timer);
}

static void
arm_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_timer_arm_at (story->other, PAST);
}

static void
test_armed_in_bottom_half_fires_in_next_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint fired = 0;
  Story story = { .rig = &rig };
  g_autoptr (GaioBottomHalf) bh =
      gaio_context_add_bottom_half (rig.context, arm_other, &story, NULL);

  story.other = add_timer (&rig, count_once, &fired);
  gaio_bottom_half_schedule (bh);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (fired, ==, 0);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (fired, ==, 1);
  gaio_clear_timer (&story.other);
}

static void
disarm_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_timer_disarm (story->other);
}

static void
test_disarmed_while_due_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, disarm_other, &story);

  story.other = add_timer (&rig, never_once, NULL);
  gaio_timer_arm_at (timer, PAST);
  gaio_timer_arm_at (story.other, PAST);
  rig_until (&rig, story.calls == 1);
  rig_settle (&rig);
  gaio_timer_arm_at (story.other, PAST);
  gaio_timer_disarm (story.other);
  rig_assert_sleeps (&rig);
  gaio_clear_timer (&story.other);
}

static void
postpone_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_timer_arm (story->other, 3600 * (gint64) G_USEC_PER_SEC);
}

static void
test_postponed_while_due_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, postpone_other, &story);

  story.other = add_timer (&rig, never_once, NULL);
  gaio_timer_arm_at (timer, PAST);
  gaio_timer_arm_at (story.other, PAST);
  rig_until (&rig, story.calls == 1);
  rig_assert_sleeps (&rig);
  gaio_clear_timer (&story.other);
}

static void
remove_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_timer_remove (story->other);
}

static void
test_removed_while_due_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, remove_other, &story);
  guint notified = 0;

  story.other = gaio_context_add_timer (rig.context, never_once, &notified, count_once);
  gaio_timer_arm_at (timer, PAST);
  gaio_timer_arm_at (story.other, PAST);
  rig_until (&rig, notified == 1);
  g_assert_cmpuint (story.calls, ==, 1);
  rig_settle (&rig);
  g_assert_cmpuint (notified, ==, 1);
  gaio_clear_timer (&story.other);
}

static void
note_after_callback (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->depth, ==, 0);
  story->notified++;
}

static void
remove_self (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  gaio_timer_arm (story->timer, 0);
  gaio_timer_remove (story->timer);
  gaio_timer_arm (story->timer, 0);
  g_assert_cmpint (gaio_timer_get_deadline (story->timer), ==, -1);
  rig_round (story->rig, FALSE);
  g_assert_cmpuint (story->notified, ==, 0);
  story->depth--;
}

static void
test_removed_in_own_callback_is_notified_after_it (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.timer = gaio_context_add_timer (rig.context, remove_self, &story, note_after_callback);
  gaio_timer_arm (story.timer, 0);
  rig_until (&rig, story.notified == 1);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
  gaio_timer_remove (story.timer);
  gaio_clear_timer (&story.timer);
  rig_settle (&rig);
  g_assert_cmpuint (story.notified, ==, 1);
}

static void
drop_only_handle (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_clear_timer (&story->timer);
}

static void
test_cleared_in_own_callback (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.timer = gaio_context_add_timer (rig.context, drop_only_handle, &story, note_after_callback);
  gaio_timer_arm (story.timer, 0);
  rig_until (&rig, story.notified == 1);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_null (story.timer);
}

/* --- Nested loops --- */

static void
run_nested_rounds (gpointer data)
{
  Story *story = data;
  guint other = story->notified;

  g_assert_cmpuint (story->depth, ==, 0);
  story->depth++;
  story->calls++;
  if (story->calls == 1)
    {
      gaio_timer_arm_at (story->timer, PAST);
      gaio_timer_arm_at (story->other, PAST);
      rig_until (story->rig, story->notified == other + 1);
      rig_settle (story->rig);
      rig_assert_sleeps (story->rig);
    }
  story->depth--;
}

static void
count_other (gpointer data)
{
  Story *story = data;

  story->notified++;
}

static void
test_not_called_again_while_it_runs_a_nested_loop (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.timer = add_timer (&rig, run_nested_rounds, &story);
  story.other = add_timer (&rig, count_other, &story);
  gaio_timer_arm (story.timer, 0);
  rig_until (&rig, story.calls == 2);
  g_assert_cmpuint (story.notified, ==, 1);
  gaio_clear_timer (&story.timer);
  gaio_clear_timer (&story.other);
}

static void
serve_due_sibling_nested (gpointer data)
{
  Story *story = data;

  story->calls++;
  rig_until (story->rig, story->notified == 1);
}

static void
test_served_by_nested_loop_is_not_served_again (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = add_timer (&rig, serve_due_sibling_nested, &story);
  g_autoptr (GaioTimer) other = add_timer (&rig, count_other, &story);

  gaio_timer_arm_at (timer, PAST);
  gaio_timer_arm_at (other, PAST);
  rig_until (&rig, story.calls == 1);
  rig_settle (&rig);
  g_assert_cmpuint (story.notified, ==, 1);
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

/* --- Ownership --- */

static void
test_unref_does_not_remove (gconstpointer nested)
{
  guint calls = 0;
  guint notified = 0;
  {
    g_auto (Rig) rig = rig_new (nested);
    GaioTimer *timer = gaio_context_add_timer (rig.context, count_once, &calls, NULL);
    GaioTimer *noted = gaio_context_add_timer (rig.context, never_once, &notified, count_once);

    gaio_timer_arm (timer, 0);
    gaio_timer_unref (timer);
    gaio_timer_unref (noted);
    rig_until (&rig, calls == 1);
    g_assert_cmpuint (notified, ==, 0);
  }
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_handle_outlives_context (gconstpointer nested)
{
  guint notified = 0;
  g_autoptr (GaioTimer) timer = NULL;
  {
    g_auto (Rig) rig = rig_new (nested);

    timer = gaio_context_add_timer (rig.context, never_once, &notified, count_once);
    gaio_timer_arm (timer, 0);
  }
  g_assert_cmpuint (notified, ==, 1);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  gaio_timer_arm (timer, 0);
  gaio_timer_arm_at (timer, PAST);
  gaio_timer_disarm (timer);
  gaio_timer_remove (timer);
  gaio_timer_unref (gaio_timer_ref (timer));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_removed_stays_disarmed (gconstpointer nested)
{
  guint notified = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (rig.context, never_once, &notified, count_once);

  gaio_timer_arm (timer, 0);
  gaio_timer_remove (timer);
  gaio_timer_arm (timer, 0);
  gaio_timer_remove (timer);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (notified, ==, 1);
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

/* --- Other threads --- */

typedef struct
{
  GaioTimer *timer;
  gint request;
  guint calls;
  gint64 delay;
  atomic_bool stop;
} Remote;

static void *
arm_on_request (gpointer data)
{
  Remote *remote = data;

  for (;;)
    {
      eventfd_wait (remote->request);
      if (atomic_load (&remote->stop))
        return NULL;
      gaio_timer_arm (remote->timer, remote->delay);
    }
}

static void
count_remote (gpointer data)
{
  Remote *remote = data;

  remote->calls++;
}

static void
test_armed_from_thread_wakes (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Remote remote = { .request = eventfd_new (0) };
  pthread_t thread;

  remote.timer = add_timer (&rig, count_remote, &remote);
  gaio_timer_arm (remote.timer, 3600 * (gint64) G_USEC_PER_SEC);
  thread = spawn (arm_on_request, &remote);
  for (guint i = 1; i <= 500; i++)
    {
      remote.delay = i % 2 * 100;
      eventfd_add (remote.request);
      rig_until (&rig, remote.calls == i);
    }
  atomic_store (&remote.stop, TRUE);
  eventfd_add (remote.request);
  join (thread);
  gaio_clear_timer (&remote.timer);
  close (remote.request);
}

static void
add_when_tests (void)
{
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
}

static void
add_callback_tests (void)
{
  add_both ("/timer/rearmed-in-callback-fires-in-next-round",
            test_rearmed_in_callback_fires_in_next_round);
  add_both ("/timer/armed-in-bottom-half-fires-in-next-round",
            test_armed_in_bottom_half_fires_in_next_round);
  add_both ("/timer/disarmed-while-due-is-not-called", test_disarmed_while_due_is_not_called);
  add_both ("/timer/postponed-while-due-is-not-called", test_postponed_while_due_is_not_called);
  add_both ("/timer/removed-while-due-is-not-called", test_removed_while_due_is_not_called);
  add_both ("/timer/removed-in-own-callback-is-notified-after-it",
            test_removed_in_own_callback_is_notified_after_it);
  add_both ("/timer/cleared-in-own-callback", test_cleared_in_own_callback);
  add_both ("/timer/not-called-again-while-it-runs-a-nested-loop",
            test_not_called_again_while_it_runs_a_nested_loop);
  add_both ("/timer/served-by-nested-loop-is-not-served-again",
            test_served_by_nested_loop_is_not_served_again);
}

static void
add_timeout_tests (void)
{
  add_both ("/timeout/repeats-without-drift", test_timeout_repeats_without_drift);
  add_both ("/timeout/skips-missed-ticks", test_timeout_skips_missed_ticks);
  add_both ("/timeout/overflowing-interval-never-fires", test_endless_timeout_never_fires);
  add_both ("/timeout/ends-when-it-returns-false", test_timeout_ends_when_it_returns_false);
  add_both ("/timeout/removed-in-own-callback", test_timeout_removed_in_own_callback);
  add_both ("/timeout/not-called-again-while-it-runs-a-nested-loop",
            test_timeout_is_not_called_again_while_it_runs_a_nested_loop);
  g_test_add_func ("/timeout/interval-of-zero-is-a-critical", test_timeout_of_zero_is_a_critical);
}

/* --- Many that are due at once --- */

#define MANY 5000

typedef struct
{
  GaioTimer *timers[MANY];
  Rig *rig;
  guint calls;
  guint rearmed;
  guint64 last; /* (deadline, number) of the last call */
  guint other;
} Crowd;

typedef struct
{
  Crowd *crowd;
  guint64 place;
  guint number;
  gboolean rearms; /* for the past */
} Member;

static void
call_member (gpointer data)
{
  Member *self = data;
  Crowd *crowd = self->crowd;

  if (self->rearms)
    {
      gaio_timer_arm_at (crowd->timers[self->number], 0);
      crowd->rearmed++;
      return;
    }
  g_assert_cmpuint (self->place, >, crowd->last);
  crowd->last = self->place;
  crowd->calls++;
}

static void
crowd_init (Crowd *crowd, Member *members, Rig *rig, guint n)
{
  *crowd = (Crowd){ .rig = rig };
  for (guint i = 0; i < n; i++)
    {
      guint deadline = 1 + g_test_rand_int_range (0, 50);

      members[i] = (Member){ crowd, (guint64) deadline << 32 | i, i, FALSE };
      crowd->timers[i] = gaio_context_add_timer (rig->context, call_member, &members[i], NULL);
      gaio_timer_arm_at (crowd->timers[i], deadline);
    }
}

static void
crowd_clear (Crowd *crowd, guint n)
{
  for (guint i = 0; i < n; i++)
    gaio_clear_timer (&crowd->timers[i]);
}

/* What a round does with the lock held does not grow with how many are due. */
static void
test_many_due_at_once (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autofree Member *members = g_new (Member, MANY);
  g_autofree Crowd *crowd = g_new (Crowd, 1);

  crowd_init (crowd, members, &rig, MANY);
  gaio_context_set_dispatch_limits (rig.context, 1, 0);
  for (guint i = 1; i <= 3; i++)
    {
      g_assert_true (rig_round (&rig, FALSE));
      g_assert_cmpuint (crowd->calls, ==, i);
      g_assert_cmpuint (stat_of (rig.context, "armed-timers"), >, MANY - 1000);
    }
  gaio_context_set_dispatch_limits (rig.context, 100, 0);
  while (rig_round (&rig, FALSE))
    ;
  g_assert_cmpuint (crowd->calls, ==, MANY);
  g_assert_cmpuint (stat_of (rig.context, "armed-timers"), ==, 0);
  crowd_clear (crowd, MANY);
}

/* One round without limits calls all that were due when it began, and none that was armed since. */
static void
test_many_due_in_one_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autofree Member *members = g_new (Member, MANY);
  g_autofree Crowd *crowd = g_new (Crowd, 1);
  guint n_rearm = 0;

  crowd_init (crowd, members, &rig, MANY);
  for (guint i = 0; i < MANY; i += 7, n_rearm++)
    members[i].rearms = TRUE;
  gaio_context_set_dispatch_limits (rig.context, 0, 0);
  g_assert_true (rig_round (&rig, FALSE));
  g_assert_cmpuint (crowd->calls, ==, MANY - n_rearm);
  for (guint i = 1; i <= 3; i++)
    {
      g_assert_cmpuint (crowd->rearmed, ==, i * n_rearm);
      g_assert_true (rig_round (&rig, FALSE));
    }
  crowd_clear (crowd, MANY);
}

/* Many that are armed for the past over and over leave the others their turn. */
static void
test_past_does_not_starve_others (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autofree Member *members = g_new (Member, MANY);
  g_autofree Crowd *crowd = g_new (Crowd, 1);

  crowd_init (crowd, members, &rig, MANY);
  for (guint i = 0; i < MANY; i++)
    members[i].rearms = i < MANY - 3;
  for (guint rounds = 0; crowd->calls < 3; rounds++)
    {
      g_assert_cmpuint (rounds, <=, MANY / 128 + 2);
      g_assert_true (rig_round (&rig, FALSE));
    }
  crowd_clear (crowd, MANY);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_when_tests ();
  add_callback_tests ();
  add_timeout_tests ();
  add_both ("/timer/unref-does-not-remove", test_unref_does_not_remove);
  add_both ("/timer/handle-outlives-context", test_handle_outlives_context);
  add_both ("/timer/removed-stays-disarmed", test_removed_stays_disarmed);
  add_both ("/timer/armed-from-thread-wakes-the-loop", test_armed_from_thread_wakes);
  g_test_add_func ("/timer/costs-glib-one-poll-and-no-timeout",
                   test_one_poll_per_timer_and_no_timeout);
  g_test_add_data_func ("/timer/stale-deadline-does-not-spin/glib", NULL,
                        test_stale_deadline_does_not_spin);
  g_test_add_data_func ("/timer/stale-deadline-does-not-spin/iterate", GINT_TO_POINTER (TRUE),
                        test_stale_deadline_does_not_spin);
  g_test_add_func ("/timer/glib-and-iterate-take-turns", test_glib_and_iterate_take_turns);
  g_test_add_func ("/timer/arming-often-wakes-nobody", test_arming_often_wakes_nobody);
  add_both ("/timer/many-due/lock-is-held-for-few", test_many_due_at_once);
  add_both ("/timer/many-due/all-in-one-round-without-limits", test_many_due_in_one_round);
  add_both ("/timer/many-due/past-does-not-starve-others", test_past_does_not_starve_others);
  return g_test_run ();
}
