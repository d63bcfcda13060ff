/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

#include "base/gaio-list-private.h"
#include "base/gaio-uring-private.h"

/* The file operations of a context. The marks are those of gaio-core-private.h. */

/* As many threads as are worth it for a disk. */
#define GAIO_FILE_POOL_SIZE 8

typedef struct
{
  GaioList waiting; /* (lock) operations that no thread has begun */
  guint n_waiting;  /* (lock) how many these are */
  guint n_idle;     /* (lock) how many threads wait for @more, or are about to wake up */
  gboolean ends;    /* (lock) */
  pthread_cond_t more;
  pthread_t threads[GAIO_FILE_POOL_SIZE]; /* (owner) */
  guint n_threads;                        /* (owner) */
} GaioFilePool;

typedef struct
{
  GaioList queued;   /* (lock) operations to be started, first in, first out */
  GaioList cancels;  /* (lock) those in the ring that are to be cancelled */
  gboolean has_new;  /* (lock) there is something in @queued or @cancels that may have room */
  guint64 n_started; /* (lock) since the beginning */
  guint n_pending;   /* (lock) those that have not ended */

  GaioFilePool pool;
  GaioUring *uring;                   /* (owner) or NULL */
  guint batch_size;                   /* (owner) how many operations it is given at a time */
  struct _GaioHandler *uring_handler; /* (lock) of its fd, or NULL */
  gboolean lost;                      /* (lock) somebody has closed its fd */
  gboolean refused;                   /* (owner) the kernel has no io_uring, or forbids it */
} GaioFileQueue;

static inline void
gaio_file_queue_init (GaioFileQueue *self)
{
  gaio_list_init (&self->queued);
  gaio_list_init (&self->cancels);
  gaio_list_init (&self->pool.waiting);
  pthread_cond_init (&self->pool.more, NULL);
}

/* Only a forked child still has a ring, and that is its parent's. */
static inline void
gaio_file_queue_clear (GaioFileQueue *self)
{
  g_clear_pointer (&self->uring, gaio_uring_forget);
}
