/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-registration-private.h"
#include "gaio-trace-private.h"

typedef struct
{
  gint fd;
  GIOCondition condition;
  GaioFdFunc func;      /* its own function, or */
  GaioRecords *records; /* those of the ready set that it is a member of, */
  GaioSetCalls *calls;  /* with this, and */
  guint64 token;        /* or */
  GaioInner *inner;     /* whose fd it is, or */
  gboolean is_file_ring;
  gpointer user_data;
  GDestroyNotify notify;
} GaioHandlerParams;

GaioSetCalls *gaio_set_calls_ref (GaioSetCalls *calls);
void gaio_set_calls_unref (GaioSetCalls *calls);

/* On error @params->notify has run. */
GaioHandler *gaio_handler_add (GaioCore *core, const GaioHandlerParams *params, GError **error);
GaioHandler *gaio_handler_try_add (GaioCore *core, const GaioHandlerParams *params, GError **error);
gboolean gaio_handler_check_condition (gint fd, GIOCondition condition);
void gaio_handler_destroy (GaioHandler *self);
gboolean gaio_handler_call_traced (GaioHandler *self, guint revents) GAIO_COLD;
void gaio_handler_after_callback (GaioHandler *self);

static inline void
gaio_handler_end (GaioHandler *self)
{
  if (G_UNLIKELY (gaio_entry_end (&self->entry)))
    gaio_handler_after_callback (self);
}

/* Calls @self with those gathered conditions that it still waits for. TRUE if there were any. By
 * the owner, without the lock. */
static inline G_ALWAYS_INLINE gboolean
gaio_handler_serve (GaioCore *core, GaioHandler *self)
{
  gboolean keep;
  guint revents;

  gaio_entry_begin (&self->entry);
  revents = self->revents & atomic_load_explicit (&self->mask, memory_order_acquire);
  if (G_UNLIKELY (revents == 0))
    {
      gaio_handler_end (self);
      return FALSE;
    }
  if (gaio_trace_is_wanted ())
    keep = gaio_handler_call_traced (self, revents);
  else
    keep = self->func (self->fd, revents, self->entry.user_data);
  gaio_handler_end (self);
  if (G_UNLIKELY (keep == G_SOURCE_REMOVE))
    gaio_handler_remove (self);
  return TRUE;
}
