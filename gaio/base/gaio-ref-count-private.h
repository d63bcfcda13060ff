/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

/* A reference count. gatomicrefcount does the same, but is in GLib, which ThreadSanitizer cannot
 * see into: it would report each last unref as a race. */
typedef atomic_uint GaioRefCount;

static inline void
gaio_ref_count_init (GaioRefCount *count, unsigned int n)
{
  atomic_init (count, n);
}

static inline void
gaio_ref_count_inc (GaioRefCount *count)
{
  atomic_fetch_add_explicit (count, 1, memory_order_relaxed);
}

/* TRUE for the last. */
static inline bool
gaio_ref_count_dec (GaioRefCount *count)
{
  return atomic_fetch_sub_explicit (count, 1, memory_order_acq_rel) == 1;
}
