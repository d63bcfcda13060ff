/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fork-private.h"

#include <pthread.h>

unsigned int gaio_fork_generation = 1;

static void
child_after_fork (void)
{
  gaio_fork_generation++;
}

__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (NULL, NULL, child_after_fork);
}
