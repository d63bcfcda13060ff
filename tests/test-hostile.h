/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <glib.h>

/* What tests need to know of hostile conditions, see `./dev hostile`. */

/* How many signals of storm.c have come so far: each may end a wait, and cost a round. */
static inline guint
test_interruptions (void)
{
  guint (*count) (void) = dlsym (RTLD_DEFAULT, "storm_count");

  return count != NULL ? count () : 0;
}

/* TRUE, with the test skipped, where signals make what it counts mean nothing. */
static inline gboolean
test_is_interrupted (void)
{
  if (dlsym (RTLD_DEFAULT, "storm_count") == NULL)
    return FALSE;
  g_test_skip ("signals end the waits that are counted here");
  return TRUE;
}

/* FALSE, with the test skipped, where the process may not have @n fds. */
static inline gboolean
test_may_open (guint n)
{
  struct rlimit limit;

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  if (limit.rlim_cur >= n)
    return TRUE;
  limit.rlim_cur = limit.rlim_max;
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  if (limit.rlim_cur >= n)
    return TRUE;
  g_test_skip ("RLIMIT_NOFILE is too low");
  return FALSE;
}

/* TRUE if the system call that gave @fd, which is closed, works; else the test is skipped. */
static inline gboolean
test_has (const char *call, gint fd)
{
  if (fd < 0)
    {
      g_autofree char *what = g_strdup_printf ("no %s() here", call);

      g_test_skip (what);
      return FALSE;
    }
  close (fd);
  return TRUE;
}

static inline gboolean
test_has_timerfd (void)
{
  return test_has ("timerfd_create", timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC));
}

static inline gboolean
test_has_epoll (void)
{
  return test_has ("epoll_create1", epoll_create1 (EPOLL_CLOEXEC));
}
