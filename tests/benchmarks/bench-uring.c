/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The third limit: a loop of io_uring polls without any library. Each poll is for one event and
 * made anew after the callback, which is what level-triggered asks for. */
#include "bench.h"

#include <liburing.h>

#define N_ENTRIES 4096

typedef struct
{
  struct io_uring ring;
  guint n_watches;
} Loop;

/* Lives until the kernel has answered its poll. */
typedef struct
{
  Loop *loop;
  int fd;
  gboolean removed;
  GUnixFDSourceFunc func;
  gpointer user_data;
} Watch;

static gboolean
ring_init (struct io_uring *ring)
{
  struct io_uring_params params = { .flags =
                                        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };

  return io_uring_queue_init_params (N_ENTRIES, ring, &params) == 0;
}

static gboolean
can_be_had (void)
{
  struct io_uring ring;

  if (!ring_init (&ring))
    return FALSE;
  io_uring_queue_exit (&ring);
  return TRUE;
}

static gpointer
loop_open (void)
{
  Loop *loop = g_new0 (Loop, 1);

  if (!ring_init (&loop->ring))
    g_error ("io_uring cannot be had");
  return loop;
}

static struct io_uring_sqe *
get_sqe (Loop *loop)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&loop->ring);

  if (sqe != NULL)
    return sqe;
  io_uring_submit (&loop->ring);
  return io_uring_get_sqe (&loop->ring);
}

static void
ask (Watch *watch)
{
  struct io_uring_sqe *sqe = get_sqe (watch->loop);

  io_uring_prep_poll_add (sqe, watch->fd, G_IO_IN);
  io_uring_sqe_set_data (sqe, watch);
}

static void
serve (Watch *watch, int condition)
{
  if (!watch->removed && condition > 0)
    watch->func (watch->fd, (GIOCondition) condition, watch->user_data);
  if (!watch->removed)
    {
      ask (watch);
      return;
    }
  watch->loop->n_watches--;
  g_free (watch);
}

static void
loop_turn (gpointer user_data)
{
  Loop *loop = user_data;
  struct io_uring_cqe *cqes[BENCH_MAX_EVENTS];
  guint n;

  io_uring_submit_and_wait (&loop->ring, 1);
  n = io_uring_peek_batch_cqe (&loop->ring, cqes, BENCH_MAX_EVENTS);
  for (guint i = 0; i < n; i++)
    {
      Watch *watch = io_uring_cqe_get_data (cqes[i]);

      /* NULL: a removal. */
      if (watch != NULL)
        serve (watch, cqes[i]->res);
    }
  io_uring_cq_advance (&loop->ring, n);
}

static void
loop_close (gpointer user_data)
{
  Loop *loop = user_data;

  while (loop->n_watches > 0)
    loop_turn (loop);
  io_uring_queue_exit (&loop->ring);
  g_free (loop);
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  *watch = (Watch){ loop, fd, FALSE, func, user_data };
  watch->loop->n_watches++;
  ask (watch);
  return watch;
}

static void
fd_remove (gpointer user_data)
{
  Watch *watch = user_data;
  struct io_uring_sqe *sqe = get_sqe (watch->loop);

  watch->removed = TRUE;
  io_uring_prep_poll_remove (sqe, (__u64) (guintptr) watch);
  io_uring_sqe_set_data (sqe, NULL);
}

const BenchContender bench_raw_uring = {
  .name = "raw-uring",
  .version = BENCH_URING_VERSION,
  .can_be_had = can_be_had,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .fd_add = fd_add,
  .fd_remove = fd_remove,
};
