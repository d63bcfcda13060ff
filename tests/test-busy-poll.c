/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-waits.h"
#include "test-busy-poll.h"

static void
set_flag (gpointer flag)
{
  *(gboolean *) flag = TRUE;
}

/* One wait that a timer ends. */
static void
wait_for_timer (Story *story, gint64 delay_us)
{
  gboolean fired = FALSE;
  GaioTimer *timer = gaio_context_add_timer (story->rig.context, set_flag, &fired, NULL);

  gaio_timer_arm (timer, delay_us);
  rig_until (&story->rig, fired);
  gaio_clear_timer (&timer);
}

/* --- On and off --- */

static void
test_off_is_off (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  wait_for_timer (&story, 1000);
  gaio_context_set_poll_params (story.rig.context, 1000, 0, 0);
  gaio_context_set_poll_params (story.rig.context, 0, 0, 0);
  wait_for_timer (&story, 1000);
  eventfd_add (story.fd);
  rig_until (&story.rig, story.calls == 1);
  g_assert_cmpuint (story.polls, ==, 0);
  g_assert_cmpuint (story.begun, ==, 0);
}

static void
test_ready_in_user_space_is_called (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  gaio_context_set_poll_params (story.rig.context, 1000, 0, 0);
  story.ready = TRUE;
  rig_until (&story.rig, story.calls == 1);
  g_assert_cmpuint (story.condition, ==, G_IO_IN);
  rig_assert_sleeps (&story.rig);
  g_assert_cmpuint (story.calls, ==, 1);
}

static void
become_ready (gpointer data)
{
  Story *story = data;

  if (story->polls == 3)
    story->ready = TRUE;
}

static void
test_turns_ready_while_polled (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  open_window (&story, G_USEC_PER_SEC);
  story.calls = 0;
  story.act = become_ready;
  rig_until (&story.rig, story.calls == 1);
  g_assert_cmpuint (story.polls, <=, 5);
}

static void
test_silent_is_not_asked (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  open_window (&story, 1000);
  story.ready = TRUE;
  g_assert_true (gaio_handler_set_condition (story.handler, 0, NULL));
  wait_for_timer (&story, 1000);
  g_assert_cmpuint (story.polls, ==, 0);
}

static void
test_plain_handler_switches_it_off (gconstpointer nested)
{
  g_auto (Story) story;
  GaioHandler *plain;
  gint fd = eventfd_new (0);

  story_init (&story, nested);
  open_window (&story, 1000);
  plain = add_fd (story.rig.context, fd, G_IO_IN, never_fd, NULL, NULL);
  wait_for_timer (&story, 1000);
  g_assert_cmpuint (story.polls, ==, 0);
  gaio_clear_handler (&plain);
  wait_for_timer (&story, 1000);
  g_assert_cmpuint (story.polls, >, 0);
  close (fd);
}

static void
test_funcs_can_be_taken_away (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  open_window (&story, 1000);
  gaio_handler_set_poll_funcs (story.handler, NULL, NULL, NULL);
  wait_for_timer (&story, 1000);
  g_assert_cmpuint (story.polls, ==, 0);
  gaio_handler_set_poll_funcs (story.handler, poll_story, NULL, NULL);
  story.ready = TRUE;
  story.calls = 0;
  rig_until (&story.rig, story.calls == 1);
}

/* --- How long --- */

/* How often it is asked in one wait, on a clock that goes on by 1 us for each look. */
static guint
count_polls (Story *story)
{
  story->polls = 0;
  clock_leap (1);
  gaio_context_iterate (story->rig.context, 20 * 1000);
  clock_leap (0);
  return story->polls;
}

/* An event that only the kernel tells of comes too late for every window. */
static void
test_window_grows_and_shrinks (void)
{
  g_auto (Story) story;
  guint before = 0;

  story_init (&story, NULL);
  if (test_is_interrupted ())
    return;
  /* So long that no event comes too late, however slow the machine is. */
  gaio_context_set_poll_params (story.rig.context, G_USEC_PER_SEC, 4, 0);
  for (guint i = 0; before <= 50; i++)
    {
      guint polls;

      eventfd_add (story.fd);
      polls = count_polls (&story);
      g_assert_cmpuint (polls, >=, before);
      g_assert_cmpuint (i, <, 20);
      before = polls;
    }
  /* This one is in vain, and longer than the limit. */
  gaio_context_set_poll_params (story.rig.context, 10 * 1000, 4, 0);
  g_assert_cmpuint (count_polls (&story), >, 50);
  g_assert_cmpuint (count_polls (&story), <=, 3);
}

static void
test_limit_and_deadline_end_it (void)
{
  g_auto (Story) story;
  guint polls;

  story_init (&story, NULL);
  if (test_is_interrupted ())
    return;
  open_window (&story, 1000);
  clock_leap (1);
  gaio_context_iterate (story.rig.context, 100 * 1000);
  polls = story.polls;
  g_assert_cmpuint (polls, <=, 1010);
  clock_leap (0);
  open_window (&story, 1000);
  clock_leap (1);
  gaio_context_iterate (story.rig.context, 50);
  g_assert_cmpuint (story.polls, <=, 60);
}

static gboolean rest_called;

static void
nest_until_rest (gpointer data)
{
  Rig *rig = data;

  rig_until (rig, rest_called);
}

/* Also in a nested loop: a round further out has taken it already. */
static void
test_deferred_call_is_not_kept_waiting (gconstpointer nested)
{
  g_auto (Story) story;
  guint begun;

  story_init (&story, nested);
  open_window (&story, 1000);
  begun = story.begun;
  rest_called = FALSE;
  gaio_context_defer (story.rig.context, nest_until_rest, &story.rig, NULL);
  gaio_context_defer (story.rig.context, set_flag, &rest_called, NULL);
  rig_until (&story.rig, rest_called);
  g_assert_cmpuint (story.begun, ==, begun);
}

/* --- Ends in the middle --- */

static void
remove_story (gpointer data)
{
  gaio_handler_remove (((Story *) data)->handler);
}

static void
test_removed_while_polled (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  open_window (&story, G_USEC_PER_SEC);
  story.act = remove_story;
  rig_until (&story.rig, story.notified == 1);
  g_assert_cmpuint (story.polls, <=, 2);
  g_assert_cmpuint (story.begun, ==, story.ended);
}

static void
close_story (gpointer data)
{
  gaio_context_close (((Story *) data)->rig.context);
}

static void
test_closed_while_polled (gconstpointer nested)
{
  g_auto (Story) story;

  story_init (&story, nested);
  open_window (&story, G_USEC_PER_SEC);
  story.act = close_story;
  while (story.notified == 0)
    rig_round (&story.rig, TRUE);
  g_assert_cmpuint (story.begun, ==, story.ended);
}

static void *
remove_while_polling (void *data)
{
  while (!atomic_load (&stranger.polling))
    sched_yield ();
  gaio_handler_remove_sync (stranger.story->handler);
  return GUINT_TO_POINTER (stranger.story->begun - stranger.story->ended);
}

/* Then poll_end has been called, and nothing is any more. */
static void
test_removed_sync_while_polled (gconstpointer nested)
{
  g_auto (Story) story;
  pthread_t thread;
  void *open_sessions;

  story_init (&story, nested);
  open_window (&story, G_USEC_PER_SEC);
  stranger.story = &story;
  atomic_store (&stranger.polling, false);
  story.act = tell_stranger;
  thread = spawn (remove_while_polling, NULL);
  rig_until (&story.rig, story.notified == 1);
  g_assert_cmpint (pthread_join (thread, &open_sessions), ==, 0);
  g_assert_null (open_sessions);
}

/* --- Bad input --- */

static void
test_bad_params_are_criticals (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  expect_critical (gaio_context_set_poll_params (context, -1, 0, 0));
  expect_critical (gaio_context_set_poll_params (context, G_USEC_PER_SEC + 1, 0, 0));
  expect_critical (gaio_context_set_poll_params (context, G_MAXINT64, 0, 0));
  expect_critical (gaio_context_set_poll_params (NULL, 1, 0, 0));
  expect_critical (gaio_handler_set_poll_funcs (handler, NULL, begin_story, NULL));
  expect_critical (gaio_handler_set_poll_funcs (handler, NULL, NULL, end_story));
  expect_critical (gaio_handler_set_poll_funcs (NULL, NULL, NULL, NULL));
  gaio_context_set_poll_params (context, G_USEC_PER_SEC, G_MAXUINT, G_MAXUINT);
  gaio_clear_handler (&handler);
  close (fd);
}

static void
come_at_the_fifth (gpointer data)
{
  Story *story = data;

  story->ready = story->polls == 5;
  if (story->polls == 1)
    eventfd_add (story->fd);
}

/* A deadline that never comes is no reason to ask only once. */
static void
test_far_deadline_leaves_the_window_alone (void)
{
  g_auto (Story) story;
  g_autoptr (GaioTimer) timer = NULL;

  story_init (&story, NULL);
  open_window (&story, 100 * 1000);
  timer = gaio_context_add_timer (story.rig.context, never_once, NULL, NULL);
  gaio_timer_arm (timer, G_MAXINT64);
  story.act = come_at_the_fifth;
  clock_leap (1);
  g_assert_true (gaio_context_iterate (story.rig.context, -1));
  g_assert_cmpuint (story.polls, >=, 5);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  epoll_waited = assert_not_in_poll_mode;
  add_both ("/busy-poll/off-is-off", test_off_is_off);
  add_both ("/busy-poll/ready-in-user-space-is-called", test_ready_in_user_space_is_called);
  add_both ("/busy-poll/turns-ready-while-polled", test_turns_ready_while_polled);
  add_both ("/busy-poll/silent-is-not-asked", test_silent_is_not_asked);
  add_both ("/busy-poll/plain-handler-switches-it-off", test_plain_handler_switches_it_off);
  add_both ("/busy-poll/funcs-can-be-taken-away", test_funcs_can_be_taken_away);
  g_test_add_func ("/busy-poll/window-grows-and-shrinks", test_window_grows_and_shrinks);
  g_test_add_func ("/busy-poll/limit-and-deadline-end-it", test_limit_and_deadline_end_it);
  g_test_add_func ("/busy-poll/far-deadline-leaves-the-window-alone",
                   test_far_deadline_leaves_the_window_alone);
  add_both ("/busy-poll/deferred-call-is-not-kept-waiting", test_deferred_call_is_not_kept_waiting);
  add_both ("/busy-poll/removed-while-polled", test_removed_while_polled);
  add_both ("/busy-poll/closed-while-polled", test_closed_while_polled);
  add_both ("/busy-poll/removed-sync-while-polled", test_removed_sync_while_polled);
  g_test_add_func ("/busy-poll/bad-params-are-criticals", test_bad_params_are_criticals);
  return g_test_run ();
}
