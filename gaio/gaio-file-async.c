/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-file-io.h>

#include <gaio/gaio-error.h>

#include "gaio-io-op-private.h"

/* File operations in the shape of GIO: each is a GTask around a GaioIOOp. */

typedef struct
{
  GaioFileRequest request;
  GBytes *bytes; /* of a write, or NULL */
  GaioIOOp *op;  /* or NULL */
  gulong cancelled_id;
} Job;

static void
job_free (gpointer data)
{
  Job *job = data;

  if (job->request.call == GAIO_FILE_PREAD)
    g_free (job->request.buffer);
  g_clear_pointer (&job->bytes, g_bytes_unref);
  g_clear_pointer (&job->op, gaio_io_op_unref);
  g_free (job);
}

static void
bytes_unref (gpointer bytes)
{
  g_bytes_unref (bytes);
}

static void
return_read (GTask *task, Job *job, gssize n)
{
  gpointer buffer = g_realloc (g_steal_pointer (&job->request.buffer), n);

  g_task_return_pointer (task, g_bytes_new_take (buffer, n), bytes_unref);
}

/* Does not wait for a thread that is just cancelling it, as g_cancellable_disconnect() would: a
 * handler of that signal may be running this loop. */
static void
unwatch_cancellable (GTask *task, Job *job)
{
  if (job->cancelled_id != 0)
    g_signal_handler_disconnect (g_task_get_cancellable (task), job->cancelled_id);
}

static void
on_ended (gssize result, const GError *error, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Job *job = g_task_get_task_data (task);

  unwatch_cancellable (task, job);
  if (error != NULL)
    g_task_return_error (task, g_error_copy (error));
  else if (job->request.call == GAIO_FILE_PREAD)
    return_read (task, job, result);
  else if (job->request.call == GAIO_FILE_PWRITE)
    g_task_return_int (task, result);
  else
    g_task_return_boolean (task, TRUE);
}

static void
on_cancelled (GCancellable *cancellable, gpointer op)
{
  gaio_io_op_cancel (op);
}

/* Before it is submitted, so that it cannot end before. */
static void
watch_cancellable (GTask *task, Job *job)
{
  GCancellable *cancellable = g_task_get_cancellable (task);

  if (cancellable != NULL)
    job->cancelled_id =
        g_cancellable_connect (cancellable, G_CALLBACK (on_cancelled), gaio_io_op_ref (job->op),
                               (GDestroyNotify) gaio_io_op_unref);
}

/* Whoever cancels hears how the operation has ended, which may be that it has succeeded: a write
 * that has happened cannot be taken back. Takes over @task. */
static void
start (GTask *task, GaioContext *self, const GaioFileRequest *request, GBytes *bytes)
{
  Job *job = g_new0 (Job, 1);
  GError *error = NULL;

  job->request = *request;
  job->bytes = bytes;
  job->op = gaio_io_op_new (self->core, request, on_ended, task);
  g_task_set_task_data (task, job, job_free);
  g_task_set_check_cancellable (task, FALSE);
  watch_cancellable (task, job);
  if (gaio_io_op_submit (job->op, &error))
    return;
  unwatch_cancellable (task, job);
  g_task_return_error (task, error);
  g_object_unref (task);
}

/**
 * gaio_context_pread_async:
 * @self: a context
 * @fd: a file descriptor, open for reading until the operation has ended
 * @count: how many bytes to read at most
 * @offset: where in the file to begin
 * @cancellable: (nullable): cancels the operation
 * @callback: (scope async): the function to call when the operation has ended
 * @user_data: data for @callback
 *
 * Reads from a file, as pread(2) does. As with all asynchronous functions of GIO, @callback is
 * called in the thread-default main context of the caller; somebody has to run that, and the
 * context @self too. May be called from any thread.
 *
 * If @cancellable is cancelled in time, the operation fails with %G_IO_ERROR_CANCELLED; otherwise
 * it ends as if it had not been cancelled.
 *
 * Since: 1.0
 */
void
gaio_context_pread_async (GaioContext *self,
                          gint fd,
                          gsize count,
                          goffset offset,
                          GCancellable *cancellable,
                          GAsyncReadyCallback callback,
                          gpointer user_data)
{
  GaioFileRequest request = { .call = GAIO_FILE_PREAD, .fd = fd, .offset = offset };
  GTask *task;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (offset >= 0);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, gaio_context_pread_async);
  request.count = MIN (count, GAIO_FILE_MAX_COUNT);
  request.buffer = g_try_malloc (MAX (request.count, 1));
  if (request.buffer != NULL)
    {
      start (task, self, &request, NULL);
      return;
    }
  g_task_return_new_error (task, GAIO_ERROR, GAIO_ERROR_NO_MEMORY,
                           "fd %d: No memory for %" G_GSIZE_FORMAT " bytes", fd, request.count);
  g_object_unref (task);
}

/**
 * gaio_context_pread_finish:
 * @self: a context
 * @result: the result of gaio_context_pread_async()
 * @error: return location for a #GError
 *
 * Returns what has been read, which may be less than what was requested, and is empty at the end of
 * the file. Fails as gaio_context_submit_pread() describes, and with %GAIO_ERROR_NO_MEMORY.
 *
 * Returns: (transfer full): the bytes, or %NULL on error
 *
 * Since: 1.0
 */
GBytes *
gaio_context_pread_finish (GaioContext *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), NULL);
  g_return_val_if_fail (g_async_result_is_tagged (result, gaio_context_pread_async), NULL);
  return g_task_propagate_pointer (G_TASK (result), error);
}

/**
 * gaio_context_pwrite_async:
 * @self: a context
 * @fd: a file descriptor, open for writing until the operation has ended
 * @bytes: what to write
 * @offset: where in the file to begin
 * @cancellable: (nullable): cancels the operation
 * @callback: (scope async): the function to call when the operation has ended
 * @user_data: data for @callback
 *
 * Writes to a file, as pwrite(2) does. Otherwise this is as gaio_context_pread_async().
 *
 * Since: 1.0
 */
void
gaio_context_pwrite_async (GaioContext *self,
                           gint fd,
                           GBytes *bytes,
                           goffset offset,
                           GCancellable *cancellable,
                           GAsyncReadyCallback callback,
                           gpointer user_data)
{
  GaioFileRequest request = { .call = GAIO_FILE_PWRITE, .fd = fd, .offset = offset };
  GTask *task;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (bytes != NULL);
  g_return_if_fail (offset >= 0);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, gaio_context_pwrite_async);
  request.buffer = (gpointer) g_bytes_get_data (bytes, &request.count);
  start (task, self, &request, g_bytes_ref (bytes));
}

/**
 * gaio_context_pwrite_finish:
 * @self: a context
 * @result: the result of gaio_context_pwrite_async()
 * @error: return location for a #GError
 *
 * Returns how many bytes have been written, which may be fewer than there were. Fails as
 * gaio_context_submit_pread() describes.
 *
 * Returns: how many bytes have been written, or -1 on error
 *
 * Since: 1.0
 */
gssize
gaio_context_pwrite_finish (GaioContext *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), -1);
  g_return_val_if_fail (g_async_result_is_tagged (result, gaio_context_pwrite_async), -1);
  return g_task_propagate_int (G_TASK (result), error);
}

/**
 * gaio_context_fsync_async:
 * @self: a context
 * @fd: a file descriptor, open until the operation has ended
 * @cancellable: (nullable): cancels the operation
 * @callback: (scope async): the function to call when the operation has ended
 * @user_data: data for @callback
 *
 * Makes sure that what has been written to a file is on the disk, as fsync(2) does; see
 * gaio_context_submit_fsync(). Otherwise this is as gaio_context_pread_async().
 *
 * Since: 1.0
 */
void
gaio_context_fsync_async (GaioContext *self,
                          gint fd,
                          GCancellable *cancellable,
                          GAsyncReadyCallback callback,
                          gpointer user_data)
{
  GaioFileRequest request = { .call = GAIO_FILE_FSYNC, .fd = fd };
  GTask *task;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, gaio_context_fsync_async);
  start (task, self, &request, NULL);
}

/**
 * gaio_context_fsync_finish:
 * @self: a context
 * @result: the result of gaio_context_fsync_async()
 * @error: return location for a #GError
 *
 * Returns whether the file is on the disk. Fails as gaio_context_submit_pread() describes.
 *
 * Returns: %TRUE on success, %FALSE on error
 *
 * Since: 1.0
 */
gboolean
gaio_context_fsync_finish (GaioContext *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), FALSE);
  g_return_val_if_fail (g_async_result_is_tagged (result, gaio_context_fsync_async), FALSE);
  return g_task_propagate_boolean (G_TASK (result), error);
}
