/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GaioReadySetFunc:
 * @set: the set
 * @n_ready: how many records gaio_ready_set_take() would return
 * @user_data: the data given to gaio_ready_set_set_func()
 *
 * Called on the owner of the context, at most once a round, when fds of the set are ready.
 *
 * Since: 1.0
 */
typedef void (*GaioReadySetFunc) (GaioReadySet *set, guint n_ready, gpointer user_data);

GAIO_AVAILABLE_IN_1_0
GaioReadySet *gaio_ready_set_new (GaioContext *context);
GAIO_AVAILABLE_IN_1_0
GaioHandler *gaio_ready_set_add_fd (GaioReadySet *self,
                                    gint fd,
                                    GIOCondition condition,
                                    guint64 token,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
void gaio_ready_set_set_func (GaioReadySet *self,
                              GaioReadySetFunc func,
                              gpointer user_data,
                              GDestroyNotify notify);
GAIO_AVAILABLE_IN_1_0
guint8 *gaio_ready_set_take (GaioReadySet *self, gsize *length);

G_END_DECLS
