/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The biased lock, gaio-lock-private.h and gaio-lock.c: the favourite takes it without an atomic
 * operation until the first of two strangers has revoked that.
 *
 * Holds: never two inside, each sees what the one before has written, and nobody is stuck. */

#define N_PROCESSES 3
#define N_VARIABLES 4
#define N_STORES 3

#define FAVOURITE 0

/* GaioLock, and what it protects */
#define MUTEX 0
#define REVOKED 1
#define INSIDE 2
#define DATA 3

#include "store-buffer.pml"

byte n_inside;
bit data; /* what DATA has to be */

/* pthread_mutex_lock (): an atomic read-modify-write, and so a full barrier. */
inline mutex_lock (process)
{
  atomic {
    fence (process) && memory[MUTEX] == 0;
    memory[MUTEX] = 1;
  }
}

/* pthread_mutex_unlock (): no more than a release. */
inline mutex_unlock (process)
{
  store (process, MUTEX, 0);
}

inline critical_section (process)
{
  n_inside++;
  assert (n_inside == 1);
  assert (load (process, DATA) == data);
  data = 1 - data;
  store (process, DATA, data);
  n_inside--;
}

/* The favourite's half of gaio_lock_take (): does it get in without the mutex? */
inline take_biased ()
{
#ifdef MUTANT_NO_LIGHT_FENCE
  /* The compiler reads first. */
  revoked = load (FAVOURITE, REVOKED);
#endif
  store (FAVOURITE, INSIDE, 1);
  /* Pairs with the heavy one in take_mutex (). */
  fence_light (FAVOURITE);
#if defined (MUTANT_NO_RECHECK_OF_REVOKED)
  revoked = false;
#elif !defined (MUTANT_NO_LIGHT_FENCE)
  revoked = load (FAVOURITE, REVOKED);
#endif
}

/* The thread that made the lock: gaio_lock_take (), gaio_lock_release (), for ever. */
active proctype Favourite ()
{
  bool revoked;

  do
  :: take_biased ();
     if
     :: revoked ->
#ifndef MUTANT_STAYS_INSIDE
          store (FAVOURITE, INSIDE, 0);
#endif
          mutex_lock (FAVOURITE)
     :: else
     fi;
     critical_section (FAVOURITE);
     if
     :: load (FAVOURITE, INSIDE) -> store (FAVOURITE, INSIDE, 0)
     :: else -> mutex_unlock (FAVOURITE)
     fi
  od
}

/* gaio_lock_take_mutex () of a stranger */
inline take_mutex (process)
{
  mutex_lock (process);
  if
  :: load (process, REVOKED)
  :: else ->
       store (process, REVOKED, 1);
       /* Pairs with the light one in take_biased (). */
#if defined (MUTANT_HEAVY_FENCE_FOR_ITSELF_ONLY)
       fence (process);
#elif !defined (MUTANT_NO_HEAVY_FENCE)
       fence_heavy (process);
#endif
#ifndef MUTANT_STRANGER_DOES_NOT_WAIT
       load (process, INSIDE) == 0
#endif
  fi
}

/* Another thread: gaio_lock_take (), gaio_lock_release (), for ever. */
proctype Stranger (byte self)
{
  do
  :: take_mutex (self);
     critical_section (self);
     mutex_unlock (self)
  od
}

init
{
  atomic {
    run Stranger (1);
    run Stranger (2)
  }
}
