/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
GMainContext *gaio_context_create_main_context (GaioContext *self, GObject *owner, GError **error);
GAIO_AVAILABLE_IN_1_0
gboolean
gaio_context_serve_main_context (GaioContext *self, GMainContext *main_context, GError **error);
GAIO_AVAILABLE_IN_1_0
void gaio_context_stop_serving (GaioContext *self, GMainContext *main_context);
GAIO_AVAILABLE_IN_1_0
void gaio_context_call_in (GaioContext *self,
                           GMainContext *main_context,
                           GSourceOnceFunc func,
                           gpointer user_data);

G_END_DECLS
