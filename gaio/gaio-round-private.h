/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

/* One round, and what GLib calls before it. */
gboolean gaio_round_prepare (GaioCore *core, GSource *source, gint *timeout_ms);
gboolean gaio_round_check (GaioCore *core, GSource *source);
void gaio_round_dispatch (GaioCore *core, GSource *source);
gboolean gaio_round_iterate (GaioCore *core, gint64 timeout_us);
gboolean gaio_round_run_notifies (GaioCore *core);
gboolean gaio_round_after_glib_poll (GaioCore *core, gboolean ends);
void gaio_round_update_outer_polls (GaioCore *core);
gint64 gaio_round_time_until (gint64 deadline);
