/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <sys/epoll.h>

#include <glib.h>

#include "test-stand-in.h"

/* How often epoll waits: stands in for the C library's. */

static atomic_uint n_epoll_waits;

/* What a test does before each call that may sleep. */
static void (*about_to_sleep) (void);

/* What a test does after each epoll_wait(). */
static void (*epoll_waited) (int n_events, int timeout, const void *caller);

int
epoll_wait (int set, struct epoll_event *events, int max_events, int timeout)
{
  int n;

  if (about_to_sleep != NULL && timeout != 0)
    about_to_sleep ();
  n = NEXT (epoll_wait) (set, events, max_events, timeout);
  n_epoll_waits++;
  if (epoll_waited != NULL)
    epoll_waited (n, timeout, __builtin_return_address (0));
  return n;
}

int
epoll_pwait2 (int set,
              struct epoll_event *events,
              int max_events,
              const struct timespec *timeout,
              const sigset_t *mask)
{
  if (about_to_sleep != NULL && (timeout == NULL || timeout->tv_sec != 0 || timeout->tv_nsec != 0))
    about_to_sleep ();
  n_epoll_waits++;
  return NEXT (epoll_pwait2) (set, events, max_events, timeout, mask);
}
