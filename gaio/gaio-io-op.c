/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-io-op-private.h"

#include <errno.h>
#include <fcntl.h>

#include <gaio/gaio-error.h>

#include "gaio-bottom-half-private.h"
#include "gaio-error-private.h"
#include "gaio-trace-private.h"

/* With one reference for the caller and one for the call of @func. */
GaioIOOp *
gaio_io_op_new (GaioCore *core, const GaioFileRequest *request, GaioIOFunc func, gpointer user_data)
{
  /* From malloc(), which gives again what was freed a moment ago; calloc() of glibc does not. */
  GaioIOOp *self = g_new (GaioIOOp, 1);

  *self = (GaioIOOp){
    .request = *request, .core = gaio_core_ref (core), .func = func, .user_data = user_data
  };
  /* The kernel takes no more, and says so with a short count. */
  self->request.count = MIN (request->count, GAIO_FILE_MAX_COUNT);
  gaio_ref_count_init (&self->ref_count, 2);
  return self;
}

/**
 * gaio_io_op_ref: (skip)
 * @self: a file operation
 *
 * Takes a reference. May be called from any thread.
 *
 * Returns: (transfer full): @self
 *
 * Since: 1.0
 */
GaioIOOp *
gaio_io_op_ref (GaioIOOp *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  gaio_ref_count_inc (&self->ref_count);
  return self;
}

/**
 * gaio_io_op_unref: (skip)
 * @self: (transfer full): a file operation
 *
 * Drops a reference. This does not cancel the operation. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_io_op_unref (GaioIOOp *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_ref_count_dec (&self->ref_count))
    return;
  gaio_core_unref (self->core);
  g_free (self);
}

static void
set_bad_fd (GError **error, const GaioFileRequest *request)
{
  if (fcntl (request->fd, F_GETFL) == -1)
    gaio_error_set_for_fd (error, EBADF, request->fd);
  else
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_BAD_FD, "fd %d is not open for %s", request->fd,
                 request->call == GAIO_FILE_PREAD ? "reading" : "writing");
}

static char *
describe (const GaioFileRequest *request)
{
  if (request->call == GAIO_FILE_FSYNC)
    return g_strdup_printf ("fd %d: Cannot sync", request->fd);
  return g_strdup_printf ("fd %d: Cannot %s %" G_GSIZE_FORMAT
                          " byte%s at offset %" G_GOFFSET_FORMAT,
                          request->fd, request->call == GAIO_FILE_PREAD ? "read" : "write",
                          request->count, request->count == 1 ? "" : "s", request->offset);
}

static void
set_failed (GError **error, const GaioFileRequest *request)
{
  int errsv = -request->result;
  g_autofree char *what = describe (request);

  if (errsv == ESPIPE)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                 "%s: it is a pipe, a socket or another file without offsets", what);
  else
    g_set_error (error, G_IO_ERROR, g_io_error_from_errno (errsv), "%s: %s", what,
                 g_strerror (errsv));
}

/* Sets @error to why @self has failed. */
static void
set_error (GaioIOOp *self, GError **error)
{
  const GaioFileRequest *request = &self->request;

  if (request->result == -EBADF)
    set_bad_fd (error, request);
  else if (request->result != -ECANCELED)
    set_failed (error, request);
  else if (self->cancelled)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "fd %d: The operation was cancelled",
                 request->fd);
  else
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED, "fd %d: The context was closed",
                 request->fd);
}

/* By the owner, without the lock. */
static void
tell (gpointer user_data)
{
  GaioIOOp *self = user_data;
  g_autoptr (GError) error = NULL;

  if (self->request.result < 0)
    {
      set_error (self, &error);
      self->request.result = -1;
    }
  gaio_trace_call (&self->core->profile, "file operation", self->func, self->request.fd, NULL,
                   self->func (self->request.result, error, self->user_data));
  gaio_io_op_unref (self);
}

/* @self has ended, and its function is to be called. -ECANCELED is due to its cancellation or, if
 * it has not been cancelled, to the end of the context. With the lock held. */
void
gaio_io_op_end (GaioIOOp *self, gint64 result)
{
  GaioCall call = { .notify = tell, .user_data = self };

  self->request.result = result;
  self->core->files.pool.n_waiting -= self->stage == GAIO_IO_OP_WAITING;
  self->stage = GAIO_IO_OP_DONE;
  gaio_link_unlink (&self->link);
  self->core->files.n_pending--;
  gaio_bottom_half_push_call (self->core, &call);
}

/* With the lock held. */
static void
enqueue (GaioIOOp *self)
{
  GaioFileQueue *files = &self->core->files;

  files->n_started++;
  files->n_pending++;
  if (self->cancelled)
    {
      gaio_io_op_end (self, -ECANCELED);
      return;
    }
  self->stage = GAIO_IO_OP_QUEUED;
  gaio_list_push (&files->queued, &self->link);
  files->has_new = TRUE;
}

static gboolean
try_submit (GaioIOOp *self, GError **error)
{
  GaioCore *core = self->core;
  gboolean open;

  if (self->request.fd < 0)
    {
      gaio_error_set_for_fd (error, EBADF, self->request.fd);
      return FALSE;
    }
  if (!gaio_core_lock (core))
    return gaio_core_check (core, error);
  open = gaio_core_check (core, error);
  if (open)
    enqueue (self);
  gaio_core_unlock_and_wake (core);
  return open;
}

/* FALSE on error; then its function is not called. */
gboolean
gaio_io_op_submit (GaioIOOp *self, GError **error)
{
  if (try_submit (self, error))
    return TRUE;
  gaio_io_op_unref (self);
  return FALSE;
}

/* With the lock held. */
static void
cancel (GaioIOOp *self)
{
  GaioFileQueue *files = &self->core->files;

  if (self->cancelled || self->stage == GAIO_IO_OP_DONE)
    return;
  self->cancelled = true;
  if (self->stage == GAIO_IO_OP_QUEUED || self->stage == GAIO_IO_OP_WAITING)
    gaio_io_op_end (self, -ECANCELED);
  else if (self->stage == GAIO_IO_OP_IN_RING)
    {
      gaio_list_push (&files->cancels, &self->link);
      files->has_new = TRUE;
    }
}

/**
 * gaio_io_op_cancel: (skip)
 * @self: a file operation
 *
 * Cancels @self. Its function is called in a later round, as for every operation: with
 * %G_IO_ERROR_CANCELLED if it was cancelled in time, otherwise with what it has done. The buffer
 * belongs to the operation until then, because the kernel may still be working on it. Does nothing
 * if the operation has ended. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_io_op_cancel (GaioIOOp *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->core))
    return;
  cancel (self);
  gaio_core_unlock_and_wake (self->core);
}
