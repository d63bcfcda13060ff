/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GAIO_TYPE_TIMER:
 *
 * The boxed type of #GaioTimer.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_TIMER (gaio_timer_get_type ())
GAIO_AVAILABLE_IN_1_0
GType gaio_timer_get_type (void) G_GNUC_CONST;

GAIO_AVAILABLE_IN_1_0
GaioTimer *gaio_context_add_timer (GaioContext *self,
                                   GSourceOnceFunc func,
                                   gpointer user_data,
                                   GDestroyNotify notify) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
GaioTimer *gaio_context_add_timeout (GaioContext *self,
                                     gint64 interval_us,
                                     GSourceFunc func,
                                     gpointer user_data,
                                     GDestroyNotify notify) G_GNUC_WARN_UNUSED_RESULT;

GAIO_AVAILABLE_IN_1_0
GaioTimer *gaio_timer_ref (GaioTimer *self);
GAIO_AVAILABLE_IN_1_0
void gaio_timer_unref (GaioTimer *self);
GAIO_AVAILABLE_IN_1_0
void gaio_timer_arm (GaioTimer *self, gint64 delay_us);
GAIO_AVAILABLE_IN_1_0
void gaio_timer_arm_at (GaioTimer *self, gint64 monotonic_us);
GAIO_AVAILABLE_IN_1_0
void gaio_timer_disarm (GaioTimer *self);
GAIO_AVAILABLE_IN_1_0
gint64 gaio_timer_get_deadline (GaioTimer *self);
GAIO_AVAILABLE_IN_1_0
void gaio_timer_remove (GaioTimer *self);
GAIO_AVAILABLE_IN_1_0
void gaio_clear_timer (GaioTimer **timer_ptr);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioTimer, gaio_timer_unref)

G_END_DECLS
