/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/gaio-list-private.h"

/* The user's settings for busy polling, and what it has learned. The marks are those of
 * gaio-core-private.h. */

typedef struct
{
  gint64 max_us;    /* (lock) 0: off */
  guint grow;       /* (lock) */
  guint shrink;     /* (lock) */
  GaioList pollers; /* (lock) handlers that can be polled in user space */
  guint n_pollers;  /* (lock) how many of these there are */
  gint64 window_us; /* (lock) the window for the others, which a monitor can poll */
  gint64 started;   /* (owner) when the wait began, or 0 */
} GaioBusyPollState;

static inline void
gaio_busy_poll_state_init (GaioBusyPollState *self)
{
  gaio_list_init (&self->pollers);
}
