/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-handler.h>

#include "gaio-entry-private.h"
#include "gaio-file-id-private.h"
#include "gaio-records-private.h"

#include <poll.h>

/* A handler's place in the epoll set. All handlers of one fd share a slot, which is registered once
 * with what they ask for together. Everything with the lock held. */

/* What poll(2) says of a file that is always ready. */
#define GAIO_ALWAYS_READY (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)

/* How to ask in user space whether an fd is ready. */
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
  GaioLink always; /* in core->always, while it may be called; for an fd that is always ready */
  GaioFileId file; /* of such an fd */

  GaioLink pollers; /* in core->pollers, if there is */
  GaioPollFuncs poll_funcs;
  gint64 window_us;   /* (lock) how long to ask before the loop sleeps */
  atomic_bool polled; /* (owner) what poll has said */
} GaioHandlerExtra;

struct _GaioHandler
{
  GaioEntry entry;

  atomic_uint mask; /* what to ask epoll for, and report; set under the lock */
  guint revents;    /* (owner) what to report */
  gint fd;          /* (const) */
  atomic_bool can_recurse;
  bool masked;       /* (lock) ready while its callback runs: silent until that returns */
  bool dormant;      /* (lock) its file has gone, and its slot with it */
  bool always_ready; /* (lock) epoll refuses its fd, which is always ready */
  union
  {
    GaioFdFunc func; /* (const) */
    guint64 token;   /* (const) of a member of a ready set */
  };
  atomic_uint condition;   /* what was asked for; set under the lock */
  GaioHandlerExtra *extra; /* (lock) or NULL */
};

/* A handler that belongs to a ready set. */
typedef struct
{
  GaioHandler handler;
  GaioRecords *records; /* (const) of the set */
  GaioRecordRef record; /* (lock) */
} GaioMember;

GaioHandlerExtra *gaio_handler_get_extra (GaioHandler *handler);

int gaio_registration_add (GaioHandler *handler);
void gaio_registration_remove (GaioHandler *handler);
int gaio_registration_set_condition (GaioHandler *handler, guint condition);
void gaio_registration_set_masked (GaioHandler *handler, gboolean masked);
gboolean gaio_registration_check_always (GaioHandler *handler);
void gaio_registration_file_gone (GaioCore *core, int fd);
gboolean gaio_registration_rebuild (GaioCore *core);
