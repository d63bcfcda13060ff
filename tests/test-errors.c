/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "test-errors.h"

/* --- Bad fds --- */

static gint
closed_fd (void)
{
  gint fd = eventfd_new (0);

  close (fd);
  return fd;
}

/* The last ones must not make a table of that size either. */
static void
test_bad_fd (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const gint bad[] = { closed_fd (), -1, G_MININT, 1 << 20, G_MAXINT };
  Story story = { .context = context };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      assert_add_fails (&story, bad[i], GAIO_ERROR_BAD_FD);
      assert_works (context);
    }
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    assert_add_fails (&story, bad[i], GAIO_ERROR_BAD_FD);
  g_assert_cmpuint (story.notified, ==, 2 * G_N_ELEMENTS (bad));
}

static void
test_bad_fd_in_ready_set (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (context);
  const gint bad[] = { closed_fd (), -1, G_MAXINT };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      g_autoptr (GError) error = NULL;

      g_assert_null (gaio_ready_set_add_fd (set, bad[i], G_IO_IN, 1, &error));
      assert_error_tells (error, GAIO_ERROR_BAD_FD, bad[i]);
    }
  assert_works (context);
}

static void
test_error_may_be_ignored (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;

  g_assert_null (gaio_context_add_fd (context, -1, G_IO_IN, never_fd, &notified, count_once, NULL));
  g_assert_null (gaio_context_add_fd (context, -1, G_IO_IN, never_fd, NULL, NULL, NULL));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_condition_of_a_closed_fd (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  guint notified = 0;
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once);

  close (fd);
  g_assert_false (gaio_handler_set_condition (handler, G_IO_OUT, &error));
  assert_error_tells (error, GAIO_ERROR_BAD_FD, fd);
  g_assert_cmpint (gaio_handler_get_condition (handler), ==, G_IO_IN);
  g_assert_cmpuint (notified, ==, 0);
  gaio_clear_handler (&handler);
  assert_works (context);
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_condition_of_a_number_that_epoll_refuses (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  gint fd = eventfd_new (0);
  gint other = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  g_assert_cmpint (dup2 (other, fd), ==, fd);
  g_assert_false (gaio_handler_set_condition (handler, G_IO_OUT, &error));
  assert_error_tells (error, GAIO_ERROR_BAD_FD, fd);
  gaio_clear_handler (&handler);
  close (fd);
  close (other);
}

static void
test_condition_of_a_removed_handler (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  gint fd = eventfd_new (0);
  g_autoptr (GaioHandler) handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  gaio_handler_remove (handler);
  g_assert_false (gaio_handler_set_condition (handler, G_IO_OUT, &error));
  assert_error_tells (error, GAIO_ERROR_REMOVED, fd);
  close (fd);
}

/* --- Programmer errors --- */

static void
test_null_callback_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (1);
  guint notified = 0;
  gpointer added = NULL;

  expect_critical (
      added = gaio_context_add_fd (context, fd, G_IO_IN, NULL, &notified, count_once, NULL));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timer (context, NULL, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timeout (context, 1, NULL, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_bottom_half (context, NULL, &notified, count_once));
  g_assert_null (added);
  expect_critical (gaio_context_defer (context, NULL, &notified, count_once));
  g_assert_cmpuint (notified, ==, 5);
  g_assert_cmpuint (stat_of (context, "handlers"), ==, 0);
  g_assert_cmpuint (stat_of (context, "timers"), ==, 0);
  assert_works (context);
  close (fd);
}

static void
test_bad_interval_notifies (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;
  gpointer added = NULL;

  expect_critical (added =
                       gaio_context_add_timeout (context, 0, count_again, &notified, count_once));
  g_assert_null (added);
  g_assert_cmpuint (notified, ==, 1);
  assert_works (context);
}

static void
test_bad_timeout_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const gint64 bad[] = { -2, G_MININT, G_MININT64, G_MININT64 + 1 };
  guint calls = 0;

  gaio_context_defer (context, count_once, &calls, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      gboolean ran = TRUE;

      expect_critical (ran = gaio_context_iterate (context, bad[i]));
      g_assert_false (ran);
    }
  g_assert_cmpuint (calls, ==, 0);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_cmpuint (calls, ==, 1);
}

static void
add_to_wrong_context (gpointer wrong)
{
  gint fd = eventfd_new (1);
  guint notified = 0;
  gpointer added = NULL;

  expect_critical (
      added = gaio_context_add_fd (wrong, fd, G_IO_IN, never_fd, &notified, count_once, NULL));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timer (wrong, never_once, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timeout (wrong, 1, count_again, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_bottom_half (wrong, never_once, &notified, count_once));
  g_assert_null (added);
  expect_critical (gaio_context_defer (wrong, never_once, &notified, count_once));
  expect_critical (added = gaio_ready_set_new (wrong));
  g_assert_null (added);
  g_assert_cmpuint (notified, ==, 5);
  close (fd);
}

static void
use_wrong_context (gpointer wrong)
{
  gpointer got = NULL;

  expect_critical (gaio_context_iterate (wrong, 0));
  expect_critical (gaio_context_wakeup (wrong));
  expect_critical (gaio_context_close (wrong));
  expect_critical (gaio_context_is_closed (wrong));
  expect_critical (gaio_context_set_dispatch_limits (wrong, 1, 1));
  expect_critical (got = gaio_context_dup_stats (wrong));
  g_assert_null (got);
  expect_critical (gaio_context_attach (wrong, NULL, NULL));
  expect_critical (gaio_context_detach (wrong));
  expect_critical (got = gaio_context_create_source (wrong, NULL));
  g_assert_null (got);
}

static void
test_null_context_is_a_critical (void)
{
  add_to_wrong_context (NULL);
  use_wrong_context (NULL);
}

static void
test_wrong_type_is_a_critical (void)
{
  g_autoptr (GObject) wrong = g_object_new (G_TYPE_OBJECT, NULL);

  add_to_wrong_context (wrong);
  use_wrong_context (wrong);
}

static void
test_null_handler_is_a_critical (void)
{
  expect_critical (gaio_handler_ref (NULL));
  expect_critical (gaio_handler_unref (NULL));
  expect_critical (gaio_handler_remove (NULL));
  expect_critical (gaio_handler_remove_sync (NULL));
  expect_critical (gaio_handler_is_removed (NULL));
  expect_critical (gaio_handler_set_condition (NULL, G_IO_IN, NULL));
  expect_critical (gaio_handler_get_condition (NULL));
  expect_critical (gaio_handler_get_fd (NULL));
  expect_critical (gaio_handler_dup_context (NULL));
  expect_critical (gaio_handler_set_name (NULL, "name"));
  expect_critical (gaio_handler_set_can_recurse (NULL, TRUE));
}

static void
test_null_timer_or_bottom_half_is_a_critical (void)
{
  expect_critical (gaio_timer_ref (NULL));
  expect_critical (gaio_timer_unref (NULL));
  expect_critical (gaio_timer_arm (NULL, 0));
  expect_critical (gaio_timer_arm_at (NULL, 0));
  expect_critical (gaio_timer_disarm (NULL));
  expect_critical (gaio_timer_get_deadline (NULL));
  expect_critical (gaio_timer_remove (NULL));
  expect_critical (gaio_bottom_half_ref (NULL));
  expect_critical (gaio_bottom_half_unref (NULL));
  expect_critical (gaio_bottom_half_schedule (NULL));
  expect_critical (gaio_bottom_half_schedule_idle (NULL));
  expect_critical (gaio_bottom_half_cancel (NULL));
  expect_critical (gaio_bottom_half_remove (NULL));
}

static void
test_clearing_nothing_is_quiet (void)
{
  GaioHandler *handler = NULL;
  GaioTimer *timer = NULL;
  GaioBottomHalf *bh = NULL;

  gaio_clear_handler (&handler);
  gaio_clear_timer (&timer);
  gaio_clear_bottom_half (&bh);
  g_assert_null (handler);
  g_assert_null (timer);
  g_assert_null (bh);
}

static void
test_null_ready_set_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (context);
  gsize length = 0;

  expect_critical (gaio_ready_set_take (NULL, &length));
  expect_critical (gaio_ready_set_set_func (NULL, NULL, NULL, NULL));
  expect_critical (g_assert_null (gaio_ready_set_add_fd (NULL, 0, G_IO_IN, 1, NULL)));
  expect_critical (gaio_ready_set_take (set, NULL));
}

/* Bits of epoll's own, such as edge-triggered, one-shot and exclusive, must not get through. */
static void
test_unknown_condition_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const guint bits[] = { 1u << 31, 1u << 30, 1u << 28, 0x10000 };
  gint fd = eventfd_new (1);
  guint notified = 0;

  for (guint i = 0; i < G_N_ELEMENTS (bits); i++)
    {
      g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "*condition*");
      g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "*");
      g_assert_null (gaio_context_add_fd (context, fd, (GIOCondition) (G_IO_IN | bits[i]), never_fd,
                                          &notified, count_once, NULL));
      g_test_assert_expected_messages ();
      g_assert_cmpuint (notified, ==, i + 1);
    }
  g_assert_false (gaio_context_iterate (context, 0));
  assert_works (context);
  close (fd);
}

static void
test_every_condition_of_poll_is_taken (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const GIOCondition all = G_IO_IN | G_IO_PRI | G_IO_OUT | G_IO_ERR | G_IO_HUP | G_IO_NVAL;
  gint fd = eventfd_new (1);
  guint calls = 0;
  GaioHandler *handler = add_fd (context, fd, all, count_fd, &calls, NULL);

  for (guint i = 1; i <= 3; i++)
    {
      g_assert_true (gaio_context_iterate (context, 0));
      g_assert_cmpuint (calls, ==, i);
    }
  gaio_clear_handler (&handler);
  close (fd);
}

/* --- The process's limit of fds --- */

static struct rlimit saved_limit;

/* Leaves room for so many more fds. */
static void
leave_room (guint n)
{
  struct rlimit limit;
  gint probes[8];

  g_assert_cmpuint (n, <, G_N_ELEMENTS (probes));
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &saved_limit), ==, 0);
  for (guint i = 0; i <= n; i++)
    probes[i] = eventfd_new (0);
  limit = saved_limit;
  limit.rlim_cur = probes[n];
  for (guint i = 0; i <= n; i++)
    close (probes[i]);
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);
}

static void
give_room (void)
{
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &saved_limit), ==, 0);
}

/* Whichever fd of its own it does not get, the context survives. */
static void
test_add_at_the_fd_limit (void)
{
  gint fd = eventfd_new (1);
  guint before = count_open_fds ();

  for (guint room = 0; room < 4; room++)
    {
      GaioContext *context = gaio_context_new ();
      g_autoptr (GError) error = NULL;
      g_autoptr (GaioHandler) handler = NULL;
      guint calls = 0;
      guint notified = 0;

      leave_room (room);
      handler = gaio_context_add_fd (context, fd, G_IO_IN, count_fd, &calls, count_once, &error);
      give_room ();
      if (handler == NULL)
        {
          g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
          g_assert_cmpuint (calls, ==, 1);
          handler = add_fd (context, fd, G_IO_IN, count_fd, &notified, NULL);
        }
      else
        g_assert_cmpuint (room, >, 0);
      g_assert_true (gaio_context_iterate (context, 0));
      assert_works (context);
      g_assert_finalize_object (context);
      g_assert_cmpuint (count_open_fds (), ==, before);
    }
  close (fd);
}

static void
test_attach_at_the_fd_limit (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();

  for (guint room = 0; room < 4; room++)
    {
      g_autoptr (GaioContext) context = gaio_context_new ();
      g_autoptr (GError) error = NULL;
      gboolean attached;

      leave_room (room);
      attached = gaio_context_attach (context, main_context, &error);
      give_room ();
      if (!attached)
        {
          g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
          attach (context, main_context);
        }
      else
        g_assert_cmpuint (room, >, 0);
      assert_serves (context, main_context);
      gaio_context_detach (context);
    }
}

static void
test_timer_at_the_fd_limit (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Story story = { .context = rig.context, .main_context = rig.main_context };

  leave_room (0);
  fire_timer_nested (&story);
  give_room ();
  story.calls = 0;
  fire_timer_nested (&story);
}

/* Its name is what error messages of GLib and of bindings show. */
static void
test_domain_has_a_name (void)
{
  g_assert_cmpstr (g_quark_to_string (GAIO_ERROR), ==, "gaio-error-quark");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/errors/bad-fd", test_bad_fd);
  g_test_add_func ("/errors/bad-fd-in-ready-set", test_bad_fd_in_ready_set);
  g_test_add_func ("/errors/may-be-ignored", test_error_may_be_ignored);
  g_test_add_func ("/errors/condition-of-a-closed-fd", test_condition_of_a_closed_fd);
  g_test_add_func ("/errors/condition-of-a-number-that-epoll-refuses",
                   test_condition_of_a_number_that_epoll_refuses);
  g_test_add_func ("/errors/condition-of-a-removed-handler", test_condition_of_a_removed_handler);
  g_test_add_func ("/critical/null-callback", test_null_callback_is_a_critical);
  g_test_add_func ("/critical/bad-interval-notifies", test_bad_interval_notifies);
  g_test_add_func ("/critical/bad-timeout", test_bad_timeout_is_a_critical);
  g_test_add_func ("/critical/null-context", test_null_context_is_a_critical);
  g_test_add_func ("/critical/wrong-type", test_wrong_type_is_a_critical);
  g_test_add_func ("/critical/null-handler", test_null_handler_is_a_critical);
  g_test_add_func ("/critical/null-timer-or-bottom-half",
                   test_null_timer_or_bottom_half_is_a_critical);
  g_test_add_func ("/critical/null-ready-set", test_null_ready_set_is_a_critical);
  g_test_add_func ("/critical/unknown-condition", test_unknown_condition_is_a_critical);
  g_test_add_func ("/errors/every-condition-of-poll-is-taken",
                   test_every_condition_of_poll_is_taken);
  g_test_add_func ("/errors/clearing-nothing-is-quiet", test_clearing_nothing_is_quiet);
  g_test_add_func ("/fd-limit/add", test_add_at_the_fd_limit);
  g_test_add_func ("/fd-limit/attach", test_attach_at_the_fd_limit);
  g_test_add_func ("/fd-limit/timer-fires-all-the-same", test_timer_at_the_fd_limit);
  g_test_add_func ("/errors/domain-has-a-name", test_domain_has_a_name);
  return g_test_run ();
}
