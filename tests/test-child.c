/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "test-support.h"

#ifndef SYS_pidfd_open
#  define SYS_pidfd_open 434
#endif

/* What has become of one child. */
typedef struct
{
  Rig *rig;
  GPid pid;
  GaioHandler *handler;
  gint pidfd;
  guint calls;
  gint wait_status;
  guint notified;
} Child;

static GPid
fork_and_exit (int status)
{
  pid_t pid = fork ();

  g_assert_cmpint (pid, >=, 0);
  if (pid == 0)
    _exit (status);
  return pid;
}

/* Until it is killed. */
static GPid
fork_and_pause (void)
{
  pid_t pid = fork ();

  g_assert_cmpint (pid, >=, 0);
  if (pid == 0)
    {
      alarm (60);
      for (;;)
        pause ();
    }
  return pid;
}

static GPid
fork_to_be_traced (void)
{
  gint ready[2];
  pid_t pid;

  g_assert_cmpint (pipe (ready), ==, 0);
  pid = fork ();
  g_assert_cmpint (pid, >=, 0);
  if (pid == 0)
    {
      prctl (PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
      close (ready[0]);
      close (ready[1]);
      alarm (60);
      for (;;)
        pause ();
    }
  close (ready[1]);
  g_assert_cmpint (TEMP_FAILURE_RETRY (read (ready[0], &(char){ 0 }, 1)), ==, 0);
  close (ready[0]);
  return pid;
}

/* Waits until @pid has ended, and leaves it a zombie. */
static void
wait_for_zombie (GPid pid)
{
  siginfo_t info;

  g_assert_cmpint (TEMP_FAILURE_RETRY (waitid (P_PID, pid, &info, WEXITED | WNOWAIT)), ==, 0);
}

static void
kill_and_reap (GPid pid)
{
  int wait_status;

  g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (pid, &wait_status, 0)), ==, pid);
  g_assert_true (WIFSIGNALED (wait_status));
}

static void
assert_reaped (GPid pid)
{
  g_assert_cmpint (waitpid (pid, NULL, WNOHANG), ==, -1);
  g_assert_cmpint (errno, ==, ECHILD);
}

static void
on_ended (GPid pid, gint wait_status, gpointer data)
{
  Child *child = data;

  g_assert_cmpint (pid, ==, child->pid);
  assert_reaped (pid);
  child->calls++;
  child->wait_status = wait_status;
}

static void
on_gone (gpointer data)
{
  Child *child = data;

  g_assert_cmpint (fcntl (child->pidfd, F_GETFD), ==, -1);
  g_assert_cmpuint (child->notified, ==, 0);
  child->notified++;
}

static void
watch_child_with (Child *child, Rig *rig, GPid pid, GaioChildFunc func)
{
  g_autoptr (GError) error = NULL;

  *child = (Child){ .rig = rig, .pid = pid, .pidfd = -1 };
  child->handler = gaio_context_add_child (rig->context, pid, func, child, on_gone, &error);
  g_assert_no_error (error);
  g_assert_nonnull (child->handler);
  child->pidfd = gaio_handler_get_fd (child->handler);
  g_assert_cmpint (fcntl (child->pidfd, F_GETFD), ==, FD_CLOEXEC);
}

static void
watch_child (Child *child, Rig *rig, GPid pid)
{
  watch_child_with (child, rig, pid, on_ended);
}

static void
assert_ended (Child *child)
{
  rig_until (child->rig, child->notified == 1);
  g_assert_cmpuint (child->calls, ==, 1);
  g_assert_true (gaio_handler_is_removed (child->handler));
  gaio_clear_handler (&child->handler);
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

/* --- A tracer, which is told first, and lets go when it is told to --- */

typedef struct
{
  GPid pid;
  gint told[2];
} Tracer;

static void G_GNUC_NORETURN
trace (const Tracer *tracer, GPid traced)
{
  gboolean traces;
  char byte;

  alarm (60);
  close (tracer->told[1]);
  traces = ptrace (PTRACE_SEIZE, traced, NULL, NULL) == 0;
  byte = traces;
  if (TEMP_FAILURE_RETRY (write (tracer->told[0], &byte, 1)) != 1 ||
      TEMP_FAILURE_RETRY (read (tracer->told[0], &byte, 1)) != 1)
    _exit (1);
  _exit (!traces || TEMP_FAILURE_RETRY (waitpid (traced, NULL, __WALL)) == traced ? 0 : 1);
}

/* FALSE, with the test skipped, where it may not trace. */
static gboolean
tracer_start (Tracer *tracer, GPid traced)
{
  char byte = 0;

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, tracer->told), ==, 0);
  tracer->pid = fork ();
  g_assert_cmpint (tracer->pid, >=, 0);
  if (tracer->pid == 0)
    trace (tracer, traced);
  close (tracer->told[0]);
  g_assert_cmpint (TEMP_FAILURE_RETRY (read (tracer->told[1], &byte, 1)), ==, 1);
  if (byte == 0)
    g_test_skip ("may not trace here");
  return byte;
}

static void
tracer_let_go (Tracer *tracer)
{
  g_assert_cmpint (TEMP_FAILURE_RETRY (write (tracer->told[1], "", 1)), ==, 1);
  assert_exits_well (tracer->pid);
}

/* The pidfd says all the time that the child has ended, and nobody may wait for it. */
static void
test_held_by_a_tracer (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;
  Tracer tracer;
  struct pollfd ended;
  guint fired = 0, rounds, interruptions;
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (rig.context, count_once, &fired, NULL);
  gboolean traces;

  watch_child (&child, &rig, fork_to_be_traced ());
  traces = tracer_start (&tracer, child.pid);
  kill (child.pid, SIGKILL);
  if (traces)
    {
      ended = (struct pollfd){ .fd = child.pidfd, .events = POLLIN };
      g_assert_cmpint (TEMP_FAILURE_RETRY (poll (&ended, 1, -1)), ==, 1);
      rounds = rig.rounds;
      interruptions = test_interruptions ();
      gaio_timer_arm (timer, 100 * 1000);
      rig_until (&rig, fired == 1);
      g_assert_cmpuint (rig.rounds - rounds, <=, 60 + test_interruptions () - interruptions);
      g_assert_cmpuint (child.calls, ==, 0);
    }
  tracer_let_go (&tracer);
  assert_ended (&child);
  g_assert_cmpint (WTERMSIG (child.wait_status), ==, SIGKILL);
  close (tracer.told[1]);
}

/* What asks again goes with it. */
static void
test_removed_while_held_by_a_tracer (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;
  Tracer tracer;
  gboolean traces;

  watch_child (&child, &rig, fork_to_be_traced ());
  traces = tracer_start (&tracer, child.pid);
  kill (child.pid, SIGKILL);
  if (traces)
    rig_until (&rig, stat_of (rig.context, "armed-timers") == 1);
  gaio_clear_handler (&child.handler);
  rig_until (&rig, child.notified == 1);
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (stat_of (rig.context, "timers"), ==, 0);
  tracer_let_go (&tracer);
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (child.pid, NULL, 0)), ==, child.pid);
  g_assert_cmpuint (child.calls, ==, 0);
  close (tracer.told[1]);
}

static void
test_reaped_by_somebody_else (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Child child;

  watch_child (&child, &rig, fork_and_pause ());
  kill_and_reap (child.pid);
  assert_ended (&child);
  g_assert_cmpint (child.wait_status, ==, -1);
  g_assert_false (g_spawn_check_wait_status (child.wait_status, NULL));
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

/* --- What cannot be watched --- */

static void
assert_not_watched (GaioContext *context, GPid pid, gint code, const char *message)
{
  guint n_fds = count_open_fds ();
  g_autoptr (GError) error = NULL;
  Child child = { .pid = pid, .pidfd = -1 };

  g_assert_null (gaio_context_add_child (context, pid, on_ended, &child, on_gone, &error));
  g_assert_error (error, GAIO_ERROR, code);
  if (message != NULL)
    g_assert_nonnull (g_strstr_len (error->message, -1, message));
  g_assert_cmpuint (child.notified, ==, 1);
  g_assert_cmpuint (child.calls, ==, 0);
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
}

static void
test_reaped_before (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GPid pid = fork_and_exit (0);
  g_autofree char *message = g_strdup_printf ("Process %d does not exist", pid);

  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (pid, NULL, 0)), ==, pid);
  assert_not_watched (context, pid, GAIO_ERROR_FAILED, message);
}

static void
test_not_a_child (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autofree char *message = g_strdup_printf ("Process %d is not a child", getpid ());

  assert_not_watched (context, getpid (), GAIO_ERROR_FAILED, message);
}

static void
test_closed (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GPid pid = fork_and_pause ();

  gaio_context_close (context);
  assert_not_watched (context, pid, GAIO_ERROR_CLOSED, NULL);
  kill_and_reap (pid);
}

/* Also where the process to watch is the parent's. */
static void
test_forked (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GPid pid = fork_and_pause ();
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      assert_not_watched (context, pid, GAIO_ERROR_FORKED, NULL);
      leave_child ();
    }
  assert_exits_well (child);
  kill_and_reap (pid);
}

static void
test_no_fd_left (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  GPid pid = fork_and_pause ();
  struct rlimit before, none;
  Child child = { .pid = pid, .pidfd = -1 };

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  none = before;
  none.rlim_cur = 0;
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &none), ==, 0);
  g_assert_null (gaio_context_add_child (context, pid, on_ended, &child, on_gone, &error));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
  g_assert_cmpuint (child.notified, ==, 1);
  kill_and_reap (pid);
}

/* From now on the kernel answers pidfd_open(2) with @errsv. */
static void
forbid_pidfd_open (int errsv)
{
  struct sock_filter filter[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errsv),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { G_N_ELEMENTS (filter), filter };

  g_assert_cmpint (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
  g_assert_cmpint (prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), ==, 0);
}

static void
test_without_pidfd_open (gconstpointer errsv)
{
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      g_autoptr (GaioContext) context = gaio_context_new ();
      GPid pid = fork_and_pause ();

      alarm (30);
      forbid_pidfd_open (GPOINTER_TO_INT (errsv));
      assert_not_watched (context, pid, GAIO_ERROR_NOT_SUPPORTED, "pidfd_open");
      kill_and_reap (pid);
      leave_child ();
    }
  assert_exits_well (child);
}

static void
test_bad_arguments_are_criticals (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GaioHandler *handler = NULL;
  guint notified = 0;

  expect_critical (handler =
                       gaio_context_add_child (context, 0, on_ended, &notified, count_once, NULL));
  g_assert_null (handler);
  expect_critical (handler =
                       gaio_context_add_child (context, -1, on_ended, &notified, count_once, NULL));
  g_assert_null (handler);
  expect_critical (
      handler = gaio_context_add_child (context, getpid (), NULL, &notified, count_once, NULL));
  g_assert_null (handler);
  g_assert_cmpuint (notified, ==, 3);
}

static gboolean
have_pidfd_open (void)
{
  gint pidfd = syscall (SYS_pidfd_open, getpid (), 0);

  return pidfd != -1 && close (pidfd) == 0;
}

int
main (int argc, char *argv[])
{
  /* As under valgrind 3.19. */
  if (!have_pidfd_open ())
    {
      g_print ("1..0 # SKIP no pidfd_open()\n");
      return 0;
    }
  g_test_init (&argc, &argv, NULL);

  add_both ("/child/exit-status", test_exit_status);
  add_both ("/child/success", test_success);
  add_both ("/child/killed", test_killed);
  add_both ("/child/ended-before-it-was-added", test_ended_before_it_was_added);
  add_both ("/child/stopped-is-not-ended", test_stopped_is_not_ended);
  add_both ("/child/reaped-by-somebody-else", test_reaped_by_somebody_else);
  add_both ("/child/held-by-a-tracer-does-not-spin", test_held_by_a_tracer);
  add_both ("/child/removed-while-held-by-a-tracer", test_removed_while_held_by_a_tracer);
  add_both ("/child/many", test_many);
  add_both ("/child/another-ends-in-a-nested-loop", test_another_ends_in_a_nested_loop);
  add_both ("/child/recursing-does-not-call-twice", test_recursing_does_not_call_twice);
  add_both ("/child/removed-is-not-called-and-nobody-reaps",
            test_removed_is_not_called_and_nobody_reaps);
  add_both ("/child/removed-while-ready-is-not-called", test_removed_while_ready_is_not_called);
  g_test_add_func ("/child/closing-the-context-removes", test_closing_the_context_removes);
  add_both ("/child/closing-in-the-callback", test_closing_in_the_callback);
  g_test_add_func ("/child/reaped-before", test_reaped_before);
  g_test_add_func ("/child/not-a-child", test_not_a_child);
  g_test_add_func ("/child/closed", test_closed);
  g_test_add_func ("/child/forked", test_forked);
  g_test_add_func ("/child/no-fd-left", test_no_fd_left);
  g_test_add_data_func ("/child/without-pidfd-open/missing", GINT_TO_POINTER (ENOSYS),
                        test_without_pidfd_open);
  g_test_add_data_func ("/child/without-pidfd-open/forbidden", GINT_TO_POINTER (EPERM),
                        test_without_pidfd_open);
  g_test_add_data_func ("/child/without-pidfd-open/denied", GINT_TO_POINTER (EACCES),
                        test_without_pidfd_open);
  g_test_add_data_func ("/child/without-pidfd-open/invalid", GINT_TO_POINTER (EINVAL),
                        test_without_pidfd_open);
  g_test_add_data_func ("/child/without-pidfd-open/not-supported", GINT_TO_POINTER (EOPNOTSUPP),
                        test_without_pidfd_open);
  g_test_add_func ("/child/bad-arguments-are-criticals", test_bad_arguments_are_criticals);

  return g_test_run ();
}
