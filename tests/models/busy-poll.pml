/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Busy polling: the loop gives up the lock and polls in user space, before it sleeps and before it
 * gathers; gaio-busy-poll.c and what gaio-round.c, gaio-gather-private.h and gaio-core.c do about
 * it. A peer puts items into a queue in memory, and writes to the fd of the handler unless it was
 * told by the begin function that somebody polls.
 *
 * Holds: no item and no wake-up is lost, and the loop never spins: each run comes to an end. A
 * session does not outlast what disturbs it, and costs no write. An item that another source has
 * consumed is not reported. */

#define with_lock atomic /* gaio_core_lock () ... gaio_core_unlock () */

/* GaioSleep */
#define AWAKE 0
#define ASLEEP 1
#define POLLING 2

/* core, under the lock */
byte sleep = AWAKE;
bool pending;

/* The handler */
byte n_items;
bool suppressed;
bool polled; /* what its poll function said last */

/* The kernel */
bool wake_event; /* edge-triggered */
bool fd_ready;   /* level-triggered */

#define epoll_fd_readable (wake_event || fd_ready)

/* What is true: the loop is in a wait, or about to begin one. */
bool may_sleep;

/* gaio_core_wake (), gaio_sleep_end () */
inline wake_owner ()
{
  if
  :: sleep == AWAKE
#ifndef MUTANT_POLLING_IS_WOKEN
  :: sleep == POLLING
  :: sleep == ASLEEP ->
#else
  :: sleep != AWAKE ->
#endif
       assert (may_sleep);
       wake_event = true
  fi;
  sleep = AWAKE
}

proctype Defers ()
{
  with_lock { pending = true; wake_owner () }
  with_lock { pending = true; wake_owner () }
}

/* The begin and the end function order what is in memory: so does this. */
inline put ()
{
  n_items++;
  if
  :: suppressed
  :: else -> fd_ready = true
  fi
}

proctype Peer ()
{
  put ();
  put ()
}

/* let_others_in (), with the lock, which it gives up */
inline let_others_in ()
{
#ifndef MUTANT_OTHERS_ARE_LET_IN_AWAKE
  sleep = POLLING
#else
  skip
#endif
}

/* come_back (), with the lock, which it takes */
inline come_back ()
{
#ifndef MUTANT_LOOP_DOES_NOT_COME_BACK_DISTURBED
  found = found || sleep != POLLING;
#endif
  sleep = AWAKE
}

/* poll_all () */
inline poll_all ()
{
  atomic { polled = n_items > 0; found = found || polled }
}

/* poll_until () and is_disturbed (), in a window in which it polls once, or that outlasts all that
 * happens. */
inline poll_until ()
{
  if
  :: true -> poll_all ()
  :: true ->
       if
       :: n_items > 0 -> poll_all ()
#ifndef MUTANT_SESSION_IS_NOT_DISTURBED
       :: sleep != POLLING -> found = true
#endif
       :: timeout -> assert (sleep == POLLING)
       fi
  fi
}

/* gaio_busy_poll_session (), up to where it takes the lock again */
inline session ()
{
  suppressed = true; /* begin_all () */
  poll_until ();
  suppressed = false; /* end_all () */
#ifndef MUTANT_NOBODY_POLLS_AFTER_THE_END
  if
  :: found
  :: else -> poll_all ()
  fi
#endif
}

/* Nobody will do anything any more. */
inline nothing_to_do ()
{
  assert (!pending && n_items == 0);
  goto done
}

/* gaio_monitor_poll_now (), or what a wait has told */
inline see_events ()
{
  atomic {
    wake_event = false;
    ready = fd_ready
  }
}

/* gaio_gather_polled () */
inline gather_polled ()
{
#ifndef MUTANT_ROUND_FORGETS_WHAT_IT_WAS_TOLD
  only_polled = polled && !ready;
  ready = ready || polled;
#endif
  polled = false
}

/* gather () that may not wait, and commit (): the rest of gaio_round_dispatch () */
inline gather ()
{
#ifndef MUTANT_ROUND_DOES_NOT_POLL
  with_lock { sleep = AWAKE; let_others_in () }
  poll_all ();
  with_lock { come_back () }
#endif
  with_lock { sleep = AWAKE; see_events (); gather_polled (); pending = false }
  found = false
}

/* gaio_round_iterate (), up to what is served. A wait that is in vain is begun anew. */
inline iterate ()
{
  do
  :: with_lock {
       sleep = AWAKE;
       found = pending;
       let_others_in ()
     }
     if
     :: found
     :: else -> /* poll_first () */
          session ();
          with_lock { come_back (); let_others_in () }
     fi;
     /* gather () */
     poll_all ();
     with_lock {
       come_back ();
       if
       :: found
       :: else -> sleep = ASLEEP; may_sleep = true
       fi
     }
     if
     :: found || epoll_fd_readable
     :: timeout -> nothing_to_do ()
     fi;
     with_lock {
       sleep = AWAKE;
       may_sleep = false;
       see_events ();
       gather_polled ();
       found = pending || ready;
       pending = false
     }
     if
     :: found -> found = false; break
     :: else
     fi
  od
}

/* gaio_round_prepare (). GLib is not to sleep if this finds anything. */
inline prepare ()
{
  with_lock {
    sleep = AWAKE;
    found = pending;
    if
    :: found
    :: else -> let_others_in ()
    fi
  }
  if
  :: found
  :: else -> /* poll_in_prepare () */
       session ();
       with_lock { come_back () }
       with_lock {
#ifndef MUTANT_PREPARE_DOES_NOT_LOOK_AGAIN
         found = found || pending;
#endif
         if
         :: found
         :: else -> sleep = ASLEEP; may_sleep = true
         fi
       }
  fi
}

/* The poll of GLib, and gaio_round_check () */
inline poll_and_check ()
{
  if
  :: found || epoll_fd_readable
  :: timeout -> nothing_to_do ()
  fi;
  with_lock { sleep = AWAKE; may_sleep = false; found = false }
}

/* The callback: it takes back what the fd says before it looks at the items. */
inline serve ()
{
  if
  :: ready ->
       atomic { assert (!only_polled || n_items > 0); fd_ready = false };
       n_items = 0
  :: else
  fi;
  atomic { ready = false; only_polled = false }
}

/* Another source of GLib takes them. */
inline distract ()
{
  atomic { n_distractions--; fd_ready = false };
  n_items = 0
}

proctype Owner ()
{
  bool found, ready, only_polled;
  byte n_distractions = 1;

  do
  :: iterate (); serve ()
  :: prepare ();
     poll_and_check ();
     if
     :: n_distractions > 0 -> distract ()
     :: true
     fi;
     gather ();
     serve ()
  od;
done:
  skip
}

init
{
  atomic {
    run Owner ();
    run Defers ();
    run Peer ()
  }
}
