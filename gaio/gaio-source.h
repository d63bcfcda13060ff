/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
GSource *gaio_context_create_source (GaioContext *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_attach (GaioContext *self, GMainContext *main_context, GError **error);
GAIO_AVAILABLE_IN_1_0
void gaio_context_detach (GaioContext *self);

G_END_DECLS
