/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-notifier.h"

/* --- What it tells --- */

static void
test_several_sets_call_once (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 0);
  for (guint i = 1; i <= 3; i++)
    {
      gaio_notifier_set (notifier);
      gaio_notifier_set (notifier);
      rig_until (&rig, calls == i);
      rig_settle (&rig);
      g_assert_cmpuint (calls, ==, i);
    }
  rig_assert_sleeps (&rig);
  gaio_clear_handler (&handler);
}

static void
test_several_sets_write_once (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint64 n_writes = 0;

  for (guint i = 0; i < 100; i++)
    gaio_notifier_set (notifier);
  g_assert_cmpint (read (gaio_notifier_get_fd (notifier), &n_writes, sizeof n_writes), ==,
                   sizeof n_writes);
  g_assert_cmpuint (n_writes, ==, 1);
}

static void
test_test_and_clear (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();

  g_assert_false (gaio_notifier_test_and_clear (notifier));
  for (guint i = 0; i < 3; i++)
    {
      gaio_notifier_set (notifier);
      gaio_notifier_set (notifier);
      g_assert_true (gaio_notifier_test_and_clear (notifier));
      g_assert_false (gaio_notifier_test_and_clear (notifier));
    }
}

static void
test_set_and_cleared_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  GaioHandler *handler = add_notifier (rig.context, notifier, never_once, NULL, NULL);

  gaio_notifier_set (notifier);
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  rig_settle (&rig);
  gaio_clear_handler (&handler);
}

static void
test_a_foreign_write_sets_it (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  for (guint i = 1; i <= 3; i++)
    {
      eventfd_add (gaio_notifier_get_fd (notifier));
      rig_until (&rig, calls == i);
      rig_settle (&rig);
      g_assert_cmpuint (calls, ==, i);
    }
  gaio_clear_handler (&handler);
}

typedef struct
{
  Rig *rig;
  GaioNotifier *notifier;
  guint calls;
  guint depth;
} Recursion;

static void
set_and_nest (gpointer data)
{
  Recursion *recursion = data;

  g_assert_cmpuint (recursion->depth++, ==, 0);
  if (++recursion->calls == 1)
    {
      gaio_notifier_set (recursion->notifier);
      rig_assert_sleeps (recursion->rig);
      g_assert_cmpuint (recursion->calls, ==, 1);
    }
  recursion->depth--;
}

static void
test_set_while_it_runs_calls_again_later (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  Recursion recursion = { &rig, notifier, 0, 0 };
  GaioHandler *handler = add_notifier (rig.context, notifier, set_and_nest, &recursion, NULL);

  gaio_notifier_set (notifier);
  rig_until (&rig, recursion.calls == 2);
  gaio_clear_handler (&handler);
}

/* --- To whom it belongs --- */

static void
test_handler_holds_the_notifier (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  GaioNotifier *notifier = notifier_new ();
  guint calls = 0;
  guint n_fds;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  gaio_notifier_set (notifier);
  gaio_notifier_unref (notifier);
  rig_until (&rig, calls == 1);
  n_fds = count_open_fds ();
  gaio_clear_handler (&handler);
  rig_settle (&rig);
  g_assert_cmpuint (count_open_fds (), ==, n_fds - 1);
}

static void
assert_not_added (GaioContext *context, GaioNotifier *notifier)
{
  g_autofree char *fd = g_strdup_printf ("fd %d:", gaio_notifier_get_fd (notifier));
  g_autoptr (GError) error = NULL;
  guint notified = 0;

  g_assert_null (
      gaio_context_add_notifier (context, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_true (g_str_has_prefix (error->message, fd));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_only_one_context_at_a_time (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Rig) other = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  assert_not_added (rig.context, notifier);
  assert_not_added (other.context, notifier);
  gaio_notifier_set (notifier);
  rig_until (&rig, calls == 1);
  /* At once, before its notify has run. */
  gaio_clear_handler (&handler);
  handler = add_notifier (other.context, notifier, count_once, &calls, NULL);
  assert_not_added (rig.context, notifier);
  gaio_notifier_set (notifier);
  rig_until (&other, calls == 2);
  rig_settle (&rig);
  assert_not_added (rig.context, notifier);
  gaio_clear_handler (&handler);
}

static void
test_a_closed_context_lets_go_of_it (void)
{
  g_auto (Rig) rig = rig_new (NULL);
  g_autoptr (GaioContext) closed = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  g_autoptr (GaioHandler) first G_GNUC_UNUSED =
      add_notifier (closed, notifier, never_once, NULL, NULL);
  g_autoptr (GError) error = NULL;
  guint notified = 0;
  guint calls = 0;
  GaioHandler *handler;

  gaio_context_close (closed);
  g_assert_null (
      gaio_context_add_notifier (closed, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_assert_cmpuint (notified, ==, 1);
  handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);
  gaio_notifier_set (notifier);
  rig_until (&rig, calls == 1);
  gaio_clear_handler (&handler);
}

static void
add_meanwhile (GaioNotifier *notifier)
{
  g_autoptr (GaioContext) context = gaio_context_new ();

  assert_not_added (context, notifier);
}

static void
test_only_one_is_adding_it (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  GaioHandler *handler;

  hooked = notifier;
  before_epoll_ctl = add_meanwhile;
  handler = add_notifier (context, notifier, never_once, NULL, NULL);
  g_assert_null (before_epoll_ctl);
  hooked = NULL;
  gaio_clear_handler (&handler);
}

/* --- Where it cannot be --- */

static void
disturb (GaioNotifier *notifier, GaioContext *inherited)
{
  g_autoptr (GaioContext) fresh = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  guint notified = 0;

  gaio_notifier_set (notifier);
  g_assert_false (gaio_notifier_test_and_clear (notifier));
  g_assert_null (
      gaio_context_add_notifier (fresh, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_assert_cmpuint (notified, ==, 1);
  g_clear_error (&error);
  g_assert_null (
      gaio_context_add_notifier (inherited, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_assert_cmpuint (notified, ==, 2);
  gaio_notifier_unref (notifier);
}

static void
disturb_in_child (GaioNotifier *notifier, GaioContext *context)
{
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      disturb (notifier, context);
      leave_child ();
    }
  assert_exits_well (child);
}

static void
test_a_forked_child_does_not_disturb (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  disturb_in_child (notifier, rig.context);
  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 0);
  gaio_notifier_set (notifier);
  disturb_in_child (notifier, rig.context);
  rig_until (&rig, calls == 1);
  gaio_notifier_set (notifier);
  rig_until (&rig, calls == 2);
  gaio_clear_handler (&handler);
}

static void
test_no_fd_left (void)
{
  g_autoptr (GError) error = NULL;
  struct rlimit before, none;

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  none = before;
  none.rlim_cur = 0;
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &none), ==, 0);
  g_assert_null (gaio_notifier_new (&error));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
}

static void
test_null_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  GaioHandler *handler = NULL;
  guint notified = 0;

  expect_critical (gaio_notifier_set (NULL));
  expect_critical (g_assert_false (gaio_notifier_test_and_clear (NULL)));
  expect_critical (g_assert_cmpint (gaio_notifier_get_fd (NULL), ==, -1));
  expect_critical (gaio_notifier_unref (NULL));
  expect_critical (
      handler = gaio_context_add_notifier (context, NULL, never_once, &notified, count_once, NULL));
  g_assert_null (handler);
  expect_critical (
      handler = gaio_context_add_notifier (context, notifier, NULL, &notified, count_once, NULL));
  g_assert_null (handler);
  g_assert_cmpuint (notified, ==, 2);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/notifier/several-sets-call-once", test_several_sets_call_once);
  g_test_add_func ("/notifier/several-sets-write-once", test_several_sets_write_once);
  g_test_add_func ("/notifier/test-and-clear", test_test_and_clear);
  add_both ("/notifier/set-and-cleared-is-not-called", test_set_and_cleared_is_not_called);
  add_both ("/notifier/a-foreign-write-sets-it", test_a_foreign_write_sets_it);
  add_both ("/notifier/set-while-it-runs-calls-again-later",
            test_set_while_it_runs_calls_again_later);
  add_both ("/notifier/handler-holds-the-notifier", test_handler_holds_the_notifier);
  add_both ("/notifier/only-one-context-at-a-time", test_only_one_context_at_a_time);
  g_test_add_func ("/notifier/a-closed-context-lets-go-of-it", test_a_closed_context_lets_go_of_it);
  g_test_add_func ("/notifier/only-one-is-adding-it", test_only_one_is_adding_it);
  add_both ("/notifier/a-forked-child-does-not-disturb", test_a_forked_child_does_not_disturb);
  g_test_add_func ("/notifier/no-fd-left", test_no_fd_left);
  g_test_add_func ("/notifier/null-is-a-critical", test_null_is_a_critical);
  return g_test_run ();
}
