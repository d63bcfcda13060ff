/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

/* --- Copies of an fd --- */

static void
copy_keeps_the_watch_alive (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint copy;
  gint number;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  copy = dup (watch.fd);
  number = watch.fd;
  test_close (&watch.fd);
  test_signal (copy);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpint (watch.called_fd, ==, number);
  close (copy);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
copy_of_a_removed_one_does_not_spin (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;
  gint copy;

  test_watch_start (&witness, loop, test_eventfd (0), G_IO_IN);
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  copy = dup (watch.fd);
  test_close (&watch.fd);
  gaio_handler_remove (watch.handler);
  test_loop_assert_sleeps (loop);
  test_drain (copy);
  test_signal (copy);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  test_signal (witness.fd);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 1);
  close (copy);
}

static void
copies_of_many_removed_ones_do_not_spin (TestLoop *loop, gconstpointer mode)
{
  const guint n = 200;
  g_autofree gint *copies = g_new (gint, n);

  if (!test_may_open (n + 20))
    return;
  for (guint i = 0; i < n; i++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;

      test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
      copies[i] = dup (watch.fd);
      test_close (&watch.fd);
    }
  for (guint i = 0; i < n; i++)
    test_signal (copies[i]);
  test_loop_assert_sleeps (loop);
  for (guint i = 0; i < n; i++)
    close (copies[i]);
}

static void
copy_does_not_call_the_newer_one (TestLoop *loop, gconstpointer mode)
{
  for (guint removes = 0; removes < 2; removes++)
    {
      g_auto (TestWatch) newer = TEST_WATCH_INIT;
      g_auto (TestWatch) older = TEST_WATCH_INIT;
      gint fds[2];
      gint copy;

      test_pipe (fds);
      test_watch_start (&older, loop, test_eventfd (0), G_IO_IN);
      copy = dup (older.fd);
      test_move_fd (fds[0], older.fd);
      if (removes)
        gaio_handler_remove (older.handler);
      test_watch_start (&newer, loop, g_steal_fd (&older.fd), G_IO_IN);
      test_signal (copy);
      test_loop_assert_sleeps (loop);
      g_assert_cmpuint (newer.calls, ==, 0);
      g_assert_cmpuint (older.calls, ==, 0);
      g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
      test_loop_step (loop);
      g_assert_cmpuint (newer.calls, ==, 1);
      g_assert_cmpuint (older.calls, ==, 0);
      close (copy);
      close (fds[1]);
    }
}

static void
copy_back_under_its_number_is_watched_again (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) first = TEST_WATCH_INIT;
  g_auto (TestWatch) second = TEST_WATCH_INIT;
  gint number;
  gint copy;

  test_watch_start (&first, loop, test_eventfd (0), G_IO_IN);
  copy = dup (first.fd);
  number = g_steal_fd (&first.fd);
  test_move_fd (test_eventfd (0), number);
  test_watch_stop (&first);
  test_move_fd (copy, number);
  test_watch_start (&second, loop, number, G_IO_IN);
  test_loop_assert_sleeps (loop);
  test_signal (number);
  test_loop_step (loop);
  g_assert_cmpuint (second.calls, ==, 1);
  g_assert_cmpuint (second.condition, ==, G_IO_IN);
}

static void
both_numbers_of_one_file_are_watched (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, dup (a.fd), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 1);
  g_assert_cmpint (a.called_fd, ==, a.fd);
  g_assert_cmpint (b.called_fd, ==, b.fd);
  test_watch_stop (&a);
  test_loop_step (loop);
  g_assert_cmpuint (b.calls, >=, 2);
}

/* --- What a firing copy of a removed fd must not break --- */

/* Leaves something in the kernel's set that no number names any more, and makes it fire. */
static gint
haunt (TestLoop *loop)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint copy;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  copy = dup (watch.fd);
  test_close (&watch.fd);
  gaio_handler_remove (watch.handler);
  return copy;
}

static void
note (gpointer noted)
{
  *(gboolean *) noted = TRUE;
}

static void
ghost_does_not_end_a_wait (TestLoop *loop, gconstpointer mode)
{
  gboolean noted = FALSE;
  GaioTimer *timer = gaio_context_add_timer (loop->context, note, &noted, NULL);
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint ghost;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  ghost = dup (watch.fd);
  test_close (&watch.fd);
  test_watch_stop (&watch);
  test_loop_settle (loop);
  test_signal (ghost);
  gaio_timer_arm (timer, 1000);
  /* Until a callback has run. */
  g_assert_true (test_loop_step_full (loop, TRUE));
  g_assert_true (noted);
  gaio_clear_timer (&timer);
  close (ghost);
}

static void
ghost_leaves_all_others_in_place (TestLoop *loop, gconstpointer mode)
{
  const guint n = 150;
  g_autofree TestWatch *watches = g_new0 (TestWatch, n);
  gint ghost;

  if (!test_may_open (n + 20))
    return;
  for (guint i = 0; i < n; i++)
    {
      watches[i].drains = TRUE;
      test_watch_start (&watches[i], loop, test_eventfd (0), G_IO_IN);
    }
  ghost = haunt (loop);
  test_loop_assert_sleeps (loop);
  for (guint i = 0; i < n; i++)
    test_signal (watches[i].fd);
  test_loop_settle (loop);
  for (guint i = 0; i < n; i++)
    g_assert_cmpuint (watches[i].calls, ==, 1);
  test_loop_assert_sleeps (loop);
  for (guint i = 0; i < n; i++)
    test_watch_stop (&watches[i]);
  close (ghost);
}

static void
ghost_does_not_wake_the_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint ghost;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_move_fd (test_eventfd (1), watch.fd);
  ghost = haunt (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  close (ghost);
}

static void
ghost_does_not_wake_the_silent (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint ghost;
  gint fds[2];

  test_pipe (fds);
  close (fds[1]);
  test_watch_start (&watch, loop, fds[0], 0);
  ghost = haunt (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, NULL));
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_HUP);
  close (ghost);
}

static guint64
count_rebuilds (TestLoop *loop)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (loop->context);
  guint64 n = 0;

  g_assert_true (g_variant_lookup (stats, "rebuilds", "t", &n));
  return n;
}

/* Closed first, which is allowed; nothing is left of it in the set. */
static void
close_and_remove (TestLoop *loop)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_close (&watch.fd);
  test_watch_stop (&watch);
}

static void
hang_up_of_a_silent_handler_makes_no_new_set (TestLoop *loop, gconstpointer mode)
{
  for (guint i = 0; i < 5; i++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;
      gint fds[2];

      test_pipe (fds);
      test_watch_start (&watch, loop, fds[0], 0);
      close_and_remove (loop);
      close (fds[1]);
      test_loop_assert_sleeps (loop);
      g_assert_cmpuint (watch.calls, ==, 0);
    }
  g_assert_cmpuint (count_rebuilds (loop), ==, 0);
}

/* A peer may write to each of many files that a child has copies of. */
static void
ghosts_make_no_new_set_each (TestLoop *loop, gconstpointer mode)
{
  const guint n = 160;
  g_autofree TestWatch *watches = g_new0 (TestWatch, n);
  guint64 before;

  if (!test_may_open (n + 20))
    return;
  for (guint i = 0; i < n; i++)
    test_watch_start (&watches[i], loop, test_eventfd (0), G_IO_IN);
  before = count_rebuilds (loop);
  for (guint i = 0; i < 40; i++)
    {
      gint ghost = haunt (loop);

      test_loop_step (loop);
      close (ghost);
    }
  g_assert_cmpuint (count_rebuilds (loop) - before, <=, 10);
  test_loop_assert_sleeps (loop);
  for (guint i = 0; i < n; i++)
    test_watch_stop (&watches[i]);
}

static void
haunt_and_sleep (TestWatch *self)
{
  gint ghost;

  test_loop_step (self->loop);
  ghost = haunt (self->loop);
  test_loop_assert_sleeps (self->loop);
  close (ghost);
}

static void
ghost_in_a_nested_loop_lets_it_sleep (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = haunt_and_sleep;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.deepest, ==, 1);
  watch.act = NULL;
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
}

static void
ghost_leaves_timers_and_wake_ups_in_place (TestLoop *loop, gconstpointer mode)
{
  gint ghost = haunt (loop);
  gint second;

  test_loop_assert_sleeps (loop);
  /* A timer ends this wait; the rebuilt set knows it still. */
  test_loop_assert_sleeps (loop);
  gaio_context_wakeup (loop->context);
  test_loop_step_full (loop, TRUE);
  second = haunt (loop);
  test_loop_assert_sleeps (loop);
  close (ghost);
  close (second);
}

/* Opens what may be opened, up to number 511. */
static guint
fill_up (gint *fds, guint size)
{
  struct rlimit limit;
  guint n = 0;

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  limit.rlim_cur = 512;
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  while (n < size && (fds[n] = dup (STDIN_FILENO)) >= 0)
    n++;
  g_assert_cmpint (errno, ==, EMFILE);
  return n;
}

/* Fires when it is told to. */
static gint
haunt_silently (TestLoop *loop)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint copy;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  copy = dup (watch.fd);
  test_close (&watch.fd);
  gaio_handler_remove (watch.handler);
  return copy;
}

/* More than one load of events, and no fd to make a new set with. */
static void
many_ghosts_at_the_fd_limit (TestLoop *loop, gconstpointer mode)
{
  struct rlimit before;
  gint ghosts[200], fillers[512];
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (loop->context);
  gint fd;
  GaioHandler *member;
  guint n;

  if (!test_may_open (512))
    return;
  /* It is what makes room for a new set. */
  if (!test_has_timerfd ())
    return;
  fd = test_eventfd (0);
  member = gaio_ready_set_add_fd (set, fd, G_IO_IN, 1, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (ghosts); i++)
    ghosts[i] = haunt_silently (loop);
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  n = fill_up (fillers, G_N_ELEMENTS (fillers));
  for (guint i = 0; i < G_N_ELEMENTS (ghosts); i++)
    test_signal (ghosts[i]);
  test_loop_assert_sleeps (loop);
  test_loop_assert_sleeps (loop);
  while (n > 0)
    close (fillers[--n]);
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
  gaio_clear_handler (&member);
  close (fd);
  for (guint i = 0; i < G_N_ELEMENTS (ghosts); i++)
    close (ghosts[i]);
}

static void
copy_and_close_own_fd_and_step (TestWatch *self)
{
  if (self->calls > 1)
    return;
  self->other->fd = dup (self->fd);
  test_close (&self->fd);
  test_loop_step (self->loop);
}

/* To silence the one that runs shows that the file has gone, while both are walked over. */
static void
two_on_an_fd_closed_in_a_nested_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) first = TEST_WATCH_INIT;
  g_auto (TestWatch) second = TEST_WATCH_INIT;
  TestWatch copy = TEST_WATCH_INIT;

  first.act = copy_and_close_own_fd_and_step;
  first.other = &copy;
  test_watch_start (&first, loop, test_eventfd (1), G_IO_IN | G_IO_OUT);
  test_watch_start (&second, loop, first.fd, G_IO_IN);
  test_loop_step (loop);
  second.fd = -1;
  g_assert_cmpuint (first.calls, ==, 1);
  test_loop_assert_sleeps (loop);
  close (copy.fd);
}

static void
always_ready_file_is_silent_unless_asked_for_that (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_PRI);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
}

static void
closing_the_own_fd_closes_the_context (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  close (find_epoll_fd ());
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  g_assert_false (gaio_context_iterate (loop->context, -1));
  g_test_assert_expected_messages ();
  g_assert_true (gaio_context_is_closed (loop->context));
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
closed_once_ready_is_not_called (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  test_signal (watch.fd);
  test_close (&watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
}

/* --- What is there, and was not asked for --- */

static void
half_closed_peer_keeps_nobody_awake (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint fds[2];

  test_socketpair (fds);
  test_watch_start (&watch, loop, fds[0], G_IO_HUP);
  g_assert_cmpint (shutdown (fds[1], SHUT_WR), ==, 0);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  close (fds[1]);
  test_run_until (loop, watch.calls > 0);
  g_assert_cmpint (watch.condition, ==, G_IO_HUP);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, NULL));
  test_run_until (loop, (watch.condition & G_IO_IN) != 0);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/hazards/half-closed-peer-keeps-nobody-awake", half_closed_peer_keeps_nobody_awake);
  test_add ("/hazards/copy-keeps-the-watch-alive", copy_keeps_the_watch_alive);
  test_add ("/hazards/copy-of-a-removed-one-does-not-spin", copy_of_a_removed_one_does_not_spin);
  test_add ("/hazards/copies-of-many-removed-ones-do-not-spin",
            copies_of_many_removed_ones_do_not_spin);
  test_add ("/hazards/copy-does-not-call-the-newer-one", copy_does_not_call_the_newer_one);
  test_add ("/hazards/copy-back-under-its-number-is-watched-again",
            copy_back_under_its_number_is_watched_again);
  test_add ("/hazards/both-numbers-of-one-file-are-watched", both_numbers_of_one_file_are_watched);
  test_add_mode ("/hazards/ghost-does-not-end-a-wait", ghost_does_not_end_a_wait, TEST_ITERATE);
  test_add ("/hazards/ghost-leaves-all-others-in-place", ghost_leaves_all_others_in_place);
  test_add ("/hazards/ghost-does-not-wake-the-dormant", ghost_does_not_wake_the_dormant);
  test_add ("/hazards/ghost-does-not-wake-the-silent", ghost_does_not_wake_the_silent);
  test_add ("/hazards/hang-up-of-a-silent-handler-makes-no-new-set",
            hang_up_of_a_silent_handler_makes_no_new_set);
  test_add ("/hazards/ghosts-make-no-new-set-each", ghosts_make_no_new_set_each);
  test_add_nested ("/hazards/ghost-in-a-nested-loop-lets-it-sleep",
                   ghost_in_a_nested_loop_lets_it_sleep);
  test_add ("/hazards/ghost-leaves-timers-and-wake-ups-in-place",
            ghost_leaves_timers_and_wake_ups_in_place);
  test_add ("/hazards/many-ghosts-at-the-fd-limit-do-not-spin", many_ghosts_at_the_fd_limit);
  test_add ("/hazards/two-on-an-fd-closed-in-a-nested-round",
            two_on_an_fd_closed_in_a_nested_round);
  test_add ("/hazards/always-ready-file-is-silent-unless-asked-for-that",
            always_ready_file_is_silent_unless_asked_for_that);
  test_add_mode ("/hazards/closing-the-own-fd-closes-the-context",
                 closing_the_own_fd_closes_the_context, TEST_ITERATE);
  test_add ("/hazards/closed-once-ready-is-not-called", closed_once_ready_is_not_called);
  return g_test_run ();
}
