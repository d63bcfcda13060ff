/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <gaio/gaio-types.h>

#include "base/gaio-ref-count-private.h"
#include "base/gaio-this-thread-private.h"
#include "monitor/gaio-monitor-private.h"
#include "gaio-bottom-half-queue-private.h"
#include "gaio-busy-poll-state-private.h"
#include "gaio-file-queue-private.h"
#include "gaio-handler-table-private.h"
#include "gaio-host-state-private.h"
#include "gaio-inner-table-private.h"
#include "gaio-life-private.h"
#include "gaio-nesting-private.h"
#include "gaio-profile-private.h"
#include "gaio-ready-list-private.h"
#include "gaio-removal-private.h"
#include "gaio-sleep-private.h"
#include "gaio-timer-queue-private.h"

/* The state of a context. It is ref-counted separately from the GObject, which is only a shell:
 * handles, sources and rounds hold the core, so that a callback may drop the last reference to the
 * context. It has one part for each mechanism; the header of that name says what the part is for.
 *
 * Who may touch what, here and in the parts:
 *   (lock)  under core->lock, from any thread
 *   (owner) by the owner: the thread inside a round
 *   (const) set once, before any other thread sees it
 * Atomics have a comment that says who else looks. User code never runs under the lock. */

typedef struct
{
  guint64 rounds;              /* (lock) */
  _Atomic (guint64) callbacks; /* (owner), and read under the lock */
  guint64 wakeups;             /* (lock) */
  guint64 rebuilds;            /* (lock) */
} GaioCounters;

typedef struct
{
  GaioRefCount ref_count;
  pthread_mutex_t lock;

  /* The owner: the thread inside a round, or NULL. Set and cleared under the lock; any thread may
   * compare it with itself without the lock. */
  _Atomic (const void *) round_thread;
  guint depth;                  /* (owner) of nested rounds */
  guint first_kind;             /* (owner) the kind of callback the next round begins with */
  atomic_uint max_callbacks;    /* in a round; 0: no limit */
  _Atomic (gint64) max_time_us; /* of a round; 0: no limit */

  GaioLife life;
  GaioSleep sleep;
  GaioNesting nesting;
  GaioHostState host;
  GaioMonitor monitor; /* (lock), but see there */

  GaioHandlerTable handlers;
  GaioReadyList ready;
  GaioTimerQueue timers;
  GaioBottomHalfQueue bottom_halves;
  GaioInnerTable inners;
  GaioFileQueue files;
  GaioBusyPollState busy_poll;
  GaioRemoval removal;

  GaioCounters counters;
  GaioProfile profile; /* has its own mutex */
} GaioCore;

struct _GaioContext
{
  GObject parent_instance;

  GaioMonitorType monitor;
  GaioCore *core;
};

GaioCore *gaio_core_new (GaioContext *shell, GaioMonitorType monitor);
GaioCore *gaio_core_ref (GaioCore *core);
void gaio_core_unref (GaioCore *core);

GaioContext *gaio_core_dup_context (GaioCore *core);
gboolean gaio_core_check (GaioCore *core, GError **error);
gboolean gaio_core_open_monitor (GaioCore *core, GError **error);
void gaio_core_wake (GaioCore *core);
void gaio_core_unlock_and_wake (GaioCore *core);
void gaio_core_relock (GaioCore *core);
void gaio_core_close_fds (GaioCore *core);
void gaio_core_deadline_moved (GaioCore *core, gint64 deadline);

/* The core in whose callback this thread is, or NULL. */
extern _Thread_local GaioCore *gaio_core_current
    __attribute__ ((tls_model ("initial-exec"), visibility ("hidden")));

static inline gboolean
gaio_core_is_forked (const GaioCore *core)
{
  return gaio_life_is_forked (&core->life);
}

static inline gboolean
gaio_core_is_closed (const GaioCore *core)
{
  return gaio_life_is_closed (&core->life);
}

/* FALSE in a forked child, where a thread that does not exist may hold the lock. */
static inline gboolean
gaio_core_lock (GaioCore *core)
{
  if (gaio_core_is_forked (core))
    return FALSE;
  pthread_mutex_lock (&core->lock);
  return TRUE;
}

static inline void
gaio_core_unlock (GaioCore *core)
{
  pthread_mutex_unlock (&core->lock);
}

/* Whether this thread is inside a round of @core. */
static inline gboolean
gaio_core_in_round (GaioCore *core)
{
  return atomic_load_explicit (&core->round_thread, memory_order_relaxed) == gaio_this_thread ();
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioCore, gaio_core_unref)
