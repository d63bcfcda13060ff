/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include "test-child.h"

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

int
main (int argc, char *argv[])
{
  if (!have_pidfd_open ())
    return 0;
  g_test_init (&argc, &argv, NULL);
  add_both ("/child/reaped-by-somebody-else", test_reaped_by_somebody_else);
  add_both ("/child/held-by-a-tracer-does-not-spin", test_held_by_a_tracer);
  add_both ("/child/removed-while-held-by-a-tracer", test_removed_while_held_by_a_tracer);
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
