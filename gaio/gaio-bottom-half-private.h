/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-bottom-half.h>

#include "gaio-entry-private.h"

void gaio_bottom_half_push_call (GaioCore *core, GaioCall *call);
gboolean gaio_bottom_half_serve_next (GaioCore *core, guint64 last_seq);
void gaio_bottom_half_requeue_calls (GaioCore *core);
void gaio_bottom_half_drop_calls (GaioCore *core);
void gaio_bottom_half_destroy (GaioBottomHalf *self);
GaioBottomHalf *gaio_bottom_half_from_siblings (GaioLink *link);
