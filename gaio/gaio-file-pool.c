/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-file-pool-private.h"

#include <errno.h>
#include <signal.h>

/* Threads are started as they are needed. Those of a GThreadPool are not for us: GLib keeps them
 * for the next pool, and does not notice that a forked child does not have them. */

/* Returns the operation that has waited longest, or NULL when the context is closed. With the lock
 * held, which is released meanwhile. */
static GaioIOOp *
wait_for_op (GaioCore *core)
{
  GaioFilePool *pool = &core->files.pool;
  GaioLink *link;

  while ((link = gaio_list_pop (&pool->waiting)) == NULL && !pool->ends)
    {
      pool->n_idle++;
      pthread_cond_wait (&pool->more, &core->lock);
      pool->n_idle--;
    }
  if (link == NULL)
    return NULL;
  pool->n_waiting--;
  return gaio_io_op_from_link (link);
}

static void *
work (gpointer data)
{
  GaioCore *core = data;
  GaioIOOp *op;

  pthread_mutex_lock (&core->lock);
  while ((op = wait_for_op (core)) != NULL)
    {
      gint64 result;

      op->stage = GAIO_IO_OP_RUNNING;
      gaio_core_unlock (core);
      result = gaio_file_request_run (&op->request);
      pthread_mutex_lock (&core->lock);
      gaio_io_op_end (op, result);
      gaio_core_unlock_and_wake (core);
      pthread_mutex_lock (&core->lock);
    }
  gaio_core_unlock (core);
  return NULL;
}

/* Signals are for the threads of the program. */
static void
start_thread (GaioCore *core)
{
  GaioFilePool *pool = &core->files.pool;
  sigset_t all, before;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  if (pthread_create (&pool->threads[pool->n_threads], NULL, work, core) == 0)
    pool->n_threads++;
  pthread_sigmask (SIG_SETMASK, &before, NULL);
}

/* Threads that have been woken are still idle for a while, so those are counted that wait. */
void
gaio_file_pool_push (GaioIOOp *op)
{
  GaioFilePool *pool = &op->core->files.pool;

  if (pool->n_waiting >= pool->n_idle && pool->n_threads < GAIO_FILE_POOL_SIZE)
    start_thread (op->core);
  if (pool->n_threads == 0)
    {
      gaio_io_op_end (op, -EAGAIN);
      return;
    }
  op->stage = GAIO_IO_OP_WAITING;
  pool->n_waiting++;
  gaio_list_push (&pool->waiting, &op->link);
  pthread_cond_signal (&pool->more);
}

/* Ends what no thread has begun, and waits for the rest. Takes and releases the lock. */
void
gaio_file_pool_close (GaioCore *core)
{
  GaioFilePool *pool = &core->files.pool;
  GaioLink *link;

  gaio_core_lock (core);
  while ((link = gaio_list_first (&pool->waiting)) != NULL)
    gaio_io_op_end (gaio_io_op_from_link (link), -ECANCELED);
  pool->ends = TRUE;
  pthread_cond_broadcast (&pool->more);
  gaio_core_unlock (core);
  while (pool->n_threads > 0)
    pthread_join (pool->threads[--pool->n_threads], NULL);
}
