/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

/* A full memory barrier between two threads, of which one passes it far more often than the other:
 * the light side costs nothing where the kernel has membarrier(2), because the heavy side makes
 * every running thread of the process pass a full barrier.
 *
 * light: store A; gaio_fence_light (); load B
 * heavy: store B; gaio_fence_heavy (); load A
 *
 * At least one of the two loads sees the other side's store. */

extern bool gaio_fence_has_membarrier __attribute__ ((visibility ("hidden")));

static inline void
gaio_fence_light (void)
{
  if (__builtin_expect (gaio_fence_has_membarrier, true))
    atomic_signal_fence (memory_order_seq_cst);
  else
    atomic_thread_fence (memory_order_seq_cst);
}

void gaio_fence_heavy (void);
