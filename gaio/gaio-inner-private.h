/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-handler-private.h"

/* An inner context: a GMainContext that a GaioContext iterates when one of its fds is ready, its
 * timeout is over or its wake-up fd says so. One such iteration is a turn. Between two turns it is
 * prepared: what it waits for is in the monitor and among the timers, and costs nothing.
 *
 * What is marked (inner) belongs to the thread that owns the GMainContext. That is the thread of
 * the round, and only during a turn: so GLib wakes the GMainContext up for whatever another thread
 * attaches. */

typedef struct
{
  int fd;
  guint16 events;
  bool is_bad;          /* not open: GLib is to be told, once */
  GaioHandler *handler; /* with a reference, or NULL if it could not be added */
} GaioInnerWatch;

struct _GaioInner
{
  GaioEntry entry;            /* in the ready list when it is to have a turn */
  GMainContext *main_context; /* (const) */
  GSource *guard;             /* (lock) tells of iterations by others; NULL once it is destroyed */
  GaioInner *next_of_owner;   /* (table) another with the same owner */
  GType owner_type;           /* 0 as long as it has none */
  GaioLink turns;             /* (lock) in core->inners.turns, for the next round */
  GaioHeapNode node;          /* (lock) in core->inners.deadlines */
  GaioInnerWatch *watches;    /* (inner), changed under the lock */
  GaioInnerWatch few[2];      /* enough for most: room for @watches */
  guint16 n_watches;          /* (inner), changed under the lock */
  guint16 n_polled;           /* (inner) how many of them, from the first, the last query was for */
  guint first_source_id;      /* (lock) see gaio-inner-spare.c; 0 if it is not to be used again */
  int wake_fd;                /* (const) GLib's */
  gint priority;              /* (inner) of the last query */
  guint32 prepared_in;        /* (inner) gaio_ready_list_get_stamp() of then */
  gint64 deadline;            /* (inner) that it is in the heap for, or -1 */
  bool prepared;              /* (inner) check() is next */
  atomic_bool wants_turn;     /* in this round, whatever its fds say; set under the lock, cleared by
                                 the owner */
  bool paused;                /* (lock) another thread owns it: its fds are silent */
  bool preparing;             /* (inner) this is our own prepare() */
  bool glancing;              /* (inner) fds that look the same are taken for the same */
  bool busy;                  /* (inner) something was ready when it was prepared */
  atomic_bool ownerless;      /* the owner has gone; set under the lock */
  guint8 n_last_turns;        /* (owner) since then */
  bool had_nothing;           /* (owner) the last of these turns */
  bool foreign;               /* (inner) the iteration of somebody else may not be over yet */
  bool parked;                /* (lock) @turns is in core->inners.parked */
};

void gaio_inner_lock_table (void);
void gaio_inner_unlock_table (void);
gboolean gaio_inner_insert (GaioInner *self);
void gaio_inner_forget (GaioInner *self);
GaioInner *gaio_inner_lookup (GMainContext *main_context);
gboolean gaio_inner_is_served_by (GMainContext *main_context, GaioCore *core);

/* From its place in core->inners.all. */
static inline GaioInner *
gaio_inner_from_siblings (GaioLink *link)
{
  return gaio_link_entry (link, GaioInner, entry.siblings);
}
