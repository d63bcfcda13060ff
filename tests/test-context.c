/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "test-clock.h"
#include "test-context.h"

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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
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
  add_both ("/wakeup/before-a-round-makes-it-return", test_wakeup_before_a_round_makes_it_return);
  g_test_add_func ("/wakeup/is-used-up-by-one-round", test_wakeup_is_used_up_by_one_round);
  add_both ("/wakeup/in-a-callback-makes-the-next-round-return",
            test_wakeup_in_a_callback_makes_the_next_round_return);
  add_both ("/wakeup/from-a-thread", test_wakeup_from_a_thread);
  add_both ("/current/is-the-one-whose-callback-runs", test_current_is_the_one_whose_callback_runs);
  g_test_add_func ("/current/comes-back-after-another-context",
                   test_current_comes_back_after_another_context);
  g_test_add_func ("/current/is-of-this-thread", test_current_is_of_this_thread);
  return g_test_run ();
}
