/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gio/gio.h>

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_run (GaioContext *self,
                           GMainContext *main_context,
                           GCancellable *cancellable,
                           GError **error);

G_END_DECLS
