/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-bottom-half.h"

/* --- Scheduling --- */

static void
test_not_called_unless_scheduled (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  GaioBottomHalf *bh = add_bh (&rig, never_once, NULL);

  rig_assert_sleeps (&rig);
  gaio_clear_bottom_half (&bh);
}

static void
test_scheduled_is_called_once_in_next_round (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, count_once, &calls);

  gaio_bottom_half_schedule (bh);
  g_assert_cmpuint (calls, ==, 0);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (calls, ==, 1);
  gaio_bottom_half_schedule (bh);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (calls, ==, 2);
}

static void
test_schedules_are_coalesced (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, count_once, &calls);

  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_schedule_idle (bh);
  gaio_bottom_half_schedule (bh);
  rig_round (&rig, FALSE);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (calls, ==, 1);
}

static void
test_first_in_first_out (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'a' }, { log, 'b' }, { log, 'c' } };
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) a = add_bh (&rig, mark_once, &marks[0]);
  g_autoptr (GaioBottomHalf) b = add_bh (&rig, mark_once, &marks[1]);
  g_autoptr (GaioBottomHalf) c = add_bh (&rig, mark_once, &marks[2]);

  gaio_bottom_half_schedule (c);
  gaio_bottom_half_schedule (a);
  gaio_bottom_half_schedule (b);
  gaio_bottom_half_schedule (c);
  rig_round (&rig, FALSE);
  g_assert_cmpstr (log->str, ==, "cab");
}

static void
test_cancelled_and_scheduled_goes_to_the_end (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'a' }, { log, 'b' } };
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) a = add_bh (&rig, mark_once, &marks[0]);
  g_autoptr (GaioBottomHalf) b = add_bh (&rig, mark_once, &marks[1]);

  gaio_bottom_half_schedule (a);
  gaio_bottom_half_schedule (b);
  gaio_bottom_half_cancel (a);
  gaio_bottom_half_schedule (a);
  rig_round (&rig, FALSE);
  g_assert_cmpstr (log->str, ==, "ba");
}

static void
test_deferred_calls_keep_the_order (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'a' }, { log, 'b' }, { log, 'c' }, { log, 'd' } };
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) b = add_bh (&rig, mark_once, &marks[1]);
  g_autoptr (GaioBottomHalf) d = add_bh (&rig, mark_once, &marks[3]);

  gaio_context_defer (rig.context, mark_once, &marks[0], NULL);
  gaio_bottom_half_schedule (b);
  gaio_context_defer (rig.context, mark_once, &marks[2], NULL);
  gaio_bottom_half_schedule (d);
  rig_round (&rig, FALSE);
  g_assert_cmpstr (log->str, ==, "abcd");
}

/* --- Idle --- */

static void
test_idle_runs_in_next_round (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  guint other = 0;
  g_autoptr (GaioBottomHalf) idle = add_bh (&rig, count_once, &calls);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, count_once, &other);

  gaio_bottom_half_schedule_idle (idle);
  gaio_bottom_half_schedule (bh);
  rig_until (&rig, other == 1);
  g_assert_cmpuint (calls, ==, 1);
}

static void
test_idle_runs_without_other_events (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, count_once, &calls);

  gaio_bottom_half_schedule_idle (bh);
  rig_until (&rig, calls == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (calls, ==, 1);
}

static void
schedule_idle_again (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_bottom_half_schedule_idle (story->bh);
}

/* A loop that is kept awake would go round thousands of times. */
static void
test_idle_does_not_keep_awake (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };
  gint64 start = g_get_monotonic_time ();
  guint interruptions = test_interruptions ();

  story.bh = add_bh (&rig, schedule_idle_again, &story);
  gaio_bottom_half_schedule_idle (story.bh);
  rig_until (&rig, story.calls == 10);
  g_assert_cmpuint (rig.rounds, <=, 30 + test_interruptions () - interruptions);
  g_assert_cmpint (g_get_monotonic_time () - start, >=, 10 * 1000);
  gaio_clear_bottom_half (&story.bh);
}

static void
test_scheduling_an_idle_one_makes_it_urgent (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, count_once, &calls);

  gaio_bottom_half_schedule_idle (bh);
  gaio_bottom_half_schedule (bh);
  rig_round (&rig, FALSE);
  g_assert_cmpuint (calls, ==, 1);
}

static void
test_cancelled_idle_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, never_once, NULL);

  gaio_bottom_half_schedule_idle (bh);
  gaio_bottom_half_cancel (bh);
  rig_assert_sleeps (&rig);
}

/* --- Defer --- */

static void
nest_until_other (gpointer data)
{
  Story *story = data;

  story->calls++;
  rig_until (story->rig, story->other_calls == 1);
}

static void
test_deferred_rest_runs_in_a_nested_loop (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  gaio_context_defer (rig.context, nest_until_other, &story, NULL);
  gaio_context_defer (rig.context, count_other, &story, NULL);
  rig_until (&rig, story.calls == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (story.other_calls, ==, 1);
}

static void
test_deferred_rest_keeps_its_place (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'a' }, { log, 'b' }, { log, 'c' }, { log, 'd' } };
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) c = add_bh (&rig, mark_once, &marks[2]);

  gaio_context_set_dispatch_limits (rig.context, 1, 0);
  gaio_context_defer (rig.context, mark_once, &marks[0], NULL);
  gaio_context_defer (rig.context, mark_once, &marks[1], NULL);
  rig_round (&rig, TRUE);
  g_assert_cmpstr (log->str, ==, "a");
  gaio_bottom_half_schedule (c);
  gaio_context_defer (rig.context, mark_once, &marks[3], NULL);
  rig_until (&rig, log->len == 4);
  g_assert_cmpstr (log->str, ==, "abcd");
}

static void
close_context (gpointer data)
{
  gaio_context_close (data);
}

static void
test_deferred_rest_is_only_notified_when_one_closes (gconstpointer nested)
{
  guint notified = 0;
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_defer (rig.context, close_context, rig.context, NULL);
  gaio_context_defer (rig.context, never_once, &notified, count_once);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (notified, ==, 1);
}

static void
defer_other (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  gaio_context_defer (story->rig->context, count_other, story, NULL);
  story->depth--;
}

static void
test_defer_is_always_a_later_round (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  gaio_context_defer (rig.context, defer_other, &story, note_after_callback);
  g_assert_cmpuint (story.calls, ==, 0);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.other_calls, ==, 0);
  rig_round (&rig, TRUE);
  g_assert_cmpuint (story.other_calls, ==, 1);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
}

static void
test_deferred_until_the_context_goes_is_only_notified (gconstpointer nested)
{
  guint notified = 0;
  {
    g_auto (Rig) rig = rig_new (nested);

    gaio_context_defer (rig.context, never_once, &notified, count_once);
  }
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_closed_context_only_notifies (gconstpointer nested)
{
  guint notified = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) pending =
      gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);
  g_autoptr (GaioBottomHalf) late = NULL;

  gaio_bottom_half_schedule (pending);
  gaio_context_defer (rig.context, never_once, &notified, count_once);
  gaio_context_close (rig.context);
  g_assert_cmpuint (notified, ==, 2);
  gaio_context_defer (rig.context, never_once, &notified, count_once);
  g_assert_cmpuint (notified, ==, 3);
  late = gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);
  g_assert_nonnull (late);
  g_assert_cmpuint (notified, ==, 4);
  gaio_bottom_half_schedule (late);
  gaio_bottom_half_schedule_idle (pending);
  rig_settle (&rig);
  g_assert_cmpuint (notified, ==, 4);
}

/* --- Ownership --- */

static void
test_unref_does_not_remove (gconstpointer nested)
{
  guint calls = 0;
  guint notified = 0;
  {
    g_auto (Rig) rig = rig_new (nested);
    GaioBottomHalf *bh = add_bh (&rig, count_once, &calls);
    GaioBottomHalf *noted =
        gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);

    gaio_bottom_half_schedule (bh);
    gaio_bottom_half_unref (bh);
    gaio_bottom_half_unref (noted);
    rig_until (&rig, calls == 1);
    g_assert_cmpuint (notified, ==, 0);
  }
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_handle_outlives_context (gconstpointer nested)
{
  guint notified = 0;
  g_autoptr (GaioBottomHalf) bh = NULL;
  {
    g_auto (Rig) rig = rig_new (nested);

    bh = gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);
    gaio_bottom_half_schedule (bh);
  }
  g_assert_cmpuint (notified, ==, 1);
  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_schedule_idle (bh);
  gaio_bottom_half_cancel (bh);
  gaio_bottom_half_remove (bh);
  gaio_bottom_half_unref (gaio_bottom_half_ref (bh));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_removed_is_not_scheduled (gconstpointer nested)
{
  guint notified = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh =
      gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);

  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_remove (bh);
  gaio_bottom_half_schedule (bh);
  gaio_bottom_half_schedule_idle (bh);
  gaio_bottom_half_remove (bh);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (notified, ==, 1);
}

/* --- Other threads --- */

typedef struct
{
  Rig *rig;
  GaioBottomHalf *bh;
  gint request;
  guint calls;
  gboolean defer;
  atomic_bool stop;
} Remote;

static void
count_remote (gpointer data)
{
  Remote *remote = data;

  remote->calls++;
}

static void *
schedule_on_request (gpointer data)
{
  Remote *remote = data;

  for (;;)
    {
      eventfd_wait (remote->request);
      if (atomic_load (&remote->stop))
        return NULL;
      if (remote->defer)
        gaio_context_defer (remote->rig->context, count_remote, remote, NULL);
      else
        gaio_bottom_half_schedule (remote->bh);
    }
}

/* A lost wake-up leaves the loop asleep for good. */
static void
test_scheduled_from_thread_wakes (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Remote remote = { .rig = &rig, .request = eventfd_new (0) };
  pthread_t thread;

  remote.bh = add_bh (&rig, count_remote, &remote);
  thread = spawn (schedule_on_request, &remote);
  for (guint i = 1; i <= 1000; i++)
    {
      remote.defer = i % 2;
      eventfd_add (remote.request);
      rig_until (&rig, remote.calls == i);
    }
  atomic_store (&remote.stop, TRUE);
  eventfd_add (remote.request);
  join (thread);
  gaio_clear_bottom_half (&remote.bh);
  close (remote.request);
}

static void *
schedule_idle_once (gpointer data)
{
  gaio_bottom_half_schedule_idle (data);
  return NULL;
}

static void
test_idle_scheduled_from_thread_runs (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioBottomHalf) bh = add_bh (&rig, count_once, &calls);
  pthread_t thread = spawn (schedule_idle_once, bh);

  rig_until (&rig, calls == 1);
  join (thread);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/bottom-half/not-called-unless-scheduled", test_not_called_unless_scheduled);
  add_both ("/bottom-half/scheduled-is-called-once-in-next-round",
            test_scheduled_is_called_once_in_next_round);
  add_both ("/bottom-half/schedules-are-coalesced", test_schedules_are_coalesced);
  add_both ("/bottom-half/first-in-first-out", test_first_in_first_out);
  add_both ("/bottom-half/cancelled-and-scheduled-goes-to-the-end",
            test_cancelled_and_scheduled_goes_to_the_end);
  add_both ("/bottom-half/deferred-calls-keep-the-order", test_deferred_calls_keep_the_order);
  add_both ("/bottom-half/idle-runs-in-next-round", test_idle_runs_in_next_round);
  add_both ("/bottom-half/idle-runs-without-other-events", test_idle_runs_without_other_events);
  add_both ("/bottom-half/idle-does-not-keep-awake", test_idle_does_not_keep_awake);
  add_both ("/bottom-half/scheduling-an-idle-one-makes-it-urgent",
            test_scheduling_an_idle_one_makes_it_urgent);
  add_both ("/bottom-half/cancelled-idle-is-not-called", test_cancelled_idle_is_not_called);
  add_both ("/defer/rest-runs-in-a-nested-loop", test_deferred_rest_runs_in_a_nested_loop);
  add_both ("/defer/rest-keeps-its-place", test_deferred_rest_keeps_its_place);
  add_both ("/defer/rest-is-only-notified-when-one-closes",
            test_deferred_rest_is_only_notified_when_one_closes);
  add_both ("/defer/is-always-a-later-round", test_defer_is_always_a_later_round);
  add_both ("/defer/is-only-notified-when-the-context-goes",
            test_deferred_until_the_context_goes_is_only_notified);
  add_both ("/bottom-half/closed-context-only-notifies", test_closed_context_only_notifies);
  add_both ("/bottom-half/unref-does-not-remove", test_unref_does_not_remove);
  add_both ("/bottom-half/handle-outlives-context", test_handle_outlives_context);
  add_both ("/bottom-half/removed-is-not-scheduled", test_removed_is_not_scheduled);
  add_both ("/bottom-half/scheduled-from-thread-wakes-the-loop", test_scheduled_from_thread_wakes);
  add_both ("/bottom-half/idle-scheduled-from-thread-runs", test_idle_scheduled_from_thread_runs);
  return g_test_run ();
}
