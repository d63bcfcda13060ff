/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_context_get_default (void);
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_context_ref_for_main_context (GMainContext *main_context);
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_context_ref_thread_default (void);

G_END_DECLS
