/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-core-private.h"

#include <unistd.h>

#include "gaio-error-private.h"
#include "gaio-trace-private.h"

_Thread_local GaioCore *gaio_core_current;

GaioCore *
gaio_core_new (GaioContext *shell, GaioMonitorType monitor)
{
  GaioCore *core = g_new0 (GaioCore, 1);

  gaio_trace_init ();
  gaio_ref_count_init (&core->ref_count, 1);
  pthread_mutex_init (&core->lock, NULL);
  gaio_life_init (&core->life, shell);
  gaio_sleep_init (&core->sleep);
  gaio_monitor_init (&core->monitor, monitor);
  gaio_host_state_init (&core->host);
  gaio_handler_table_init (&core->handlers);
  gaio_ready_list_init (&core->ready);
  gaio_timer_queue_init (&core->timers);
  gaio_bottom_half_queue_init (&core->bottom_halves);
  gaio_inner_table_init (&core->inners);
  gaio_file_queue_init (&core->files);
  gaio_busy_poll_state_init (&core->busy_poll);
  gaio_removal_init (&core->removal);
  gaio_profile_init (&core->profile);
  atomic_init (&core->max_callbacks, GAIO_MONITOR_MAX_EVENTS);
  return core;
}

GaioCore *
gaio_core_ref (GaioCore *core)
{
  gaio_ref_count_inc (&core->ref_count);
  return core;
}

void
gaio_core_unref (GaioCore *core)
{
  if (!gaio_ref_count_dec (&core->ref_count))
    return;
  g_weak_ref_clear (&core->life.context);
  gaio_monitor_clear (&core->monitor);
  gaio_slots_clear (&core->handlers.slots);
  gaio_heap_clear (&core->timers.heap);
  gaio_heap_clear (&core->inners.deadlines);
  gaio_call_queue_clear (&core->bottom_halves.calls);
  gaio_call_queue_clear (&core->bottom_halves.taken_calls);
  gaio_profile_clear (&core->profile);
  gaio_file_queue_clear (&core->files);
  if (!gaio_core_is_forked (core))
    {
      gaio_host_state_clear (&core->host);
      pthread_cond_destroy (&core->removal.callback_ended);
      pthread_cond_destroy (&core->files.pool.more);
      pthread_mutex_destroy (&core->lock);
    }
  g_free (core);
}

/* Returns a new reference to the shell, or NULL if that has gone. */
GaioContext *
gaio_core_dup_context (GaioCore *core)
{
  return g_weak_ref_get (&core->life.context);
}

/* Whether things may be added. With the lock held, or in a forked child without it. */
gboolean
gaio_core_check (GaioCore *core, GError **error)
{
  if (gaio_core_is_forked (core))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_FORKED,
                   "The context belongs to the process that this one was forked from");
      return FALSE;
    }
  if (gaio_core_is_closed (core))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED, "The context is closed");
      return FALSE;
    }
  return TRUE;
}

/* With the lock held. */
gboolean
gaio_core_open_monitor (GaioCore *core, GError **error)
{
  int errsv = gaio_monitor_open (&core->monitor);

  if (errsv != 0)
    gaio_error_set_for_own (error, errsv, "Cannot create a set of fds to watch");
  return errsv == 0;
}

static gboolean
end_sleep (GaioCore *core)
{
  gboolean wake = gaio_sleep_end (&core->sleep);

  core->counters.wakeups += wake;
  return wake;
}

/* There is something to do: ends the sleep, if there is one. With the lock held. */
void
gaio_core_wake (GaioCore *core)
{
  if (end_sleep (core))
    gaio_monitor_wake (core->monitor.wake_fd);
}

static void
leave_wake_fd (GaioCore *core, int wake_fd)
{
  if (gaio_ref_count_dec (&core->sleep.wake_users))
    close (wake_fd);
}

/* gaio_core_wake() for other threads, which must keep @core alive. Releases the lock before it
 * wakes the owner, which would otherwise find the lock taken, sleep again and have to be woken
 * twice. */
void
gaio_core_unlock_and_wake (GaioCore *core)
{
  int wake_fd = core->monitor.wake_fd;
  gboolean wake = end_sleep (core) && wake_fd >= 0;

  if (wake)
    gaio_ref_count_inc (&core->sleep.wake_users);
  gaio_core_unlock (core);
  if (!wake)
    return;
  gaio_monitor_wake (wake_fd);
  leave_wake_fd (core, wake_fd);
}

/* For the rest of a round in a forked child: a thread that does not exist there may hold the lock,
 * and the epoll set is the parent's. */
static void
prepare_for_child (GaioCore *core)
{
  pthread_mutex_init (&core->lock, NULL);
  gaio_monitor_clear (&core->monitor);
  gaio_host_state_drop_events (&core->host);
  core->sleep.has_other_work = TRUE;
}

/* Takes the lock again after user code has run without it. That code may have forked. */
void
gaio_core_relock (GaioCore *core)
{
  if (gaio_core_is_forked (core))
    prepare_for_child (core);
  pthread_mutex_lock (&core->lock);
}

/* If a thread is still writing to the eventfd, that thread closes it. With the lock held. */
void
gaio_core_close_fds (GaioCore *core)
{
  int wake_fd = core->monitor.wake_fd;

  core->monitor.wake_fd = -1;
  gaio_monitor_close (&core->monitor);
  if (wake_fd >= 0)
    leave_wake_fd (core, wake_fd);
}

/* Something is to be called at @deadline: makes sure that the owner does not sleep longer. With the
 * lock held. */
void
gaio_core_deadline_moved (GaioCore *core, gint64 deadline)
{
  core->sleep.has_other_work = TRUE;
  if (gaio_sleep_get (&core->sleep) == GAIO_ASLEEP_IN_GLIB &&
      gaio_monitor_arm (&core->monitor, deadline))
    return;
  gaio_core_wake (core);
}
