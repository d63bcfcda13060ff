/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-file-engine-private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/gaio-refusal-private.h"
#include "gaio-file-pool-private.h"
#include "gaio-handler-private.h"

/* Operations are started in batches, by the owner: at the end of a round, and before the loop
 * sleeps. The ring has an fd, which is watched like any other, and is ready when the kernel has
 * finished something. */

/* How many operations are started at most before the loop looks at anything else. */
#define MAX_AT_ONCE GAIO_URING_MAX_IN_FLIGHT

/* A disk begins with a batch when all of it has been submitted, and is to begin early. */
#define LEAST_BATCH 2

typedef enum
{
  IN_RING,
  IN_POOL,
} Place;

/* What has been taken from the queue at once. */
typedef struct
{
  GaioIOOp *ops[GAIO_URING_BATCH];
  Place places[GAIO_URING_BATCH];
  guint n;
  int fd; /* of the last one, also of the batch before, or -1 */
  Place place;
} Batch;

/* Adds a handler on the fd of @uring. It can be polled in user space, so that it does not turn busy
 * polling off, also in a round that a poll function runs. FALSE on error. */
static gboolean
watch_ring (GaioCore *core, GaioUring *uring)
{
  GaioHandlerParams params = {
    .fd = gaio_uring_get_fd (uring), .condition = G_IO_IN, .is_file_ring = TRUE, .user_data = uring
  };
  GaioHandler *handler;

  gaio_core_lock (core);
  handler = core->files.uring_handler = gaio_handler_try_add (core, &params, NULL);
  gaio_core_unlock (core);
  if (handler == NULL)
    return FALSE;
  gaio_handler_set_can_recurse (handler, TRUE);
  gaio_handler_set_poll_funcs (handler, gaio_uring_is_ready, NULL, NULL);
  return TRUE;
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
  if (uring != NULL && !watch_ring (core, uring))
    g_clear_pointer (&uring, gaio_uring_free);
  files->uring = uring;
  files->batch_size = LEAST_BATCH;
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
  return can_submit (files) ? MIN (gaio_uring_get_room (files->uring), files->batch_size)
                            : GAIO_URING_BATCH;
}

/* After a batch: the ring had @room before. What is in the page cache is done by now: then larger
 * batches save system calls. */
static void
adapt_batch_size (GaioFileQueue *files, guint room)
{
  if (!can_submit (files) || gaio_uring_get_room (files->uring) < room)
    files->batch_size = LEAST_BATCH;
  else
    files->batch_size = MIN (2 * files->batch_size, GAIO_URING_BATCH);
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

/* Returns where operations on @fd belong. What is neither a regular file nor a disk is left to the
 * system calls: io_uring would read a pipe or an eventfd, which pread(2) refuses. Asks no file
 * server, which may take long. */
static Place
find_place (const GaioFileQueue *files, int fd)
{
  struct statx stx;

  if (!can_submit (files) ||
      statx (fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) == -1)
    return IN_POOL;
  return S_ISREG (stx.stx_mode) || S_ISBLK (stx.stx_mode) ? IN_RING : IN_POOL;
}

/* Puts into the ring what belongs there. Consecutive operations mostly are on the same fd. */
static void
fill_ring (GaioFileQueue *files, Batch *batch)
{
  for (guint i = 0; i < batch->n; i++)
    {
      GaioFileRequest *request = &batch->ops[i]->request;

      if (request->fd != batch->fd || !can_submit (files))
        batch->place = find_place (files, request->fd);
      batch->fd = request->fd;
      batch->places[i] = batch->place;
      if (batch->place == IN_RING)
        gaio_uring_add (files->uring, request);
    }
}

/* Waits until the kernel has finished everything in the ring. */
static void
empty_ring (GaioCore *core)
{
  while (!gaio_uring_is_empty (core->files.uring))
    {
      gaio_uring_wait (core->files.uring);
      gaio_core_lock (core);
      gaio_file_engine_gather (core);
      gaio_core_unlock (core);
    }
}

/* Without the lock. */
static void
free_ring (GaioCore *core)
{
  GaioFileQueue *files = &core->files;

  gaio_core_lock (core);
  if (files->uring_handler != NULL)
    gaio_handler_destroy (files->uring_handler);
  g_clear_pointer (&files->uring_handler, gaio_handler_unref);
  gaio_core_unlock (core);
  g_clear_pointer (&files->uring, gaio_uring_free);
}

/* Somebody has closed the fd of the ring. The ring itself lives as long as it is mapped. Without
 * the lock. */
static void
lose_ring (GaioCore *core)
{
  g_critical ("Somebody has closed fd %d, the io_uring of a GaioContext, so threads do its file "
              "operations now",
              gaio_uring_get_fd (core->files.uring));
  core->files.refused = TRUE;
  empty_ring (core);
  free_ring (core);
}

/* Gives the kernel what is in the ring. What it does not take, for whatever reason, goes to the
 * pool. Without the lock. */
static void
submit_batch (GaioCore *core, Batch *batch)
{
  GaioFileQueue *files = &core->files;
  guint n_taken;
  int errsv;

  if (!can_submit (files))
    return;
  n_taken = gaio_uring_submit (files->uring, &errsv);
  files->refused = gaio_is_refusal (errsv) && errsv != EAGAIN && errsv != EBUSY;
  if (gaio_uring_is_lost (errsv))
    lose_ring (core);
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
    if (batch->places[i] == IN_POOL && batch->ops[i]->cancelled)
      gaio_io_op_end (batch->ops[i], -ECANCELED);
    else if (batch->places[i] == IN_POOL)
      gaio_file_pool_push (batch->ops[i]);
}

/* The kernel may cancel an operation because the thread that gave it to the kernel has ended, or
 * because it cannot start a worker for it. Nobody wanted that, so the pool does it. In the ring, it
 * might be cancelled for ever. With the lock held. */
static void
finish (GaioCore *core, GaioIOOp *op)
{
  gint64 result = op->request.result;

  if (result != -ECANCELED && result != -EINTR && result != -EAGAIN)
    gaio_io_op_end (op, result);
  else if (op->cancelled || gaio_core_is_closed (core))
    gaio_io_op_end (op, -ECANCELED);
  else
    gaio_file_pool_push (op);
}

/* Takes what the kernel has finished out of the ring. TRUE if there is anything. By the owner, with
 * the lock held. In a forked child, the ring is the parent's. */
gboolean
gaio_file_engine_gather (GaioCore *core)
{
  GaioFileQueue *files = &core->files;
  GaioFileRequest *request;
  gboolean any = FALSE;

  if (gaio_core_is_forked (core))
    return FALSE;
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

/* By the owner, with the lock held, which is released meanwhile. */
static void
start_batch (GaioCore *core, Batch *batch)
{
  GaioFileQueue *files = &core->files;
  gboolean lost = files->lost;
  guint room;

  files->has_new = FALSE;
  submit_cancels (core);
  take_batch (files, batch);
  gaio_core_unlock (core);
  if (lost && files->uring != NULL)
    lose_ring (core);
  open_ring (core);
  room = can_submit (files) ? gaio_uring_get_room (files->uring) : 0;
  fill_ring (files, batch);
  submit_batch (core, batch);
  pthread_mutex_lock (&core->lock);
  settle_batch (batch);
  gaio_file_engine_gather (core);
  adapt_batch_size (files, room);
}

/* Starts what has been submitted, but no more than the ring has room for: other threads may go on
 * submitting. TRUE if the loop must not sleep now: something has ended already, is left, or has
 * come while the lock was released, which the loop may not have looked at. By the owner, with the
 * lock held. In a forked child, the ring is the parent's. */
gboolean
gaio_file_engine_start (GaioCore *core)
{
  Batch batch = { .fd = -1 };
  gboolean disturbed;

  gaio_sleep_set (&core->sleep, GAIO_POLLING);
  for (guint n = 0; n < MAX_AT_ONCE && core->files.has_new && !gaio_life_is_over (&core->life);
       n += MAX (batch.n, 1))
    start_batch (core, &batch);
  disturbed = gaio_sleep_get (&core->sleep) != GAIO_POLLING;
  gaio_sleep_set (&core->sleep, GAIO_AWAKE);
  core->sleep.has_other_work |= core->files.has_new;
  return disturbed || core->files.has_new || core->bottom_halves.calls.n_calls > 0;
}

static void
close_ring (GaioCore *core)
{
  GaioUring *uring = core->files.uring;
  int errsv;

  if (!gaio_uring_is_empty (uring))
    {
      gaio_uring_add_cancel (uring, NULL);
      gaio_uring_submit (uring, &errsv);
    }
  empty_ring (core);
  free_ring (core);
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
    close_ring (core);
  gaio_file_pool_close (core);
}

/* Whether there is a handler on the fd of the ring. With the lock held. */
gboolean
gaio_file_engine_watches_ring (GaioCore *core)
{
  return core->files.uring_handler != NULL &&
         !gaio_entry_is_removed (&core->files.uring_handler->entry);
}
