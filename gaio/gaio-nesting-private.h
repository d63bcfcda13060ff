/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "gaio-glib-polls-private.h"

/* Where a context is nested. The marks are those of gaio-core-private.h. */

typedef struct
{
  GSource *source; /* (lock) the one that is not destroyed, or NULL; it clears this itself */
  GMainContext *main_context; /* (lock) of the source, once known */
  GPollFD *pollfd;            /* (lock) of the source */
  GaioGlibPolls glib_polls;   /* (lock) which may be asleep on it */
  guint n_detached_sources;   /* (lock) which their owner has yet to destroy */
  GMainContext *shared_with;  /* (const) whose users share the context, or NULL */
} GaioNesting;

/* Returns NULL if it is not known. A source that was destroyed before it was attached must not be
 * queried. With the lock held. */
static inline GMainContext *
gaio_nesting_get_main_context (const GaioNesting *self)
{
  if (self->main_context != NULL)
    return self->main_context;
  if (self->source == NULL || g_source_is_destroyed (self->source))
    return NULL;
  return g_source_get_context (self->source);
}
