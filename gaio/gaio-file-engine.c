/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-file-engine-private.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/gaio-refusal-private.h"
#include "gaio-file-pool-private.h"
#include "gaio-handler-private.h"

/* Operations are started in batches, by the owner: at the end of a round, and before the loop
 * sleeps. The ring has an fd, which is watched like any other, and is ready when the kernel has
 * finished something. */

/* What has been taken from the queue at once. */
typedef struct
{
  GaioIOOp *ops[GAIO_URING_BATCH];
  int places[GAIO_URING_BATCH]; /* IN_RING, IN_POOL, or a negative errno */
  guint n;
} Batch;

enum
{
  IN_RING,
  IN_POOL,
};

/* A handler on the fd of @uring, or NULL. */
static GaioHandler *
watch_ring (GaioCore *core, const GaioUring *uring)
{
  GaioHandlerParams params = { .fd = gaio_uring_get_fd (uring),
                               .condition = G_IO_IN,
                               .is_file_ring = TRUE };
  GaioHandler *handler;

  gaio_core_lock (core);
  handler = core->files.uring_handler = gaio_handler_try_add (core, &params, NULL);
  gaio_core_unlock (core);
  return handler;
}

/* If a limit has been reached, the pool does the work until there is a ring. By the owner, without
 * the lock. */
static void
open_ring (GaioCore *core)
{
  GaioFileQueue *files = &core->files;
  GaioUring *uring;
  int errsv;

  if (files->uring != NULL || files->refused)
    return;
  uring = gaio_uring_new (&errsv);
  files->refused = gaio_is_refusal (errsv);
  if (uring != NULL && watch_ring (core, uring) == NULL)
    g_clear_pointer (&uring, gaio_uring_free);
  files->uring = uring;
}

static gboolean
can_submit (const GaioFileQueue *files)
{
  return files->uring != NULL && !files->refused;
}

/* How many operations may be started now. */
static guint
get_room (const GaioFileQueue *files)
{
  return can_submit (files) ? gaio_uring_get_room (files->uring) : GAIO_URING_BATCH;
}

/* With the lock held. */
static void
take_batch (GaioFileQueue *files, Batch *batch)
{
  guint room = get_room (files);
  GaioLink *link;

  batch->n = 0;
  while (batch->n < room && (link = gaio_list_pop (&files->queued)) != NULL)
    {
      GaioIOOp *op = gaio_io_op_from_link (link);

      op->stage = GAIO_IO_OP_IN_RING;
      batch->ops[batch->n++] = op;
    }
}

/* Returns where operations on @fd belong, or a negative errno. What is neither a regular file nor a
 * disk is left to the system calls: io_uring would read a pipe or an eventfd, which pread(2)
 * refuses. */
static int
find_place (const GaioFileQueue *files, int fd)
{
  struct stat st;

  if (fstat (fd, &st) == -1)
    return -errno;
  return can_submit (files) && (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode)) ? IN_RING : IN_POOL;
}

/* Puts into the ring what belongs there. Consecutive operations mostly are on the same fd. */
static void
fill_ring (GaioFileQueue *files, Batch *batch)
{
  for (guint i = 0; i < batch->n; i++)
    {
      GaioFileRequest *request = &batch->ops[i]->request;

      batch->places[i] = i > 0 && request->fd == batch->ops[i - 1]->request.fd
                             ? batch->places[i - 1]
                             : find_place (files, request->fd);
      if (batch->places[i] == IN_RING)
        gaio_uring_add (files->uring, request);
    }
}

/* Gives the kernel what is in the ring. What it does not take, for whatever reason, goes to the
 * pool. Without the lock. */
static void
submit_batch (GaioFileQueue *files, Batch *batch)
{
  guint n_taken;
  int errsv;

  if (!can_submit (files))
    return;
  n_taken = gaio_uring_submit (files->uring, &errsv);
  files->refused = gaio_is_refusal (errsv) && errsv != EAGAIN && errsv != EBUSY;
  for (guint i = 0; i < batch->n; i++)
    if (batch->places[i] == IN_RING && n_taken > 0)
      n_taken--;
    else if (batch->places[i] == IN_RING)
      batch->places[i] = IN_POOL;
}

/* What is not in the ring goes where it belongs. With the lock held. */
static void
settle_batch (const Batch *batch)
{
  for (guint i = 0; i < batch->n; i++)
    if (batch->places[i] == IN_POOL && !batch->ops[i]->cancelled)
      gaio_file_pool_push (batch->ops[i]);
    else if (batch->places[i] != IN_RING)
      gaio_io_op_end (batch->ops[i], batch->ops[i]->cancelled ? -ECANCELED : batch->places[i]);
}

/* The kernel may cancel an operation because the thread that gave it to the kernel has ended.
 * Nobody wanted that, so it begins anew. With the lock held. */
static void
finish (GaioCore *core, GaioIOOp *op)
{
  gint64 result = op->request.result;
  gboolean interrupted = result == -ECANCELED || result == -EINTR;

  if (!interrupted && result != -EAGAIN)
    gaio_io_op_end (op, result);
  else if (op->cancelled || gaio_core_is_closed (core))
    gaio_io_op_end (op, -ECANCELED);
  else if (interrupted)
    {
      op->stage = GAIO_IO_OP_QUEUED;
      gaio_list_push (&core->files.queued, &op->link);
    }
  else
    gaio_file_pool_push (op);
}

/* Takes what the kernel has finished out of the ring. TRUE if there is anything. By the owner, with
 * the lock held. */
gboolean
gaio_file_engine_gather (GaioCore *core)
{
  GaioFileQueue *files = &core->files;
  GaioFileRequest *request;
  gboolean any = FALSE;

  while (files->uring != NULL && (request = gaio_uring_take (files->uring)) != NULL)
    {
      finish (core, gaio_io_op_from_request (request));
      any = TRUE;
    }
  files->has_new |= !gaio_list_is_empty (&files->queued) && get_room (files) > 0;
  return any;
}

/* By the owner, with the lock held, which is released meanwhile. */
static void
submit_cancels (GaioCore *core)
{
  GaioFileQueue *files = &core->files;
  guint n = 0;
  GaioLink *link;
  int errsv;

  while (n < GAIO_URING_BATCH && (link = gaio_list_pop (&files->cancels)) != NULL)
    if (can_submit (files))
      {
        gaio_uring_add_cancel (files->uring, &gaio_io_op_from_link (link)->request);
        n++;
      }
  if (n == 0)
    return;
  files->has_new = !gaio_list_is_empty (&files->cancels);
  gaio_core_unlock (core);
  gaio_uring_submit (files->uring, &errsv);
  pthread_mutex_lock (&core->lock);
}

/* Starts what has been submitted. TRUE if anything has ended already. By the owner, with the lock
 * held, which is released meanwhile. */
gboolean
gaio_file_engine_start (GaioCore *core)
{
  GaioFileQueue *files = &core->files;
  Batch batch;

  while (files->has_new && !gaio_core_is_closed (core))
    {
      files->has_new = FALSE;
      submit_cancels (core);
      take_batch (files, &batch);
      gaio_core_unlock (core);
      open_ring (core);
      fill_ring (files, &batch);
      submit_batch (files, &batch);
      pthread_mutex_lock (&core->lock);
      settle_batch (&batch);
      gaio_file_engine_gather (core);
    }
  return core->bottom_halves.calls.n_calls > 0;
}

/* Waits until the kernel has finished everything in the ring. */
static void
drain_ring (GaioCore *core)
{
  GaioUring *uring = core->files.uring;
  int errsv;

  if (gaio_uring_is_empty (uring))
    return;
  gaio_uring_add_cancel (uring, NULL);
  gaio_uring_submit (uring, &errsv);
  while (!gaio_uring_is_empty (uring))
    {
      gaio_uring_wait (uring);
      gaio_core_lock (core);
      gaio_file_engine_gather (core);
      gaio_core_unlock (core);
    }
}

/* The context is closed: ends all operations. Waits for those that the kernel is at, because their
 * buffers belong to it until then. Their functions are called with the deferred calls. By the owner
 * that tears the context down, without the lock. */
void
gaio_file_engine_close (GaioCore *core)
{
  GaioFileQueue *files = &core->files;
  GaioLink *link;

  gaio_core_lock (core);
  while ((link = gaio_list_first (&files->queued)) != NULL)
    gaio_io_op_end (gaio_io_op_from_link (link), -ECANCELED);
  gaio_core_unlock (core);
  if (files->uring != NULL)
    drain_ring (core);
  gaio_file_pool_close (core);
  gaio_core_lock (core);
  g_clear_pointer (&files->uring_handler, gaio_handler_unref);
  gaio_core_unlock (core);
  g_clear_pointer (&files->uring, gaio_uring_free);
}
