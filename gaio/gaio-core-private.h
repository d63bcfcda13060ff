/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <gaio/gaio-types.h>

#include "base/gaio-call-queue-private.h"
#include "monitor/gaio-monitor-private.h"
#include "base/gaio-fork-private.h"
#include "gaio-glib-polls-private.h"
#include "base/gaio-heap-private.h"
#include "gaio-host-state-private.h"
#include "gaio-profile-private.h"
#include "base/gaio-list-private.h"
#include "base/gaio-ref-count-private.h"
#include "base/gaio-slots-private.h"
#include "base/gaio-this-thread-private.h"

/* The state of a context. It is ref-counted apart from the GObject, which is only a shell: handles,
 * sources and rounds hold the core, so that a callback may drop the last reference to the context.
 *
 * Who may touch what:
 *   (lock)  under core->lock, from any thread
 *   (owner) by the owner: the thread inside a round
 *   (const) set once, before anybody else sees it
 * Atomics say beside them who else looks. User code never runs under the lock. */

/* No fork generation, nor the 0 of a child that has none yet. */
#define GAIO_CLOSED G_MAXUINT

typedef enum
{
  GAIO_AWAKE,             /* whoever runs next looks at everything before it sleeps */
  GAIO_ASLEEP_IN_GLIB,    /* GLib has been told to sleep: the epoll fd has to turn readable */
  GAIO_ASLEEP_IN_ITERATE, /* in our own wait */
  GAIO_POLLING,           /* busy, until this is no longer so */
} GaioSleep;

typedef struct
{
  guint64 rounds;
  _Atomic (guint64) callbacks;
  guint64 wakeups;
  guint64 rebuilds;
  guint n_handlers;
  guint n_dormant;
} GaioCounters;

/* What nearly every round is: some handlers to call. An array is cheaper than a list. */
typedef struct
{
  guint next;
  guint end;
  GaioHandler *handlers[GAIO_MONITOR_MAX_EVENTS];
} GaioBatch;

typedef struct
{
  GaioRefCount ref_count;
  guint fork_generation; /* (const) */
  pthread_mutex_t lock;

  GWeakRef context;   /* the shell */
  GaioContext *shell; /* (lock) NULL once it is being finalized */

  /* Who runs. Claimed under the lock; */
  _Atomic (const void *) round_thread; /* or NULL */
  guint depth;                         /* (owner) of nested rounds */
  atomic_int sleep;                    /* a GaioSleep; (lock) */
  gboolean restless; /* (lock) if not, nothing is pending beside ready fds, nor is a deadline */
  /* Of the eventfd: who writes to it without the lock, and 1 until it is closed. Grows under it. */
  atomic_uint wake_users;
  atomic_bool wake_requested;
  atomic_uint open_in; /* the fork generation in which it is not closed, or GAIO_CLOSED */
  gboolean torn_down;  /* (lock) or about to be */
  gboolean buried;     /* (lock) everything has been removed: its fds may be closed */
  gboolean released;   /* (lock) the reference of the shell has been dropped */
  int lost_fd;         /* (lock) the epoll fd that somebody has closed, or -1 */

  /* Busy polling */
  gint64 poll_max_us;    /* (lock) 0: off */
  guint poll_grow;       /* (lock) */
  guint poll_shrink;     /* (lock) */
  GaioList pollers;      /* (lock) handlers that can be asked in user space */
  guint n_pollers;       /* (lock) how many */
  gint64 poll_window_us; /* (lock) for the others, which a monitor can be asked about */
  gint64 poll_started;   /* (owner) when the wait began, or 0 */

  /* Where it is nested. */
  GSource *source;            /* (lock) the live one; it unsets itself */
  GMainContext *main_context; /* (lock) of the source, once known */
  GPollFD *pollfd;            /* (lock) of the source */
  GaioGlibPolls glib_polls;   /* (lock) that may be asleep on it */
  GaioHostState host;         /* who runs it; (lock) and (owner), see there */
  guint n_lingering;          /* (lock) sources detached that their owner has yet to destroy */
  GMainContext *shared_with;  /* (const) all users of this one share the context; or NULL */

  /* fds */
  GaioMonitor monitor; /* (lock), but see there */
  GaioSlots slots;     /* (lock) fd -> its handlers */
  GaioList always;     /* (lock) handlers on fds that epoll refuses because they are always ready */
  GaioList dormant;    /* (lock) handlers whose file has gone */
  gboolean suspect;    /* (lock) a DEL or MOD has failed: the set may know files that we do not */
  guint n_stale;       /* (lock) how often it has told of such a file since it was made */
  guint n_members;     /* (lock) handlers that belong to a ready set */

  GaioBatch batch;    /* (owner) handlers to call first; empty outside of a round */
  GaioList ready;     /* (owner) handlers and ready sets to call then, first in, first out */
  guint64 gather_seq; /* (owner) which gathering @ready is of; see gaio_core_stamp() */

  GaioHeap timers;     /* (lock) armed */
  gint64 timer_floor;  /* (lock) all that is armed comes after what was due by then, or 0 */
  GaioList due;        /* (lock) timers whose deadline has passed, to be called */
  GaioList all_timers; /* (lock) */

  GaioList bottom_halves;     /* (lock) scheduled, first in, first out */
  GaioList all_bottom_halves; /* (lock) */
  guint64 bottom_half_seq;    /* (lock) of these and of deferred calls: they have one order */
  guint n_urgent;             /* (lock) of those scheduled, how many keep the loop awake */
  gint64 idle_deadline;       /* (lock) when the others have to be called at the latest, or -1 */

  GaioCallQueue calls;       /* (lock) deferred */
  GaioCallQueue taken_calls; /* (owner) to be called without the lock; empty outside of a round */
  guint64 taken_calls_end;   /* (owner) before it comes a bottom half */

  GaioList set_funcs; /* (lock) functions of ready sets */

  GaioList dead;         /* (lock) removed, notify not yet run */
  atomic_bool have_dead; /* @dead is not empty; a hint that saves the lock */

  /* gaio_handler_remove_sync() */
  guint n_sync_waiters; /* (lock) */
  pthread_cond_t callback_ended;

  atomic_uint max_callbacks;    /* 0: no limit */
  _Atomic (gint64) max_time_us; /* 0: no limit */
  guint first_kind;             /* (owner) the kind of callback the next round begins with */

  GaioCounters counters; /* (lock), callbacks (owner) */
  GaioProfile profile;   /* has its own mutex */
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
GMainContext *gaio_core_get_main_context (GaioCore *core);
gboolean gaio_core_check (GaioCore *core, GError **error);
gboolean gaio_core_open_monitor (GaioCore *core, GError **error);
void gaio_core_kick (GaioCore *core);
void gaio_core_unlock_and_kick (GaioCore *core);
void gaio_core_lock_again (GaioCore *core);
void gaio_core_close_fds (GaioCore *core);
void gaio_core_deadline_moved (GaioCore *core, gint64 deadline);

/* The core whose callback this thread is in, or NULL. */
extern _Thread_local GaioCore *gaio_core_current
    __attribute__ ((tls_model ("initial-exec"), visibility ("hidden")));

static inline gboolean
gaio_core_is_forked (const GaioCore *core)
{
  return G_UNLIKELY (core->fork_generation != gaio_fork_page.generation);
}

/* FALSE in a forked child, where the lock may be held by a thread that does not exist. */
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

static inline gboolean
gaio_core_is_closed (GaioCore *core)
{
  return atomic_load_explicit (&core->open_in, memory_order_acquire) == GAIO_CLOSED;
}

/* Closed or forked, at the cost of one of them: a round asks before each callback. */
static inline gboolean
gaio_core_is_over (GaioCore *core)
{
  return G_UNLIKELY (atomic_load_explicit (&core->open_in, memory_order_acquire) !=
                     gaio_fork_page.generation);
}

/* What an entry carries that has been gathered: as much of the number of the gathering as there is
 * room for. One that has been silent for exactly 2^32 gatherings seems to be gathered already, and
 * comes in the next, for what is ready stays ready. */
static inline guint32
gaio_core_stamp (const GaioCore *core)
{
  return (guint32) core->gather_seq;
}

/* Whether this thread is inside a round of @core. */
static inline gboolean
gaio_core_in_round (GaioCore *core)
{
  return atomic_load_explicit (&core->round_thread, memory_order_relaxed) == gaio_this_thread ();
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioCore, gaio_core_unref)
