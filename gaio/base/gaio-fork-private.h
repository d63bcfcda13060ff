/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Counts the processes from the one that Gaio was loaded in, which is 1, to this one: a context
 * that remembers another number belongs to a parent. Costs no system call: the kernel wipes the
 * page in each child, also in that of _Fork() and of clone(2), where it is 0 until it is asked for
 * with gaio_fork_get_generation(). Written once in a process, before anything remembers it: who
 * looks at a parent's context meanwhile sees 0 or the new number, and either is another one. */

#define GAIO_FORK_PAGE_SIZE 4096

typedef struct
{
  _Alignas(GAIO_FORK_PAGE_SIZE) unsigned int generation;
  char nothing_else[GAIO_FORK_PAGE_SIZE - sizeof (unsigned int)];
} GaioForkPage;

extern GaioForkPage gaio_fork_page __attribute__ ((visibility ("hidden")));

unsigned int gaio_fork_get_generation (void);
