/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How often this process has been forked off since Gaio was first used: a context that remembers
 * another number belongs to a parent. Costs no system call. */
unsigned int gaio_fork_generation (void);
