/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-uring-private.h"

#include <errno.h>
#include <liburing.h>

/* liburing maps and unmaps memory where ThreadSanitizer does not see it: it has to hear that a ring
 * has gone before another gets the same addresses. */
#ifdef __SANITIZE_THREAD__
#  include <sanitizer/tsan_interface.h>
static char rings;
#  define before_unmapping() __tsan_release (&rings)
#  define after_mapping() __tsan_acquire (&rings)
#else
#  define before_unmapping()
#  define after_mapping()
#endif

/* How often to look for results where the kernel does not let us wait for them. */
#define RETRY_US 1000

struct _GaioUring
{
  struct io_uring ring;
  guint n_requests; /* that the kernel has */
  guint n_cancels;  /* likewise */
  guint n_added;    /* requests and cancels that have not been submitted */
};

/* Returns NULL if there is none, and sets @errsv to the reason. */
GaioUring *
gaio_uring_new (int *errsv)
{
  struct io_uring_params params = { .flags = IORING_SETUP_CQSIZE,
                                    .cq_entries = 2 * GAIO_URING_MAX_IN_FLIGHT };
  GaioUring *self = g_new0 (GaioUring, 1);

  *errsv = -io_uring_queue_init_params (GAIO_URING_BATCH, &self->ring, &params);
  if (*errsv == 0 && (params.features & IORING_FEAT_RW_CUR_POS) == 0)
    {
      /* Older than Linux 5.6, which cannot read without a vector. */
      io_uring_queue_exit (&self->ring);
      *errsv = ENOSYS;
    }
  if (*errsv != 0)
    g_clear_pointer (&self, g_free);
  after_mapping ();
  return self;
}

/* Whether @errsv says that somebody has closed the fd. */
gboolean
gaio_uring_is_lost (int errsv)
{
  return errsv == EBADF || errsv == EOPNOTSUPP;
}

/* The kernel must not have any requests. If somebody has closed the fd, nobody knows what its
 * number refers to now, so that is not closed. */
void
gaio_uring_free (GaioUring *self)
{
  if (gaio_uring_is_lost (-io_uring_enter (self->ring.ring_fd, 0, 0, 0, NULL)))
    self->ring.ring_fd = self->ring.enter_ring_fd = -1;
  before_unmapping ();
  io_uring_queue_exit (&self->ring);
  g_free (self);
}

/* In a forked child: the ring is the parent's. */
void
gaio_uring_forget (GaioUring *self)
{
  g_free (self);
}

int
gaio_uring_get_fd (const GaioUring *self)
{
  return self->ring.ring_fd;
}

/* Returns how many more requests the kernel may have. */
guint
gaio_uring_get_room (const GaioUring *self)
{
  return GAIO_URING_MAX_IN_FLIGHT - self->n_requests;
}

gboolean
gaio_uring_is_empty (const GaioUring *self)
{
  return self->n_requests + self->n_cancels == 0;
}

/* Whether there is something to take. */
gboolean
gaio_uring_is_ready (gpointer uring)
{
  return io_uring_cq_ready (&((GaioUring *) uring)->ring) > 0;
}

static void
prepare (struct io_uring_sqe *sqe, const GaioFileRequest *request)
{
  switch (request->call)
    {
    case GAIO_FILE_PREAD:
      io_uring_prep_read (sqe, request->fd, request->buffer, request->count, request->offset);
      break;
    case GAIO_FILE_PWRITE:
      io_uring_prep_write (sqe, request->fd, request->buffer, request->count, request->offset);
      break;
    default:
      io_uring_prep_fsync (sqe, request->fd, 0);
    }
}

/* There is room for it. */
void
gaio_uring_add (GaioUring *self, GaioFileRequest *request)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&self->ring);

  prepare (sqe, request);
  io_uring_sqe_set_data (sqe, request);
  self->n_requests++;
  self->n_added++;
}

/* Asks the kernel to cancel @request, which it has; or everything, if that is NULL. At most
 * %GAIO_URING_BATCH before they are submitted, and once for each request. */
void
gaio_uring_add_cancel (GaioUring *self, GaioFileRequest *request)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&self->ring);

  io_uring_prep_cancel (sqe, request,
                        request == NULL ? IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL : 0);
  io_uring_sqe_set_data (sqe, NULL);
  self->n_cancels++;
  self->n_added++;
}

/* Takes back what the kernel has not taken, which is the last part of what was added. */
static void
take_back (GaioUring *self)
{
  struct io_uring_sq *sq = &self->ring.sq;
  unsigned int first = *sq->khead;

  for (unsigned int i = first; i != sq->sqe_tail; i++)
    if (sq->sqes[i & *sq->kring_mask].opcode == IORING_OP_ASYNC_CANCEL)
      self->n_cancels--;
    else
      self->n_requests--;
  sq->sqe_head = sq->sqe_tail = first;
  *sq->ktail = first;
}

/* Gives the kernel what was added. Returns how much of it the kernel has taken, from the first on;
 * the rest is not in the ring any more, and @errsv says why. */
guint
gaio_uring_submit (GaioUring *self, int *errsv)
{
  guint n_added = self->n_added, n = 0;

  *errsv = 0;
  while (n < n_added && *errsv == 0)
    {
      int result = io_uring_submit (&self->ring);

      if (result > 0)
        n += result;
      else if (result != -EINTR)
        *errsv = result == 0 ? EAGAIN : -result;
    }
  if (n < n_added)
    take_back (self);
  self->n_added = 0;
  return n;
}

/* Returns a request that the kernel has finished, with its result, or NULL. Makes no system
 * call. */
GaioFileRequest *
gaio_uring_take (GaioUring *self)
{
  struct io_uring_cqe *cqe;

  while (io_uring_peek_cqe (&self->ring, &cqe) == 0)
    {
      GaioFileRequest *request = io_uring_cqe_get_data (cqe);
      int result = cqe->res;

      io_uring_cqe_seen (&self->ring, cqe);
      if (request != NULL)
        {
          self->n_requests--;
          request->result = result;
          return request;
        }
      self->n_cancels--;
    }
  return NULL;
}

/* Waits until there may be something to take. */
void
gaio_uring_wait (GaioUring *self)
{
  struct io_uring_cqe *cqe;
  int result = io_uring_wait_cqe (&self->ring, &cqe);

  if (result < 0 && result != -EINTR)
    g_usleep (RETRY_US);
}
