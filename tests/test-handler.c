/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <malloc.h>

#include "test-util.h"

/* --- What the calls do --- */

static void
says_what_it_watches (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GaioContext) context = NULL;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN | G_IO_PRI);
  context = gaio_handler_dup_context (watch.handler);
  g_assert_true (context == loop->context);
  g_assert_cmpint (gaio_handler_get_fd (watch.handler), ==, watch.fd);
  g_assert_cmpuint (gaio_handler_get_condition (watch.handler), ==, G_IO_IN | G_IO_PRI);
  g_assert_false (gaio_handler_is_removed (watch.handler));
  gaio_handler_set_name (watch.handler, "a name");
}

static void
is_called_with_what_is_ready (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (0), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  test_signal (watch.fd);
  g_assert_true (test_loop_step (loop));
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpint (watch.called_fd, ==, watch.fd);
  g_assert_cmpuint (watch.condition, ==, G_IO_IN);
}

static void
is_level_triggered (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  for (guint i = 1; i <= 5; i++)
    {
      g_assert_true (test_loop_step (loop));
      g_assert_cmpuint (watch.calls, ==, i);
    }
  test_drain (watch.fd);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 5);
}

static void
reports_no_more_than_was_asked (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  gint fds[2];

  test_socketpair (fds);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  test_watch_start (&watch, loop, fds[0], G_IO_OUT);
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_OUT);
  close (fds[1]);
}

static void
set_condition_changes_what_is_reported (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;
  gint fds[2];

  test_socketpair (fds);
  test_watch_start (&watch, loop, fds[0], G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN | G_IO_OUT, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (gaio_handler_get_condition (watch.handler), ==, G_IO_IN | G_IO_OUT);
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_OUT);
  g_assert_cmpint (write (fds[1], "x", 1), ==, 1);
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_IN | G_IO_OUT);
  g_assert_true (gaio_handler_set_condition (watch.handler, G_IO_IN, &error));
  test_loop_step (loop);
  g_assert_cmpuint (watch.condition, ==, G_IO_IN);
  close (fds[1]);
}

static void
set_condition_of_a_removed_one_fails (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_handler_remove (watch.handler);
  g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_IN, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_REMOVED);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
}

static void
remove_is_idempotent (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  gaio_handler_remove (watch.handler);
  g_assert_true (gaio_handler_is_removed (watch.handler));
  gaio_handler_remove (watch.handler);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
  gaio_handler_remove (watch.handler);
  gaio_handler_remove_sync (watch.handler);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_cmpuint (watch.calls, ==, 0);
}

static void
returning_false_removes (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_auto (TestWatch) witness = TEST_WATCH_INIT;

  watch.removes = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (watch.handler));

  /* The context itself has not taken it for an answer of its own. */
  test_watch_start (&witness, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (witness.calls, ==, 1);
}

static void
unref_never_removes (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;

  watch.drains = TRUE;
  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  g_clear_pointer (&watch.handler, gaio_handler_unref);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 1);
  g_assert_cmpuint (watch.notifies, ==, 0);
  watch.removes = TRUE;
  test_signal (watch.fd);
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
clear_removes_and_unrefs (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GaioHandler) kept = NULL;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  kept = gaio_handler_ref (watch.handler);
  gaio_clear_handler (&watch.handler);
  g_assert_null (watch.handler);
  gaio_clear_handler (&watch.handler);
  g_assert_true (gaio_handler_is_removed (kept));
  test_loop_settle (loop);
  g_assert_cmpuint (watch.calls, ==, 0);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
outlives_its_context (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;

  test_watch_start (&watch, loop, test_eventfd (1), G_IO_IN);
  g_clear_pointer (&loop->main_context, g_main_context_unref);
  g_clear_object (&loop->context);
  g_assert_cmpuint (watch.notifies, ==, 1);
  g_assert_true (gaio_handler_is_removed (watch.handler));
  g_assert_cmpint (gaio_handler_get_fd (watch.handler), ==, watch.fd);
  g_assert_false (gaio_handler_set_condition (watch.handler, G_IO_IN, &error));
  gaio_handler_remove (watch.handler);
  gaio_handler_remove_sync (watch.handler);
}

/* --- What cannot be added --- */

static void
assert_add_fails (TestLoop *loop, gint fd, GaioError code)
{
  TestWatch watch = TEST_WATCH_INIT;
  g_autoptr (GError) error = NULL;
  g_autofree gchar *number = g_strdup_printf ("fd %d", fd);

  watch.handler = gaio_context_add_fd (loop->context, fd, G_IO_IN, test_watch_called, &watch,
                                       test_watch_notified, &error);
  g_assert_error (error, GAIO_ERROR, (gint) code);
  g_assert_null (watch.handler);
  /* In the caller, before it returned. */
  g_assert_cmpuint (watch.notifies, ==, 1);
  if (code == GAIO_ERROR_BAD_FD)
    g_assert_nonnull (strstr (error->message, number));
  test_loop_settle (loop);
  g_assert_cmpuint (watch.notifies, ==, 1);
}

static void
adding_a_closed_fd_fails (TestLoop *loop, gconstpointer mode)
{
  gint fd = test_eventfd (1);
  gint number = fd;

  test_close (&fd);
  assert_add_fails (loop, number, GAIO_ERROR_BAD_FD);
  /* The refusal has left nothing behind that would make it fail again. */
  fd = test_eventfd (1);
  g_assert_cmpint (fd, ==, number);
  {
    g_auto (TestWatch) watch = TEST_WATCH_INIT;

    test_watch_start (&watch, loop, fd, G_IO_IN);
    test_loop_step (loop);
    g_assert_cmpuint (watch.calls, ==, 1);
  }
}

static void
adding_a_negative_fd_fails (TestLoop *loop, gconstpointer mode)
{
  assert_add_fails (loop, -1, GAIO_ERROR_BAD_FD);
  assert_add_fails (loop, G_MININT, GAIO_ERROR_BAD_FD);
}

/* What is on the heap, where the allocator tells. */
static gsize
heap_size (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

static void
adding_an_impossible_fd_fails (TestLoop *loop, gconstpointer mode)
{
  gsize before = heap_size ();

  assert_add_fails (loop, G_MAXINT, GAIO_ERROR_BAD_FD);
  g_assert_cmpuint (heap_size (), <, before + (1 << 20));
}

static void
adding_to_a_closed_context_fails (TestLoop *loop, gconstpointer mode)
{
  gint fd = test_eventfd (1);

  gaio_context_close (loop->context);
  assert_add_fails (loop, fd, GAIO_ERROR_CLOSED);
  close (fd);
}

static void
adding_without_a_function_is_a_critical (TestLoop *loop, gconstpointer mode)
{
  gint fd = test_eventfd (1);
  g_autoptr (GaioHandler) handler = NULL;

  test_expect_critical ("*func*");
  handler = gaio_context_add_fd (loop->context, fd, G_IO_IN, NULL, NULL, NULL, NULL);
  g_test_assert_expected_messages ();
  g_assert_null (handler);
  close (fd);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/handler/says-what-it-watches", says_what_it_watches);
  test_add ("/handler/is-called-with-what-is-ready", is_called_with_what_is_ready);
  test_add ("/handler/is-level-triggered", is_level_triggered);
  test_add ("/handler/reports-no-more-than-was-asked", reports_no_more_than_was_asked);
  test_add ("/handler/set-condition-changes-what-is-reported",
            set_condition_changes_what_is_reported);
  test_add ("/handler/set-condition-of-a-removed-one-fails", set_condition_of_a_removed_one_fails);
  test_add ("/handler/remove-is-idempotent", remove_is_idempotent);
  test_add ("/handler/returning-false-removes", returning_false_removes);
  test_add ("/handler/unref-never-removes", unref_never_removes);
  test_add ("/handler/clear-removes-and-unrefs", clear_removes_and_unrefs);
  test_add ("/handler/outlives-its-context", outlives_its_context);
  test_add ("/handler/adding-a-closed-fd-fails", adding_a_closed_fd_fails);
  test_add ("/handler/adding-a-negative-fd-fails", adding_a_negative_fd_fails);
  test_add ("/handler/adding-an-impossible-fd-fails", adding_an_impossible_fd_fails);
  test_add ("/handler/adding-to-a-closed-context-fails", adding_to_a_closed_context_fails);
  test_add ("/handler/adding-without-a-function-is-a-critical",
            adding_without_a_function_is_a_critical);
  return g_test_run ();
}
