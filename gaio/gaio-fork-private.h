/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Counts the processes from the one that Gaio was loaded in, which is 1, to this one: a context
 * that remembers another number belongs to a parent. Costs no system call. Written in the child of
 * fork() alone, where there is only one thread. */
extern unsigned int gaio_fork_generation __attribute__ ((visibility ("hidden")));
