/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-round-private.h"

#include "gaio-bottom-half-private.h"
#include "gaio-busy-poll-private.h"
#include "gaio-close-private.h"
#include "gaio-gather-private.h"
#include "gaio-handler-private.h"
#include "gaio-inner-queue-private.h"
#include "gaio-inner-turn-private.h"
#include "gaio-ready-set-private.h"
#include "gaio-sweep-private.h"
#include "gaio-timer-private.h"
#include "gaio-trace-private.h"

/* The order of a round. */
enum
{
  BOTTOM_HALVES,
  READY,
  TIMERS,
  N_KINDS
};

typedef struct
{
  GaioCore *core;
  GaioCore *outer;          /* the context in whose callback this thread was, or NULL */
  guint64 seq;              /* the gathering that this round serves */
  guint64 last_bottom_half; /* whatever is scheduled later waits for the next round */
  gboolean have_bottom_halves;
  gboolean have_due;
  GaioTimerLimit timers; /* likewise for what is due later */
  guint limit;           /* how many callbacks this round may call */
  guint left;            /* how many of these are left */
  gint64 stop_at;        /* or 0 for no limit */
} GaioRound;

/* What every round goes through is always inline, so that it is one piece of code without calls:
 * after a system call, the processor predicts jumps and calls badly. */

/* With the lock held: whether there is something to do already. */
static gboolean
is_pending (GaioCore *core)
{
  return gaio_bottom_half_queue_get_n_urgent (&core->bottom_halves) > 0 ||
         !gaio_list_is_empty (&core->inners.turns) || !gaio_list_is_empty (&core->timers.due) ||
         !gaio_list_is_empty (&core->handlers.always) || gaio_entry_has_pending_notifies (core) ||
         atomic_load_explicit (&core->sleep.wake_requested, memory_order_relaxed) ||
         gaio_life_is_over (&core->life);
}

/* -1 is never. */
static gint64
earlier (gint64 a, gint64 b)
{
  return a == -1 ? b : MIN (a, b);
}

/* With the lock held: when there will be something to do at the latest, or -1. */
static gint64
next_deadline (GaioCore *core)
{
  gint64 deadline = core->bottom_halves.idle_deadline;

  if (gaio_heap_first (&core->timers.heap) != NULL)
    deadline = earlier (deadline, gaio_heap_first_key (&core->timers.heap));
  if (gaio_heap_first (&core->inners.deadlines) != NULL)
    deadline = earlier (deadline, gaio_heap_first_key (&core->inners.deadlines));
  return deadline;
}

/* With the lock held. The context may have been detached from a main loop while one of its
 * callbacks was running there. Until that callback returns, nobody else may touch what belongs to
 * the owner. */
static gboolean
runs_elsewhere (GaioCore *core)
{
  const void *owner = atomic_load_explicit (&core->round_thread, memory_order_acquire);

  return owner != NULL && owner != gaio_this_thread ();
}

/* With the lock held. FALSE if another thread is inside a round. */
static gboolean
claim (GaioCore *core)
{
  if (G_UNLIKELY (runs_elsewhere (core)))
    return FALSE;
  atomic_store_explicit (&core->round_thread, gaio_this_thread (), memory_order_relaxed);
  core->depth++;
  return TRUE;
}

/* Moves the rest of the batch to the list, where it keeps its place and can be unlinked. */
static inline void
spill_batch (GaioCore *core)
{
  GaioBatch *batch = &core->ready.batch;

  if (G_LIKELY (batch->end == 0))
    return;
  while (batch->end > batch->next)
    gaio_link_insert_before (&batch->handlers[--batch->end]->entry.link,
                             core->ready.entries.head.next);
  batch->next = batch->end = 0;
}

/* Puts back what an outer round has taken. With the lock held. */
static inline void
requeue_rest (GaioCore *core)
{
  spill_batch (core);
  if (G_UNLIKELY (core->bottom_halves.taken_calls.n_calls > 0))
    gaio_bottom_half_requeue_calls (core);
}

/* With the lock held. FALSE if this thread may not begin a round now. */
static inline G_ALWAYS_INLINE gboolean
enter (GaioRound *round, GaioCore *core)
{
  *round = (GaioRound){ .core = core, .outer = gaio_core_current };
  if (!claim (core))
    return FALSE;
  round->limit = atomic_load_explicit (&core->max_callbacks, memory_order_relaxed);
  if (round->limit == 0)
    round->limit = G_MAXUINT;
  round->left = round->limit;
  requeue_rest (core);
  gaio_core_current = core;
  gaio_sleep_set (&core->sleep, GAIO_AWAKE);
  return TRUE;
}

/* Finds out what there is to do besides ready fds. With the lock held. */
static void
collect (GaioRound *round)
{
  GaioCore *core = round->core;

  atomic_store_explicit (&core->sleep.wake_requested, false, memory_order_relaxed);
  if (gaio_heap_first (&core->timers.heap) != NULL)
    gaio_timer_collect_due (core, &round->timers);
  if (G_UNLIKELY (gaio_inner_table_is_used (&core->inners)))
    {
      if (core->inners.first)
        spill_batch (core);
      gaio_inner_collect (core);
    }
  round->last_bottom_half = core->bottom_halves.seq;
  round->have_bottom_halves =
      !gaio_list_is_empty (&core->bottom_halves.scheduled) || core->bottom_halves.calls.n_calls > 0;
  round->have_due = !gaio_list_is_empty (&core->timers.due);
  core->sleep.has_other_work = is_pending (core) || next_deadline (core) != -1;
}

/* Decides what this round will serve; it serves nothing that comes later. Releases the lock. */
static inline G_ALWAYS_INLINE void
commit (GaioRound *round)
{
  GaioCore *core = round->core;
  gint64 max_time_us = atomic_load_explicit (&core->max_time_us, memory_order_relaxed);

  if (core->sleep.has_other_work)
    collect (round);
  if (G_UNLIKELY (max_time_us > 0))
    round->stop_at = g_get_monotonic_time () + MIN (max_time_us, G_MAXINT64 / 2);
  round->seq = core->ready.gather_seq;
  core->counters.rounds++;
  gaio_core_unlock (core);
}

static gboolean
may_go_on (const GaioRound *round)
{
  if (round->left == 0)
    return FALSE;
  return G_LIKELY (round->stop_at == 0) || round->left == round->limit ||
         g_get_monotonic_time () < round->stop_at;
}

/* The three kinds of callbacks. Each function returns FALSE if the limits have cut it short. */

static gboolean
serve_bottom_halves (GaioRound *round)
{
  while (round->have_bottom_halves && !gaio_life_is_over (&round->core->life))
    {
      if (!may_go_on (round))
        return FALSE;
      round->have_bottom_halves =
          gaio_bottom_half_serve_next (round->core, round->last_bottom_half);
      if (round->have_bottom_halves)
        round->left--;
    }
  return TRUE;
}

/* FALSE if the limits do not allow all of them. */
static inline gboolean
may_serve_batch (const GaioRound *round)
{
  const GaioBatch *batch = &round->core->ready.batch;

  return round->stop_at == 0 && round->left >= batch->end - batch->next;
}

/* Whatever makes the rest of the batch out of date empties it. */
static inline G_ALWAYS_INLINE void
serve_batch (GaioRound *round)
{
  GaioCore *core = round->core;
  GaioBatch *batch = &core->ready.batch;
  guint n = 0;

  while (batch->next < batch->end && !gaio_life_is_over (&core->life))
    n += gaio_handler_serve (core, batch->handlers[batch->next++]);
  round->left -= n;
}

/* What was reported is about to be passed to the handler. */
static void
take_reported (GaioCore *core, GaioHandler *handler)
{
  if (!gaio_core_lock (core))
    return;
  if ((handler->revents & atomic_load_explicit (&handler->mask, memory_order_relaxed)) != 0)
    gaio_registration_forget_reported (handler);
  gaio_core_unlock (core);
}

static gboolean
serve_next_ready (GaioCore *core)
{
  GaioEntry *entry = gaio_link_entry (gaio_list_pop (&core->ready.entries), GaioEntry, link);

  if (entry->kind == GAIO_ENTRY_HANDLER)
    {
      if (G_UNLIKELY (((GaioHandler *) entry)->reports_once))
        take_reported (core, (GaioHandler *) entry);
      return gaio_handler_serve (core, (GaioHandler *) entry);
    }
  if (entry->kind == GAIO_ENTRY_INNER)
    return gaio_inner_serve ((GaioInner *) entry);
  return gaio_ready_set_serve ((GaioReadySetWatch *) entry);
}

static inline G_ALWAYS_INLINE gboolean
serve_ready (GaioRound *round)
{
  GaioCore *core = round->core;

  if (G_LIKELY (may_serve_batch (round)))
    serve_batch (round);
  spill_batch (core);
  /* A nested round makes the rest of the batch out of date, and so does GLib when it prepares to
   * sleep. */
  while (core->ready.gather_seq == round->seq && !gaio_list_is_empty (&core->ready.entries) &&
         !gaio_life_is_over (&core->life))
    {
      if (!may_go_on (round))
        return FALSE;
      if (serve_next_ready (core))
        round->left--;
    }
  return TRUE;
}

static gboolean
serve_timers (GaioRound *round)
{
  while (round->have_due && !gaio_life_is_over (&round->core->life))
    {
      if (!may_go_on (round))
        return FALSE;
      round->have_due = gaio_timer_serve_next (round->core, &round->timers);
      if (round->have_due)
        round->left--;
    }
  return TRUE;
}

static guint
kind_after (guint kind)
{
  return kind == TIMERS ? BOTTOM_HALVES : kind + 1;
}

/* FALSE if the limits have cut it short. */
static inline G_ALWAYS_INLINE gboolean
serve_kind (GaioRound *round, guint kind)
{
  guint left = round->left;
  gboolean all;

  if (kind == BOTTOM_HALVES)
    all = serve_bottom_halves (round);
  else if (kind == READY)
    all = serve_ready (round);
  else
    all = serve_timers (round);
  if (!all)
    round->core->first_kind = round->left < left ? kind_after (kind) : kind;
  return all;
}

/* Serves all kinds in the order of a round. After a round that was cut short, the next one begins
 * with the kind that would have come next, so that no kind starves the others. Usually there is
 * only one kind. */
static inline G_ALWAYS_INLINE void
serve (GaioRound *round)
{
  guint kind = round->core->first_kind;

  round->core->first_kind = BOTTOM_HALVES;
  if (G_LIKELY (!round->have_bottom_halves && !round->have_due))
    {
      serve_kind (round, READY);
      return;
    }
  for (guint i = 0; i < N_KINDS && serve_kind (round, kind); i++)
    kind = kind_after (kind);
}

static void
add_callbacks (GaioCore *core, guint n)
{
  guint64 before = atomic_load_explicit (&core->counters.callbacks, memory_order_relaxed);

  atomic_store_explicit (&core->counters.callbacks, before + n, memory_order_relaxed);
}

/* GLib may have polled, and then dispatched a source of higher priority instead of ours. TRUE if
 * the poll has found something that nobody will report again. With the lock held. */
gboolean
gaio_round_after_glib_poll (GaioCore *core, gboolean ends)
{
  GaioMonitor *monitor = &core->monitor;

  return gaio_glib_polls_update (&core->nesting.glib_polls, core->nesting.pollfd, ends) &&
         gaio_monitor_is_open (monitor) && G_UNLIKELY (monitor->ops->after_glib_poll != NULL) &&
         monitor->ops->after_glib_poll (monitor, core->nesting.source);
}

/* This thread may be inside a poll of GLib, for example in a poll function. That poll has not seen
 * what has come since it was prepared, and may sleep when we return. With the lock held. */
void
gaio_round_update_outer_polls (GaioCore *core)
{
  gint64 deadline;

  gaio_host_state_update_timer (&core->host, &core->monitor);
  if (G_LIKELY (core->nesting.glib_polls.n == 0) || gaio_core_is_closed (core))
    return;
  gaio_sleep_set (&core->sleep, GAIO_ASLEEP_IN_GLIB);
  deadline = next_deadline (core);
  if (is_pending (core) || core->files.has_new)
    gaio_core_wake (core);
  else if (deadline != -1 && !gaio_monitor_arm (&core->monitor, deadline) &&
           gaio_glib_polls_lower_deadline (&core->nesting.glib_polls, deadline))
    gaio_core_wake (core);
}

/* Runs the destroy notifies of removed entries, and tears the context down if it was closed. In a
 * closed context, both wait for the outermost round. */
static inline G_ALWAYS_INLINE void
leave (GaioRound *round)
{
  GaioCore *core = round->core;

  add_callbacks (core, round->limit - round->left);
  if (G_UNLIKELY (gaio_entry_has_pending_notifies (core)) &&
      (core->depth == 1 || !gaio_core_is_closed (core)))
    {
      spill_batch (core);
      gaio_entry_run_notifies (core);
    }
  gaio_core_current = round->outer;
  if (!gaio_core_lock (core))
    {
      gaio_close_leave_in_child (core);
      return;
    }
  requeue_rest (core);
  if (G_UNLIKELY (core->files.has_new))
    gaio_file_engine_start (core);
  gaio_round_update_outer_polls (core);
  if (--core->depth == 0)
    atomic_store_explicit (&core->round_thread, NULL, memory_order_release);
  /* Once no thread is inside a round and the lock is free, another thread may free the core. */
  if (G_UNLIKELY (gaio_core_is_closed (core)))
    gaio_close_finish (core);
  else
    gaio_core_unlock (core);
}

/* Before a wait in GLib, which pending destroy notifies would end at once. This is a round that
 * calls no callbacks: another thread may be inside a round, and a destroy notify may close the
 * context. TRUE if anything may have changed. */
gboolean
gaio_round_run_notifies (GaioCore *core)
{
  GaioRound round;

  if (!gaio_entry_has_pending_notifies (core) || !gaio_core_lock (core))
    return FALSE;
  if (!enter (&round, core))
    {
      gaio_core_unlock (core);
      return FALSE;
    }
  gaio_core_unlock (core);
  leave (&round);
  return TRUE;
}

/* The rest of a round once it has entered and gathered. */
static inline G_ALWAYS_INLINE gboolean
finish (GaioRound *round)
{
  gboolean ran;

  gaio_host_state_set_target_set (&round->core->host, NULL);
  commit (round);
  serve (round);
  ran = round->left < round->limit;
  leave (round);
  return ran;
}

/* With the lock held: how many ready handlers may be called. */
static guint
room_for_ready (const GaioRound *round)
{
  guint n_urgent = gaio_bottom_half_queue_get_n_urgent (&round->core->bottom_halves);

  return round->left > n_urgent ? round->left - n_urgent : 1;
}

/* Says that the owner sleeps, and releases the lock. */
static inline void
fall_asleep (GaioCore *core)
{
  gaio_trace (sleep, core, next_deadline (core));
  gaio_sleep_set (&core->sleep, GAIO_ASLEEP_IN_ITERATE);
  gaio_core_unlock (core);
}

static inline void
wake_up (GaioCore *core)
{
  pthread_mutex_lock (&core->lock);
  gaio_sleep_set (&core->sleep, GAIO_AWAKE);
}

/* Waits without the lock. If there are no fds left for a monitor, tries again soon. */
static inline G_ALWAYS_INLINE int
wait_asleep (GaioCore *core, int max, gint64 timeout_us)
{
  const GaioMonitorOps *ops;
  int n = 0;

  if (G_UNLIKELY (!gaio_monitor_is_open (&core->monitor)) &&
      gaio_monitor_open (&core->monitor) != 0)
    {
      fall_asleep (core);
      g_usleep (MIN ((guint64) timeout_us, GAIO_MONITOR_RETRY_US));
      wake_up (core);
      return 0;
    }
  ops = gaio_monitor_begin_wait (&core->monitor);
  fall_asleep (core);
  gaio_trace_poll (core, timeout_us, n, gaio_monitor_wait (&core->monitor, ops, max, timeout_us));
  wake_up (core);
  return gaio_monitor_end_wait (&core->monitor, ops, n, max);
}

/* Finds out from the kernel what is ready, and waits for it for at most @timeout_us. TRUE if there
 * is anything to report. With the lock held, which is released during the wait. Inline for the
 * reason that gaio_monitor_wait() gives. */
static inline G_ALWAYS_INLINE gboolean
gather (GaioRound *round, gint64 timeout_us)
{
  GaioCore *core = round->core;
  GaioGathering gathering;
  gboolean busy_poll = gaio_busy_poll_is_on (core);
  gboolean news;
  int n = 0;

  if (busy_poll && gaio_busy_poll_once (core))
    timeout_us = 0;
  gaio_gather_begin (core, room_for_ready (round), &gathering);
  if (timeout_us != 0)
    n = wait_asleep (core, gathering.max, timeout_us);
  else if (gaio_host_state_has_events (&core->host))
    n = gaio_host_state_take_events (&core->host);
  else if (gaio_monitor_is_open (&core->monitor))
    gaio_trace_poll (core, 0, n, gaio_monitor_poll_now (&core->monitor, gathering.max));
  news = gaio_gather_end (core, n, &gathering);
  if (busy_poll)
    news = gaio_gather_polled (core, news);
  return news;
}

/* Returns how long it is until @deadline. Reads the clock only once: the result may be positive now
 * and negative a moment later, and to the kernel, a negative time means forever. */
gint64
gaio_round_time_until (gint64 deadline)
{
  gint64 left = deadline - g_get_monotonic_time ();

  return MAX (left, 0);
}

/* With the lock held: keeps GLib from sleeping past @deadline. Where the kernel refuses a timerfd,
 * this uses GLib's own timeout, which is coarse. FALSE if the deadline has passed. */
static gboolean
limit_sleep (GaioCore *core, gint64 deadline, gint *timeout_ms)
{
  gint64 left, ms;

  if (deadline == -1 || gaio_monitor_is_armed (&core->monitor, deadline))
    return TRUE;
  left = gaio_round_time_until (deadline);
  if (left == 0)
    return FALSE;
  if (gaio_monitor_arm (&core->monitor, deadline))
    return TRUE;
  ms = (left + 999) / 1000;
  if (*timeout_ms == -1 || ms < *timeout_ms)
    *timeout_ms = MIN (ms, G_MAXINT);
  return TRUE;
}

/* With the lock held: completes what GLib polls for @source. An epoll set is always complete. */
static inline G_ALWAYS_INLINE void
show (GaioCore *core, GSource *source, gint *timeout_ms)
{
  if (gaio_monitor_is_epoll (&core->monitor) || !gaio_monitor_is_open (&core->monitor) ||
      g_source_is_destroyed (source))
    return;
  if (!core->monitor.ops->before_glib_poll (&core->monitor, source))
    *timeout_ms = GAIO_MONITOR_RETRY_US / 1000;
}

/* Takes the lock. FALSE, without the lock, if the context has just been detached from @source;
 * another thread may then be inside a round. */
static gboolean
lock_for_source (GaioCore *core, GSource *source)
{
  if (!gaio_core_lock (core))
    return FALSE;
  if (core->nesting.source == source)
    return TRUE;
  gaio_core_unlock (core);
  return FALSE;
}

/* Busy polling under GLib is a round that calls no callbacks, because the context may be closed in
 * the meantime. Takes over the lock, when no other thread is inside a round, and releases it. TRUE
 * if GLib must not sleep. */
static gboolean
poll_in_prepare (GaioCore *core)
{
  GaioRound round;
  gboolean ready;

  enter (&round, core);
  ready = gaio_busy_poll_session (core, next_deadline (core));
  gaio_core_unlock (core);
  leave (&round);
  return ready;
}

/* Starts file operations before GLib sleeps, which may add the fd of a ring. This too is a round
 * that calls no callbacks. Takes over the lock, when no other thread is inside a round. FALSE,
 * without the lock, if the context has been detached meanwhile. */
static G_NO_INLINE gboolean
start_files (GaioCore *core, GSource *source, gint *timeout_ms)
{
  GaioRound round;

  enter (&round, core);
  gaio_core_unlock (core);
  leave (&round);
  if (!lock_for_source (core, source))
    return FALSE;
  show (core, source, timeout_ms);
  return TRUE;
}

static void
begin_wait_of_inners (GaioCore *core, gboolean under_glib)
{
  if (gaio_inner_begin_wait (core, under_glib))
    gaio_sweep_before_wait (core);
}

/* GLib is about to sleep unless this returns TRUE. */
gboolean
gaio_round_prepare (GaioCore *core, GSource *source, gint *timeout_ms)
{
  const void *frame = __builtin_frame_address (0);
  gboolean sleep;

  if (G_UNLIKELY (gaio_inner_table_is_used (&core->inners)))
    begin_wait_of_inners (core, TRUE);
  if (!lock_for_source (core, source))
    return TRUE;
  if (gaio_round_after_glib_poll (core, TRUE))
    gaio_monitor_wake (core->monitor.wake_fd);
  gaio_glib_polls_drop_abandoned (&core->nesting.glib_polls, frame);
  show (core, source, timeout_ms);
  if (G_UNLIKELY (runs_elsewhere (core)))
    {
      gaio_core_unlock (core);
      *timeout_ms = GAIO_MONITOR_RETRY_US / 1000;
      return FALSE;
    }
  requeue_rest (core);
  gaio_host_state_update_timer (&core->host, &core->monitor);
  if (G_UNLIKELY (core->files.has_new) && !start_files (core, source, timeout_ms))
    return TRUE;
  if (gaio_busy_poll_is_on (core) && !is_pending (core) &&
      (poll_in_prepare (core) || !lock_for_source (core, source)))
    return TRUE;
  core->ready.gather_seq++;
  gaio_host_state_set_target_set (&core->host, NULL);
  sleep = !core->sleep.has_other_work || (!core->files.has_new && !is_pending (core) &&
                                          limit_sleep (core, next_deadline (core), timeout_ms));
  if (sleep)
    {
      gaio_trace (sleep, core, next_deadline (core));
      gaio_glib_polls_begin (&core->nesting.glib_polls, core->nesting.pollfd, frame,
                             next_deadline (core));
      gaio_sleep_set (&core->sleep, GAIO_ASLEEP_IN_GLIB);
    }
  gaio_core_unlock (core);
  return !sleep;
}

/* A poll of GLib is over. The owner is awake, unless this poll was inside another one or @source is
 * no longer the source of @core. TRUE if the poll has found something. */
gboolean
gaio_round_check (GaioCore *core, GSource *source)
{
  guint revents;

  if (!lock_for_source (core, source))
    return FALSE;
  revents = core->nesting.pollfd->revents;
  gaio_round_after_glib_poll (core, TRUE);
  if (G_LIKELY (core->nesting.glib_polls.n == 0 && !runs_elsewhere (core)))
    gaio_sleep_set (&core->sleep, GAIO_AWAKE);
  gaio_core_unlock (core);
  return revents != 0 && revents != GAIO_GLIB_POLLS_UNWRITTEN;
}

/* A round under GLib. The context may just have been detached from @source, and a callback may
 * still be running in the main loop from which it was detached. */
void
gaio_round_dispatch (GaioCore *core, GSource *source)
{
  GaioRound round;

  if (!lock_for_source (core, source))
    return;
  gaio_round_after_glib_poll (core, FALSE);
  if (!enter (&round, core))
    {
      gaio_core_unlock (core);
      return;
    }
  if (gaio_host_state_has_events (&core->host))
    gaio_host_state_drop_events_for_others (&core->host, g_main_depth ());
  gather (&round, 0);
  finish (&round);
}

/* time_to_wait() where there is more to look at than ready fds. File operations are started first.
 */
static G_NO_INLINE gint64
find_time_to_wait (GaioCore *core, gint64 end)
{
  gint64 deadline;

  if ((core->files.has_new && gaio_file_engine_start (core)) || is_pending (core))
    return 0;
  deadline = next_deadline (core);
  if (deadline == -1 || (end != -1 && end < deadline))
    deadline = end;
  return deadline == -1 ? -1 : gaio_round_time_until (deadline);
}

/* With the lock held: how long to wait if nothing happens and the caller does not want to wait past
 * @end (-1: wait forever). */
static inline G_ALWAYS_INLINE gint64
time_to_wait (GaioCore *core, gint64 end)
{
  if (G_LIKELY (!core->sleep.has_other_work && end == -1))
    return -1;
  return find_time_to_wait (core, end);
}

/* With the lock held: busy-polls, and returns how much of @wait is left for the kernel. */
static gint64
poll_first (GaioCore *core, gint64 wait)
{
  gint64 deadline = -1;

  if (wait == 0 || !gaio_busy_poll_is_on (core))
    return wait;
  if (wait != -1)
    deadline = g_get_monotonic_time () + MIN (wait, G_MAXINT64 / 2);
  if (gaio_busy_poll_session (core, deadline))
    return 0;
  return deadline == -1 ? -1 : gaio_round_time_until (deadline);
}

/* Gathers until there is something to do or the time is over. A signal, a timer that has been
 * disarmed since, or an event that nobody wants is no reason to return. With the lock held. */
static inline G_ALWAYS_INLINE void
wait_for_news (GaioRound *round, gint64 timeout_us)
{
  GaioCore *core = round->core;
  gint64 end = timeout_us, wait;

  if (timeout_us > 0)
    end = g_get_monotonic_time () + MIN (timeout_us, G_MAXINT64 / 2);
  wait = timeout_us != 0 ? time_to_wait (core, end) : 0;
  while (!gather (round, poll_first (core, wait)) && wait != 0)
    {
      wait = time_to_wait (core, end);
      if (wait == 0)
        return;
    }
}

/* With the lock held: whether another thread owns the GMainContext that @core is nested in. */
static gboolean
is_owned_elsewhere (GaioCore *core)
{
  if (G_LIKELY (core->nesting.main_context == NULL))
    return FALSE;
  if (!g_main_context_acquire (core->nesting.main_context))
    return TRUE;
  g_main_context_release (core->nesting.main_context);
  return FALSE;
}

/* A round without GLib. */
gboolean
gaio_round_iterate (GaioCore *core, gint64 timeout_us)
{
  GaioRound round;

  if (G_UNLIKELY (gaio_inner_table_is_used (&core->inners)))
    begin_wait_of_inners (core, FALSE);
  if (!gaio_core_lock (core))
    return FALSE;
  if (G_UNLIKELY (is_owned_elsewhere (core) || !enter (&round, core)))
    {
      gboolean closed = gaio_core_is_closed (core);

      gaio_core_unlock (core);
      if (!closed)
        g_critical ("A GaioContext runs in two threads at the same time");
      return FALSE;
    }
  gaio_host_state_drop_events (&core->host);
  wait_for_news (&round, timeout_us);
  return finish (&round);
}
