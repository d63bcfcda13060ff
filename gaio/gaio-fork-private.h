/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How often this process has been forked off since Gaio was loaded: a context that remembers
 * another number belongs to a parent. Costs no system call. Written in the child of fork() alone,
 * where there is only one thread. */
extern unsigned int gaio_fork_generation __attribute__ ((visibility ("hidden")));
