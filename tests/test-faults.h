/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib.h>

#include "test-stand-in.h"

/* Stands in for the functions of the C library by which the library asks the kernel, and has one
 * call after another fail. What others call goes through.
 *
 * Memory is not among it: the library has all of it from GLib, which ends the process when there is
 * none. */

typedef enum
{
  EPOLL_CREATE,
  EPOLL_ADD,
  EPOLL_MOD,
  EPOLL_WAIT,
  EPOLL_PWAIT2,
  EVENTFD,
  TIMERFD_CREATE,
  TIMERFD_SETTIME,
  READ,
  WRITE,
  POLL,
  PPOLL,
  DUP3,
  FSTAT,
  FCNTL,
  WAITID,
  PIDFD_OPEN,
  SEM_WAIT,
  PTHREAD_CREATE,
  N_FUNCTIONS,
} Function;

#define MAX_ERRNOS 6

/* In which ways the kernel may refuse what was asked rightly. What a filter of system calls refuses
 * for good is test-errors' and `./dev hostile`'s. */
static const struct
{
  const char *symbol;
  gint errnos[MAX_ERRNOS];
  gboolean passes; /* lasting, it leaves nothing to do but to ask again and again */
} fault_table[N_FUNCTIONS] = {
  [EPOLL_CREATE] = { "epoll_create1", { EMFILE, ENFILE, ENOMEM } },
  [EPOLL_ADD] = { "epoll_ctl", { ENOMEM, ENOSPC } },
  [EPOLL_MOD] = { "epoll_ctl", { ENOMEM } },
  [EPOLL_WAIT] = { "epoll_wait", { EINTR } },
  [EPOLL_PWAIT2] = { "epoll_pwait2", { EINTR } },
  [EVENTFD] = { "eventfd", { EMFILE, ENFILE, ENOMEM } },
  [TIMERFD_CREATE] = { "timerfd_create", { EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS } },
  [TIMERFD_SETTIME] = { "timerfd_settime", { EPERM, ENOSYS } },
  [READ] = { "read", { EINTR } },
  [WRITE] = { "write", { EINTR } },
  [POLL] = { "poll", { EINTR, ENOMEM }, TRUE },
  [PPOLL] = { "ppoll", { EINTR, ENOMEM } },
  [DUP3] = { "dup3", { EINTR, EBUSY } },
  [FSTAT] = { "fstat", { ENOMEM } },
  [FCNTL] = { "fcntl", { EBADF } },
  [WAITID] = { "waitid", { EINTR, ECHILD } },
  [PIDFD_OPEN] = { "syscall", { EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS } },
  [SEM_WAIT] = { "sem_wait", { EINTR } },
  [PTHREAD_CREATE] = { "pthread_create", { EAGAIN } },
};

/* Nothing is interrupted more often than this in a row. */
#define FAULT_INTERRUPTIONS 10

static struct
{
  atomic_bool watching;
  atomic_int function; /* that fails, or N_FUNCTIONS */
  atomic_int errsv;    /* as which error */
  atomic_int until;    /* how many calls go well before, */
  atomic_int left;     /* how many fail then, */
  atomic_uint struck;  /* and how many have failed */
  atomic_uint counts[N_FUNCTIONS];
} fault = { .function = N_FUNCTIONS };

/* --- The story's side --- */

static inline void
fault_begin (Function function, guint nth, gint errsv, gboolean lasting)
{
  for (guint i = 0; i < N_FUNCTIONS; i++)
    atomic_store (&fault.counts[i], 0);
  atomic_store (&fault.errsv, errsv);
  atomic_store (&fault.until, nth);
  atomic_store (&fault.left, !lasting ? 1 : errsv == EINTR ? FAULT_INTERRUPTIONS : G_MAXINT);
  atomic_store (&fault.struck, 0);
  atomic_store (&fault.function, function);
  atomic_store (&fault.watching, TRUE);
}

/* The fault goes, if it was there. */
static inline void
fault_lift (void)
{
  atomic_store (&fault.function, N_FUNCTIONS);
}

/* Nothing fails nor counts any more. */
static inline void
fault_end (void)
{
  fault_lift ();
  atomic_store (&fault.watching, FALSE);
}

static inline gboolean
fault_lasts (void)
{
  return atomic_load (&fault.function) != N_FUNCTIONS && atomic_load (&fault.left) > 1;
}

static inline guint
fault_total (void)
{
  guint total = 0;

  for (guint i = 0; i < N_FUNCTIONS; i++)
    total += atomic_load (&fault.counts[i]);
  return total;
}

/* --- The library's side --- */

static inline const void *
fault_base_of (const void *address)
{
  Dl_info info = { 0 };

  return dladdr (address, &info) != 0 ? info.dli_fbase : NULL;
}

/* Threads are GLib's to make. */
static inline gboolean
fault_is_called_by_library (Function function, const void *caller)
{
  const char *symbol = function == PTHREAD_CREATE ? "g_thread_try_new" : "gaio_context_new";

  return fault_base_of (caller) == fault_base_of (dlsym (RTLD_DEFAULT, symbol));
}

/* How the call from @caller is to fail: an errno, or 0. */
static inline int
fault_strikes (Function function, const void *caller)
{
  if (!atomic_load (&fault.watching) || !fault_is_called_by_library (function, caller))
    return 0;
  atomic_fetch_add (&fault.counts[function], 1);
  if (atomic_load (&fault.function) != (int) function || atomic_fetch_sub (&fault.until, 1) > 0 ||
      atomic_fetch_sub (&fault.left, 1) <= 0)
    return 0;
  atomic_fetch_add (&fault.struck, 1);
  return atomic_load (&fault.errsv);
}

#define FAULT_STAND_IN(type, name, function, failure, params, args)                                \
  type name params                                                                                 \
  {                                                                                                \
    int errsv = fault_strikes (function, __builtin_return_address (0));                            \
                                                                                                   \
    if (errsv == 0)                                                                                \
      return NEXT (name) args;                                                                     \
    errno = errsv;                                                                                 \
    return failure;                                                                                \
  }

/* As in GLib since 2.77. Before, a sleep of no time took some all the same, and whoever is to try
 * again soon may count on neither. */
void
g_usleep (gulong us)
{
  if (us > 0)
    NEXT (g_usleep) (us);
}

/* To delete may not fail but for a file that is not in the set. */
static inline Function
fault_epoll_function (int operation)
{
  return operation == EPOLL_CTL_ADD   ? EPOLL_ADD
         : operation == EPOLL_CTL_MOD ? EPOLL_MOD
                                      : N_FUNCTIONS;
}

/* clang-format off */
FAULT_STAND_IN (int, epoll_create1, EPOLL_CREATE, -1, (int flags), (flags))
FAULT_STAND_IN (int, epoll_wait, EPOLL_WAIT, -1,
                (int set, struct epoll_event *events, int max, int timeout),
                (set, events, max, timeout))
FAULT_STAND_IN (int, epoll_pwait2, EPOLL_PWAIT2, -1,
                (int set, struct epoll_event *events, int max, const struct timespec *timeout,
                 const sigset_t *mask),
                (set, events, max, timeout, mask))
FAULT_STAND_IN (int, eventfd, EVENTFD, -1, (unsigned int count, int flags), (count, flags))
FAULT_STAND_IN (int, timerfd_create, TIMERFD_CREATE, -1, (clockid_t clock, int flags),
                (clock, flags))
FAULT_STAND_IN (int, timerfd_settime, TIMERFD_SETTIME, -1,
                (int fd, int flags, const struct itimerspec *at, struct itimerspec *before),
                (fd, flags, at, before))
FAULT_STAND_IN (ssize_t, read, READ, -1, (int fd, void *buffer, size_t size), (fd, buffer, size))
FAULT_STAND_IN (ssize_t, write, WRITE, -1, (int fd, const void *buffer, size_t size),
                (fd, buffer, size))
FAULT_STAND_IN (int, poll, POLL, -1, (struct pollfd *fds, nfds_t n, int timeout),
                (fds, n, timeout))
FAULT_STAND_IN (int, ppoll, PPOLL, -1,
                (struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                 const sigset_t *mask),
                (fds, n, timeout, mask))
FAULT_STAND_IN (int, dup3, DUP3, -1, (int from, int to, int flags), (from, to, flags))
FAULT_STAND_IN (int, fstat, FSTAT, -1, (int fd, struct stat *info), (fd, info))
FAULT_STAND_IN (int, waitid, WAITID, -1,
                (idtype_t type, id_t id, siginfo_t *info, int flags), (type, id, info, flags))
FAULT_STAND_IN (int, sem_wait, SEM_WAIT, -1, (sem_t *semaphore), (semaphore))
FAULT_STAND_IN (int, pthread_create, PTHREAD_CREATE, errsv,
                (pthread_t *thread, const pthread_attr_t *attributes, void *(*func) (void *),
                 void *data),
                (thread, attributes, func, data))
/* clang-format on */

int
epoll_ctl (int set, int operation, int fd, struct epoll_event *event)
{
  Function function = fault_epoll_function (operation);
  int errsv = function != N_FUNCTIONS ? fault_strikes (function, __builtin_return_address (0)) : 0;

  if (errsv == 0)
    return NEXT (epoll_ctl) (set, operation, fd, event);
  errno = errsv;
  return -1;
}

int
fcntl (int fd, int command, ...)
{
  int errsv = fault_strikes (FCNTL, __builtin_return_address (0));
  va_list list;
  void *argument;

  va_start (list, command);
  argument = va_arg (list, void *);
  va_end (list);
  if (errsv == 0)
    return NEXT (fcntl) (fd, command, argument);
  errno = errsv;
  return -1;
}

long
syscall (long number, ...)
{
  int errsv = 0;
  va_list list;
  long arguments[6];

  if (number == SYS_pidfd_open)
    errsv = fault_strikes (PIDFD_OPEN, __builtin_return_address (0));
  va_start (list, number);
  for (guint i = 0; i < G_N_ELEMENTS (arguments); i++)
    arguments[i] = va_arg (list, long);
  va_end (list);
  if (errsv == 0)
    return NEXT (syscall) (number, arguments[0], arguments[1], arguments[2], arguments[3],
                           arguments[4], arguments[5]);
  errno = errsv;
  return -1;
}
