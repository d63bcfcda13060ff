/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-ready-set.h>

#include "gaio-handler-private.h"

/* The function of a ready set: for a round it is one callback. */
typedef struct
{
  GaioEntry entry;
  GaioReadySetFunc func; /* (const) */
  GaioReadySet *set;     /* (lock) NULL once it has been replaced */
} GaioReadySetWatch;

GaioCore *gaio_ready_set_get_core (GaioReadySet *self);
gboolean gaio_ready_set_is_ready (GaioReadySet *self);
void gaio_ready_set_drop_func (GaioReadySet *self, gconstpointer user_data);
gboolean gaio_ready_set_gather (GaioHandler *handler, guint ready);
gboolean gaio_ready_set_serve (GaioReadySetWatch *watch);
void gaio_ready_set_watch_destroy (GaioReadySetWatch *watch);
