/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gio/gio.h>

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GaioIOOp: (skip)
 *
 * A file operation that has been submitted.
 *
 * Since: 1.0
 */
typedef struct _GaioIOOp GaioIOOp;

/**
 * GaioIOFunc: (skip)
 * @result: what the system call would have returned: how many bytes were read or written, 0 at the
 *   end of the file or for a sync, or -1 on error
 * @error: (nullable): what went wrong if @result is -1, otherwise %NULL; it belongs to the caller
 * @user_data: the data given to gaio_context_submit_pread() or its siblings
 *
 * Called once, on the owner of the context, when a file operation has ended in whatever way. From
 * then on, the buffer is the program's again.
 *
 * Since: 1.0
 */
typedef void (*GaioIOFunc) (gssize result, const GError *error, gpointer user_data);

GAIO_AVAILABLE_IN_1_0
GaioIOOp *gaio_context_submit_pread (GaioContext *self,
                                     gint fd,
                                     void *buffer,
                                     gsize count,
                                     goffset offset,
                                     GaioIOFunc func,
                                     gpointer user_data,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
GaioIOOp *gaio_context_submit_pwrite (GaioContext *self,
                                      gint fd,
                                      const void *buffer,
                                      gsize count,
                                      goffset offset,
                                      GaioIOFunc func,
                                      gpointer user_data,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
GaioIOOp *gaio_context_submit_fsync (GaioContext *self,
                                     gint fd,
                                     GaioIOFunc func,
                                     gpointer user_data,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

GAIO_AVAILABLE_IN_1_0
GaioIOOp *gaio_io_op_ref (GaioIOOp *self);
GAIO_AVAILABLE_IN_1_0
void gaio_io_op_unref (GaioIOOp *self);
GAIO_AVAILABLE_IN_1_0
void gaio_io_op_cancel (GaioIOOp *self);

GAIO_AVAILABLE_IN_1_0
void gaio_context_pread_async (GaioContext *self,
                               gint fd,
                               gsize count,
                               goffset offset,
                               GCancellable *cancellable,
                               GAsyncReadyCallback callback,
                               gpointer user_data);
GAIO_AVAILABLE_IN_1_0
GBytes *gaio_context_pread_finish (GaioContext *self, GAsyncResult *result, GError **error);
GAIO_AVAILABLE_IN_1_0
void gaio_context_pwrite_async (GaioContext *self,
                                gint fd,
                                GBytes *bytes,
                                goffset offset,
                                GCancellable *cancellable,
                                GAsyncReadyCallback callback,
                                gpointer user_data);
GAIO_AVAILABLE_IN_1_0
gssize gaio_context_pwrite_finish (GaioContext *self, GAsyncResult *result, GError **error);
GAIO_AVAILABLE_IN_1_0
void gaio_context_fsync_async (GaioContext *self,
                               gint fd,
                               GCancellable *cancellable,
                               GAsyncReadyCallback callback,
                               gpointer user_data);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_context_fsync_finish (GaioContext *self, GAsyncResult *result, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioIOOp, gaio_io_op_unref)

G_END_DECLS
