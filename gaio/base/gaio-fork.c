/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fork-private.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

GaioForkPage gaio_fork_page;

/* The number of the last process that asked: the kernel wipes the page, but not this. */
static atomic_uint last_generation;

/* Returns a number that is never 0, and that objects of this process remember. Two threads of a
 * child may ask at the same time: the second gets the same number as the first. */
unsigned int
gaio_fork_get_generation (void)
{
  unsigned int there = __atomic_load_n (&gaio_fork_page.generation, __ATOMIC_RELAXED);
  unsigned int next;

  if (there != 0)
    return there;
  next = atomic_fetch_add_explicit (&last_generation, 1, memory_order_relaxed) + 1;
  if (__atomic_compare_exchange_n (&gaio_fork_page.generation, &there, next, false,
                                   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    return next;
  return there;
}

/* In case the page has not been wiped. There is only one thread. */
static void
child_after_fork (void)
{
  gaio_fork_page.generation = 0;
  gaio_fork_get_generation ();
}

/* If the kernel has larger pages or cannot wipe them, _Fork() and clone(2) go unnoticed. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  gaio_fork_get_generation ();
  if (sysconf (_SC_PAGESIZE) == GAIO_FORK_PAGE_SIZE)
    madvise (&gaio_fork_page, sizeof gaio_fork_page, MADV_WIPEONFORK);
  pthread_atfork (NULL, NULL, child_after_fork);
}
