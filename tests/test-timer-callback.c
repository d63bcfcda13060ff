/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-timer.h"

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
  add_both ("/timer/unref-does-not-remove", test_unref_does_not_remove);
  add_both ("/timer/handle-outlives-context", test_handle_outlives_context);
  add_both ("/timer/removed-stays-disarmed", test_removed_stays_disarmed);
  add_both ("/timer/armed-from-thread-wakes-the-loop", test_armed_from_thread_wakes);
  add_both ("/timer/many-due/lock-is-held-for-few", test_many_due_at_once);
  add_both ("/timer/many-due/all-in-one-round-without-limits", test_many_due_in_one_round);
  add_both ("/timer/many-due/past-does-not-starve-others", test_past_does_not_starve_others);
  return g_test_run ();
}
