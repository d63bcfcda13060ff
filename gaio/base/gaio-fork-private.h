/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Counts the processes from the one that loaded Gaio, which is 1, to this one: a context that
 * remembers another number belongs to a parent. Takes no system call: the kernel wipes the page in
 * each child, including children of _Fork() and clone(2), where it is 0 until
 * gaio_fork_get_generation() is called. It is written once in each process, before anything
 * remembers it. A thread that meanwhile looks at a parent's context sees 0 or the new number, and
 * both differ from the parent's. */

#define GAIO_FORK_PAGE_SIZE 4096

typedef struct
{
  _Alignas(GAIO_FORK_PAGE_SIZE) unsigned int generation;
  char nothing_else[GAIO_FORK_PAGE_SIZE - sizeof (unsigned int)];
} GaioForkPage;

extern GaioForkPage gaio_fork_page __attribute__ ((visibility ("hidden")));

unsigned int gaio_fork_get_generation (void);
