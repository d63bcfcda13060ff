/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GAIO_TYPE_NOTIFIER:
 *
 * The boxed type of #GaioNotifier.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_NOTIFIER (gaio_notifier_get_type ())
GAIO_AVAILABLE_IN_1_0
GType gaio_notifier_get_type (void) G_GNUC_CONST;

GAIO_AVAILABLE_IN_1_0
GaioNotifier *gaio_notifier_new (GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
GaioNotifier *gaio_notifier_ref (GaioNotifier *self);
GAIO_AVAILABLE_IN_1_0
void gaio_notifier_unref (GaioNotifier *self);
GAIO_AVAILABLE_IN_1_0
void gaio_notifier_set (GaioNotifier *self);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_notifier_test_and_clear (GaioNotifier *self);
GAIO_AVAILABLE_IN_1_0
gint gaio_notifier_get_fd (GaioNotifier *self);

GAIO_AVAILABLE_IN_1_0
GaioHandler *gaio_context_add_notifier (GaioContext *self,
                                        GaioNotifier *notifier,
                                        GSourceOnceFunc func,
                                        gpointer user_data,
                                        GDestroyNotify notify,
                                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioNotifier, gaio_notifier_unref)

G_END_DECLS
