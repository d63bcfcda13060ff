/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

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
    if (is_epoll_fd (pollfds[i].fd))
      return pollfds[i].fd;
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

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
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
  test_add ("/hazards/epoll-fd-is-an-fd", epoll_fd_is_an_fd);
  test_add ("/hazards/epoll-fd-nested-too-deep-is-not-supported",
            epoll_fd_nested_too_deep_is_not_supported);
  test_add_mode ("/hazards/own-fd-is-not-supported", own_fd_is_not_supported, TEST_GLIB);
  test_add ("/hazards/own-fds-cannot-be-taken-over", own_fds_cannot_be_taken_over);
  test_add ("/hazards/fd-zero-is-an-fd", fd_zero_is_an_fd);
  test_add ("/hazards/high-fd-is-an-fd", high_fd_is_an_fd);
  return g_test_run ();
}
