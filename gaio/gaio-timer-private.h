/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-timer.h>

#include "gaio-entry-private.h"

/* What a round may call: timers that were armed before it began, and due by then. */
typedef struct
{
  gint64 now;
  guint64 order;
} GaioTimerLimit;

void gaio_timer_collect_due (GaioCore *core, GaioTimerLimit *limit);
gboolean gaio_timer_serve_next (GaioCore *core, const GaioTimerLimit *limit);
void gaio_timer_destroy (GaioTimer *self);
GaioTimer *gaio_timer_from_siblings (GaioLink *link);
