/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GAIO_TYPE_BOTTOM_HALF:
 *
 * The boxed type of #GaioBottomHalf.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_BOTTOM_HALF (gaio_bottom_half_get_type ())
GAIO_AVAILABLE_IN_1_0
GType gaio_bottom_half_get_type (void) G_GNUC_CONST;

GAIO_AVAILABLE_IN_1_0
GaioBottomHalf *gaio_context_add_bottom_half (GaioContext *self,
                                              GSourceOnceFunc func,
                                              gpointer user_data,
                                              GDestroyNotify notify) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
void gaio_context_defer (GaioContext *self,
                         GSourceOnceFunc func,
                         gpointer user_data,
                         GDestroyNotify notify);

GAIO_AVAILABLE_IN_1_0
GaioBottomHalf *gaio_bottom_half_ref (GaioBottomHalf *self);
GAIO_AVAILABLE_IN_1_0
void gaio_bottom_half_unref (GaioBottomHalf *self);
GAIO_AVAILABLE_IN_1_0
void gaio_bottom_half_schedule (GaioBottomHalf *self);
GAIO_AVAILABLE_IN_1_0
void gaio_bottom_half_schedule_idle (GaioBottomHalf *self);
GAIO_AVAILABLE_IN_1_0
void gaio_bottom_half_cancel (GaioBottomHalf *self);
GAIO_AVAILABLE_IN_1_0
void gaio_bottom_half_remove (GaioBottomHalf *self);
GAIO_AVAILABLE_IN_1_0
void gaio_clear_bottom_half (GaioBottomHalf **bottom_half_ptr);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioBottomHalf, gaio_bottom_half_unref)

G_END_DECLS
