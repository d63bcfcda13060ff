/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "test-support.h"
#include "test-clock.h"
#include "test-waits.h"

/* A handler that can be asked in user space. */
typedef struct
{
  Rig rig;
  GaioHandler *handler;
  gint fd;
  gboolean ready; /* what poll says */
  guint polls;
  guint begun;
  guint ended;
  guint calls;
  GIOCondition condition;
  void (*act) (gpointer); /* what poll does beside */
  guint notified;
} Story;

static Story *watched; /* must not be in poll mode when the loop sleeps */

static void
assert_not_in_poll_mode (int n_events, int timeout, const void *caller)
{
  if (watched != NULL)
    g_assert_cmpuint (watched->begun, ==, watched->ended);
}

static gboolean
poll_story (gpointer data)
{
  Story *story = data;

  story->polls++;
  if (story->act != NULL)
    story->act (story);
  return story->ready;
}

static void
begin_story (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->begun, ==, story->ended);
  g_assert_cmpuint (story->notified, ==, 0);
  story->begun++;
  /* The process may not be run for a while: only its leaps count. */
  clock_stands = clock_leap_us != 0;
}

static void
end_story (gpointer data)
{
  Story *story = data;

  story->ended++;
  clock_stands = FALSE;
  g_assert_cmpuint (story->begun, ==, story->ended);
  g_assert_cmpuint (story->notified, ==, 0);
}

static gboolean
call_story (gint fd, GIOCondition condition, gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->begun, ==, story->ended);
  story->calls++;
  story->condition = condition;
  story->ready = FALSE;
  eventfd_take (fd);
  return G_SOURCE_CONTINUE;
}

static void
note_story (gpointer data)
{
  ((Story *) data)->notified++;
}

static void
story_init (Story *story, gconstpointer nested)
{
  *story = (Story){ .rig = rig_new (nested), .fd = eventfd_new (0) };
  story->handler = add_fd (story->rig.context, story->fd, G_IO_IN, call_story, story, note_story);
  gaio_handler_set_poll_funcs (story->handler, poll_story, begin_story, end_story);
  watched = story;
}

static void
story_clear (Story *story)
{
  watched = NULL;
  clock_leap (0);
  gaio_clear_handler (&story->handler);
  if (!gaio_context_is_closed (story->rig.context))
    rig_settle (&story->rig);
  rig_clear (&story->rig);
  g_assert_cmpuint (story->begun, ==, story->ended);
  g_assert_cmpuint (story->notified, ==, 1);
  close (story->fd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Story, story_clear)

/* Lets the window become as long as it may: events come soon, but too late for it. */
static void
open_window (Story *story, gint64 max_us)
{
  gaio_context_set_poll_params (story->rig.context, max_us, 1000000, 1);
  clock_leap (20);
  for (guint i = 0; i < 2; i++)
    {
      guint before = story->calls;

      eventfd_add (story->fd);
      rig_until (&story->rig, story->calls > before);
    }
  clock_leap (0);
  story->polls = 0;
}

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

/* --- Everybody else --- */

static void
always_ready (gpointer data)
{
  ((Story *) data)->ready = TRUE;
}

static gboolean
never_ready (gpointer data)
{
  return FALSE;
}

static void
test_always_true_does_not_starve_others (gconstpointer nested)
{
  g_auto (Story) story;
  guint calls = 0, fired = 0, deferred = 0;
  gint fd = eventfd_new (0);
  GaioHandler *other;
  GaioTimer *timer;

  story_init (&story, nested);
  other = add_fd (story.rig.context, fd, G_IO_IN, count_fd, &calls, NULL);
  gaio_handler_set_poll_funcs (other, never_ready, NULL, NULL);
  timer = gaio_context_add_timer (story.rig.context, count_once, &fired, NULL);
  gaio_timer_arm (timer, 100);
  gaio_context_defer (story.rig.context, count_once, &deferred, NULL);
  story.act = always_ready;
  open_window (&story, 1000);
  eventfd_add (fd);
  rig_until (&story.rig, calls > 0 && fired == 1 && deferred == 1 && story.calls > 10);
  story.act = NULL;
  story.ready = FALSE;
  gaio_clear_timer (&timer);
  gaio_clear_handler (&other);
  close (fd);
}

static gboolean
count_idle (gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static void
test_other_sources_are_not_starved (void)
{
  g_auto (Story) story;
  guint idles = 0;
  GSource *idle = g_idle_source_new ();

  story_init (&story, GINT_TO_POINTER (TRUE));
  g_source_set_priority (idle, G_PRIORITY_DEFAULT);
  g_source_set_callback (idle, count_idle, &idles, NULL);
  g_source_attach (idle, story.rig.main_context);
  story.act = always_ready;
  gaio_context_set_poll_params (story.rig.context, 1000, 0, 0);
  rig_until (&story.rig, idles > 10 && story.calls > 10);
  g_source_destroy (idle);
  g_source_unref (idle);
  story.act = NULL;
  story.ready = FALSE;
}

typedef struct
{
  Story *story;
  atomic_bool polling;
  atomic_uint deferred;
} Stranger;

static Stranger stranger;

static void
tell_stranger (gpointer data)
{
  atomic_store (&stranger.polling, true);
}

static void *
defer_while_polling (void *data)
{
  while (!atomic_load (&stranger.polling))
    sched_yield ();
  gaio_context_defer (stranger.story->rig.context, count_atomic, &stranger.deferred, NULL);
  return NULL;
}

/* TRUE if the loop was not written to. */
static gboolean
is_told_without_write (Story *story)
{
  guint64 wakeups = stat_of (story->rig.context, "wakeups");
  pthread_t thread;

  atomic_store (&stranger.polling, false);
  atomic_store (&stranger.deferred, 0);
  thread = spawn (defer_while_polling, NULL);
  rig_until (&story->rig, atomic_load (&stranger.deferred) == 1);
  join (thread);
  return stat_of (story->rig.context, "wakeups") == wakeups;
}

/* It ends at once, and without a system call of the other thread, unless that was not run for all
 * of the time. */
static void
test_another_thread_ends_it (gconstpointer nested)
{
  g_auto (Story) story;
  gboolean told = FALSE;

  story_init (&story, nested);
  open_window (&story, G_USEC_PER_SEC);
  stranger.story = &story;
  story.act = tell_stranger;
  for (guint i = 0; i < 20 && !told; i++)
    told = is_told_without_write (&story);
  g_assert_true (told);
  story.act = NULL;
}

/* --- What comes while the lock is given up, and the loop is about to sleep --- */

static guint came;

static void
note_come (gpointer data)
{
  came++;
}

static void
defer_meanwhile (Story *story)
{
  gaio_context_defer (story->rig.context, note_come, NULL, NULL);
}

static void
arm_meanwhile (Story *story)
{
  GaioTimer *timer = gaio_context_add_timer (story->rig.context, note_come, NULL, NULL);

  gaio_timer_arm (timer, 1000);
  gaio_timer_unref (timer);
}

static void
wake_meanwhile (Story *story)
{
  gaio_context_wakeup (story->rig.context);
  came++;
}

static void
close_meanwhile (Story *story)
{
  gaio_context_close (story->rig.context);
  came++;
}

static void
remove_meanwhile (Story *story)
{
  gaio_timer_unref (gaio_context_add_timer (story->rig.context, note_come, NULL, NULL));
  gaio_clear_handler (&story->handler);
  came++;
}

static const struct
{
  const char *name;
  void (*happen) (Story *story);
} meanwhile[] = {
  { "deferred", defer_meanwhile }, { "armed", arm_meanwhile },      { "woken", wake_meanwhile },
  { "closed", close_meanwhile },   { "removed", remove_meanwhile },
};

typedef struct
{
  gboolean nested;
  gboolean window; /* else it is asked once */
  guint at;        /* which asking it comes in */
  guint what;      /* of meanwhile[] */
} Moment;

static const Moment *moment;

static void
happen_once (gpointer data)
{
  Story *story = data;

  if (story->polls == moment->at)
    meanwhile[moment->what].happen (story);
}

/* Another thread may do it at that moment: nothing is written then, as the loop is awake. */
static void
test_no_sleep_over_what_came_while_polled (gconstpointer data)
{
  Story story;

  moment = data;
  came = 0;
  story_init (&story, GINT_TO_POINTER (moment->nested));
  if (moment->window)
    open_window (&story, 1000);
  else
    gaio_context_set_poll_params (story.rig.context, 1, 2, 2);
  rig_settle (&story.rig);
  story.polls = 0;
  story.act = happen_once;
  /* Waits until something happens: it has to come back by itself. */
  while (came == 0)
    rig_round (&story.rig, TRUE);
  story_clear (&story);
}

static void
add_moments (void)
{
  static Moment moments[2 * 2 * 3 * G_N_ELEMENTS (meanwhile)];
  guint n = 0;

  for (guint nested = 0; nested < 2; nested++)
    for (guint window = 0; window < 2; window++)
      /* A round alone asks once more before it gathers; at the end of a window it is asked again.
       */
      for (guint at = 1; at <= 2 - nested + window; at++)
        for (guint what = 0; what < G_N_ELEMENTS (meanwhile); what++)
          {
            g_autofree char *path =
                g_strdup_printf ("/busy-poll/no-sleep-over-what-came-while-polled/%s/%s/%u/%s",
                                 nested ? "nested" : "alone", window ? "window" : "one-look", at,
                                 meanwhile[what].name);

            moments[n] = (Moment){ nested, window, at, what };
            g_test_add_data_func (path, &moments[n++], test_no_sleep_over_what_came_while_polled);
          }
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
  add_both ("/busy-poll/always-true-does-not-starve-others",
            test_always_true_does_not_starve_others);
  g_test_add_func ("/busy-poll/other-sources-are-not-starved", test_other_sources_are_not_starved);
  add_both ("/busy-poll/another-thread-ends-it", test_another_thread_ends_it);
  add_both ("/busy-poll/removed-while-polled", test_removed_while_polled);
  add_both ("/busy-poll/closed-while-polled", test_closed_while_polled);
  add_both ("/busy-poll/removed-sync-while-polled", test_removed_sync_while_polled);
  add_moments ();
  g_test_add_func ("/busy-poll/bad-params-are-criticals", test_bad_params_are_criticals);
  return g_test_run ();
}
