/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
GaioThread *gaio_thread_new (const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_thread_get_context (GaioThread *self);
GAIO_AVAILABLE_IN_1_0
GMainContext *gaio_thread_get_main_context (GaioThread *self);
GAIO_AVAILABLE_IN_1_0
void gaio_thread_stop (GaioThread *self);

G_END_DECLS
