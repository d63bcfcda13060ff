/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gio/gio.h>

#include <gaio/gaio-ready-set.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_run (GaioContext *self,
                           GMainContext *main_context,
                           GCancellable *cancellable,
                           GError **error);
GAIO_AVAILABLE_IN_1_0
guint8 *gaio_ready_set_wait (GaioReadySet *self,
                             gint64 timeout_us,
                             gboolean *interrupted,
                             gsize *length,
                             GError **error);

G_END_DECLS
