/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fork-private.h"

#include <pthread.h>

/* Written in the child of fork() alone, where there is only one thread. */
static unsigned int generation;

static void
child_after_fork (void)
{
  generation++;
}

__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (NULL, NULL, child_after_fork);
}

unsigned int
gaio_fork_generation (void)
{
  return generation;
}
