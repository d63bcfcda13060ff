/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* gaio_context_run (): one wait for GLib and for the context, whose events the dispatch then takes,
 * while other threads take the context away, close it, or have something for either of the two;
 * gaio-host.c, gaio-host-state.c, gaio-host-state-private.h, and what gaio-round.c and
 * gaio-source.c do about it. notify-nested.pml has how a poll of GLib ends the sleep, and
 * litmus/host-wait.litmus what a processor may reorder.
 *
 * Holds: no wake-up is lost, nobody waits for ever for the end of a wait, and the loop never spins:
 * each run comes to an end. Two threads never use the events of the monitor at the same time. What
 * another source has consumed since the wait is not reported, and no source of lower priority comes
 * before what the wait has found. */

#define NEVER 255

/* GaioSleep */
#define AWAKE 0
#define ASLEEP_IN_GLIB 1
#define ASLEEP_IN_ITERATE 2

/* GaioHostWait */
#define WAIT_NONE 0
#define WAIT_STARTED 1
#define WAIT_CANCELLED 2

/* What the stored events are of. */
#define NO_EVENTS 255
#define FD_EVENT 1
#define OTHER_EVENT 2

/* A source of GLib that is ready: its priority, compared with ours. It comes before ours if they
 * have the same; then it is not made ready between the two checks, for a new one comes after. */
#define NOTHING 0
#define LOWER 1
#define SAME 2
#define HIGHER 3

/* core, under the lock. What is done under the lock without waiting is one step. */
bool locked;
byte sleep = AWAKE;
bool pending;
bool closed;
byte timer = NEVER;
byte armed = NEVER;
byte source = 1; /* which one, or 0 */
bool lingering;  /* one that was taken away, and that its owner has yet to destroy */

/* GaioHostState */
byte wait = WAIT_NONE;
bool wait_ended;
bool glib_fd; /* there is one */
bool glib_woken;
bool timer_expired;
byte n_events = NO_EVENTS;
byte events_depth;

/* The kernel. What is edge-triggered is gone once epoll_wait () has told it. */
bool now; /* the time, which is 0 or 1 */
bool fd_ready; /* of a handler, level-triggered */
bool wake_event;
byte timerfd = NEVER;
bool in_set;       /* GLib's wake-up fd */
bool glib_edge;    /* it was written to after epoll_wait () told of it */
bool glib_written; /* and GLib has not read it since */

#define own_event (fd_ready || wake_event || timerfd <= now)
#define glib_event (in_set && glib_edge && glib_written)

/* lock_for_source () */
#define is_polled (source == polled && source != 0)

/* The monitor */
bool filling; /* the host waits, and fills its events */

/* What is rare. */
byte n_distractions = 1;

/* GLib */
byte other = NOTHING;
bool cancelled;

/* g_main_context_wakeup () */
inline wake_glib ()
{
  glib_written = true;
  glib_edge = true
}

/* gaio_core_wake () */
inline wake_owner ()
{
  wake_event = wake_event || sleep != AWAKE;
  sleep = AWAKE
}

/* gaio_monitor_arm () */
inline arm ()
{
  if
  :: armed > timer -> timerfd = timer; armed = timer
  :: else
  fi
}

/* gaio_core_deadline_moved () */
inline deadline_moved ()
{
  if
  :: sleep == ASLEEP_IN_GLIB -> arm ()
  :: else -> wake_owner ()
  fi
}

/* gaio_host_state_update_timer () */
inline update_timer ()
{
#ifndef MUTANT_TIMER_IS_NOT_UPDATED
  armed = (timer_expired -> NEVER : armed);
#endif
  timer_expired = false
}

/* gaio_host_state_drop_events () */
inline drop_events ()
{
  n_events = NO_EVENTS
}

/* gaio_host_state_take_events (), and the callback, which reads all there is */
inline take_events ()
{
  if
  :: n_events & FD_EVENT -> assert (fd_ready); fd_ready = false
  :: else
  fi;
  drop_events ()
}

/* gaio_monitor_poll_now (), handle_event (), and the callback */
inline look ()
{
  fd_ready = false;
  wake_event = false;
  if
  :: glib_event ->
       glib_edge = false;
#ifndef MUTANT_LOOK_FORGETS_GLIB
       glib_woken = true
#endif
  :: else
  fi;
  if
  :: timerfd <= now -> timerfd = NEVER; armed = NEVER
  :: else
  fi
}

/* rebuild_set () */
inline rebuild_set ()
{
  n_distractions--;
  in_set = false;
#ifndef MUTANT_REBUILD_IS_NOT_TOLD
  glib_fd = false
#endif
}

/* From enter () to leave (), all in one, with the lock held. */
inline round ()
{
  assert (!filling);
  sleep = AWAKE;
  if
  :: n_events != NO_EVENTS -> take_events ()
  :: else ->
       look ();
       if
       :: n_distractions > 0 && in_set -> rebuild_set ()
       :: true
       fi
  fi;
  pending = false;
  timer = (timer <= now -> NEVER : timer);
  update_timer ()
}

/* --- The host --- */

/* The dispatch of our source, under a main loop that is so deep: gaio_round_dispatch () and, if it
 * was closed, gaio_close_finish () */
inline dispatch_own (depth)
{
  atomic {
    !locked;
    if
    :: is_polled && closed -> source = 0
    :: is_polled && !closed ->
#ifndef MUTANT_LOOP_INSIDE_TAKES_EVENTS
         if
         :: events_depth != depth -> drop_events ()
         :: else
         fi;
#endif
         round ()
    :: else
    fi
  }
}

/* Another source of GLib: its callback may read our fd, and run a main loop. */
inline dispatch_other ()
{
  atomic {
    assert (other_ready != LOWER || n_events == NO_EVENTS || !(n_events & FD_EVENT));
    other = NOTHING;
    if
    :: fd_ready -> fd_ready = false
    :: true
    fi
  }
  if
  :: n_distractions > 0 -> n_distractions--; dispatch_own (2)
  :: true
  fi
}

/* g_main_context_dispatch (): of what is ready all that has the highest priority. */
inline dispatch ()
{
  if
  :: other_ready >= SAME || (other_ready == LOWER && !own_ready && !gone_ready) -> dispatch_other ()
  :: else
  fi;
  if
  :: own_ready && other_ready != HIGHER -> dispatch_own (1)
  :: else
  fi;
  if
  :: gone_ready && other_ready != HIGHER -> lingering = false
  :: else
  fi
}

/* gaio_round_prepare () */
inline prepare_own ()
{
  atomic {
    !locked;
    polled = source;
    if
    :: source == 0
    :: else ->
         update_timer ();
         own_ready = own_ready || pending || closed || timer <= now;
         if
         :: own_ready
         :: else -> arm (); sleep = ASLEEP_IN_GLIB
         fi
    fi
  }
}

/* gaio_context_iterate (0) in the prepare () of another source, with
 * gaio_round_update_outer_polls () after it */
inline iterate_in_prepare ()
{
  atomic {
    !locked;
    n_distractions--;
    if
    :: source == 0 || closed
    :: else ->
         drop_events ();
         round ();
         if
         :: own_ready
         :: else -> sleep = ASLEEP_IN_GLIB; arm ()
         fi
    fi
  }
}

/* query () */
inline query ()
{
  atomic { other_ready = other; gone_ready = lingering };
  prepare_own ();
  if
  :: n_distractions > 0 -> iterate_in_prepare ()
  :: true
  fi
}

/* Nobody will do anything any more. */
inline nothing_to_do ()
{
  assert (!cancelled && other == NOTHING && !lingering);
  assert (source == 0 || (!pending && !closed && !fd_ready && timer > now));
  goto done
}

/* can_wait_together (), with gaio_host_state_watch_glib () and gaio_host_state_begin_wait () */
inline can_wait_together ()
{
  atomic {
    !locked;
    together = source != 0 && !own_ready && !gone_ready && other_ready == NOTHING;
    if
    :: together && !glib_fd -> glib_fd = true; in_set = true; glib_edge = true
    :: else
    fi;
#ifndef MUTANT_WAIT_BEGINS_WITHOUT_THE_LOCK
    wait = (together -> WAIT_STARTED : wait)
#endif
  }
#ifdef MUTANT_WAIT_BEGINS_WITHOUT_THE_LOCK
  wait = (together -> WAIT_STARTED : wait);
#endif
  filling = together
}

/* sort_events () */
inline sort_events ()
{
  news = own_event;
  found = (fd_ready -> FD_EVENT : 0) | (wake_event || timerfd <= now -> OTHER_EVENT : 0);
  if
  :: glib_event -> glib_edge = false; glib_woken = true
  :: else
  fi;
  if
  :: timerfd <= now -> timerfd = NEVER; timer_expired = true
  :: else
  fi;
  wake_event = false
}

#ifndef MUTANT_WAIT_IGNORES_WHAT_WAS_SEEN
#define no_wait glib_woken
#else
#define no_wait false
#endif

/* wait_for_events (). After a signal, too, the round is to look. */
inline wait_for_events ()
{
  atomic {
    if
    :: own_event || glib_event || no_wait -> sort_events ()
    :: n_distractions > 0 -> n_distractions--; news = true
    :: timeout -> nothing_to_do ()
    fi
  }
}

inline store_events ()
{
  n_events = (found != 0 -> found : NO_EVENTS);
  events_depth = 1;
  found = 0
}

/* gaio_host_state_end_wait () */
inline end_wait ()
{
#ifdef MUTANT_END_TAKES_THE_LOCK
  atomic { !locked -> locked = true }
  locked = false;
#endif
  filling = false;
#ifndef MUTANT_EVENTS_ARE_STORED_LATE
  store_events ();
#endif
  atomic { was_cancelled = wait == WAIT_CANCELLED; wait = WAIT_NONE };
#ifndef MUTANT_END_IS_NOT_TOLD
  if
  :: was_cancelled -> wait_ended = true
  :: else
  fi;
#endif
#ifdef MUTANT_EVENTS_ARE_STORED_LATE
  store_events ();
#endif
  was_cancelled = false
}

/* g_main_context_check (), which bails out if the set of pollfds has changed: GLib reads its
 * wake-up fd if it was told of it, and asks the other sources. */
inline check_others ()
{
  atomic {
    glib_written = glib_written && !revents;
    revents = false;
    changed = source != polled && !lingering;
    other_ready = (changed -> NOTHING : other);
    gone_ready = lingering && !changed;
    own_ready = own_ready && !changed
  }
}

/* And ours: gaio_round_check () */
inline check_own ()
{
  atomic {
    !locked;
    if
    :: is_polled && !changed -> sleep = AWAKE
    :: else
    fi
  }
}

/* check_apart () */
inline check_apart (at_once)
{
  atomic {
    if
    :: own_ready || gone_ready || other_ready != NOTHING || at_once || glib_written ||
         (polled != 0 && own_event) ->
         own_readable = polled != 0 && own_event;
         revents = glib_written
    :: timeout -> nothing_to_do ()
    fi
  }
  check_others ();
  check_own ();
  own_ready = own_ready || (own_readable && !changed);
  own_readable = false
}

/* check_together () */
inline check_together ()
{
  wait_for_events ();
  atomic {
    revents = glib_woken;
#ifndef MUTANT_GLIB_IS_TOLD_FOR_EVER
    glib_woken = false
#endif
  }
  end_wait ();
  check_others ();
  check_own ();
  if
#ifndef MUTANT_OTHERS_COME_FIRST
  :: news && (other_ready != NOTHING || gone_ready) -> both = true
#endif
  :: news && other_ready == NOTHING && !gone_ready -> /* the second check */
       check_others ();
       atomic {
         own_ready = !changed;
         other_ready = (other_ready == SAME -> NOTHING : other_ready)
       }
  :: else
  fi;
  news = false
}

/* set_target_set () and end_iteration (), after lock_if_nested () */
inline drop_events_if_nested ()
{
  atomic {
    !locked;
    if
    :: source == 0
    :: else -> drop_events (); update_timer ()
    fi
  }
}

/* check_again () */
inline check_again ()
{
  query ();
#ifndef MUTANT_EVENTS_ARE_KEPT_BEHIND_OTHERS
  drop_events_if_nested ();
#endif
  check_apart (true)
}

/* iterate () of gaio-host.c */
inline iterate_glib ()
{
  query ();
  can_wait_together ();
  if
  :: together -> check_together ()
  :: else -> check_apart (false)
  fi;
  if
  :: both -> both = false; check_again ()
  :: else
  fi;
  dispatch ();
#ifndef MUTANT_EVENTS_ARE_KEPT_FOR_THE_NEXT_ITERATION
  drop_events_if_nested ();
#endif
  atomic {
    own_ready = false;
    other_ready = NOTHING;
    gone_ready = false;
    together = false;
    changed = false;
    polled = 0
  }
}

/* run () */
proctype Host ()
{
  byte polled; /* the source whose pollfd GLib has */
  bool own_ready, own_readable, gone_ready;
  byte other_ready = NOTHING;
  bool together, news, both, revents, changed, was_cancelled;
  byte found;

  do
  :: cancelled || closed -> break
  :: else -> iterate_glib ()
  od;
  /* leave_glib () */
  atomic {
    !locked;
    assert (wait == WAIT_NONE);
    in_set = false;
    glib_fd = false
  }
done:
  skip
}

/* --- Other threads --- */

/* cancel_wait (), with the lock held */
inline cancel_wait ()
{
  atomic {
    if
    :: wait == WAIT_STARTED ->
         wait = WAIT_CANCELLED;
#ifndef MUTANT_CANCEL_DOES_NOT_WAKE
         wake_event = true;
#endif
         was_started = true
    :: else
    fi
  }
  if
  :: was_started ->
#ifndef MUTANT_CANCEL_DOES_NOT_WAIT
       wait_ended;
#endif
       wait_ended = false
  :: else
  fi
}

/* forget_source (), the rest of it */
inline forget_source ()
{
  in_set = false;
  glib_fd = false;
#ifndef MUTANT_EVENTS_ARE_KEPT_WITHOUT_SOURCE
  drop_events ();
#endif
  source = 0
}

/* gaio_round_iterate () that waits for something to do */
inline iterate ()
{
  atomic {
    !locked;
    assert (!filling);
    drop_events ();
    until = (pending || closed || timer <= now -> 0 : timer);
    sleep = ASLEEP_IN_ITERATE
  }
  if
  :: own_event || until <= now
  :: timeout -> assert (!pending && !closed && !fd_ready && timer > now); goto done
  fi;
  atomic { !locked; round () }
  if
  :: closed -> goto done
  :: else
  fi
}

/* Takes the context away, and has it alone; or attaches it again. */
proctype Takes ()
{
  bool was_started;
  byte until;

  /* gaio_context_detach (), and source_gone () of a source that was destroyed */
  atomic { !locked -> locked = true }
  if
  :: source == 0 -> locked = false; goto done
  :: else
  fi;
  cancel_wait ();
  atomic {
    forget_source ();
    if
    :: lingering = true
    :: true
    fi;
#ifndef MUTANT_GLIB_IS_NOT_WOKEN
    wake_glib ();
#endif
    locked = false
  }
  if
  :: atomic { !locked; source = 2; wake_glib () }
  :: atomic { !locked; round () } /* gaio_round_dispatch () under another GMainContext */
     do
     :: iterate ()
     od
  fi;
done:
  skip
}

proctype Kicks ()
{
  atomic { !locked; pending = true; wake_owner () }
}

proctype Arms ()
{
  atomic { !locked; timer = 1; deadline_moved () }
  now = true;
  atomic { !locked; timer = (timer == NEVER -> 1 : timer); deadline_moved () }
}

proctype Writes ()
{
  fd_ready = true;
  fd_ready = true
}

/* A source of GLib is made ready. */
proctype Invokes ()
{
  atomic {
    if
    :: other = LOWER
    :: other = SAME
    :: other = HIGHER
    fi;
    wake_glib ()
  }
}

/* on_cancelled (), or gaio_close () */
proctype Ends ()
{
  if
  :: atomic { cancelled = true; wake_glib () }
  :: atomic { !locked; closed = true; wake_owner () }
  fi
}

/* Nobody waits for ever with the lock. */
active proctype Watches ()
{
  timeout;
  assert (!locked)
}

init
{
  atomic {
    run Host ();
    run Takes ();
    /* Any two of them: all at once are more states than there is time for. */
    if
    :: run Writes (); run Invokes ()
    :: run Arms (); run Invokes ()
    :: run Arms (); run Writes ()
    :: run Kicks (); run Arms ()
    :: run Kicks (); run Invokes ()
    :: run Kicks (); run Writes ()
    :: run Ends (); run Arms ()
    :: run Ends (); run Invokes ()
    :: run Ends (); run Kicks ()
    :: run Ends (); run Writes ()
    fi
  }
}
