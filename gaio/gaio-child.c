/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-child.h>

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gaio/gaio-timer.h>

#include "gaio-error-private.h"
#include "gaio-handler-private.h"

/* Newer than the oldest C library that we support. */
#define GAIO_P_PIDFD ((idtype_t) 3)

/* How soon to try again if a tracer holds the child. This doubles each time. */
#define FIRST_RETRY_US 1000
#define LAST_RETRY_US G_USEC_PER_SEC

/**
 * SECTION:gaio-child
 * @title: Child processes
 * @short_description: g_child_watch_add() for thousands of children
 *
 * gaio_context_add_child() reports when, and how, a child process has ended. It is a #GaioHandler
 * on a pidfd_open(2) fd, so when one child ends, the others cost nothing, and no signal handler is
 * needed.
 *
 * This is the only fd that belongs to Gaio and that gaio_handler_get_fd() returns, for example for
 * use with pidfd_send_signal(2). It is closed when the handler no longer exists.
 *
 * When the child has ended, it is reaped, as with waitpid(2), just before the function is called.
 * If its handler is removed before that, for example because its context is closed, nobody reaps
 * the child: it stays a zombie until the program waits for it or exits.
 *
 * If a debugger traces a child, the debugger learns of its end first. Until the debugger releases
 * the child, the loop checks from time to time, so the function may be called up to a second late.
 */

/* The user data of a handler. */
typedef struct
{
  GPid pid;
  gint pidfd;
  GaioChildFunc func; /* until it is called */
  gpointer user_data;
  GDestroyNotify notify;
  GaioTimer *retry; /* (owner) or NULL */
  gint64 retry_us;  /* (owner) */
} Watch;

static gint
pidfd_open_raw (GPid pid)
{
#ifdef SYS_pidfd_open
  return syscall (SYS_pidfd_open, pid, 0);
#else
  errno = ENOSYS;
  return -1;
#endif
}

/* Waits for the child behind @pidfd with @flags and WNOHANG. Uses only the pidfd, because the pid
 * may belong to another child by now. Returns 0 or an errno; info->si_pid is 0 if the child has not
 * ended. */
static int
query_child (gint pidfd, int flags, siginfo_t *info)
{
  int result;

  info->si_pid = 0;
  do
    result = waitid (GAIO_P_PIDFD, pidfd, info, WEXITED | WNOHANG | flags);
  while (result == -1 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

/* What waitpid(2) would have returned. */
static gint
wait_status_from (const siginfo_t *info)
{
  if (info->si_code == CLD_EXITED)
    return W_EXITCODE (info->si_status & 0xff, 0);
  return W_EXITCODE (0, info->si_status) | (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

/* Sets whether the handler of @watch is silent, whatever its condition. */
static void
set_silent (GaioCore *core, Watch *watch, gboolean silent)
{
  if (!gaio_core_lock (core))
    return;
  gaio_ring_foreach (&gaio_registration_lookup (core, watch->pidfd)->members, link)
    {
      GaioHandler *handler = gaio_link_entry (link, GaioHandler, entry.siblings);

      if (handler->entry.user_data != watch)
        continue;
      gaio_registration_set_masked (handler, silent);
      break;
    }
  gaio_core_unlock (core);
}

static void
ask_again (gpointer user_data)
{
  set_silent (gaio_core_current, user_data, FALSE);
}

/* The child has ended, as its pidfd keeps reporting, but its end belongs to a tracer. It is ours
 * once the tracer has waited for the child or has let it go. */
static void
ask_later (Watch *watch)
{
  g_autoptr (GaioContext) context = gaio_core_dup_context (gaio_core_current);

  if (context == NULL)
    return;
  if (watch->retry == NULL)
    {
      watch->retry = gaio_context_add_timer (context, ask_again, watch, NULL);
      watch->retry_us = FIRST_RETRY_US;
    }
  set_silent (gaio_core_current, watch, TRUE);
  gaio_timer_arm (watch->retry, watch->retry_us);
  watch->retry_us = MIN (2 * watch->retry_us, LAST_RETRY_US);
}

static gboolean
child_ended (gint fd, GIOCondition condition, gpointer user_data)
{
  Watch *watch = user_data;
  GaioChildFunc func;
  siginfo_t info;
  int errsv;

  /* Called already, if the handler can recurse. */
  if (watch->func == NULL)
    return G_SOURCE_REMOVE;
  errsv = query_child (watch->pidfd, 0, &info);
  if (errsv == 0 && info.si_pid == 0)
    {
      ask_later (watch);
      return G_SOURCE_CONTINUE;
    }
  func = g_steal_pointer (&watch->func);
  func (watch->pid, errsv == 0 ? wait_status_from (&info) : -1, watch->user_data);
  return G_SOURCE_REMOVE;
}

static void
watch_gone (gpointer user_data)
{
  Watch *watch = user_data;

  gaio_clear_timer (&watch->retry);
  if (watch->pidfd != -1)
    close (watch->pidfd);
  if (watch->notify != NULL)
    watch->notify (watch->user_data);
  g_free (watch);
}

static gboolean
is_child (GPid pid)
{
  siginfo_t info;

  return waitid (P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Sets @error to why there is no pidfd for @pid. An error that no kernel would return for a child
 * comes from a sandbox, which may return any error. */
static void
set_error (GError **error, int errsv, GPid pid)
{
  g_autofree char *what = g_strdup_printf ("Process %d", pid);

  if (errsv == EMFILE || errsv == ENFILE || errsv == ENOMEM)
    gaio_error_set_for_own (error, errsv, what);
  else if (errsv == ECHILD)
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "%s is not a child of this one", what);
  else if ((errsv == ESRCH || errsv == EINVAL || errsv == ENOENT) && !is_child (pid))
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "%s does not exist", what);
  else
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_NOT_SUPPORTED,
                 "%s: the kernel has no pidfd_open(), or forbids it", what);
}

/* Returns a pidfd for a child that has not been reaped, or -1. */
static gint
open_child (GPid pid, GError **error)
{
  gint pidfd = pidfd_open_raw (pid);
  siginfo_t info;
  int errsv;

  if (pidfd == -1)
    {
      set_error (error, errno, pid);
      return -1;
    }
  errsv = query_child (pidfd, WNOWAIT, &info);
  if (errsv == 0)
    return pidfd;
  close (pidfd);
  /* Linux 5.3 can open a pidfd, but not wait for it. */
  set_error (error, errsv == EINVAL ? ENOSYS : errsv, pid);
  return -1;
}

/**
 * gaio_context_add_child:
 * @self: a context
 * @pid: a child of this process that nobody else waits for
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, when the handler has been removed and
 *   its function has returned; on error, called before this function returns
 * @error: return location for a #GError
 *
 * Calls @func once, when the child process @pid has ended; then the handler is removed. @pid may
 * already have ended, but nobody must have waited for it. As with g_child_watch_add(), a child
 * started with g_spawn_async() needs %G_SPAWN_DO_NOT_REAP_CHILD. May be called from any thread.
 *
 * If somebody else has waited for the child in the meantime, or the process ignores SIGCHLD, @func
 * receives -1, for which g_spawn_check_wait_status() fails; GLib 2.74 passes 0, which means
 * success.
 *
 * Fails with %GAIO_ERROR_FAILED if @pid is not a child of this process or somebody has already
 * waited for it, with %GAIO_ERROR_NOT_SUPPORTED if pidfd_open(2) is missing (before Linux 5.4) or
 * forbidden, and otherwise as gaio_context_add_fd() does.
 *
 * Returns: (transfer full): a new handler, whose fd is a pidfd that is closed when the handler no
 *   longer exists, or %NULL on error
 *
 * Since: 1.0
 */
GaioHandler *
gaio_context_add_child (GaioContext *self,
                        GPid pid,
                        GaioChildFunc func,
                        gpointer user_data,
                        GDestroyNotify notify,
                        GError **error)
{
  Watch *watch;
  GaioHandlerParams params = { .condition = G_IO_IN, .func = child_ended, .notify = watch_gone };

  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, NULL);
  gaio_return_val_if_fail_notify (pid > 0, user_data, notify, NULL);
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, NULL);
  gaio_return_val_if_fail_notify (error == NULL || *error == NULL, user_data, notify, NULL);

  watch = g_new0 (Watch, 1);
  *watch =
      (Watch){ .pid = pid, .pidfd = -1, .func = func, .user_data = user_data, .notify = notify };
  /* This comes first, because in a forked child, @pid is not a child. Without the lock, it is only
   * a hint. */
  if (gaio_core_check (self->core, error))
    watch->pidfd = open_child (pid, error);
  if (watch->pidfd == -1)
    {
      watch_gone (watch);
      return NULL;
    }
  params.fd = watch->pidfd;
  params.user_data = watch;
  return gaio_handler_add (self->core, &params, error);
}
