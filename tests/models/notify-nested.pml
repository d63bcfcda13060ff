/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The notify protocol where somebody looks at the loop between the query and the poll of GLib, and
 * where busy polling gives up the lock: gaio-glib-polls-private.h, gaio-round.c, gaio-busy-poll.c.
 * What is pending and when the timer is due is all there is to do; notify.pml has the rest.
 *
 * Holds: the loop never sleeps for ever with something to do, nor does it ever spin. Nothing is
 * written unless a poll was begun that has not ended, or GLib has ended one without telling us. */

#define with_lock atomic /* gaio_core_lock () ... gaio_core_unlock () */

#define NEVER 255
#define END_OF_TIME 2

/* GaioSleep */
#define AWAKE 0
#define ASLEEP_IN_GLIB 1
#define ASLEEP_IN_ITERATE 2
#define POLLING 3

/* core, under the lock */
byte sleep = AWAKE;
bool pending;
byte timer = NEVER;
byte armed = NEVER;

/* GaioGlibPolls. The place on the stack is how deep the look is nested. */
byte n_polls;
byte outermost;
bool over; /* GLib has written to the pollfd */

/* The kernel */
byte now;
bool wake_event; /* edge-triggered */
byte timerfd = NEVER;
bool have_timerfd;

#define epoll_fd_readable (wake_event || timerfd <= now)

/* What is true, and the loop has to find out. */
bool begun[2]; /* the poll has looked, and may sleep */
bool doubt;    /* GLib has ended one, and check () was not called */

/* gaio_core_wake () */
inline wake_owner ()
{
  if
  :: sleep == ASLEEP_IN_GLIB || sleep == ASLEEP_IN_ITERATE ->
       assert (begun[0] || begun[1] || doubt);
       wake_event = true
  :: else
  fi;
  sleep = AWAKE
}

/* gaio_core_deadline_moved (), gaio_monitor_arm () */
inline deadline_moved ()
{
  if
  :: sleep == ASLEEP_IN_GLIB && armed <= timer
  :: sleep == ASLEEP_IN_GLIB && armed > timer && have_timerfd ->
       timerfd = timer;
       armed = timer
  :: else -> wake_owner ()
  fi
}

/* Other threads, or who looks afterwards. */
proctype Defers ()
{
  with_lock { pending = true; wake_owner () }
  with_lock { pending = true; wake_owner () }
}

proctype Arms ()
{
  with_lock { timer = END_OF_TIME; deadline_moved () }
  with_lock {
    if
    :: now < END_OF_TIME && timer > now + 1 -> timer = now + 1; deadline_moved ()
    :: else
    fi
  }
}

proctype Clock ()
{
  do
  :: now < END_OF_TIME -> now++
  :: else -> break
  od
}

/* gaio_glib_polls_update () that may end one */
inline end_poll ()
{
  if
  :: n_polls > 0 && over ->
       n_polls--;
#ifndef MUTANT_UNSEEN_IS_NOT_WRITTEN
       over = n_polls == 0
#endif
  :: else
  fi
}

/* gaio_round_update_outer_polls (), with the lock held */
inline mind_outer_polls ()
{
  if
  :: n_polls > 0 ->
       sleep = ASLEEP_IN_GLIB;
       if
#ifndef MUTANT_ROUND_DOES_NOT_WAKE
       :: pending -> wake_owner ()
#endif
#ifndef MUTANT_ROUND_DOES_NOT_ARM
       :: !pending && timer != NEVER -> deadline_moved ()
#endif
       :: else
       fi
  :: else
  fi
}

/* gaio_busy_poll_session (): between let_others_in (), with which the lock is given up, and
 * come_back (), which takes it. */
inline ask ()
{
  if
  :: n_found > 0 -> n_found--; found = true
  :: skip
  fi
}

inline come_back ()
{
#ifndef MUTANT_BUSY_POLLING_DOES_NOT_LOOK_AGAIN
  found = found || sleep != POLLING;
#endif
  sleep = AWAKE
}

/* gaio_round_prepare () of the poll that is so deep */
inline prepare (depth)
{
  with_lock {
    end_poll ();
    if
#ifndef MUTANT_ANY_POLL_FORGETS_OTHERS
    :: n_polls > 0 && outermost == depth ->
#else
    :: n_polls > 0 ->
#endif
#ifndef MUTANT_LEFT_POLLS_STAY
         n_polls = 0
#else
         skip
#endif
    :: else
    fi;
    found = pending;
    if
    :: found
    :: else -> sleep = POLLING
    fi
  }
  if
  :: found
  :: else -> /* poll_in_prepare () */
       ask ();
       with_lock { come_back () }
       with_lock { mind_outer_polls () }
  fi;
  with_lock {
    if
    :: depth == 0 -> doubt = false
    :: else
    fi;
    ready = found || pending || timer <= now;
    found = false;
    if
    :: ready
    :: else ->
         if
         :: timer != NEVER && armed > timer && have_timerfd ->
              timerfd = timer;
              armed = timer
         :: else
         fi;
         if
         :: timer != NEVER && !have_timerfd -> until[depth] = timer
         :: else
         fi;
         outermost = (n_polls == 0 -> depth : outermost);
         n_polls++;
         over = false;
         begun[depth] = true;
         sleep = ASLEEP_IN_GLIB
    fi
  }
}

/* A round: what was there when it began is served. */
inline round ()
{
  with_lock {
    sleep = AWAKE;
    wake_event = false;
    if
    :: timerfd <= now -> timerfd = NEVER; armed = NEVER
    :: else
    fi;
    pending = false;
    if
    :: timer <= now -> timer = NEVER
    :: else
    fi
  }
  with_lock { mind_outer_polls () }
}

/* Nobody will do anything any more. */
inline nothing_to_do ()
{
  assert (!pending && timer > now);
  goto done
}

/* gaio_round_iterate () that waits for something to do. */
inline iterate ()
{
  with_lock {
    sleep = AWAKE;
    found = pending || timer <= now;
    until[0] = timer;
    if
    :: found
    :: else -> sleep = POLLING
    fi
  }
  if
  :: found
  :: else -> ask ()
  fi;
  with_lock {
    come_back ();
    if
    :: found
    :: else ->
         begun[0] = true;
         sleep = ASLEEP_IN_ITERATE
    fi
  }
  if
  :: found || epoll_fd_readable || until[0] <= now
  :: timeout -> nothing_to_do ()
  fi;
  with_lock {
    sleep = AWAKE;
    begun[0] = false;
    until[0] = NEVER;
    found = false
  }
  round ()
}

/* GLib's poll (), and what comes of it */
inline poll_and_dispatch (depth)
{
  if
  :: no_wait[depth] || epoll_fd_readable || until[depth] <= now
  :: n_distractions > 0 && !no_wait[depth] -> n_distractions--; distracted = true
  :: timeout -> nothing_to_do ()
  fi;
  atomic {
    readable = epoll_fd_readable;
    until[depth] = NEVER;
    no_wait[depth] = false
  }
  if
  :: distracted -> /* the pollfds have changed: it writes nothing, and asks nobody */
       atomic { begun[depth] = false; doubt = true; distracted = false }
  :: distracted -> /* by a source of higher priority */
       atomic { over = true; begun[depth] = false; doubt = true; distracted = false }
  :: !distracted ->
       over = true;
       if
       :: ready -> doubt = doubt || begun[depth]
       :: else ->
            /* gaio_round_check () */
            with_lock {
              end_poll ();
              if
#ifndef MUTANT_CHECK_SAYS_AWAKE
              :: n_polls == 0 -> sleep = AWAKE
#else
              :: true -> sleep = AWAKE
#endif
              :: else
              fi
            };
            ready = readable
       fi;
       begun[depth] = false;
       if
       :: ready -> /* gaio_round_dispatch () */
            with_lock {
              ready = false;
#ifdef MUTANT_DISPATCH_ENDS_A_POLL
              end_poll ();
#endif
              over = over && n_polls == 0
            };
            round ()
       :: ready && depth == 1 /* g_main_context_pending () */
       :: else
       fi
  fi;
  readable = false
}

inline begin_pass (depth)
{
  if
  :: ready
  :: else -> prepare (depth)
  fi;
  no_wait[depth] = ready || depth == 1
}

proctype Owner ()
{
  bool ready; /* GLib's flag: neither prepare () nor check () before the dispatch */
  bool readable, distracted, found;
  bool no_wait[2];
  byte until[2] = NEVER;
  byte n_looks = 2, n_distractions = 1, n_found = 1, n_waits = 1;

  do
  :: begin_pass (0);
     do
     :: n_looks > 0 -> /* g_main_context_pending (), g_main_context_iteration () */
          n_looks--;
          begin_pass (1);
          poll_and_dispatch (1)
     :: n_looks > 0 -> /* gaio_context_iterate (0) */
          n_looks--;
          round ()
     :: break
     od;
     poll_and_dispatch (0)
  :: n_waits > 0 ->
       n_waits--;
       iterate ()
  od;
done:
  skip
}

init
{
  atomic {
    if
    :: have_timerfd = true
    :: have_timerfd = false
    fi;
    run Owner ();
    run Clock ();
    run Defers ();
    run Arms ()
  }
}
