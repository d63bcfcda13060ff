/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

/* To be preloaded: a signal each millisecond, which ends with EINTR whatever waits. */

static atomic_uint n_signals;

unsigned int storm_count (void);

/* For tests that count what signals add to. */
unsigned int
storm_count (void)
{
  return atomic_load (&n_signals);
}

static void
take (int number)
{
  atomic_fetch_add (&n_signals, 1);
}

/* A child inherits the handler, but no timer. Nor does what exec(3) starts, which has no handler
 * yet: there setitimer(2) would go on. */
static void
begin (void)
{
  const struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } };
  struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
  timer_t timer;

  if (timer_create (CLOCK_MONOTONIC, &event, &timer) == 0)
    timer_settime (timer, 0, &often, NULL);
}

__attribute__ ((constructor)) static void
raise_storm (void)
{
  const struct sigaction action = { .sa_handler = take };

  sigaction (SIGALRM, &action, NULL);
  pthread_atfork (NULL, NULL, begin);
  begin ();
}
