/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-handler.h>

#include "gaio-entry-private.h"
#include "base/gaio-file-id-private.h"
#include "base/gaio-records-private.h"
#include "base/gaio-ring-private.h"

#include <poll.h>

/* A handler's place in the epoll set. All handlers of one fd share a slot, which is registered once
 * for everything that they wait for together. Everything with the lock held. */

/* What poll(2) reports of a file that is always ready. */
#define GAIO_ALWAYS_READY (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)

/* How to find out in user space whether an fd is ready. */
typedef struct
{
  GSourceFunc poll;
  GSourceOnceFunc begin; /* or NULL */
  GSourceOnceFunc end;   /* or NULL */
} GaioPollFuncs;

/* What few handlers need. */
typedef struct
{
  GaioHandler *handler;
  char *name;
  GaioLink always; /* in core->handlers.always, while it may be called for what is in @known */
  guint16 known;   /* (lock) what is ready, whatever the kernel reports next */
  GaioFileId file; /* of a file that is always ready */

  GaioLink pollers; /* in core->busy_poll.pollers, if there are @poll_funcs */
  GaioPollFuncs poll_funcs;
  gint64 window_us;   /* (lock) how long to busy-poll before the loop sleeps */
  atomic_bool polled; /* (owner) what poll has returned */
} GaioHandlerExtra;

/* The calls of a ready set's functions, including a function that has been replaced in the
 * meantime. Removing a member may require waiting for them, even after the set has gone. */
typedef struct
{
  GaioRefCount ref_count;
  guint running;   /* (lock) how many are on the stack of the owner */
  guint64 n_times; /* (lock) how often @running has become 0 */
} GaioSetCalls;

/* What makes a handler a member of a ready set. */
typedef struct
{
  GaioRecords *records; /* (const) of the set */
  GaioSetCalls *calls;  /* (const) of the set; a reference */
  guint64 token;        /* (const) */
  GaioRecordRef record; /* (lock) */
} GaioMembership;

typedef struct _GaioInner GaioInner;

struct _GaioHandler
{
  GaioEntry entry;

  _Atomic (guint16) mask;      /* what to wait for, and report; set under the lock */
  guint16 revents;             /* (owner) what to report */
  _Atomic (guint16) condition; /* what the user wants; set under the lock */
  atomic_bool can_recurse;
  bool in_slot;      /* (const) its memory is part of the slot */
  bool masked;       /* (lock) ready while its callback runs, and silent until that returns */
  bool dormant;      /* (lock) its file has gone, and it no longer belongs to the slot */
  bool always_ready; /* (lock) epoll refuses its fd, which is always ready */
  bool reports_once; /* (const) its file reports only once that it is ready */
  gint fd;           /* (const) */
  union
  {
    GaioFdFunc func;            /* (const) */
    GaioMembership *membership; /* (const) of a GAIO_ENTRY_MEMBER */
    GaioInner *inner;           /* (const) of a GAIO_ENTRY_INNER_FD */
  };
  GaioHandlerExtra *extra; /* (lock) or NULL */
};

/* What belongs to one fd. It has room for a handler, because most fds have only one: then
 * everything that an event needs is in one cache line. */
typedef struct
{
  GaioHandler handler;
  GaioRing members;        /* (lock) the handlers of the file that the number means now */
  guint32 generation;      /* (lock) changes when the number starts to refer to another file */
  guint16 mask;            /* (lock) what all of them want */
  guint8 state : 5;        /* (lock) */
  guint8 reports_once : 1; /* (lock) see gaio_reports_once() */
  guint8 hung_up : 1;      /* (lock) a hang-up was reported while @mask was 0 */
  guint8 plain : 1;        /* (lock) an event needs only to queue the one member */
  atomic_bool taken;       /* the room for a handler is; set under the lock */
} GaioSlot;

#if GLIB_SIZEOF_VOID_P == 8
G_STATIC_ASSERT (sizeof (GaioSlot) == 128 && G_STRUCT_OFFSET (GaioEntry, stamp) == 64);
#endif

/* Returns the slot of @fd, or NULL if none has been created near it. With the lock held. */
static inline GaioSlot *
gaio_registration_lookup (GaioCore *core, guint fd)
{
  return gaio_slots_lookup (&core->handlers.slots, fd, sizeof (GaioSlot));
}

GaioHandlerExtra *gaio_handler_get_extra (GaioHandler *handler);

GaioHandler *gaio_registration_take_room (GaioCore *core, gint fd);
void gaio_registration_give_room_back (GaioHandler *handler);
int gaio_registration_add (GaioHandler *handler);
void gaio_registration_remove (GaioHandler *handler);
int gaio_registration_set_condition (GaioHandler *handler, guint condition);
gboolean gaio_registration_confirm (GaioHandler *handler);
void gaio_registration_set_masked (GaioHandler *handler, gboolean masked);
gboolean gaio_registration_check_always (GaioHandler *handler);
void gaio_registration_report (GaioSlot *slot, guint events);
void gaio_registration_forget_reported (GaioHandler *handler);
void gaio_registration_file_gone (GaioCore *core, int fd);
gboolean gaio_registration_expects (GaioSlot *slot, guint events);
gboolean gaio_registration_clean_up (GaioCore *core);
