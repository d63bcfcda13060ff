/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "base/gaio-list-private.h"
#include "base/gaio-slots-private.h"

/* The handlers of a context, by fd, and its ready sets. All of it is (lock), as
 * gaio-core-private.h calls it. */

typedef struct
{
  GaioSlots slots;       /* fd -> its handlers */
  GaioList always;       /* handlers on fds that epoll refuses because they are always ready */
  GaioList dormant;      /* handlers whose file has gone */
  guint n_handlers;      /* all of them */
  guint n_dormant;       /* of these, on @dormant */
  guint n_members;       /* of these, that belong to a ready set */
  GaioList set_funcs;    /* functions of ready sets */
  gboolean may_be_stale; /* a DEL or MOD has failed: the epoll set may know files that we do not */
  guint n_stale;         /* how many events of such files have come since the set was made */
} GaioHandlerTable;

static inline void
gaio_handler_table_init (GaioHandlerTable *self)
{
  gaio_list_init (&self->always);
  gaio_list_init (&self->dormant);
  gaio_list_init (&self->set_funcs);
}
