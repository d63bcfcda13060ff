/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <fcntl.h>

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

static inline GPid
fork_and_exit (int status)
{
  pid_t pid = fork ();

  g_assert_cmpint (pid, >=, 0);
  if (pid == 0)
    _exit (status);
  return pid;
}

/* Until it is killed. */
static inline GPid
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

static inline void
kill_and_reap (GPid pid)
{
  int wait_status;

  g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (pid, &wait_status, 0)), ==, pid);
  g_assert_true (WIFSIGNALED (wait_status));
}

static inline void
assert_reaped (GPid pid)
{
  g_assert_cmpint (waitpid (pid, NULL, WNOHANG), ==, -1);
  g_assert_cmpint (errno, ==, ECHILD);
}

static inline void
on_ended (GPid pid, gint wait_status, gpointer data)
{
  Child *child = data;

  g_assert_cmpint (pid, ==, child->pid);
  assert_reaped (pid);
  child->calls++;
  child->wait_status = wait_status;
}

static inline void
on_gone (gpointer data)
{
  Child *child = data;

  g_assert_cmpint (fcntl (child->pidfd, F_GETFD), ==, -1);
  g_assert_cmpuint (child->notified, ==, 0);
  child->notified++;
}

static inline void
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

static inline void
watch_child (Child *child, Rig *rig, GPid pid)
{
  watch_child_with (child, rig, pid, on_ended);
}

static inline void
assert_ended (Child *child)
{
  rig_until (child->rig, child->notified == 1);
  g_assert_cmpuint (child->calls, ==, 1);
  g_assert_true (gaio_handler_is_removed (child->handler));
  gaio_clear_handler (&child->handler);
}

/* FALSE, with all tests skipped, where there is none, as under valgrind 3.19. */
static inline gboolean
have_pidfd_open (void)
{
  gint pidfd = syscall (SYS_pidfd_open, getpid (), 0);

  if (pidfd != -1)
    return close (pidfd) == 0;
  g_print ("1..0 # SKIP no pidfd_open()\n");
  return FALSE;
}
