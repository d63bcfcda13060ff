/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-file-io.h>

#include "gaio-io-op-private.h"

/**
 * SECTION:gaio-file-io
 * @title: File I/O
 * @short_description: read and write files without blocking the loop
 *
 * A regular file is always ready, so a handler cannot tell when a disk has delivered. These
 * functions do what pread(2), pwrite(2) and fsync(2) do, and call back when that is done. The
 * kernel does the work with io_uring(7): what is submitted in one round is passed to it with one
 * system call, and the loop learns what has been done as it learns that an fd is ready. Where the
 * kernel has no io_uring, or a sandbox forbids it, and for files that are neither regular files nor
 * block devices, a few threads make the system calls; nothing else changes.
 *
 * C programs can use buffers of their own, with gaio_context_submit_pread() and its siblings. All
 * languages can use gaio_context_pread_async() and its siblings.
 *
 * Operations that are in progress at the same time may end in any order. If one has to come after
 * another, submit it when the other has ended: gaio_context_submit_fsync(), for example, covers the
 * writes that had ended before. As with the system calls, fewer bytes than requested may be read or
 * written. Keep the fd open until the operation has ended.
 *
 * Closing a context ends its operations: those that have not begun, and those that the kernel can
 * still cancel, with %GAIO_ERROR_CLOSED. It waits for the others, because their buffers are in use.
 * In a forked child, the operations of its parent never end.
 */

static GaioIOOp *
submit (GaioContext *self,
        const GaioFileRequest *request,
        GaioIOFunc func,
        gpointer user_data,
        GError **error)
{
  GaioIOOp *op = gaio_io_op_new (self->core, request, func, user_data);

  if (!gaio_io_op_submit (op, error))
    g_clear_pointer (&op, gaio_io_op_unref);
  return op;
}

/**
 * gaio_context_submit_pread: (skip)
 * @self: a context
 * @fd: a file descriptor, open for reading until @func is called
 * @buffer: where to put the bytes; the operation's until @func is called
 * @count: how many bytes to read at most
 * @offset: where in the file to begin
 * @func: the function to call when the operation has ended
 * @user_data: data for @func
 * @error: return location for a #GError
 *
 * Reads from a file, as pread(2) does. @func is called once, in a later round. May be called from
 * any thread.
 *
 * Fails with %GAIO_ERROR_CLOSED or %GAIO_ERROR_FORKED, and with %GAIO_ERROR_BAD_FD if @fd is
 * negative; then @func is not called. All other errors are passed to @func: %GAIO_ERROR_BAD_FD if
 * @fd is not open for reading, %G_IO_ERROR_CANCELLED, %GAIO_ERROR_CLOSED if the context has been
 * closed, %G_IO_ERROR_NOT_SUPPORTED if the file has no offsets, and otherwise the code that
 * g_io_error_from_errno() has for what pread(2) would have set errno to.
 *
 * Returns: (transfer full): the operation, for gaio_io_op_cancel(), or %NULL on error
 *
 * Since: 1.0
 */
GaioIOOp *
gaio_context_submit_pread (GaioContext *self,
                           gint fd,
                           void *buffer,
                           gsize count,
                           goffset offset,
                           GaioIOFunc func,
                           gpointer user_data,
                           GError **error)
{
  GaioFileRequest request = {
    .call = GAIO_FILE_PREAD, .fd = fd, .buffer = buffer, .count = count, .offset = offset
  };

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), NULL);
  g_return_val_if_fail (buffer != NULL || count == 0, NULL);
  g_return_val_if_fail (offset >= 0, NULL);
  g_return_val_if_fail (func != NULL, NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return submit (self, &request, func, user_data, error);
}

/**
 * gaio_context_submit_pwrite: (skip)
 * @self: a context
 * @fd: a file descriptor, open for writing until @func is called
 * @buffer: the bytes to write, unchanged until @func is called
 * @count: how many bytes to write at most
 * @offset: where in the file to begin
 * @func: the function to call when the operation has ended
 * @user_data: data for @func
 * @error: return location for a #GError
 *
 * Writes to a file, as pwrite(2) does. Otherwise this is as gaio_context_submit_pread().
 *
 * Returns: (transfer full): the operation, for gaio_io_op_cancel(), or %NULL on error
 *
 * Since: 1.0
 */
GaioIOOp *
gaio_context_submit_pwrite (GaioContext *self,
                            gint fd,
                            const void *buffer,
                            gsize count,
                            goffset offset,
                            GaioIOFunc func,
                            gpointer user_data,
                            GError **error)
{
  GaioFileRequest request = { .call = GAIO_FILE_PWRITE,
                              .fd = fd,
                              .buffer = (gpointer) buffer,
                              .count = count,
                              .offset = offset };

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), NULL);
  g_return_val_if_fail (buffer != NULL || count == 0, NULL);
  g_return_val_if_fail (offset >= 0, NULL);
  g_return_val_if_fail (func != NULL, NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return submit (self, &request, func, user_data, error);
}

/**
 * gaio_context_submit_fsync: (skip)
 * @self: a context
 * @fd: a file descriptor, open until @func is called
 * @func: the function to call when the operation has ended
 * @user_data: data for @func
 * @error: return location for a #GError
 *
 * Makes sure that what has been written to a file is on the disk, as fsync(2) does. This covers
 * writes that had ended before; those in progress may or may not be on the disk afterwards.
 * Otherwise this is as gaio_context_submit_pread().
 *
 * Returns: (transfer full): the operation, for gaio_io_op_cancel(), or %NULL on error
 *
 * Since: 1.0
 */
GaioIOOp *
gaio_context_submit_fsync (GaioContext *self,
                           gint fd,
                           GaioIOFunc func,
                           gpointer user_data,
                           GError **error)
{
  GaioFileRequest request = { .call = GAIO_FILE_FSYNC, .fd = fd };

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), NULL);
  g_return_val_if_fail (func != NULL, NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return submit (self, &request, func, user_data, error);
}
