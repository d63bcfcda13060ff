/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gio/gio.h>

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
void gaio_context_sleep_async (GaioContext *self,
                               gint64 delay_us,
                               GCancellable *cancellable,
                               GAsyncReadyCallback callback,
                               gpointer user_data);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_sleep_finish (GaioContext *self, GAsyncResult *result, GError **error);
GAIO_AVAILABLE_IN_1_0
void gaio_context_wait_fd_async (GaioContext *self,
                                 gint fd,
                                 GIOCondition condition,
                                 GCancellable *cancellable,
                                 GAsyncReadyCallback callback,
                                 gpointer user_data);
GAIO_AVAILABLE_IN_1_0
GIOCondition gaio_context_wait_fd_finish (GaioContext *self, GAsyncResult *result, GError **error);
GAIO_AVAILABLE_IN_1_0
void gaio_ready_set_wait_async (GaioReadySet *self,
                                GCancellable *cancellable,
                                GAsyncReadyCallback callback,
                                gpointer user_data);
GAIO_AVAILABLE_IN_1_0
guint8 *gaio_ready_set_wait_finish (GaioReadySet *self,
                                    GAsyncResult *result,
                                    gsize *length,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
