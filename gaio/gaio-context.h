/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_context_new (void);
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_context_new_with_monitor (GaioMonitorType monitor);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_iterate (GaioContext *self, gint64 timeout_us);
GAIO_AVAILABLE_IN_1_0
void gaio_context_wakeup (GaioContext *self);
GAIO_AVAILABLE_IN_1_0
void gaio_context_close (GaioContext *self);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_is_closed (GaioContext *self);
GAIO_AVAILABLE_IN_1_0
void gaio_context_set_poll_params (GaioContext *self, gint64 max_us, guint grow, guint shrink);
GAIO_AVAILABLE_IN_1_0
void gaio_context_set_dispatch_limits (GaioContext *self, guint max_callbacks, gint64 max_time_us);
GAIO_AVAILABLE_IN_1_0
GVariant *gaio_context_dup_stats (GaioContext *self);
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_context_get_current (void);

G_END_DECLS
