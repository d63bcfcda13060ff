/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-context.h"

static void
note_after_callback (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->depth, ==, 0);
  story->notified++;
}

static void
story_add_all (Story *story)
{
  story->handler =
      add_fd (story->rig->context, story->fd, G_IO_IN, never_fd, story, note_after_callback);
  story->timer =
      gaio_context_add_timer (story->rig->context, never_once, story, note_after_callback);
  story->bh =
      gaio_context_add_bottom_half (story->rig->context, never_once, story, note_after_callback);
}

/* --- Notifies --- */

/* Nothing else is going to happen: a loop that does not look goes to sleep over it. */
static void
test_pending_notify_keeps_awake (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint notified = 0;

  for (guint i = 1; i <= 3; i++)
    {
      GaioTimer *timer = gaio_context_add_timer (rig.context, never_once, &notified, count_once);

      rig_settle (&rig);
      gaio_clear_timer (&timer);
      rig_until (&rig, notified == i);
    }
}

static void
use_context_in_notify (gpointer data)
{
  Story *story = data;
  guint calls = 0;
  GaioTimer *timer = gaio_context_add_timer (story->context, count_once, &calls, NULL);

  gaio_timer_arm (timer, 0);
  gaio_context_defer (story->context, count_once, &calls, NULL);
  iterate_until (story->context, calls == 2);
  gaio_clear_timer (&timer);
  story->notified++;
}

static void
test_notify_may_use_the_context (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .context = rig.context };
  GaioTimer *timer =
      gaio_context_add_timer (rig.context, never_once, &story, use_context_in_notify);

  gaio_context_defer (rig.context, count_once, &story.calls, NULL);
  gaio_clear_timer (&timer);
  rig_until (&rig, story.notified == 1);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
}

static void
close_in_notify (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_close (story->context);
}

static void
test_notify_may_close_the_context (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .context = rig.context };
  GaioTimer *timer = gaio_context_add_timer (rig.context, never_once, &story, close_in_notify);

  gaio_timer_unref (gaio_context_add_timer (rig.context, never_once, &story, note_after_callback));
  gaio_clear_timer (&timer);
  rig_round (&rig, TRUE);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
}

/* --- close() --- */

static void
test_close_removes_everything (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (1) };

  story_add_all (&story);
  gaio_timer_arm (story.timer, 0);
  gaio_bottom_half_schedule (story.bh);
  g_assert_false (gaio_context_is_closed (rig.context));
  gaio_context_close (rig.context);
  g_assert_true (gaio_context_is_closed (rig.context));
  g_assert_cmpuint (story.notified, ==, 3);
  g_assert_true (gaio_handler_is_removed (story.handler));
  g_assert_cmpint (gaio_timer_get_deadline (story.timer), ==, -1);
  gaio_context_close (rig.context);
  rig_settle (&rig);
  g_assert_cmpuint (story.notified, ==, 3);
}

static void
close_own_context (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  gaio_context_close (story->rig->context);
  g_assert_true (gaio_context_is_closed (story->rig->context));
  rig_round (story->rig, FALSE);
  g_assert_cmpuint (story->notified, ==, 0);
  story->depth--;
}

static gboolean
close_own_context_fd (gint fd, GIOCondition condition, gpointer data)
{
  close_own_context (data);
  return G_SOURCE_CONTINUE;
}

/* The others are ready as well, in the same round; none of them is called any more. */
static void
test_close_in_bottom_half (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (1) };

  gaio_context_defer (rig.context, close_own_context, &story, note_after_callback);
  story_add_all (&story);
  gaio_timer_arm (story.timer, 0);
  gaio_bottom_half_schedule (story.bh);
  rig_round (&rig, TRUE);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 4);
}

static void
test_close_in_handler (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (1) };

  gaio_handler_unref (
      add_fd (rig.context, story.fd, G_IO_IN, close_own_context_fd, &story, note_after_callback));
  story_add_all (&story);
  gaio_timer_arm (story.timer, 0);
  rig_round (&rig, TRUE);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 4);
}

static void
test_close_in_timer (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (0) };
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (rig.context, close_own_context, &story, note_after_callback);

  story_add_all (&story);
  gaio_timer_arm_at (timer, 1);
  gaio_timer_arm_at (story.timer, 2);
  rig_until (&rig, story.calls == 1);
  rig_settle (&rig);
  g_assert_cmpuint (story.notified, ==, 4);
}

static void
close_in_nested_round (gpointer data)
{
  Story *story = data;

  story->depth++;
  gaio_context_defer (story->rig->context, close_own_context, story, NULL);
  rig_until (story->rig, story->calls == 1);
  g_assert_cmpuint (story->notified, ==, 0);
  story->depth--;
}

static void
test_close_in_nested_loop_waits_for_the_outer_callback (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (0) };

  gaio_context_defer (rig.context, close_in_nested_round, &story, note_after_callback);
  story_add_all (&story);
  rig_until (&rig, story.notified == 4);
  rig_settle (&rig);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 4);
}

static void
add_to_closing_context (gpointer data)
{
  Story *story = data;
  g_autoptr (GaioTimer) timer = NULL;

  gaio_context_close (story->rig->context);
  timer = gaio_context_add_timer (story->rig->context, never_once, &story->calls, count_once);
  g_assert_nonnull (timer);
}

static void
test_notify_may_add_to_a_closing_context (void)
{
  Rig rig = rig_new (NULL);
  Story story = { .rig = &rig };

  gaio_context_defer (rig.context, never_once, &story, add_to_closing_context);
  gaio_context_close (rig.context);
  g_assert_cmpuint (story.calls, ==, 1);
  rig_clear (&rig);
}

static void
test_closed_context_is_quiet (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);

  gaio_context_close (rig.context);
  gaio_context_wakeup (rig.context);
  gaio_context_detach (rig.context);
  gaio_context_set_dispatch_limits (rig.context, 1, 1);
  g_assert_false (gaio_context_iterate (rig.context, 0));
  g_assert_false (gaio_context_iterate (rig.context, -1));
  g_variant_unref (g_variant_take_ref (gaio_context_dup_stats (rig.context)));
  rig_settle (&rig);
}

static void
test_closed_context_fails_with_closed (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GMainContext) main_context = g_main_context_new ();
  g_autoptr (GError) error = NULL;
  guint notified = 0;
  gint fd = eventfd_new (1);

  gaio_context_close (rig.context);
  g_assert_null (
      gaio_context_add_fd (rig.context, fd, G_IO_IN, never_fd, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_assert_cmpuint (notified, ==, 1);
  g_clear_error (&error);
  g_assert_false (gaio_context_attach (rig.context, main_context, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_clear_error (&error);
  g_assert_null (gaio_context_create_source (rig.context, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  close (fd);
}

static void
test_closed_context_gives_removed_objects (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint notified = 0;
  g_autoptr (GaioTimer) timer = NULL;
  g_autoptr (GaioTimer) timeout = NULL;
  g_autoptr (GaioBottomHalf) bh = NULL;

  gaio_context_close (rig.context);
  timer = gaio_context_add_timer (rig.context, never_once, &notified, count_once);
  timeout = gaio_context_add_timeout (rig.context, 1, count_again, &notified, count_once);
  bh = gaio_context_add_bottom_half (rig.context, never_once, &notified, count_once);
  g_assert_nonnull (timer);
  g_assert_nonnull (timeout);
  g_assert_nonnull (bh);
  g_assert_cmpuint (notified, ==, 3);
  gaio_timer_arm (timer, 0);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
  g_assert_cmpint (gaio_timer_get_deadline (timeout), ==, -1);
  gaio_bottom_half_schedule (bh);
  rig_settle (&rig);
  g_assert_cmpuint (notified, ==, 3);
}

static void
test_closed_handler_cannot_change (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (0) };
  g_autoptr (GError) error = NULL;

  story_add_all (&story);
  gaio_context_close (rig.context);
  g_assert_false (gaio_handler_set_condition (story.handler, G_IO_OUT, &error));
  g_assert_nonnull (error);
  g_assert_true (error->domain == GAIO_ERROR);
  g_assert_true (error->code == GAIO_ERROR_CLOSED || error->code == GAIO_ERROR_REMOVED);
  gaio_handler_remove (story.handler);
  g_assert_cmpuint (story.notified, ==, 3);
}

/* --- Lifetimes --- */

static void
test_unref_runs_the_notifies (void)
{
  Rig rig = rig_new (NULL);
  g_auto (Story) story = { .rig = &rig, .fd = eventfd_new (1) };

  story_add_all (&story);
  gaio_bottom_half_schedule (story.bh);
  rig_clear (&rig);
  g_assert_cmpuint (story.notified, ==, 3);
  g_assert_true (gaio_handler_is_removed (story.handler));
  gaio_handler_remove (story.handler);
  gaio_timer_arm (story.timer, 0);
  gaio_timer_remove (story.timer);
  gaio_bottom_half_schedule (story.bh);
  gaio_bottom_half_remove (story.bh);
  g_assert_cmpuint (story.notified, ==, 3);
}

static void
drop_last_reference (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  g_object_unref (story->context);
  g_assert_cmpuint (story->notified, ==, 0);
  story->depth--;
}

static gboolean
drop_last_reference_fd (gint fd, GIOCondition condition, gpointer data)
{
  drop_last_reference (data);
  return G_SOURCE_CONTINUE;
}

/* Everything else is ready too: nothing of it is called once the context has gone. */
static void
test_last_unref_in_bottom_half (void)
{
  GaioContext *context = gaio_context_new ();
  g_auto (Story) story = { .context = context, .fd = eventfd_new (1) };
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, never_once, NULL, NULL);

  gaio_context_defer (context, drop_last_reference, &story, note_after_callback);
  gaio_context_defer (context, never_once, &story, note_after_callback);
  watch_fd (context, story.fd, never_fd, NULL);
  gaio_timer_arm (timer, 0);
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 2);
}

static void
test_last_unref_in_handler (void)
{
  GaioContext *context = gaio_context_new ();
  g_auto (Story) story = { .context = context, .fd = eventfd_new (1) };

  gaio_handler_unref (
      add_fd (context, story.fd, G_IO_IN, drop_last_reference_fd, &story, note_after_callback));
  gaio_handler_unref (add_fd (context, story.fd, G_IO_IN, never_fd, &story, note_after_callback));
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 2);
}

static void
test_last_unref_in_timer (void)
{
  GaioContext *context = gaio_context_new ();
  Story story = { .context = context };
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (context, drop_last_reference, &story, note_after_callback);

  gaio_timer_arm (timer, 0);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 1);
}

static void
drop_last_reference_nested (gpointer data)
{
  Story *story = data;

  story->depth++;
  gaio_context_defer (story->context, drop_last_reference, story, NULL);
  g_assert_true (gaio_context_iterate (story->context, 0));
  g_assert_cmpuint (story->notified, ==, 0);
  story->depth--;
}

static void
test_last_unref_in_nested_round (void)
{
  GaioContext *context = gaio_context_new ();
  Story story = { .context = context };

  gaio_context_defer (context, drop_last_reference_nested, &story, note_after_callback);
  gaio_timer_unref (gaio_context_add_timer (context, never_once, &story, note_after_callback));
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpuint (story.notified, ==, 2);
}

static void
drop_last_reference_attached (gpointer data)
{
  Story *story = data;

  story->depth++;
  story->calls++;
  gaio_context_detach (story->context);
  g_object_unref (story->context);
  story->depth--;
}

static void
test_last_unref_in_attached_callback (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  GaioContext *context = gaio_context_new ();
  Story story = { .context = context };

  attach (context, main_context);
  gaio_context_defer (context, drop_last_reference_attached, &story, note_after_callback);
  gaio_timer_unref (gaio_context_add_timer (context, never_once, &story, note_after_callback));
  main_context_until (main_context, story.notified == 2);
  main_context_settle (main_context);
  g_assert_cmpuint (story.calls, ==, 1);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
}

static void
unref_context (gpointer context)
{
  g_object_unref (context);
}

static void
test_last_unref_in_a_notify (void)
{
  GaioContext *context = gaio_context_new ();
  GaioTimer *timer = gaio_context_add_timer (context, never_once, context, unref_context);
  guint notified = 0;

  gaio_context_defer (context, never_once, &notified, count_once);
  gaio_context_close (context);
  g_assert_cmpuint (notified, ==, 1);
  gaio_timer_unref (timer);
}

static void
test_empty_context_comes_and_goes (void)
{
  for (guint i = 0; i < 1000; i++)
    {
      GaioContext *context = gaio_context_new ();

      g_assert_finalize_object (context);
    }
}

/* A new context costs no fd until it needs one, and gives all of them back. */
static void
test_fds_are_given_back (gconstpointer nested)
{
  guint before = count_open_fds ();

  for (guint i = 0; i < 20; i++)
    {
      g_auto (Rig) rig = rig_new (nested);
      guint calls = 0;
      g_autoptr (GaioTimer) timer = gaio_context_add_timer (rig.context, count_once, &calls, NULL);

      gaio_timer_arm (timer, 100);
      rig_until (&rig, calls == 1);
      if (i % 2)
        gaio_context_close (rig.context);
    }
  g_assert_cmpuint (count_open_fds (), ==, before);
}

static void
test_closing_gives_the_fds_back_at_once (gconstpointer nested)
{
  gint fd = eventfd_new (0);
  g_auto (Rig) rig = rig_new (NULL);
  guint before = count_open_fds ();

  watch_fd (rig.context, fd, never_fd, NULL);
  rig_settle (&rig);
  gaio_context_close (rig.context);
  g_assert_cmpuint (count_open_fds (), ==, before);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/notify/pending-keeps-awake", test_pending_notify_keeps_awake);
  add_both ("/notify/may-use-the-context", test_notify_may_use_the_context);
  add_both ("/notify/may-close-the-context", test_notify_may_close_the_context);
  add_both ("/close/removes-everything-once", test_close_removes_everything);
  add_both ("/close/in-bottom-half", test_close_in_bottom_half);
  add_both ("/close/in-handler", test_close_in_handler);
  add_both ("/close/in-timer", test_close_in_timer);
  add_both ("/close/in-nested-loop-waits-for-the-outer-callback",
            test_close_in_nested_loop_waits_for_the_outer_callback);
  g_test_add_func ("/close/notify-may-add-to-a-closing-context",
                   test_notify_may_add_to_a_closing_context);
  add_both ("/closed/is-quiet", test_closed_context_is_quiet);
  add_both ("/closed/fails-with-closed", test_closed_context_fails_with_closed);
  add_both ("/closed/gives-removed-objects", test_closed_context_gives_removed_objects);
  add_both ("/closed/handler-cannot-change", test_closed_handler_cannot_change);
  add_both ("/closed/gives-the-fds-back-at-once", test_closing_gives_the_fds_back_at_once);
  g_test_add_func ("/lifetime/unref-runs-the-notifies", test_unref_runs_the_notifies);
  g_test_add_func ("/lifetime/last-unref-in-bottom-half", test_last_unref_in_bottom_half);
  g_test_add_func ("/lifetime/last-unref-in-handler", test_last_unref_in_handler);
  g_test_add_func ("/lifetime/last-unref-in-timer", test_last_unref_in_timer);
  g_test_add_func ("/lifetime/last-unref-in-nested-round", test_last_unref_in_nested_round);
  g_test_add_func ("/lifetime/last-unref-in-attached-callback",
                   test_last_unref_in_attached_callback);
  g_test_add_func ("/lifetime/last-unref-in-a-notify", test_last_unref_in_a_notify);
  g_test_add_func ("/lifetime/empty-context-comes-and-goes", test_empty_context_comes_and_goes);
  add_both ("/lifetime/fds-are-given-back", test_fds_are_given_back);
  return g_test_run ();
}
