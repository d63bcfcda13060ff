/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

#include "gaio-fence-private.h"

/* A mutex that costs its favourite, the thread that made it, no atomic operation as long as no
 * other thread has asked for it: most event loops have one thread, and a round takes the lock
 * twice. The first stranger to come revokes that for good; from then on it is a plain mutex.
 *
 * Not recursive. Without membarrier(2) nobody is favoured. */

typedef struct
{
  pthread_mutex_t mutex;
  const void *favourite; /* a gaio_lock_this_thread(), or NULL */
  atomic_bool revoked;   /* everybody takes the mutex */
  atomic_bool inside;    /* the favourite is, without the mutex */
} GaioLock;

extern _Thread_local char gaio_lock_thread_mark
    __attribute__ ((tls_model ("initial-exec"), visibility ("hidden")));

/* What is another address in each thread: cheaper to ask for than pthread_self(). */
static inline const void *
gaio_lock_this_thread (void)
{
  return &gaio_lock_thread_mark;
}

void gaio_lock_init (GaioLock *lock);
void gaio_lock_destroy (GaioLock *lock);
void gaio_lock_take_mutex (GaioLock *lock);

static inline void
gaio_lock_take (GaioLock *lock)
{
  if (__builtin_expect (lock->favourite == gaio_lock_this_thread (), true))
    {
      atomic_store_explicit (&lock->inside, true, memory_order_relaxed);
      /* As gaio_fence_light(): there is membarrier(2), or nobody would be favoured. Pairs with the
       * heavy one in gaio_lock_take_mutex(): we see that it is revoked, or the stranger sees that
       * we are inside. */
      atomic_signal_fence (memory_order_seq_cst);
      if (__builtin_expect (!atomic_load_explicit (&lock->revoked, memory_order_acquire), true))
        return;
      atomic_store_explicit (&lock->inside, false, memory_order_release);
    }
  gaio_lock_take_mutex (lock);
}

static inline void
gaio_lock_release (GaioLock *lock)
{
  if (__builtin_expect (lock->favourite == gaio_lock_this_thread () &&
                            atomic_load_explicit (&lock->inside, memory_order_relaxed),
                        true))
    atomic_store_explicit (&lock->inside, false, memory_order_release);
  else
    pthread_mutex_unlock (&lock->mutex);
}
