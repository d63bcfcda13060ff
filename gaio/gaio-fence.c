/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fence-private.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

bool gaio_fence_has_membarrier;

__attribute__ ((constructor)) static void
register_membarrier (void)
{
  gaio_fence_has_membarrier =
      syscall (SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void
gaio_fence_heavy (void)
{
  atomic_thread_fence (memory_order_seq_cst);
  /* It may be short of memory, but the light side relies on it. */
  while (gaio_fence_has_membarrier &&
         syscall (SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0 && errno == ENOMEM)
    sched_yield ();
}
