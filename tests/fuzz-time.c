/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-time.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* What the library takes for as good as never. */
#define LONGEST_WAIT_US (86400 * (gint64) G_USEC_PER_SEC)
#define MAX_TIMERS 1024
/* Nobody asks so often without letting time pass. */
#define MAX_LOOKS_AT_ONCE 20000

static gint64 now;
static gint64 deadlines[MAX_TIMERS]; /* of the timerfds, by number */
static guint n_looks, n_looks_at_once;
static FuzzSleepFunc asleep;
static gpointer asleep_data;

void
fuzz_time_begin (gint64 begin, FuzzSleepFunc func, gpointer data)
{
  now = begin;
  n_looks_at_once = 0;
  asleep = func;
  asleep_data = data;
}

gint64
fuzz_time_now (void)
{
  return now;
}

/* How often the kernel has been asked. */
guint
fuzz_time_count_looks (void)
{
  return n_looks;
}

gint64
g_get_monotonic_time (void)
{
  return now;
}

/* --- timerfds --- */

static void
set_timer (int fd, gboolean fires)
{
  struct itimerspec spec = { .it_value.tv_nsec = fires };
  struct pollfd pollfd = { fd, POLLIN, 0 };

  /* The kernel sets it off in its own time, if soon. */
  if (syscall (SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0 && fires)
    poll (&pollfd, 1, -1);
}

int
timerfd_create (int clock, int flags)
{
  int fd = syscall (SYS_timerfd_create, clock, flags);

  if (fd >= MAX_TIMERS)
    g_error ("fd %d: too many for simulated time", fd);
  if (fd >= 0)
    deadlines[fd] = FUZZ_NEVER;
  return fd;
}

int
timerfd_settime (int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old)
{
  gint64 deadline =
      new_value->it_value.tv_sec * G_USEC_PER_SEC + new_value->it_value.tv_nsec / 1000;

  deadlines[fd] = deadline;
  set_timer (fd, deadline <= now);
  return 0;
}

/* A timerfd that has been closed sets nothing off. */
static gint64
next_timer (void)
{
  struct itimerspec spec;
  gint64 next = FUZZ_NEVER;

  for (int fd = 0; fd < MAX_TIMERS; fd++)
    if (deadlines[fd] > now && deadlines[fd] < next &&
        syscall (SYS_timerfd_gettime, fd, &spec) == 0)
      next = deadlines[fd];
  return next;
}

void
fuzz_time_pass (gint64 until)
{
  gint64 before = now;

  now = MAX (until, now);
  n_looks_at_once = 0;
  for (int fd = 0; fd < MAX_TIMERS; fd++)
    if (deadlines[fd] > before && deadlines[fd] <= now)
      set_timer (fd, TRUE);
}

/* --- Waits --- */

typedef struct
{
  int fd;
  gpointer events;
  int n;
} Wait;

/* Asks the kernel with @look until it tells of something, or the time is over. */
static int
wait_until_ready (int (*look) (const Wait *wait), const Wait *wait, gint64 timeout_us)
{
  gboolean for_ever = timeout_us < 0 || timeout_us >= LONGEST_WAIT_US;
  gint64 end = for_ever ? FUZZ_NEVER : now + timeout_us;

  for (;;)
    {
      int n = look (wait);
      gint64 until;

      n_looks++;
      if (++n_looks_at_once == MAX_LOOKS_AT_ONCE)
        g_error ("the loop spins");
      if (n != 0 || now >= end)
        return n;
      until = MIN (end, next_timer ());
      if (!asleep (until, asleep_data))
        fuzz_time_pass (until);
    }
}

static int
look_at_epoll (const Wait *wait)
{
  return syscall (SYS_epoll_pwait, wait->fd, wait->events, wait->n, 0, NULL, 0);
}

int
epoll_wait (int fd, struct epoll_event *events, int max_events, int timeout_ms)
{
  Wait wait = { fd, events, max_events };

  return wait_until_ready (look_at_epoll, &wait, timeout_ms * G_GINT64_CONSTANT (1000));
}

static gint64
microseconds (const struct timespec *time)
{
  return time != NULL ? time->tv_sec * G_USEC_PER_SEC + time->tv_nsec / 1000 : -1;
}

int
epoll_pwait2 (int fd,
              struct epoll_event *events,
              int max_events,
              const struct timespec *timeout,
              const sigset_t *mask)
{
  Wait wait = { fd, events, max_events };

  return wait_until_ready (look_at_epoll, &wait, microseconds (timeout));
}

static int
look_at_fds (const Wait *wait)
{
  struct timespec zero = { 0, 0 };

  return syscall (SYS_ppoll, wait->events, wait->n, &zero, NULL, 0);
}

int
ppoll (struct pollfd *fds, nfds_t n_fds, const struct timespec *timeout, const sigset_t *mask)
{
  Wait wait = { -1, fds, n_fds };

  return wait_until_ready (look_at_fds, &wait, microseconds (timeout));
}

gint
fuzz_time_poll (GPollFD *fds, guint n_fds, gint timeout_ms)
{
  Wait wait = { -1, fds, n_fds };

  return wait_until_ready (look_at_fds, &wait, timeout_ms * G_GINT64_CONSTANT (1000));
}
