/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "test-child.h"

/* Waits until @pid has ended, and leaves it a zombie. */
static void
wait_for_zombie (GPid pid)
{
  siginfo_t info;

  g_assert_cmpint (TEMP_FAILURE_RETRY (waitid (P_PID, pid, &info, WEXITED | WNOWAIT)), ==, 0);
}

/* --- How it ended --- */

static void
test_exit_status (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;

  watch_child (&child, &rig, fork_and_exit (7));
  assert_ended (&child);
  g_assert_true (WIFEXITED (child.wait_status));
  g_assert_cmpint (WEXITSTATUS (child.wait_status), ==, 7);
  rig_assert_sleeps (&rig);
}

static void
test_success (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GError) error = NULL;
  Child child;

  watch_child (&child, &rig, fork_and_exit (0));
  assert_ended (&child);
  g_spawn_check_wait_status (child.wait_status, &error);
  g_assert_no_error (error);
}

static void
test_killed (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;

  watch_child (&child, &rig, fork_and_pause ());
  rig_settle (&rig);
  g_assert_cmpuint (child.calls, ==, 0);
  kill (child.pid, SIGKILL);
  assert_ended (&child);
  g_assert_true (WIFSIGNALED (child.wait_status));
  g_assert_cmpint (WTERMSIG (child.wait_status), ==, SIGKILL);
}

static void
test_ended_before_it_was_added (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;
  GPid pid = fork_and_exit (3);

  wait_for_zombie (pid);
  watch_child (&child, &rig, pid);
  assert_ended (&child);
  g_assert_cmpint (WEXITSTATUS (child.wait_status), ==, 3);
}

static void
test_stopped_is_not_ended (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  siginfo_t info;
  Child child;

  watch_child (&child, &rig, fork_and_pause ());
  kill (child.pid, SIGSTOP);
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitid (P_PID, child.pid, &info, WSTOPPED)), ==, 0);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (child.calls, ==, 0);
  kill (child.pid, SIGKILL);
  assert_ended (&child);
}

/* --- Many --- */

enum
{
  N_CHILDREN = 200
};

static void
test_many (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autofree Child *children = g_new0 (Child, N_CHILDREN);

  if (!test_may_open (N_CHILDREN + 20))
    return;
  for (guint i = 0; i < N_CHILDREN; i++)
    watch_child (&children[i], &rig, fork_and_exit (i));
  if (rig.main_context != NULL)
    g_assert_cmpint (main_context_n_fds (rig.main_context), ==, 2);
  for (guint i = 0; i < N_CHILDREN; i++)
    {
      assert_ended (&children[i]);
      g_assert_cmpint (WEXITSTATUS (children[i].wait_status), ==, i);
    }
  rig_assert_sleeps (&rig);
  for (guint i = 0; i < N_CHILDREN; i++)
    g_assert_cmpuint (children[i].calls, ==, 1);
}

/* --- Nested loops --- */

typedef struct
{
  Child child; /* the first, for on_ended() */
  Child other;
} Pair;

static void
wait_for_the_other (GPid pid, gint wait_status, gpointer data)
{
  Pair *pair = data;

  on_ended (pid, wait_status, &pair->child);
  kill (pair->other.pid, SIGKILL);
  rig_until (pair->child.rig, pair->other.calls == 1);
  rig_assert_sleeps (pair->child.rig);
  g_assert_cmpuint (pair->child.calls, ==, 1);
  g_assert_cmpuint (pair->child.notified, ==, 0);
}

static void
test_another_ends_in_a_nested_loop (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Pair pair;

  watch_child (&pair.other, &rig, fork_and_pause ());
  watch_child_with (&pair.child, &rig, fork_and_exit (0), wait_for_the_other);
  assert_ended (&pair.child);
  assert_ended (&pair.other);
}

static void
settle_inside (GPid pid, gint wait_status, gpointer data)
{
  Child *child = data;

  on_ended (pid, wait_status, child);
  rig_settle (child->rig);
}

static void
test_recursing_does_not_call_twice (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;

  watch_child_with (&child, &rig, fork_and_exit (0), settle_inside);
  gaio_handler_set_can_recurse (child.handler, TRUE);
  assert_ended (&child);
}

/* --- The end of the handler --- */

static void
test_removed_is_not_called_and_nobody_reaps (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;

  watch_child (&child, &rig, fork_and_pause ());
  gaio_clear_handler (&child.handler);
  rig_until (&rig, child.notified == 1);
  kill_and_reap (child.pid);
  rig_settle (&rig);
  g_assert_cmpuint (child.calls, ==, 0);
}

static void
test_removed_while_ready_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  GPid pid = fork_and_exit (0);
  Child child;

  watch_child (&child, &rig, pid);
  wait_for_zombie (pid);
  gaio_clear_handler (&child.handler);
  rig_until (&rig, child.notified == 1);
  g_assert_cmpuint (child.calls, ==, 0);
  g_assert_cmpint (waitpid (pid, NULL, WNOHANG), ==, pid);
}

static void
test_closing_the_context_removes (void)
{
  Rig rig = rig_new (NULL);
  Child child;

  watch_child (&child, &rig, fork_and_pause ());
  gaio_context_close (rig.context);
  g_assert_cmpuint (child.notified, ==, 1);
  gaio_clear_handler (&child.handler);
  g_assert_finalize_object (rig.context);
  kill_and_reap (child.pid);
  g_assert_cmpuint (child.calls, ==, 0);
}

static void
close_context (GPid pid, gint wait_status, gpointer data)
{
  Child *child = data;

  on_ended (pid, wait_status, child);
  gaio_context_close (child->rig->context);
  g_assert_cmpuint (child->notified, ==, 0);
}

static void
test_closing_in_the_callback (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;

  watch_child_with (&child, &rig, fork_and_exit (0), close_context);
  assert_ended (&child);
}

int
main (int argc, char *argv[])
{
  if (!have_pidfd_open ())
    return 0;
  g_test_init (&argc, &argv, NULL);
  add_both ("/child/exit-status", test_exit_status);
  add_both ("/child/success", test_success);
  add_both ("/child/killed", test_killed);
  add_both ("/child/ended-before-it-was-added", test_ended_before_it_was_added);
  add_both ("/child/stopped-is-not-ended", test_stopped_is_not_ended);
  add_both ("/child/many", test_many);
  add_both ("/child/another-ends-in-a-nested-loop", test_another_ends_in_a_nested_loop);
  add_both ("/child/recursing-does-not-call-twice", test_recursing_does_not_call_twice);
  add_both ("/child/removed-is-not-called-and-nobody-reaps",
            test_removed_is_not_called_and_nobody_reaps);
  add_both ("/child/removed-while-ready-is-not-called", test_removed_while_ready_is_not_called);
  g_test_add_func ("/child/closing-the-context-removes", test_closing_the_context_removes);
  add_both ("/child/closing-in-the-callback", test_closing_in_the_callback);
  return g_test_run ();
}
