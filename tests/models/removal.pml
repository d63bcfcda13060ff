/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Deferred removal: a handler that the owner calls and two other threads remove, at least one of
 * them with gaio_handler_remove_sync(); gaio-entry-private.h, gaio-entry.c, gaio-handler.c.
 *
 * Holds: the notify runs exactly once and not while the callback does; the handler is neither
 * touched after that, nor called after gaio_handler_remove_sync() has returned; and nobody waits
 * for ever. That the owner wakes up for pending notifies is in notify.pml. A member of a ready set is
 * simpler: its removal waits for the function of the set with nothing but the lock. */

#define N_PROCESSES 3
#define N_VARIABLES 4
#define N_STORES 3

#define OWNER 0

/* core->lock, and what is read without it */
#define LOCK 0
#define STATE 1
#define MASK 2 /* whether it is silent: the mask is 0 */
#define HAS_PENDING 3

/* What STATE has: GAIO_ENTRY_END_WANTED, and how often the callback is running. */
#define END_WANTED 1
#define RUNNING 2

#include "store-buffer.pml"

/* (lock) */
bool removed;
bool on_pending; /* entry.siblings is on removal.pending_notifies */
bool masked;
byte n_sync_waiters;
bool waits[N_PROCESSES]; /* for removal.callback_ended */

bool on_ready;    /* (owner) entry.link is on ready.entries */
bool can_recurse; /* (const) */

/* What has happened so far. */
byte in_callback; /* how deep */
bool sync_returned;
bool notified;
byte n_done;

/* gaio_entry_is_running () */
#define is_running(process) (load (process, STATE) >= RUNNING)

/* gaio_core_lock (): an atomic read-modify-write. */
inline take_lock (process)
{
  atomic {
    fence (process) && memory[LOCK] == 0;
    memory[LOCK] = 1;
  }
}

/* gaio_core_unlock (): no more than a release. */
inline release_lock (process)
{
  store (process, LOCK, 0);
}

/* gaio_entry_want_end () */
inline want_end (process)
{
#ifdef MUTANT_END_WANTED_IS_STORED
  before = load (process, STATE);
  store (process, STATE, before | END_WANTED);
#else
  fetch (process, STATE, before, before | END_WANTED);
#endif
}

/* gaio_handler_destroy (), gaio_entry_destroy (); with the lock held. */
inline destroy (process)
{
  if
  :: removed
  :: else ->
       removed = true;
       store (process, MASK, 1);
       on_pending = true;
       store (process, HAS_PENDING, 1)
  fi
}

/* gaio_entry_handle_end (), then the rest of gaio_handler_after_callback (). */
inline after_callback ()
{
  take_lock (OWNER);
  if
  :: is_running (OWNER)
  :: else ->
       fetch (OWNER, STATE, before, before & ~END_WANTED);
#ifndef MUTANT_END_DOES_NOT_ADD_AGAIN
       if
       :: removed && !on_pending ->
            on_pending = true;
            store (OWNER, HAS_PENDING, 1)
       :: else
       fi;
#endif
       if
       :: n_sync_waiters > 0 ->
            d_step {
              waits[1] = false;
              waits[2] = false;
            }
       :: else
       fi;
       if
       :: masked ->
            masked = false;
            store (OWNER, MASK, removed)
       :: else
       fi
  fi;
  release_lock (OWNER);
}

/* gaio_entry_run_notifies () with its take_pending_notifies () */
inline run_notifies ()
{
  take_lock (OWNER);
  if
  :: on_pending ->
       on_pending = false;
       if
#ifndef MUTANT_TAKES_A_RUNNING_ONE
       :: is_running (OWNER) -> want_end (OWNER)
#endif
       :: else ->
#ifndef MUTANT_DEAD_STAYS_ON_THE_READY_LIST
            on_ready = false;
#endif
            taken = true
       fi
  :: else
  fi;
  store (OWNER, HAS_PENDING, 0);
  release_lock (OWNER);
  if
  :: taken ->
       taken = false;
       assert (in_callback == 0 && !notified);
       notified = true
  :: else
  fi;
}

/* gaio_entry_begin (), and what gaio_handler_serve () decides by */
inline begin ()
{
#ifdef MUTANT_DECIDES_BEFORE_IT_BEGINS
  silent = load (OWNER, MASK);
#endif
  /* Pairs with want_end () in wait_until_not_running (). */
#ifdef MUTANT_BEGIN_IS_STORED
  before = load (OWNER, STATE);
  store (OWNER, STATE, before + RUNNING);
#else
  fetch (OWNER, STATE, before, before + RUNNING);
#endif
#ifndef MUTANT_DECIDES_BEFORE_IT_BEGINS
  silent = load (OWNER, MASK);
#endif
}

/* gaio_entry_end () */
inline end_callback ()
{
  /* Pairs with want_end () in wait_until_not_running (). */
#ifdef MUTANT_END_IS_STORED
  before = load (OWNER, STATE);
  store (OWNER, STATE, before - RUNNING);
#else
  fetch (OWNER, STATE, before, before - RUNNING);
#endif
  end_wanted = before & END_WANTED;
}

/* With the lock held. The fd is ready as long as it is watched. What an earlier round has left over
 * is dropped if it is not ready still; a file that is always ready, is. */
inline gather ()
{
  assert (!on_ready || !notified);
  if
  :: load (OWNER, MASK) == 0 -> on_ready = true
  :: else ->
       if
       :: on_ready = false
       :: skip
       fi
  fi;
}

/* gaio_handler_remove () on the owner */
inline remove ()
{
  take_lock (OWNER);
  destroy (OWNER);
  release_lock (OWNER);
}

/* gaio_handler_serve () inside the callback */
inline serve_again ()
{
  assert (!notified);
  begin ();
  if
  :: silent
  :: else ->
       assert (!sync_returned && !notified);
       in_callback++;
       if
       :: remove ()
       :: skip
       fi;
       in_callback--
  fi;
  end_callback ();
  if
  :: end_wanted -> after_callback ()
  :: else
  fi;
  silent = false;
}

/* A round inside the callback: offer () silences what is running and cannot recurse. */
inline nested_round ()
{
  take_lock (OWNER);
  if
  :: can_recurse -> gather ()
  :: !can_recurse && load (OWNER, MASK) == 0 ->
       masked = true;
       store (OWNER, MASK, 1);
       want_end (OWNER)
  :: else
  fi;
  release_lock (OWNER);
  if
  :: on_ready ->
       on_ready = false;
       serve_again ()
  :: skip
  fi;
  if
  :: load (OWNER, HAS_PENDING) -> run_notifies ()
  :: else
  fi;
}

/* User code, which may remove its handler and run a nested loop. */
inline callback ()
{
  assert (!sync_returned && !notified);
  in_callback++;
  if
  :: remove ()
  :: skip
  fi;
  if
  :: nested_round ()
  :: skip
  fi;
  in_callback--;
  if
  :: keep = true
  :: keep = false
  fi;
}

/* gaio_handler_serve () */
inline serve ()
{
  assert (!notified);
  begin ();
  if
  :: silent -> keep = true
  :: else -> callback ()
  fi;
  end_callback ();
  if
  :: end_wanted -> after_callback ()
  :: else
  fi;
  if
  :: keep
  :: else -> remove ()
  fi;
  silent = false;
  end_wanted = false;
}

/* The owner: rounds, as long as there is something to do, and some for others. A limit may cut one
 * off. */
active proctype Owner ()
{
  bool silent, end_wanted, keep, taken;
  byte before;
  byte n_for_others = 2;

  do
  :: memory[MASK] == 0 || on_pending || n_for_others > 0 ->
       if
       :: n_for_others > 0 -> n_for_others--
       :: memory[MASK] == 0 || on_pending
       fi;
       take_lock (OWNER);
       gather ();
       release_lock (OWNER);
       if
       :: on_ready ->
            on_ready = false;
            serve ()
       :: skip
       fi;
       if
       :: load (OWNER, HAS_PENDING) -> run_notifies ()
       :: else
       fi
  :: timeout ->
       assert (n_done == 2 && notified);
       break
  od
}

/* With the lock held, which pthread_cond_wait () gives up. */
inline wait_until_not_running (process)
{
  n_sync_waiters++;
#ifdef MUTANT_WAITER_LOOKS_FIRST
  running = is_running (process);
#endif
  /* Pairs with begin () and end_callback (). */
#ifndef MUTANT_WAITER_DOES_NOT_WANT_END
  want_end (process);
#endif
#ifndef MUTANT_WAITER_LOOKS_FIRST
  running = is_running (process);
#endif
  do
  :: running ->
       atomic {
         waits[process] = true;
         release_lock (process);
       }
       !waits[process];
       take_lock (process);
       running = is_running (process)
  :: else -> break
  od;
  n_sync_waiters--;
}

/* Another thread: gaio_handler_remove_sync (), or gaio_handler_remove () if it is not @sync. */
proctype Remover (byte self; bool sync)
{
  bool running;
  byte before;

  take_lock (self);
  destroy (self);
  if
  :: sync -> wait_until_not_running (self)
  :: else
  fi;
  release_lock (self);
  if
  :: sync ->
       assert (in_callback == 0);
       sync_returned = true
  :: else
  fi;
  n_done++
}

init
{
  atomic {
    if
    :: can_recurse = true
    :: skip
    fi;
    run Remover (1, true);
    if
    :: run Remover (2, true)
    :: run Remover (2, false)
    fi
  }
}
