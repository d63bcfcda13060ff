/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fork-private.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

GaioForkPage gaio_fork_page;

/* What the last process to ask has been given: the page forgets it, this does not. */
static atomic_uint last_generation;

/* Never 0. To be remembered by what belongs to this process. Two threads of a child may ask at the
 * same time: the second has what the first was given. */
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

/* Where the page has not been wiped. There is only one thread. */
static void
child_after_fork (void)
{
  gaio_fork_page.generation = 0;
  gaio_fork_get_generation ();
}

/* A kernel that has larger pages, or does not know how to wipe one, leaves _Fork() and clone(2)
 * unnoticed. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  gaio_fork_get_generation ();
  if (sysconf (_SC_PAGESIZE) == GAIO_FORK_PAGE_SIZE)
    madvise (&gaio_fork_page, sizeof gaio_fork_page, MADV_WIPEONFORK);
  pthread_atfork (NULL, NULL, child_after_fork);
}
