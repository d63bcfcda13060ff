/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-bottom-half.h"

/* --- Inside callbacks --- */

static void
schedule_again (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_bottom_half_schedule (story->bh);
}

static void
test_scheduled_in_own_callback_runs_in_next_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.bh = add_bh (&rig, schedule_again, &story);
  gaio_bottom_half_schedule (story.bh);
  for (guint i = 1; i <= 10; i++)
    {
      rig_round (&rig, TRUE);
      g_assert_cmpuint (story.calls, ==, i);
    }
  gaio_clear_bottom_half (&story.bh);
}

static void
schedule_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_bottom_half_schedule (story->other);
}

static void
test_scheduled_in_a_callback_runs_in_next_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (rig.context, schedule_other, &story, NULL);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, schedule_other, &story);

  story.other = add_bh (&rig, count_other, &story);
  gaio_bottom_half_schedule (bh);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (story.other_calls, ==, 0);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (story.other_calls, ==, 1);

  gaio_timer_arm (timer, 0);
  rig_until (&rig, story.calls == 2);
  g_assert_cmpuint (story.other_calls, ==, 1);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (story.other_calls, ==, 2);
  gaio_clear_bottom_half (&story.other);
}

static void
cancel_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_bottom_half_cancel (story->other);
}

static void
test_cancelled_by_a_sibling_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, cancel_other, &story);

  story.other = add_bh (&rig, never_once, NULL);
  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_schedule (story.other);
  rig_until (&rig, story.calls == 1);
  rig_assert_sleeps (&rig);
  gaio_clear_bottom_half (&story.other);
}

static void
remove_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_clear_bottom_half (&story->other);
}

static void
test_removed_by_a_sibling_is_not_called (gconstpointer nested)
{
  guint notified = 0;
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, remove_other, &story);

  story.other = gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);
  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_schedule (story.other);
  rig_until (&rig, notified == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (notified, ==, 1);
}

static void
remove_self (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  gaio_bottom_half_schedule (story->bh);
  gaio_bottom_half_remove (story->bh);
  gaio_bottom_half_schedule (story->bh);
  rig_round (story->rig, FALSE);
  g_assert_cmpuint (story->notified, ==, 0);
  story->depth--;
}

static void
test_removed_in_own_callback_is_notified_after_it (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.bh = gaio_context_add_bottom_half (rig.context, remove_self, &story, note_after_callback);
  gaio_bottom_half_schedule (story.bh);
  rig_until (&rig, story.notified == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
  gaio_clear_bottom_half (&story.bh);
}

/* --- Nested loops --- */

static void
run_nested_rounds (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->depth, ==, 0);
  story->depth++;
  if (story->calls++ == 0)
    {
      gaio_bottom_half_schedule (story->bh);
      gaio_bottom_half_schedule (story->other);
      rig_until (story->rig, story->other_calls == 1);
      rig_settle (story->rig);
      rig_assert_sleeps (story->rig);
    }
  story->depth--;
}

static void
test_not_called_again_while_it_runs_a_nested_loop (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  story.bh = add_bh (&rig, run_nested_rounds, &story);
  story.other = add_bh (&rig, count_other, &story);
  gaio_bottom_half_schedule (story.bh);
  rig_until (&rig, story.calls == 2);
  g_assert_cmpuint (story.other_calls, ==, 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.calls, ==, 2);
  gaio_clear_bottom_half (&story.bh);
  gaio_clear_bottom_half (&story.other);
}

static void
serve_sibling_nested (gpointer data)
{
  Story *story = data;

  story->calls++;
  rig_until (story->rig, story->other_calls == 1);
}

static void
test_served_by_nested_loop_is_not_served_again (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, serve_sibling_nested, &story);
  g_autoptr (GaioBottomHalf) other = add_bh (&rig, count_other, &story);

  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_schedule (other);
  rig_until (&rig, story.calls == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.other_calls, ==, 1);
}

static void
defer_and_nest (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_defer (story->rig->context, count_other, story, NULL);
  g_assert_cmpuint (story->other_calls, ==, 0);
  rig_until (story->rig, story->other_calls == 1);
}

static void
test_deferred_runs_in_a_nested_loop (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  gaio_context_defer (rig.context, defer_and_nest, &story, NULL);
  rig_until (&rig, story.calls == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.other_calls, ==, 1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/bottom-half/scheduled-in-own-callback-runs-in-next-round",
            test_scheduled_in_own_callback_runs_in_next_round);
  add_both ("/bottom-half/scheduled-in-a-callback-runs-in-next-round",
            test_scheduled_in_a_callback_runs_in_next_round);
  add_both ("/bottom-half/cancelled-by-a-sibling-is-not-called",
            test_cancelled_by_a_sibling_is_not_called);
  add_both ("/bottom-half/removed-by-a-sibling-is-not-called",
            test_removed_by_a_sibling_is_not_called);
  add_both ("/bottom-half/removed-in-own-callback-is-notified-after-it",
            test_removed_in_own_callback_is_notified_after_it);
  add_both ("/bottom-half/not-called-again-while-it-runs-a-nested-loop",
            test_not_called_again_while_it_runs_a_nested_loop);
  add_both ("/bottom-half/served-by-nested-loop-is-not-served-again",
            test_served_by_nested_loop_is_not_served_again);
  add_both ("/defer/runs-in-a-nested-loop", test_deferred_runs_in_a_nested_loop);
  return g_test_run ();
}
