/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "test-support.h"
#include "test-clock.h"

/* A context and one of each kind of thing in it, each with a notify that counts. */
typedef struct
{
  Rig *rig;
  GaioContext *context;
  GaioContext *other;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  gint fd;
  guint calls;
  guint depth;
  guint notified;
} Story;

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

static void
story_clear (Story *story)
{
  g_clear_pointer (&story->handler, gaio_handler_unref);
  g_clear_pointer (&story->timer, gaio_timer_unref);
  g_clear_pointer (&story->bh, gaio_bottom_half_unref);
  if (story->fd > 0)
    close (story->fd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Story, story_clear)

/* --- Construction --- */

static void
test_monitor_is_a_construct_property (void)
{
  g_autoptr (GaioContext) automatic = gaio_context_new ();
  g_autoptr (GaioContext) epoll = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_EPOLL);
  g_autoptr (GaioContext) made =
      g_object_new (GAIO_TYPE_CONTEXT, "monitor", GAIO_MONITOR_TYPE_EPOLL, NULL);
  GParamSpec *pspec = g_object_class_find_property (G_OBJECT_GET_CLASS (made), "monitor");
  GaioMonitorType monitor;

  g_assert_nonnull (pspec);
  g_assert_true (pspec->flags & G_PARAM_CONSTRUCT_ONLY);
  g_object_get (automatic, "monitor", &monitor, NULL);
  g_assert_cmpint (monitor, ==, GAIO_MONITOR_TYPE_AUTO);
  g_object_get (epoll, "monitor", &monitor, NULL);
  g_assert_cmpint (monitor, ==, GAIO_MONITOR_TYPE_EPOLL);
  g_object_get (made, "monitor", &monitor, NULL);
  g_assert_cmpint (monitor, ==, GAIO_MONITOR_TYPE_EPOLL);
}

static void
test_stats_name_the_monitor_in_use (void)
{
  const char *in_environment = g_getenv ("GAIO_MONITOR");
  const char *names[] = { in_environment != NULL ? in_environment : "epoll", "epoll", "poll" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      g_autoptr (GaioContext) context = gaio_context_new_with_monitor (i);
      g_autoptr (GVariant) stats = g_variant_take_ref (gaio_context_dup_stats (context));
      const char *name = NULL;

      g_assert_true (g_variant_is_of_type (stats, G_VARIANT_TYPE_VARDICT));
      g_assert_true (g_variant_lookup (stats, "monitor", "&s", &name));
      g_assert_cmpstr (name, ==, names[i]);
    }
}

static void
test_stats_count (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls = 0;
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (rig.context, fd, G_IO_IN, count_fd, &calls, NULL);
  GaioTimer *timer = gaio_context_add_timer (rig.context, count_once, &calls, NULL);
  guint64 callbacks = stat_of (rig.context, "callbacks");
  guint64 rounds = stat_of (rig.context, "rounds");

  g_assert_cmpuint (stat_of (rig.context, "handlers"), ==, 1);
  g_assert_cmpuint (stat_of (rig.context, "timers"), ==, 1);
  eventfd_add (fd);
  rig_until (&rig, calls == 1);
  gaio_clear_handler (&handler);
  gaio_timer_arm (timer, 0);
  rig_until (&rig, calls == 2);
  gaio_clear_timer (&timer);
  g_assert_cmpuint (stat_of (rig.context, "callbacks"), ==, callbacks + 2);
  g_assert_cmpuint (stat_of (rig.context, "rounds"), >=, rounds + 2);
  g_assert_cmpuint (stat_of (rig.context, "handlers"), ==, 0);
  g_assert_cmpuint (stat_of (rig.context, "timers"), ==, 0);
  close (fd);
}

/* --- A round --- */

static void
test_order_of_a_round (gconstpointer nested)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Mark marks[] = { { log, 'b' }, { log, 'h' }, { log, 't' } };
  g_auto (Rig) rig = rig_new (nested);
  gint fd = eventfd_new (1);
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (rig.context, mark_once, &marks[2], NULL);
  GaioHandler *handler = add_fd (rig.context, fd, G_IO_IN, mark_fd, &marks[1], NULL);
  g_autoptr (GaioBottomHalf) bh =
      gaio_context_add_bottom_half (rig.context, mark_once, &marks[0], NULL);

  gaio_timer_arm (timer, 0);
  gaio_bottom_half_schedule (bh);
  rig_round (&rig, TRUE);
  g_assert_cmpstr (log->str, ==, "bht");
  gaio_clear_handler (&handler);
  close (fd);
}

static gboolean
drain_other_and_nest (gint fd, GIOCondition condition, gpointer data)
{
  Story *story = data;

  story->calls++;
  if (!eventfd_take (fd))
    return G_SOURCE_CONTINUE;
  g_assert_true (eventfd_take (story->fd));
  rig_round (story->rig, FALSE);
  return G_SOURCE_CONTINUE;
}

/* Both are ready in the round, whichever comes first; the loop has looked again since. */
static void
test_drained_before_a_nested_round_is_not_served (gconstpointer nested)
{
  gint fds[2] = { eventfd_new (1), eventfd_new (1) };
  g_auto (Rig) rig = rig_new (nested);
  Story stories[2] = { { .rig = &rig, .fd = fds[1] }, { .rig = &rig, .fd = fds[0] } };

  watch_fd (rig.context, fds[0], drain_other_and_nest, &stories[0]);
  watch_fd (rig.context, fds[1], drain_other_and_nest, &stories[1]);
  rig_round (&rig, TRUE);
  rig_settle (&rig);
  g_assert_cmpuint (stories[0].calls + stories[1].calls, ==, 1);
  close (fds[0]);
  close (fds[1]);
}

static void
test_iterate_tells_whether_a_callback_ran (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;
  gint fd = eventfd_new (0);
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, count_once, &calls, NULL);

  g_assert_false (gaio_context_iterate (context, 0));
  watch_fd (context, fd, count_fd, &calls);
  g_assert_false (gaio_context_iterate (context, 0));
  eventfd_add (fd);
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_true (eventfd_take (fd));
  g_assert_false (gaio_context_iterate (context, 0));
  gaio_timer_arm (timer, 0);
  g_assert_true (gaio_context_iterate (context, -1));
  gaio_context_defer (context, count_once, &calls, NULL);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_cmpuint (calls, ==, 4);
  close (fd);
}

/* A notify is no callback of the user's: it neither counts nor is it lost. */
static void
test_iterate_runs_pending_notifies (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;
  GaioTimer *timer = gaio_context_add_timer (context, never_once, &notified, count_once);

  gaio_clear_timer (&timer);
  g_assert_false (gaio_context_iterate (context, 0));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_iterate_waits_for_its_timeout (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const gint64 timeouts[] = { 1, 500, 1000, 3700 };

  for (guint i = 0; i < G_N_ELEMENTS (timeouts); i++)
    {
      gint64 before = g_get_monotonic_time ();

      g_assert_false (gaio_context_iterate (context, timeouts[i]));
      g_assert_cmpint (g_get_monotonic_time (), >=, before + timeouts[i]);
    }
}

/* A process that is not run for a while in the middle of its sums: what is left of the timeout is
 * never less than nothing, which would be for ever. */
static void
test_timeout_holds_when_the_clock_leaps (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();

  for (clock_leap_us = 100; clock_leap_us < 1000; clock_leap_us += 100)
    g_assert_false (gaio_context_iterate (context, 1000));
  clock_leap (0);
}

static void
test_iterate_does_not_wait_for_a_later_timer (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, never_once, NULL, NULL);
  gint64 deadline = g_get_monotonic_time () + GUARD_US;

  gaio_timer_arm_at (timer, deadline);
  g_assert_false (gaio_context_iterate (context, 0));
  g_assert_false (gaio_context_iterate (context, 1500));
  g_assert_cmpint (g_get_monotonic_time (), <, deadline);
}

static void
test_iterate_with_a_huge_timeout_still_sees_events (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, count_once, &calls, NULL);

  gaio_timer_arm (timer, 2000);
  while (calls == 0)
    gaio_context_iterate (context, G_MAXINT64);
  g_assert_cmpuint (calls, ==, 1);
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

/* --- wakeup() --- */

static void
test_wakeup_before_a_round_makes_it_return (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);

  for (guint i = 0; i < 3; i++)
    {
      gaio_context_wakeup (rig.context);
      gaio_context_wakeup (rig.context);
      rig_round (&rig, TRUE);
      rig_assert_sleeps (&rig);
    }
}

static void
test_wakeup_is_used_up_by_one_round (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint64 before;

  gaio_context_wakeup (context);
  g_assert_false (gaio_context_iterate (context, -1));
  before = g_get_monotonic_time ();
  g_assert_false (gaio_context_iterate (context, 2000));
  g_assert_cmpint (g_get_monotonic_time (), >=, before + 2000);
}

static void
wake_own_context (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_wakeup (story->rig->context);
}

static void
test_wakeup_in_a_callback_makes_the_next_round_return (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  gaio_context_defer (rig.context, wake_own_context, &story, NULL);
  rig_until (&rig, story.calls == 1);
  rig_round (&rig, TRUE);
  rig_assert_sleeps (&rig);
}

static void *
wake_from_thread (gpointer context)
{
  gaio_context_wakeup (context);
  return NULL;
}

static void
test_wakeup_from_a_thread (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);

  for (guint i = 0; i < 50; i++)
    {
      pthread_t thread = spawn (wake_from_thread, rig.context);

      rig_round (&rig, TRUE);
      join (thread);
    }
}

/* --- Signals --- */

typedef struct
{
  GaioContext *context;
  pthread_t target;
  atomic_bool stop;
  atomic_bool woken;
} Nuisance;

static atomic_uint signals;

static void
count_signal (int signum)
{
  atomic_fetch_add (&signals, 1);
}

static void *
send_signals (gpointer data)
{
  Nuisance *nuisance = data;

  while (!atomic_load (&nuisance->stop))
    {
      pthread_kill (nuisance->target, SIGUSR1);
      g_usleep (300);
    }
  return NULL;
}

static void *
send_signals_then_wake (gpointer data)
{
  Nuisance *nuisance = data;

  for (guint i = 0; i < 50; i++)
    {
      pthread_kill (nuisance->target, SIGUSR1);
      g_usleep (300);
    }
  atomic_store (&nuisance->woken, TRUE);
  gaio_context_wakeup (nuisance->context);
  return NULL;
}

static void
catch_signal (struct sigaction *old)
{
  struct sigaction action = { .sa_handler = count_signal };

  g_assert_cmpint (sigaction (SIGUSR1, &action, old), ==, 0);
  atomic_store (&signals, 0);
}

static void
test_signal_does_not_cut_the_wait_short (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Nuisance nuisance = { .context = context, .target = pthread_self () };
  struct sigaction old;
  gint64 before;
  pthread_t thread;

  catch_signal (&old);
  thread = spawn (send_signals, &nuisance);
  while (atomic_load (&signals) == 0)
    sched_yield ();
  before = g_get_monotonic_time ();
  g_assert_false (gaio_context_iterate (context, 30 * 1000));
  g_assert_cmpint (g_get_monotonic_time (), >=, before + 30 * 1000);
  atomic_store (&nuisance.stop, TRUE);
  join (thread);
  sigaction (SIGUSR1, &old, NULL);
}

static void
test_signal_does_not_end_an_endless_wait (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Nuisance nuisance = { .context = context, .target = pthread_self () };
  struct sigaction old;
  pthread_t thread;

  catch_signal (&old);
  thread = spawn (send_signals_then_wake, &nuisance);
  g_assert_false (gaio_context_iterate (context, -1));
  g_assert_true (atomic_load (&nuisance.woken));
  join (thread);
  sigaction (SIGUSR1, &old, NULL);
}

static void
test_signal_does_not_disturb_a_timer (gconstpointer nested)
{
  guint calls = 0;
  g_auto (Rig) rig = rig_new (nested);
  Nuisance nuisance = { .context = rig.context, .target = pthread_self () };
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (rig.context, count_once, &calls, NULL);
  struct sigaction old;
  gint64 deadline;
  pthread_t thread;

  catch_signal (&old);
  thread = spawn (send_signals, &nuisance);
  gaio_timer_arm (timer, 10 * 1000);
  deadline = gaio_timer_get_deadline (timer);
  rig_until (&rig, calls == 1);
  g_assert_cmpint (g_get_monotonic_time (), >=, deadline);
  atomic_store (&nuisance.stop, TRUE);
  join (thread);
  sigaction (SIGUSR1, &old, NULL);
}

/* --- One thread at a time --- */

static void *
iterate_in_thread (gpointer context)
{
  return GINT_TO_POINTER (gaio_context_iterate (context, 0));
}

static void
iterate_in_another_thread (gpointer data)
{
  Story *story = data;
  void *ran = NULL;
  pthread_t thread;

  gaio_context_defer (story->rig->context, count_once, &story->calls, NULL);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "*");
  thread = spawn (iterate_in_thread, story->rig->context);
  g_assert_cmpint (pthread_join (thread, &ran), ==, 0);
  g_test_assert_expected_messages ();
  g_assert_false (GPOINTER_TO_INT (ran));
  g_assert_cmpuint (story->calls, ==, 0);
}

static void
test_second_thread_at_the_same_time_is_a_critical (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Story story = { .rig = &rig };

  gaio_context_defer (rig.context, iterate_in_another_thread, &story, NULL);
  rig_until (&rig, story.calls == 1);
}

static void
test_threads_may_take_turns (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;

  for (guint i = 1; i <= 4; i++)
    {
      void *ran = NULL;
      pthread_t thread;

      gaio_context_defer (context, count_once, &calls, NULL);
      thread = spawn (iterate_in_thread, context);
      g_assert_cmpint (pthread_join (thread, &ran), ==, 0);
      g_assert_true (GPOINTER_TO_INT (ran));
      gaio_context_defer (context, count_once, &calls, NULL);
      g_assert_true (gaio_context_iterate (context, 0));
      g_assert_cmpuint (calls, ==, 2 * i);
    }
}

/* --- get_current() --- */

static void
check_current (gpointer data)
{
  Story *story = data;

  g_assert_true (gaio_context_get_current () == story->context);
  story->calls++;
}

static gboolean
check_current_fd (gint fd, GIOCondition condition, gpointer data)
{
  check_current (data);
  return G_SOURCE_REMOVE;
}

static void
test_current_is_the_one_whose_callback_runs (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Story) story = { .rig = &rig, .context = rig.context, .fd = eventfd_new (1) };
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (rig.context, check_current, &story, NULL);

  g_assert_null (gaio_context_get_current ());
  watch_fd (rig.context, story.fd, check_current_fd, &story);
  gaio_timer_arm (timer, 0);
  gaio_context_defer (rig.context, check_current, &story, NULL);
  rig_until (&rig, story.calls == 3);
  g_assert_null (gaio_context_get_current ());
}

static void
iterate_other (gpointer data)
{
  Story *story = data;

  g_assert_true (gaio_context_get_current () == story->context);
  g_assert_true (gaio_context_iterate (story->other, 0));
  g_assert_true (gaio_context_get_current () == story->context);
  story->calls++;
}

static void
test_current_comes_back_after_another_context (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioContext) other = gaio_context_new ();
  Story outer = { .context = context, .other = other };
  Story inner = { .context = other };

  gaio_context_defer (context, iterate_other, &outer, NULL);
  gaio_context_defer (other, check_current, &inner, NULL);
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_cmpuint (outer.calls, ==, 1);
  g_assert_cmpuint (inner.calls, ==, 1);
  g_assert_null (gaio_context_get_current ());
}

static void *
get_current_in_thread (gpointer data)
{
  return gaio_context_get_current ();
}

static void
check_current_elsewhere (gpointer data)
{
  Story *story = data;
  void *current = story;
  pthread_t thread = spawn (get_current_in_thread, NULL);

  g_assert_cmpint (pthread_join (thread, &current), ==, 0);
  g_assert_null (current);
  story->calls++;
}

static void
test_current_is_of_this_thread (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context };

  gaio_context_defer (context, check_current_elsewhere, &story, NULL);
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_cmpuint (story.calls, ==, 1);
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

static void
add_round_tests (void)
{
  g_test_add_func ("/context/monitor-is-a-construct-property",
                   test_monitor_is_a_construct_property);
  g_test_add_func ("/context/stats-name-the-monitor-in-use", test_stats_name_the_monitor_in_use);
  add_both ("/context/stats-count", test_stats_count);
  add_both ("/context/round-runs-bottom-halves-handlers-timers", test_order_of_a_round);
  add_both ("/context/drained-before-a-nested-round-is-not-served",
            test_drained_before_a_nested_round_is_not_served);
  g_test_add_func ("/iterate/tells-whether-a-callback-ran",
                   test_iterate_tells_whether_a_callback_ran);
  g_test_add_func ("/iterate/runs-pending-notifies", test_iterate_runs_pending_notifies);
  g_test_add_func ("/iterate/waits-for-its-timeout", test_iterate_waits_for_its_timeout);
  g_test_add_func ("/iterate/timeout-holds-when-the-clock-leaps",
                   test_timeout_holds_when_the_clock_leaps);
  g_test_add_func ("/iterate/does-not-wait-for-a-later-timer",
                   test_iterate_does_not_wait_for_a_later_timer);
  g_test_add_func ("/iterate/huge-timeout-still-sees-events",
                   test_iterate_with_a_huge_timeout_still_sees_events);
  g_test_add_func ("/iterate/signal-does-not-cut-the-wait-short",
                   test_signal_does_not_cut_the_wait_short);
  g_test_add_func ("/iterate/signal-does-not-end-an-endless-wait",
                   test_signal_does_not_end_an_endless_wait);
  add_both ("/iterate/signal-does-not-disturb-a-timer", test_signal_does_not_disturb_a_timer);
  add_both ("/iterate/second-thread-at-the-same-time-is-a-critical",
            test_second_thread_at_the_same_time_is_a_critical);
  g_test_add_func ("/iterate/threads-may-take-turns", test_threads_may_take_turns);
}

static void
add_wakeup_and_current_tests (void)
{
  add_both ("/wakeup/before-a-round-makes-it-return", test_wakeup_before_a_round_makes_it_return);
  g_test_add_func ("/wakeup/is-used-up-by-one-round", test_wakeup_is_used_up_by_one_round);
  add_both ("/notify/pending-keeps-awake", test_pending_notify_keeps_awake);
  add_both ("/notify/may-use-the-context", test_notify_may_use_the_context);
  add_both ("/notify/may-close-the-context", test_notify_may_close_the_context);
  add_both ("/wakeup/in-a-callback-makes-the-next-round-return",
            test_wakeup_in_a_callback_makes_the_next_round_return);
  add_both ("/wakeup/from-a-thread", test_wakeup_from_a_thread);
  add_both ("/current/is-the-one-whose-callback-runs", test_current_is_the_one_whose_callback_runs);
  g_test_add_func ("/current/comes-back-after-another-context",
                   test_current_comes_back_after_another_context);
  g_test_add_func ("/current/is-of-this-thread", test_current_is_of_this_thread);
}

static void
add_close_tests (void)
{
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
}

static void
add_lifetime_tests (void)
{
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
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_round_tests ();
  add_wakeup_and_current_tests ();
  add_close_tests ();
  add_lifetime_tests ();
  return g_test_run ();
}
