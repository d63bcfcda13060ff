/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The notify protocol: how what is scheduled, armed or removed in any thread ends the sleep of the
 * loop; gaio-core.c, gaio-round.c, gaio-source.c, gaio-bottom-half.c, gaio-timer.c and the eventfd
 * and the timerfd of gaio-monitor-wakeup.c.
 *
 * Holds: the loop never sleeps for ever with something to do, nor does it ever spin: each run comes
 * to an end. A sleep costs at most one write, and being awake none. The bottom halves of one thread
 * run in the order in which it has scheduled them.
 *
 * What is done under the lock is one step: nobody sees the middle of it. */

#define with_lock atomic /* gaio_core_lock () ... gaio_core_unlock () */

#define NEVER 255
#define END_OF_TIME 3

/* GaioSleep */
#define AWAKE 0
#define ASLEEP_IN_GLIB 1
#define ASLEEP_IN_ITERATE 2

/* What a bottom half has been asked for. */
#define IDLE 1
#define URGENT 2
#define QUEUED 4

/* The bottom halves */
#define A 0
#define B 1

/* core, all under the lock */
byte sleep = AWAKE;
bool has_other_work = true;
byte n_urgent;
byte idle_deadline = NEVER;
byte timer = NEVER; /* the heap: a single timer, or none */
bool due;           /* it is on timers.due */
bool has_pending_notifies;
bool wake_requested;
byte armed = NEVER;
chan bottom_halves = [2] of { byte };

/* GaioBottomHalf */
byte asked[2];
bool queued[2];
bool urgent[2];

/* The kernel. What is edge-triggered is gone once epoll_wait () has told it. */
byte now = 1;
bool wake_event;
byte timerfd = NEVER;
bool have_timerfd;
bool fd_ready; /* of a handler, level-triggered */

#define timer_event (timerfd <= now)
#define epoll_fd_readable (wake_event || timer_event || fd_ready)

/* What has happened so far. */
byte wanted[2];      /* scheduled as IDLE, URGENT or both, and not yet called */
bool second_wants_a; /* by the thread that schedules B after it */
bool may_write;      /* the loop has said that it sleeps, and nobody has woken it yet */

/* gaio_sleep_end (), with the lock held */
inline end_sleep ()
{
#ifndef MUTANT_NO_OTHER_WORK_AFTER_WAKE
  has_other_work = true;
#endif
  if
  :: sleep == AWAKE
  :: else ->
#ifndef MUTANT_WAKE_LEAVES_IT_ASLEEP
       sleep = AWAKE;
#endif
       assert (may_write);
       may_write = false;
       wake = true
  fi
}

/* gaio_monitor_wake (), if gaio_sleep_end () said so */
inline write_if_asked ()
{
  if
  :: wake ->
       wake_event = true;
       wake = false
  :: else
  fi
}

/* gaio_core_wake () */
inline wake_owner ()
{
  end_sleep ();
  write_if_asked ()
}

/* gaio_monitor_arm (). Setting a timerfd takes back that it has expired. */
inline arm (deadline)
{
  if
  :: armed <= deadline -> armed_it = true
  :: else ->
       armed_it = have_timerfd;
       if
       :: have_timerfd ->
            timerfd = deadline;
            armed = deadline
       :: else
       fi
  fi
}

/* gaio_core_deadline_moved () */
inline deadline_moved (deadline)
{
  has_other_work = true;
  armed_it = false;
  if
#ifdef MUTANT_DEADLINE_IS_NOT_ARMED
  :: sleep == ASLEEP_IN_GLIB -> armed_it = true
#else
  :: sleep == ASLEEP_IN_GLIB -> arm (deadline)
#endif
  :: else
  fi;
  if
  :: armed_it
  :: else -> wake_owner ()
  fi
}

/* enqueue () */
inline enqueue (bh)
{
  if
  :: queued[bh]
  :: else ->
       asked[bh] = asked[bh] | QUEUED;
       queued[bh] = true;
       bottom_halves ! bh
  fi
}

/* enqueue (), make_urgent (), limit_sleep () */
inline place (bh)
{
  enqueue (bh);
  if
  :: asked[bh] & URGENT ->
       if
       :: urgent[bh]
       :: else ->
            urgent[bh] = true;
            n_urgent++;
            end_sleep ()
       fi
  :: else ->
       if
       :: idle_deadline == NEVER ->
            idle_deadline = now + 1;
            deadline_moved (idle_deadline)
       :: else
       fi
  fi
}

/* schedule (). The bits are set without the lock: asked is what they were before. */
inline schedule (bh, how)
{
  atomic {
    wanted[bh] = wanted[bh] | how;
    asked_before = asked[bh];
    asked[bh] = asked[bh] | how
  }
  if
#ifdef MUTANT_FAST_PATH_FOR_WHAT_IS_NOT_QUEUED
  :: asked_before & how
#else
  :: (asked_before & how) && (asked_before & QUEUED)
#endif
  :: else ->
       with_lock {
         if
         :: asked[bh] != 0 -> place (bh)
         :: else
         fi;
         asked_before = 0;
         armed_it = false
       };
       /* gaio_core_unlock_and_wake (): the lock has been given up. */
       write_if_asked ()
  fi;
  asked_before = 0
}

/* gaio_timer_arm_at () with the lock held: set_deadline () */
inline set_deadline (deadline)
{
  due = false;
  timer = deadline;
  deadline_moved (deadline);
  armed_it = false
}

/* Schedules A, and then may make the fd of a handler ready. */
proctype First ()
{
  byte asked_before;
  bool armed_it;
  bool wake;

  if
  :: schedule (A, URGENT)
  :: schedule (A, IDLE)
  fi;
  if
  :: fd_ready = true
  :: skip
  fi
}

/* Schedules A, then B. */
proctype Second ()
{
  byte asked_before;
  bool armed_it;
  bool wake;

  second_wants_a = true;
  schedule (A, URGENT);
  schedule (B, URGENT)
}

/* Arms a timer, and again earlier; then may remove something, or wake the loop. */
proctype Third ()
{
  bool armed_it;
  bool wake;

  with_lock { set_deadline (3) }
  with_lock { set_deadline (2) }
  with_lock {
    if
    :: has_pending_notifies = true /* gaio_entry_destroy () */
    :: wake_requested = true /* gaio_context_wakeup () */
    :: goto done
    fi;
    wake_owner ()
  }
done:
  skip
}

/* Time passes, up to when all that has been armed was due. */
proctype Clock ()
{
  do
  :: now < END_OF_TIME -> now++
  :: else -> break
  od
}

/* The owner. */

#define is_pending (n_urgent > 0 || due || has_pending_notifies || wake_requested)
#define next_deadline (idle_deadline < timer -> idle_deadline : timer)

/* What enter () does, and wait_asleep () when it is back. */
inline awake ()
{
  sleep = AWAKE;
  may_write = false
}

inline fall_asleep (where)
{
  sleep = where;
  may_write = true
}

/* epoll_wait () when there is something to tell, or no time to wait. A limit may have it tell of
 * some only. */
inline epoll_wait ()
{
  atomic {
    if
    :: wake_event -> saw_wake = true
    :: timer_event -> saw_timer = true
    :: wake_event && timer_event ->
         saw_wake = true;
         saw_timer = true
    :: fd_ready -> on_ready = true
    :: !epoll_fd_readable
    fi;
#ifndef MUTANT_EVENTFD_IS_LEVEL_TRIGGERED
    if
    :: saw_wake -> wake_event = false
    :: else
    fi;
#endif
    if
    :: saw_timer -> timerfd = NEVER
    :: else
    fi
  }
}

/* see_event (), with the lock held */
inline see_events ()
{
#ifndef MUTANT_EXPIRED_STAYS_ARMED
  if
  :: saw_timer -> armed = NEVER
  :: else
  fi;
#endif
  saw_wake = false;
  saw_timer = false
}

/* With the lock held: commit (), collect () */
inline commit ()
{
  if
  :: has_other_work ->
       wake_requested = false;
       if
       :: timer <= now ->
            timer = NEVER;
            due = true
       :: else
       fi;
       n_to_serve = len (bottom_halves);
       have_due = due;
       has_other_work = is_pending || next_deadline != NEVER
  :: else
  fi
}

/* pop (), with the lock held. That no more are served than were there when the round began is the
 * same as to compare sequence numbers. */
inline pop ()
{
  n_to_serve--;
  bottom_halves ? bh;
  queued[bh] = false;
  if
  :: urgent[bh] ->
       n_urgent--;
       urgent[bh] = false
  :: else
  fi;
#ifndef MUTANT_IDLE_DEADLINE_STAYS
  if
  :: len (bottom_halves) == 0 -> idle_deadline = NEVER
  :: else
  fi;
#endif
#ifndef MUTANT_ASKED_IS_CLEARED_AFTER_THE_CALL
  asked[bh] = 0
#endif
}

/* gaio_bottom_half_serve_next () until there is none; a limit may cut it off. */
inline serve_bottom_halves ()
{
  do
  :: n_to_serve > 0 ->
       with_lock { pop () }
       atomic {
         wanted[bh] = 0;
         assert (bh == A || !second_wants_a);
         second_wants_a = second_wants_a && bh != A
       }
#ifdef MUTANT_ASKED_IS_CLEARED_AFTER_THE_CALL
       asked[bh] = 0;
#endif
       if
       :: skip
       :: goto cut_off
       fi
  :: else -> break
  od
}

/* gaio_timer_serve_next (); the callback arms the timer once more. */
inline serve_timers ()
{
  if
  :: have_due ->
       with_lock {
         have_due = due;
         due = false
       }
  :: else
  fi;
  if
  :: have_due && n_rearms > 0 ->
       with_lock {
         n_rearms--;
         set_deadline (now + 1)
       }
  :: else
  fi
}

/* With the lock held: time_to_wait (). 0 is not to wait at all. */
inline time_to_wait ()
{
  if
  :: !has_other_work && end_of_wait == NEVER -> wait_until = NEVER
  :: else ->
       if
       :: is_pending -> wait_until = 0
       :: else ->
            wait_until = next_deadline;
            if
            :: end_of_wait < wait_until -> wait_until = end_of_wait
            :: else
            fi;
            if
            :: wait_until <= now -> wait_until = 0
            :: else
            fi
       fi
  fi
}

/* Nobody will do anything any more. */
inline sleep_for_ever ()
{
  assert (((wanted[A] | wanted[B]) & URGENT) == 0);
  assert ((wanted[A] | wanted[B]) == 0 || idle_deadline > now);
  assert (timer > now && !due);
  assert (!has_pending_notifies && !wake_requested && !fd_ready);
  goto done
}

/* gaio_round_prepare (). Without a timerfd GLib gets a timeout, until @wait_until. */
inline prepare ()
{
  with_lock {
    if
    :: !has_other_work
    :: has_other_work && is_pending -> ready = true
    :: has_other_work && !is_pending && next_deadline == NEVER
    :: has_other_work && !is_pending && next_deadline != NEVER ->
         wait_until = next_deadline;
         arm (wait_until);
         if
         :: armed_it -> wait_until = NEVER
         :: else -> ready = wait_until <= now
         fi;
         armed_it = false
    fi;
#ifdef MUTANT_SAYS_LATE_THAT_IT_SLEEPS
    skip
  }
  with_lock {
#endif
    if
    :: ready
    :: else -> fall_asleep (ASLEEP_IN_GLIB)
    fi
  }
}

/* The poll () of GLib. Now and then another source of its own ends it. */
inline poll ()
{
  if
  :: ready
  :: !ready && epoll_fd_readable
  :: !ready && wait_until <= now
  :: !ready && n_distractions > 0 ->
       n_distractions--;
       distracted = true
  :: timeout -> sleep_for_ever ()
  fi;
  atomic {
    readable = epoll_fd_readable;
    wait_until = NEVER
  }
}

/* wait_asleep () and what wait_for_news () makes of it */
inline wait_asleep ()
{
  if
  :: epoll_fd_readable
  :: wait_until <= now
  :: timeout -> sleep_for_ever ()
  fi;
  epoll_wait ();
  with_lock {
    awake ();
    see_events ();
    if
    :: on_ready -> wait_until = 0
    :: else -> time_to_wait ()
    fi;
    if
    :: wait_until == 0 -> commit ()
    :: else -> fall_asleep (ASLEEP_IN_ITERATE)
    fi
  }
}

/* The thread that runs the loop, under GLib and now and then with gaio_context_iterate (). */
proctype Owner ()
{
  bool ready;    /* GLib's flag: to be dispatched */
  bool readable; /* what poll () has said */
  bool distracted;
  byte n_distractions = 1;
  byte n_rearms = 1;
  byte wait_until = NEVER, end_of_wait = NEVER;
  bool saw_wake, saw_timer, on_ready;
  bool armed_it, have_due;
  bool wake;
  byte n_to_serve, bh;

  do
  :: /* An iteration of GLib */
     if
     :: ready
     :: else -> prepare ()
     fi;
     poll ();
     if
     :: distracted -> /* by a source of higher priority: neither check nor dispatch */
          readable = false;
          distracted = false;
          goto next
     :: distracted = false
     fi;
     /* gaio_round_check () */
     if
     :: ready
     :: else ->
          with_lock {
            may_write = false;
#ifndef MUTANT_CHECK_DOES_NOT_AWAKE
            sleep = AWAKE
#endif
          }
          ready = readable
     fi;
     readable = false;
     if
     :: ready
     :: else -> goto next
     fi;
     /* gaio_round_dispatch () */
     ready = false;
     with_lock {
       awake ();
       epoll_wait ();
       see_events ();
       commit ()
     }
     goto serve

  :: /* gaio_round_iterate () */
     if
     :: end_of_wait = NEVER
     :: n_distractions > 0 ->
          n_distractions--;
          end_of_wait = now + 1
     fi;
     with_lock {
       awake ();
       time_to_wait ();
       if
       :: wait_until == 0 ->
            epoll_wait ();
            see_events ();
            commit ()
       :: else -> fall_asleep (ASLEEP_IN_ITERATE)
       fi
     }
     do
     :: wait_until == 0 -> break
     :: else -> wait_asleep ()
     od;

serve:
     atomic {
       wait_until = NEVER;
       end_of_wait = NEVER
     }
     serve_bottom_halves ();
     if
     :: on_ready -> /* its callback reads all there is */
          fd_ready = false
     :: else
     fi;
     serve_timers ();
cut_off:
     atomic {
       on_ready = false;
       n_to_serve = 0;
       have_due = false;
       bh = 0
     }
     /* leave (), gaio_entry_run_notifies () */
     if
     :: has_pending_notifies -> has_pending_notifies = false
     :: else
     fi;
next:
     skip
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
    /* Any two of the three: all at once are more states than there is time for. */
    if
    :: run First (); run Second ()
    :: run First (); run Third ()
    :: run Second (); run Third ()
    fi
  }
}
