/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-timer.h>

#include "gaio-entry-private.h"

void gaio_timer_collect_due (GaioCore *core);
gboolean gaio_timer_serve_next (GaioCore *core);
void gaio_timer_bury (GaioTimer *self);
GaioTimer *gaio_timer_from_siblings (GaioLink *link);
