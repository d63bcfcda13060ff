/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

#include <sys/resource.h>

/* --- Closed without removal --- */

static void
closed_without_removal_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  test_close (&watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 0);
  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 1);
}

static void
removal_after_the_close_is_quiet (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_close (&watch.fd);
  test_watch_stop (&watch);
  g_assert_cmpuint (watch.calls, ==, 0);
  test_loop_assert_sleeps (loop);
}

static void
reused_number_does_not_wake_the_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  test_move_fd (test_eventfd (1), watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
}

/* All eventfds share one inode: nothing tells the new one from the old but that it is added. */
static void
whoever_adds_a_reused_number_hears_of_the_new_file (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) newer = TEST_WATCH_INIT;
  g_auto (TestWatch) older = TEST_WATCH_INIT;

  test_watch_start (&older, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  test_move_fd (test_eventfd (0), older.fd);
  test_watch_start (&newer, loop, g_steal_fd (&older.fd), G_IO_IN);
  test_loop_settle (loop);
  test_signal (newer.fd);
  test_run_until (loop, newer.calls > 0);
}

static void
somebody_else_adds_the_reused_number (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) newer = TEST_WATCH_INIT;
  g_auto (TestWatch) older = TEST_WATCH_INIT;

  test_watch_start (&older, loop, test_socket (), G_IO_IN);
  test_move_fd (test_eventfd (1), older.fd);
  test_watch_start (&newer, loop, g_steal_fd (&older.fd), G_IO_IN);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (newer.calls, ==, i);
    }
  test_drain (newer.fd);
  test_loop_assert_sleeps (loop);
  /* The older one has no part in the new file, and takes none of it away. */
  test_watch_stop (&older);
  test_signal (newer.fd);
  test_loop_step (loop);
  g_assert_cmpuint (newer.calls, ==, 4);
  g_assert_cmpuint (older.calls, ==, 0);
}

static void
the_newer_of_two_leaves_first (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) newer = TEST_WATCH_INIT;
  g_auto (TestWatch) older = TEST_WATCH_INIT;

  test_watch_start (&older, loop, test_socket (), G_IO_IN);
  test_move_fd (test_eventfd (1), older.fd);
  test_watch_start (&newer, loop, older.fd, G_IO_IN);
  newer.fd = -1;
  test_watch_stop (&newer);
  /* The new file is open and readable under the number of the older one. */
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (older.calls, ==, 0);
}

static void
set_condition_does_not_wake_the_dormant (TestLoop *loop, gconstpointer mode)
{
  for (guint reused = 0; reused < 2; reused++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;
      g_autoptr (GError) error = NULL;

      test_watch_start (&watch, loop, test_socket (), G_IO_IN);
      if (reused)
        test_move_fd (test_eventfd (1), watch.fd);
      else
        test_close (&watch.fd);
      g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_IN | G_IO_OUT, &error));
      g_assert_error (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
      g_assert_cmpuint (gaio_handler_get_condition (watch.handler), ==, G_IO_IN);
      test_loop_assert_sleeps (loop);
      g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_OUT, NULL));
      test_loop_assert_sleeps (loop);
      g_assert_cmpuint (watch.calls, ==, 0);
    }
}

/* The context opens fds of its own when it first needs them: a timer's may get the very number. */
static void
own_fds_under_a_dormant_number_are_safe (TestLoop *loop, gconstpointer mode)
{
  for (guint removes = 0; removes < 2; removes++)
    {
      TestLoop fresh = { 0 };
      g_auto (TestWatch) watch = TEST_WATCH_INIT;

      test_loop_set_up (&fresh, mode);
      test_watch_start (&watch, &fresh, test_eventfd (1), G_IO_IN);
      test_close (&watch.fd);
      test_loop_assert_sleeps (&fresh);
      if (removes)
        gaio_handler_remove (watch.handler);
      else
        g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_OUT, NULL));
      test_loop_assert_sleeps (&fresh);
      g_assert_cmpuint (watch.calls, ==, 0);
      test_watch_stop (&watch);
      test_loop_tear_down (&fresh, mode);
    }
}

static void
close_own_fd (TestWatch *self)
{
  test_close (&self->fd);
}

static void
closed_in_its_own_callback_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = close_own_fd;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
close_own_fd_and_step (TestWatch *self)
{
  test_loop_step (self->loop);
  test_close (&self->fd);
  test_loop_assert_sleeps (self->loop);
}

static void
closed_in_a_nested_loop_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = close_own_fd_and_step;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

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

static gboolean
is_set (const char *file)
{
  return g_str_equal (file, "anon_inode:[eventpoll]");
}

/* Which of our own numbers is the set. */
static gint
find_own_fd (void)
{
  for (gint fd = 3; fd < 64; fd++)
    {
      g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
      g_autofree char *file = g_file_read_link (path, NULL);

      if (file != NULL && is_set (file))
        return fd;
    }
  return -1;
}

static void
closing_the_own_fd_closes_the_context (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  close (find_own_fd ());
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

/* --- The number comes back in the same round --- */

static void
remove_other_and_reuse_its_number (TestWatch *self)
{
  TestWatch *victim = self->other;
  TestWatch *heir = victim->other;

  if (self->calls > 1)
    return;
  gaio_handler_remove (victim->handler);
  test_move_fd (test_eventfd (0), victim->fd);
  test_watch_start (heir, self->loop, g_steal_fd (&victim->fd), G_IO_IN);
}

static void
removed_and_reused_in_one_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;
  g_auto (TestWatch) culprit = TEST_WATCH_INIT;

  culprit.act = remove_other_and_reuse_its_number;
  culprit.drains = TRUE;
  culprit.other = &victim;
  victim.other = &heir;
  test_watch_start (&culprit, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
  g_assert_cmpuint (heir.calls, ==, 0);
  test_signal (heir.fd);
  test_loop_step (loop);
  g_assert_cmpuint (heir.calls, ==, 1);
}

static void
reuse_number_of_other (TestWatch *self)
{
  TestWatch *victim = self->other;
  TestWatch *heir = victim->other;

  if (self->calls > 1)
    return;
  test_move_fd (test_eventfd (1), victim->fd);
  test_watch_start (heir, self->loop, g_steal_fd (&victim->fd), G_IO_IN);
}

static void
closed_and_added_by_another_in_one_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;
  g_auto (TestWatch) culprit = TEST_WATCH_INIT;

  culprit.act = reuse_number_of_other;
  culprit.drains = TRUE;
  culprit.other = &victim;
  victim.other = &heir;
  test_watch_start (&culprit, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_readable_pipe (), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
  g_assert_cmpuint (heir.calls, ==, 0);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
  g_assert_cmpuint (heir.calls, ==, 2);
}

static void
close_and_change_other (TestWatch *self)
{
  TestWatch *victim = self->other;

  if (self->calls > 1)
    return;
  test_move_fd (test_eventfd (1), victim->fd);
  g_assert_false (gaio_handler_set_condition (victim->handler, G_IO_IN | G_IO_OUT, NULL));
}

static void
closed_and_changed_in_one_round (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) victim = TEST_WATCH_INIT;
  g_auto (TestWatch) culprit = TEST_WATCH_INIT;

  culprit.act = close_and_change_other;
  culprit.drains = TRUE;
  culprit.other = &victim;
  test_watch_start (&culprit, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_readable_pipe (), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (culprit.calls, ==, 1);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (victim.calls, ==, 0);
}

static void
replace_oneself_and_wait (TestWatch *self)
{
  gint number = g_steal_fd (&self->fd);

  gaio_clear_handler (&self->handler);
  test_move_fd (test_eventfd (1), number);
  test_watch_start (self->other, self->loop, number, G_IO_IN);
  test_run_until (self->loop, self->other->calls > 0);
}

static void
number_is_reused_in_its_own_callback (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = replace_oneself_and_wait;
  watch.other = &heir;
  heir.drains = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_cmpuint (heir.calls, ==, 1);
}

static void
remove_free_and_close_other (TestWatch *self)
{
  if (self->other->handler == NULL)
    return;
  gaio_clear_handler (&self->other->handler);
  test_close (&self->other->fd);
  test_loop_step (self->loop);
}

static void
freed_while_on_the_ready_list (TestLoop *loop, gconstpointer mode)
{
  TestWatch watches[12] = { 0 };
  guint calls = 0;

  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      watches[i].act = remove_free_and_close_other;
      watches[i].other = &watches[(i + 1) % G_N_ELEMENTS (watches)];
      test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
    }
  test_loop_step (loop);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    {
      g_assert_cmpuint (watches[i].deepest, <=, 1);
      calls += watches[i].calls;
    }
  g_assert_cmpuint (calls, >=, 1);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
}

static void
outlast_and_free_other (TestWatch *self)
{
  gint64 until = g_get_monotonic_time () + 2000;

  while (g_get_monotonic_time () < until)
    ;
  gaio_clear_handler (&self->other->handler);
  test_close (&self->other->fd);
}

static void
freed_while_left_over (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 0, 1000);
  a.act = b.act = outlast_and_free_other;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, >=, 1);
  g_assert_true (a.calls == 0 || b.calls == 0);
}

static void
free_other (TestWatch *self)
{
  gaio_clear_handler (&self->other->handler);
}

static void
freed_while_left_over_on_one_fd (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;
  g_auto (TestWatch) c = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  a.act = free_other;
  a.other = &b;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, a.fd, G_IO_IN);
  b.fd = -1;
  test_watch_start (&c, loop, a.fd, G_IO_IN);
  c.fd = -1;
  for (guint i = 0; i < 10; i++)
    test_loop_step (loop);
  g_assert_cmpuint (a.calls + c.calls, ==, 10);
  g_assert_cmpuint (b.calls, ==, 0);
  g_assert_cmpuint (c.calls, >=, 3);
}

static void
drain_other_and_step (TestWatch *self)
{
  test_drain (self->other->fd);
  test_loop_step (self->loop);
}

/* As another source of the nested loop might. */
static void
consumed_during_a_nested_loop_is_not_reported (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = drain_other_and_step;
  a.drains = TRUE;
  a.other = &b;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls, ==, 1);
  g_assert_cmpuint (b.calls, ==, 0);
}

static void
close_takes_the_dormant_along (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  test_watch_start (&victim, loop, test_eventfd (0), G_IO_IN);
  test_move_fd (test_eventfd (1), victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  gaio_context_close (loop->context);
  g_assert_cmpuint (victim.notifies, ==, 1);
  g_assert_cmpuint (heir.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (victim.handler));
}

/* --- Files that epoll refuses (EPERM) --- */

static void
closed_always_ready_file_is_dormant (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  test_close (&watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
reused_number_does_not_wake_the_dormant_always_ready (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_IN);
  test_loop_step (loop);
  test_move_fd (test_open ("/"), watch.fd);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
}

static void
assert_heir_alone_is_called (TestLoop *loop, gint from, gint to)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  test_watch_start (&victim, loop, from, G_IO_IN);
  test_move_fd (to, victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  for (guint i = 1; i <= 3; i++)
    {
      test_loop_step (loop);
      g_assert_cmpuint (heir.calls, ==, i);
    }
  test_watch_stop (&victim);
  test_loop_step (loop);
  g_assert_cmpuint (heir.calls, >=, 4);
  g_assert_cmpuint (victim.calls, ==, 0);
}

static void
number_moves_between_kinds_of_files (TestLoop *loop, gconstpointer mode)
{
  assert_heir_alone_is_called (loop, test_eventfd (0), test_open ("/"));
  assert_heir_alone_is_called (loop, test_eventfd (1), test_open ("/dev/null"));
  assert_heir_alone_is_called (loop, test_open ("/dev/null"), test_eventfd (1));
  assert_heir_alone_is_called (loop, test_open ("/dev/null"), test_open ("/"));
  /* Of one file system. */
  assert_heir_alone_is_called (loop, test_open ("/dev/null"), test_open ("/dev/zero"));
  test_loop_assert_sleeps (loop);
}

static void
number_goes_from_a_closed_file_to_a_silent_one (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  test_watch_start (&victim, loop, test_open ("/dev/null"), G_IO_IN);
  test_move_fd (test_eventfd (0), victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (heir.calls + victim.calls, ==, 0);
}

/* What is left over is asked whether its file is the same still; but its number is the heir's. */
static void
removed_while_left_over_leaves_its_heir_alone (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) first = TEST_WATCH_INIT;
  g_auto (TestWatch) heir = TEST_WATCH_INIT;
  g_auto (TestWatch) victim = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  test_watch_start (&first, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&victim, loop, test_open ("/dev/null"), G_IO_IN);
  test_run_until (loop, first.calls > 0);
  gaio_clear_handler (&victim.handler);
  test_move_fd (test_open ("/"), victim.fd);
  test_watch_start (&heir, loop, g_steal_fd (&victim.fd), G_IO_IN);
  test_run_until (loop, heir.calls > 0);
}

static void
always_ready_file_is_silent_for_what_it_never_has (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_open ("/dev/null"), G_IO_PRI);
  test_loop_assert_sleeps (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, NULL));
  test_run_until (loop, watch.calls > 0);
  g_assert_cmpint (watch.condition, ==, G_IO_IN);
}

static void
nest_three_rounds (TestWatch *watch)
{
  for (guint i = 0; i < 3; i++)
    test_loop_step (watch->loop);
}

/* One callback a round: those that run have no need of it. */
static void
running_always_ready_handler_takes_no_place (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) outer = TEST_WATCH_INIT;
  g_auto (TestWatch) other = TEST_WATCH_INIT;

  gaio_context_set_dispatch_limits (loop->context, 1, 0);
  outer.act = nest_three_rounds;
  test_watch_start (&outer, loop, test_open ("/dev/null"), G_IO_IN);
  test_watch_start (&other, loop, test_open ("/dev/zero"), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (outer.calls, ==, 1);
  g_assert_cmpuint (outer.deepest, ==, 1);
  g_assert_cmpuint (other.calls, ==, 3);
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

/* --- One pollfd --- */

static guint
count_pollfds (GMainContext *main_context)
{
  gint priority;
  gint timeout;
  gint n;

  g_assert_true (g_main_context_acquire (main_context));
  g_main_context_prepare (main_context, &priority);
  n = g_main_context_query (main_context, G_MAXINT, &timeout, NULL, 0);
  g_main_context_release (main_context);
  return n;
}

static void
five_thousand_handlers_are_one_pollfd (TestLoop *loop, gconstpointer mode)
{
  const guint n = 5000;
  g_autofree TestWatch *watches = NULL;
  guint before;

  if (!test_may_open (n + 100))
    return;
  gaio_context_detach (loop->context);
  before = count_pollfds (loop->main_context);
  g_assert_true (gaio_context_attach (loop->context, loop->main_context, NULL));
  watches = g_new0 (TestWatch, n);
  for (guint i = 0; i < n; i++)
    {
      watches[i].drains = TRUE;
      test_watch_start (&watches[i], loop, test_eventfd (0), G_IO_IN);
    }
  g_assert_cmpuint (count_pollfds (loop->main_context), ==, before + 1);
  for (guint i = 0; i < n; i += 100)
    test_signal (watches[i].fd);
  test_loop_settle (loop);
  for (guint i = 0; i < n; i++)
    g_assert_cmpuint (watches[i].calls, ==, i % 100 == 0);
  for (guint i = 0; i < n; i++)
    test_watch_stop (&watches[i]);
  g_assert_cmpuint (count_pollfds (loop->main_context), ==, before + 1);
}

static void
always_ready_file_keeps_it_one_pollfd (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) file = TEST_WATCH_INIT;
  TestWatch watches[20] = { 0 };
  guint before = count_pollfds (loop->main_context);

  test_watch_start (&file, loop, test_open ("/dev/null"), G_IO_IN);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_start (&watches[i], loop, test_eventfd (0), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (file.calls, ==, 1);
  g_assert_cmpuint (count_pollfds (loop->main_context), ==, before);
  test_watch_stop (&file);
  test_loop_assert_sleeps (loop);
  for (guint i = 0; i < G_N_ELEMENTS (watches); i++)
    test_watch_stop (&watches[i]);
}

static void
closed_context_takes_its_pollfd_along (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  guint before = count_pollfds (loop->main_context);

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_context_close (loop->context);
  g_assert_cmpuint (count_pollfds (loop->main_context), ==, before - 1);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_cmpuint (watch.calls, ==, 0);
}

static void
one_event_takes_one_iteration (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.drains = TRUE;
  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  for (guint i = 1; i <= 100; i++)
    {
      test_signal (watch.fd);
      test_loop_step_full (loop, TRUE);
      g_assert_cmpuint (watch.calls, ==, i);
    }
  g_assert_false (test_loop_step (loop));
}

/* --- Living with the other sources of a main loop --- */

static gboolean
count_idle (gpointer n)
{
  (*(guint *) n)++;
  return G_SOURCE_CONTINUE;
}

static void
many_ready_fds_do_not_starve_the_main_loop (TestLoop *loop, gconstpointer mode)
{
  const guint n = 400;
  g_autofree TestWatch *watches = g_new0 (TestWatch, n);
  g_autoptr (GSource) idle = g_idle_source_new ();
  guint idles = 0;
  guint calls = 0;

  if (!test_may_open (n + 20))
    return;
  g_source_set_priority (idle, G_PRIORITY_DEFAULT);
  g_source_set_callback (idle, count_idle, &idles, NULL);
  g_source_attach (idle, loop->main_context);
  for (guint i = 0; i < n; i++)
    test_watch_start (&watches[i], loop, test_eventfd (1), G_IO_IN);
  for (guint i = 0; i < 20; i++)
    test_loop_step (loop);
  for (guint i = 0; i < n; i++)
    {
      calls += watches[i].calls;
      g_assert_cmpuint (watches[i].calls, >=, 2);
    }
  g_assert_cmpuint (idles, ==, 20);
  g_assert_cmpuint (calls, ==, 20 * 128);
  g_source_destroy (idle);
  for (guint i = 0; i < n; i++)
    test_watch_stop (&watches[i]);
}

static gboolean
run_until_called (gpointer user_data)
{
  TestWatch *watch = user_data;

  test_signal (watch->fd);
  test_run_until (watch->loop, watch->calls > 0);
  return G_SOURCE_REMOVE;
}

static void
loop_nested_in_another_source_does_not_freeze (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GSource) idle = g_idle_source_new ();

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  g_source_set_callback (idle, run_until_called, &watch, NULL);
  g_source_attach (idle, loop->main_context);
  test_run_until (loop, watch.calls > 0);
}

static void
quit_loop (gpointer main_loop)
{
  g_main_loop_quit (main_loop);
}

static void
run_main_loop (TestWatch *self)
{
  g_autoptr (GMainLoop) main_loop = g_main_loop_new (self->loop->main_context, FALSE);
  TestAlarm alarm = { FALSE, FALSE };
  GaioTimer *timer = gaio_context_add_timer (self->loop->context, quit_loop, main_loop, NULL);
  GaioBottomHalf *half =
      gaio_context_add_bottom_half (self->loop->context, test_alarm_fired, &alarm, NULL);

  gaio_bottom_half_schedule (half);
  gaio_timer_arm (timer, 2000);
  g_main_loop_run (main_loop);
  g_assert_true (alarm.fired);
  gaio_clear_bottom_half (&half);
  gaio_clear_timer (&timer);
}

static void
main_loop_runs_nested_in_a_callback (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.act = run_main_loop;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 2);
  g_assert_cmpuint (watch.deepest, ==, 1);
}

static void
handlers_that_end_do_not_end_the_source (TestLoop *loop, gconstpointer mode)
{
  guint before = count_pollfds (loop->main_context);

  for (guint i = 0; i < 5; i++)
    {
      g_auto (TestWatch) watch = TEST_WATCH_INIT;

      watch.removes = TRUE;
      test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
      test_loop_settle (loop);
      g_assert_cmpuint (watch.calls, ==, 1);
    }
  g_assert_cmpuint (count_pollfds (loop->main_context), ==, before);
}

/* --- Odd fds --- */

static void
epoll_fd_is_an_fd (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  struct epoll_event event = { .events = EPOLLIN };
  gint inner;

  if (!test_has_epoll ())
    return;
  inner = test_eventfd (0);
  test_watch_start (&watch, loop, epoll_create1 (EPOLL_CLOEXEC), G_IO_IN);
  g_assert_cmpint (epoll_ctl (watch.fd, EPOLL_CTL_ADD, inner, &event), ==, 0);
  test_loop_assert_sleeps (loop);
  test_signal (inner);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  close (inner);
}

/* Nests epoll sets until the kernel will not have one more around it. Returns the outermost. */
static gint
nest_epoll_fds (GArray *fds)
{
  struct epoll_event event = { .events = EPOLLIN };
  gint outer = epoll_create1 (EPOLL_CLOEXEC);
  gint inner;

  do
    {
      g_array_append_val (fds, outer);
      inner = outer;
      outer = epoll_create1 (EPOLL_CLOEXEC);
      g_assert_cmpuint (fds->len, <, 100);
    }
  while (epoll_ctl (outer, EPOLL_CTL_ADD, inner, &event) == 0);
  g_assert_cmpint (errno, ==, ELOOP);
  close (outer);
  return inner;
}

static void
epoll_fd_nested_too_deep_is_not_supported (TestLoop *loop, gconstpointer mode)
{
  TestWatch refused = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;
  g_autoptr (GArray) fds = g_array_new (FALSE, FALSE, sizeof (gint));
  g_autoptr (GError) error = NULL;

  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  refused.handler = gaio_context_add_fd (loop->context, nest_epoll_fds (fds), G_IO_IN,
                                         test_watch_called, &refused, test_watch_notified, &error);
  g_assert_null (refused.handler);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_NOT_SUPPORTED);
  g_assert_cmpuint (refused.notifies, ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 1);
  for (guint i = 0; i < fds->len; i++)
    close (g_array_index (fds, gint, i));
}

static gint
find_own_pollfd (GMainContext *main_context)
{
  GPollFD pollfds[8];
  gint timeout;
  gint n;

  g_assert_true (g_main_context_acquire (main_context));
  n = g_main_context_query (main_context, G_MAXINT, &timeout, pollfds, G_N_ELEMENTS (pollfds));
  g_main_context_release (main_context);
  for (gint i = 0; i < n; i++)
    {
      g_autofree gchar *path = g_strdup_printf ("/proc/self/fd/%d", pollfds[i].fd);
      g_autofree gchar *file = g_file_read_link (path, NULL);

      if (file != NULL && is_set (file))
        return pollfds[i].fd;
    }
  return -1;
}

static void
own_fd_is_not_supported (TestLoop *loop, gconstpointer mode)
{
  TestWatch refused = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;
  gint fd;

  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  fd = find_own_pollfd (loop->main_context);
  g_assert_cmpint (fd, >=, 0);
  refused.handler = gaio_context_add_fd (loop->context, fd, G_IO_IN, test_watch_called, &refused,
                                         test_watch_notified, &error);
  g_assert_null (refused.handler);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_NOT_SUPPORTED);
  g_assert_cmpuint (refused.notifies, ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 2);
}

/* Which of the numbers from @first to @last are open. */
static guint64
open_fds (gint first, gint last)
{
  guint64 open = 0;

  for (gint fd = first; fd <= last; fd++)
    if (fcntl (fd, F_GETFD) != -1)
      open |= G_GUINT64_CONSTANT (1) << (fd - first);
  return open;
}

static void
own_fds_cannot_be_taken_over (TestLoop *loop, gconstpointer mode)
{
  TestLoop fresh = { 0 };
  guint64 before = open_fds (0, 63);
  guint64 own;

  test_loop_set_up (&fresh, mode);
  test_loop_assert_sleeps (&fresh);
  own = open_fds (0, 63) & ~before;
  g_assert_cmpuint (own, !=, 0);
  for (gint fd = 0; fd < 64; fd++)
    {
      TestWatch refused = TEST_WATCH_INIT;

      /* GLib's wake-up fd is among them, and may well be watched. */
      if (!(own >> fd & 1))
        continue;
      refused.loop = &fresh;
      refused.handler = gaio_context_add_fd (fresh.context, fd, G_IO_IN, test_watch_called,
                                             &refused, test_watch_notified, NULL);
      test_watch_stop (&refused);
      test_loop_assert_sleeps (&fresh);
      gaio_context_wakeup (fresh.context);
      test_loop_step_full (&fresh, TRUE);
    }
  test_loop_tear_down (&fresh, mode);
}

static void
fd_zero_is_an_fd (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint saved = fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

  test_move_fd (test_eventfd (1), STDIN_FILENO);
  test_watch_start (&watch, loop, STDIN_FILENO, G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpint (watch.called_fd, ==, STDIN_FILENO);
  gaio_handler_remove (watch.handler);
  test_loop_assert_sleeps (loop);
  watch.fd = -1;
  if (saved >= 0)
    test_move_fd (saved, STDIN_FILENO);
  else
    close (STDIN_FILENO);
}

static void
high_fd_is_an_fd (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) low = TEST_WATCH_INIT;
  g_auto (TestWatch) high = TEST_WATCH_INIT;
  gint fd = test_eventfd (1);

  if (!test_may_open (15100))
    {
      close (fd);
      return;
    }
  test_watch_start (&low, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&high, loop, fcntl (fd, F_DUPFD_CLOEXEC, 15000), G_IO_IN);
  g_assert_cmpint (high.fd, >=, 15000);
  test_loop_step (loop);
  g_assert_cmpuint (low.calls, ==, 1);
  g_assert_cmpuint (high.calls, ==, 1);
  close (fd);
}

static void
add_dormant_tests (void)
{
  test_add ("/hazards/closed-without-removal-is-dormant", closed_without_removal_is_dormant);
  test_add ("/hazards/removal-after-the-close-is-quiet", removal_after_the_close_is_quiet);
  test_add ("/hazards/reused-number-does-not-wake-the-dormant",
            reused_number_does_not_wake_the_dormant);
  test_add ("/hazards/whoever-adds-a-reused-number-hears-of-the-new-file",
            whoever_adds_a_reused_number_hears_of_the_new_file);
  test_add ("/hazards/always-ready-file-is-silent-for-what-it-never-has",
            always_ready_file_is_silent_for_what_it_never_has);
  test_add_nested ("/hazards/running-always-ready-handler-takes-no-place",
                   running_always_ready_handler_takes_no_place);
  test_add ("/hazards/half-closed-peer-keeps-nobody-awake", half_closed_peer_keeps_nobody_awake);
  test_add ("/hazards/somebody-else-adds-the-reused-number", somebody_else_adds_the_reused_number);
  test_add ("/hazards/the-newer-of-two-leaves-first", the_newer_of_two_leaves_first);
  test_add ("/hazards/set-condition-does-not-wake-the-dormant",
            set_condition_does_not_wake_the_dormant);
  test_add ("/hazards/own-fds-under-a-dormant-number-are-safe",
            own_fds_under_a_dormant_number_are_safe);
  test_add ("/hazards/closed-in-its-own-callback-is-dormant",
            closed_in_its_own_callback_is_dormant);
  test_add_nested ("/hazards/closed-in-a-nested-loop-is-dormant",
                   closed_in_a_nested_loop_is_dormant);
}

static void
add_copy_tests (void)
{
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
}

static void
add_round_tests (void)
{
  test_add ("/hazards/removed-and-reused-in-one-round", removed_and_reused_in_one_round);
  test_add ("/hazards/closed-and-added-by-another-in-one-round",
            closed_and_added_by_another_in_one_round);
  test_add ("/hazards/closed-and-changed-in-one-round", closed_and_changed_in_one_round);
  test_add_nested ("/hazards/number-is-reused-in-its-own-callback",
                   number_is_reused_in_its_own_callback);
  test_add_nested ("/hazards/freed-while-on-the-ready-list", freed_while_on_the_ready_list);
  test_add ("/hazards/freed-while-left-over", freed_while_left_over);
  test_add ("/hazards/freed-while-left-over-on-one-fd", freed_while_left_over_on_one_fd);
  test_add_nested ("/hazards/consumed-during-a-nested-loop-is-not-reported",
                   consumed_during_a_nested_loop_is_not_reported);
  test_add ("/hazards/closed-once-ready-is-not-called", closed_once_ready_is_not_called);
  test_add ("/hazards/close-takes-the-dormant-along", close_takes_the_dormant_along);
  test_add ("/hazards/closed-always-ready-file-is-dormant", closed_always_ready_file_is_dormant);
  test_add ("/hazards/reused-number-does-not-wake-the-dormant-always-ready",
            reused_number_does_not_wake_the_dormant_always_ready);
  test_add ("/hazards/removed-while-left-over-leaves-its-heir-alone",
            removed_while_left_over_leaves_its_heir_alone);
  test_add ("/hazards/number-moves-between-kinds-of-files", number_moves_between_kinds_of_files);
  test_add ("/hazards/number-goes-from-a-closed-file-to-a-silent-one",
            number_goes_from_a_closed_file_to_a_silent_one);
}

static void
add_glib_tests (void)
{
  test_add_mode ("/hazards/five-thousand-handlers-are-one-pollfd",
                 five_thousand_handlers_are_one_pollfd, TEST_GLIB);
  test_add_mode ("/hazards/always-ready-file-keeps-it-one-pollfd",
                 always_ready_file_keeps_it_one_pollfd, TEST_GLIB);
  test_add_mode ("/hazards/closed-context-takes-its-pollfd-along",
                 closed_context_takes_its_pollfd_along, TEST_GLIB);
  test_add ("/hazards/one-event-takes-one-iteration", one_event_takes_one_iteration);
  test_add_mode ("/hazards/many-ready-fds-do-not-starve-the-main-loop",
                 many_ready_fds_do_not_starve_the_main_loop, TEST_GLIB);
  test_add_mode ("/hazards/loop-nested-in-another-source-does-not-freeze",
                 loop_nested_in_another_source_does_not_freeze, TEST_GLIB);
  test_add_mode ("/hazards/main-loop-runs-nested-in-a-callback",
                 main_loop_runs_nested_in_a_callback, TEST_GLIB);
  test_add_mode ("/hazards/handlers-that-end-do-not-end-the-source",
                 handlers_that_end_do_not_end_the_source, TEST_GLIB);
}

static void
add_odd_fd_tests (void)
{
  test_add ("/hazards/epoll-fd-is-an-fd", epoll_fd_is_an_fd);
  test_add ("/hazards/epoll-fd-nested-too-deep-is-not-supported",
            epoll_fd_nested_too_deep_is_not_supported);
  test_add_mode ("/hazards/own-fd-is-not-supported", own_fd_is_not_supported, TEST_GLIB);
  test_add ("/hazards/own-fds-cannot-be-taken-over", own_fds_cannot_be_taken_over);
  test_add ("/hazards/fd-zero-is-an-fd", fd_zero_is_an_fd);
  test_add ("/hazards/high-fd-is-an-fd", high_fd_is_an_fd);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  add_dormant_tests ();
  add_copy_tests ();
  add_round_tests ();
  add_glib_tests ();
  add_odd_fd_tests ();
  return g_test_run ();
}
