/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-lock-private.h"

#include <sched.h>
#include <stddef.h>

_Thread_local char gaio_lock_thread_mark;

void
gaio_lock_init (GaioLock *lock)
{
  pthread_mutex_init (&lock->mutex, NULL);
  lock->favourite = gaio_fence_has_membarrier ? gaio_lock_this_thread () : NULL;
  atomic_init (&lock->revoked, false);
  atomic_init (&lock->inside, false);
}

void
gaio_lock_destroy (GaioLock *lock)
{
  pthread_mutex_destroy (&lock->mutex);
}

void
gaio_lock_take_mutex (GaioLock *lock)
{
  pthread_mutex_lock (&lock->mutex);
  if (lock->favourite == NULL || lock->favourite == gaio_lock_this_thread () ||
      atomic_load_explicit (&lock->revoked, memory_order_relaxed))
    return;
  atomic_store_explicit (&lock->revoked, true, memory_order_release);
  /* Pairs with the light one in gaio_lock_take(). */
  gaio_fence_heavy ();
  /* Once: what is done inside is short. */
  while (atomic_load_explicit (&lock->inside, memory_order_acquire))
    sched_yield ();
}
