/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-fdmon-private.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>

#include "gaio-file-id-private.h"
#include "gaio-this-thread-private.h"

/* io_uring(7). Each fd has one poll request in the kernel, for one event: a request for many would
 * be edge-triggered. After the event it is asked for anew, when the kernel is called anyhow.
 *
 * Of a peer that will send no more (POLLRDHUP) the kernel tells, asked or not, and would do so each
 * time. Where that is all there is, edge-triggered is what it takes: a request for many says it
 * once, and then tells of changes.
 *
 * A completion says what was true when it was posted. Those found at the beginning of a wait may
 * be old news: before they are reported poll(2) has a look at all of them together, which is
 * cheaper than to ask again with a request each.
 *
 * A request belongs to the thread whose system call submitted it. That thread posts its completion
 * when it comes by; then what another thread finds may be old from the start, and is confirmed as
 * well. When the thread ends, the kernel cancels the request, says so, and it is submitted again.
 *
 * A request in the kernel holds on to its file: remove() submits the cancellation before it
 * returns, so that close() means what it should to the other end. */

#define N_ENTRIES 256
/* Who wakes a poll request says what may be the matter, and names these with the others at a guess.
 */
#define SELDOM (POLLPRI | POLLRDBAND | POLLWRBAND | POLLMSG)
/* What the completion of a cancellation is for. */
#define USER_DATA_NOBODY G_GUINT64_CONSTANT (0xfffffffc)
/* How soon to try again what the kernel has refused. */
#define RETRY_US 10000

typedef enum
{
  ABSENT,
  IDLE, /* not in the kernel */
  ASKED,
} WatchState;

typedef struct
{
  guint64 key;
  guint32 mask;
  guint32 serial; /* of its last request */
  WatchState state;
  bool queued;  /* in self->pending */
  bool changes; /* is told of changes, for what is there is of no interest */
  GaioFileId file;
} Watch;

struct _GaioFdmonUring
{
  struct io_uring ring;
  GArray *watches;  /* of Watch, by fd */
  GArray *pending;  /* of int: fds to ask for */
  guint n_old;      /* completions that were there when the wait began */
  gboolean refused; /* the kernel has not been told of everything */
  gboolean wake_asked;
  gboolean timer_asked;
  const void *asker;    /* the thread that has made the requests, or NULL */
  gboolean many_askers; /* there are several, and completions that come late */
};

static Watch *
lookup (GaioFdmonUring *self, guint fd)
{
  return fd < self->watches->len ? &g_array_index (self->watches, Watch, fd) : NULL;
}

static void
queue (GaioFdmonUring *self, Watch *watch, int fd)
{
  watch->state = IDLE;
  if (watch->queued || watch->mask == 0)
    return;
  watch->queued = TRUE;
  g_array_append_val (self->pending, fd);
}

/* Tells the kernel what has been prepared. FALSE if it will not listen now. */
static gboolean
submit (GaioFdmonUring *self)
{
  if (io_uring_sq_ready (&self->ring) > 0)
    io_uring_submit (&self->ring);
  return io_uring_sq_ready (&self->ring) == 0;
}

/* NULL if the kernel will not listen now. */
static struct io_uring_sqe *
get_sqe (GaioFdmonUring *self)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&self->ring);

  if (sqe != NULL)
    return sqe;
  submit (self);
  return io_uring_get_sqe (&self->ring);
}

static guint64
user_data_of (const Watch *watch, int fd)
{
  return (guint64) watch->serial << 32 | (guint32) fd;
}

static gboolean
ask (GaioFdmonUring *self, Watch *watch, int fd)
{
  struct io_uring_sqe *sqe = get_sqe (self);

  if (sqe == NULL)
    return FALSE;
  watch->serial++;
  watch->state = ASKED;
  if (watch->changes)
    io_uring_prep_poll_multishot (sqe, fd, watch->mask);
  else
    io_uring_prep_poll_add (sqe, fd, watch->mask);
  io_uring_sqe_set_data64 (sqe, user_data_of (watch, fd));
  return TRUE;
}

/* Takes back the request of @watch. */
static void
cancel (GaioFdmonUring *self, Watch *watch, int fd)
{
  struct io_uring_sqe *sqe;

  if (watch->state != ASKED)
    return;
  watch->state = IDLE;
  sqe = get_sqe (self);
  /* Then its completion will be of no interest to anybody. */
  if (sqe == NULL)
    return;
  io_uring_prep_poll_remove (sqe, user_data_of (watch, fd));
  io_uring_sqe_set_data64 (sqe, USER_DATA_NOBODY);
  sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/* Ours are never read: each time they turn readable is an event. */
static void
ask_own (GaioFdmonUring *self, int fd, guint64 key, gboolean *asked)
{
  struct io_uring_sqe *sqe = *asked || fd < 0 ? NULL : get_sqe (self);

  if (sqe == NULL)
    return;
  io_uring_prep_poll_multishot (sqe, fd, POLLIN);
  io_uring_sqe_set_data64 (sqe, key);
  *asked = TRUE;
}

/* FALSE if the kernel will not listen now: those left over stay in the queue. */
static gboolean
ask_all (GaioFdmonUring *self)
{
  guint n = 0;

  for (; n < self->pending->len; n++)
    {
      int fd = g_array_index (self->pending, int, n);
      Watch *watch = lookup (self, fd);

      if (watch->state == IDLE && watch->mask != 0 && !ask (self, watch, fd))
        break;
      watch->queued = FALSE;
    }
  g_array_remove_range (self->pending, 0, n);
  return self->pending->len == 0;
}

static void
flush (GaioFdmon *mon)
{
  GaioFdmonUring *self = mon->uring;
  gboolean all;

  if (self->asker != gaio_this_thread ())
    self->many_askers |= self->asker != NULL;
  self->asker = gaio_this_thread ();
  ask_own (self, mon->wake_fd, GAIO_FDMON_KEY_WAKE, &self->wake_asked);
  ask_own (self, mon->timer_fd, GAIO_FDMON_KEY_TIMER, &self->timer_asked);
  all = ask_all (self);
  self->refused = !submit (self) || !all;
}

static int
fdmon_uring_add (GaioFdmon *mon, int fd, guint32 mask, guint64 key)
{
  GaioFdmonUring *self = mon->uring;
  GaioFileId file;
  Watch *watch;
  int errsv = gaio_file_id_get (&file, fd);

  if (errsv != 0)
    return errsv;
  if ((guint) fd >= self->watches->len)
    g_array_set_size (self->watches, fd + 1);
  watch = lookup (self, fd);
  watch->key = key;
  watch->mask = mask;
  watch->changes = false;
  watch->file = file;
  queue (self, watch, fd);
  return 0;
}

static int
fdmon_uring_modify (GaioFdmon *mon, int fd, guint32 mask, guint64 key)
{
  GaioFdmonUring *self = mon->uring;
  Watch *watch = lookup (self, fd);

  if (!gaio_file_id_is_still (&watch->file, fd))
    return ENOENT;
  watch->key = key;
  /* Also for the same mask: the request may be for a file that has been closed, and that cannot be
   * told from the one under the number now. */
  cancel (self, watch, fd);
  watch->mask = mask;
  watch->changes = false;
  queue (self, watch, fd);
  return 0;
}

static int
fdmon_uring_remove (GaioFdmon *mon, int fd)
{
  GaioFdmonUring *self = mon->uring;
  Watch *watch = lookup (self, fd);

  cancel (self, watch, fd);
  watch->state = ABSENT;
  submit (self);
  return 0;
}

static int
fdmon_uring_open (GaioFdmon *mon)
{
  GaioFdmonUring *self = g_new0 (GaioFdmonUring, 1);
  int errsv = -io_uring_queue_init (N_ENTRIES, &self->ring, 0);

  if (errsv == 0 && (self->ring.features & IORING_FEAT_CQE_SKIP) == 0)
    {
      io_uring_queue_exit (&self->ring);
      errsv = ENOSYS;
    }
  if (errsv != 0)
    {
      g_free (self);
      return errsv;
    }
  self->watches = g_array_new (FALSE, TRUE, sizeof (Watch));
  self->pending = g_array_new (FALSE, FALSE, sizeof (int));
  mon->uring = self;
  mon->fd = self->ring.ring_fd;
  return 0;
}

static void
fdmon_uring_close (GaioFdmon *mon)
{
  if (mon->fd >= 0)
    io_uring_queue_exit (&mon->uring->ring);
  mon->fd = -1;
}

static void
fdmon_uring_clear (GaioFdmon *mon)
{
  GaioFdmonUring *self = g_steal_pointer (&mon->uring);

  g_array_unref (self->watches);
  g_array_unref (self->pending);
  g_free (self);
}

/* What is ready since it was asked for makes the ring readable. */
static gboolean
fdmon_uring_show (GaioFdmon *mon, GSource *source)
{
  flush (mon);
  return !mon->uring->refused;
}

static gboolean
fdmon_uring_peek (const GaioFdmon *mon)
{
  return io_uring_cq_ready (&mon->uring->ring) > 0;
}

/* A completion of ours. */
static void
see_own (const struct io_uring_cqe *cqe, gboolean *asked)
{
  if ((cqe->flags & IORING_CQE_F_MORE) == 0)
    *asked = FALSE;
}

/* The watch that @cqe is for, or NULL. */
static Watch *
watch_of (GaioFdmon *mon, const struct io_uring_cqe *cqe)
{
  GaioFdmonUring *self = mon->uring;
  int fd = (guint32) cqe->user_data;
  Watch *watch = lookup (self, fd);

  if (cqe->user_data == GAIO_FDMON_KEY_WAKE)
    see_own (cqe, &self->wake_asked);
  if (cqe->user_data == GAIO_FDMON_KEY_TIMER)
    {
      see_own (cqe, &self->timer_asked);
      mon->armed = -1;
    }
  if (watch == NULL || watch->state != ASKED || user_data_of (watch, fd) != cqe->user_data)
    return NULL;
  return watch;
}

/* TRUE if @cqe has news for @watch, which is asked for again. */
static gboolean
see (GaioFdmonUring *self, Watch *watch, const struct io_uring_cqe *cqe)
{
  gboolean unasked = cqe->res >= 0 && (cqe->res & watch->mask) == 0;
  gboolean more = (cqe->flags & IORING_CQE_F_MORE) != 0;
  int fd = (guint32) cqe->user_data;

  if (unasked && more)
    return FALSE;
  if (more)
    cancel (self, watch, fd);
  watch->state = IDLE;
  watch->changes = unasked;
  /* A file that never makes anybody wait is not ready for what is asked of it, and will not be. */
  if (cqe->res != -EINVAL)
    queue (self, watch, fd);
  return !unasked && cqe->res != -EINVAL && cqe->res != -ECANCELED;
}

static void
fdmon_uring_begin_wait (GaioFdmon *mon)
{
  GaioFdmonUring *self = mon->uring;

  self->n_old = io_uring_cq_ready (&self->ring);
  /* How many more the kernel holds back for want of room it does not say. */
  if (io_uring_cq_has_overflow (&self->ring))
    self->n_old = G_MAXUINT;
  flush (mon);
}

static int
fdmon_uring_wait (GaioFdmon *mon, int max_events, gint64 timeout_us)
{
  GaioFdmonUring *self = mon->uring;
  gint64 longest_us = self->refused ? RETRY_US : GAIO_FDMON_LONGEST_WAIT_US;
  gint64 wait_us = timeout_us < 0 ? longest_us : MIN (timeout_us, longest_us);
  struct __kernel_timespec ts = { .tv_sec = wait_us / G_USEC_PER_SEC,
                                  .tv_nsec = wait_us % G_USEC_PER_SEC * 1000 };
  struct io_uring_cqe *cqe;
  int errsv;

  if (timeout_us == 0 || io_uring_cq_ready (&self->ring) > 0)
    return 0;
  errsv = -io_uring_wait_cqes (&self->ring, &cqe, 1, &ts, NULL);
  if (errsv == EINTR || errsv == EBADF)
    {
      errno = errsv;
      return -1;
    }
  /* It has not waited. */
  if (errsv > 0 && errsv != ETIME)
    g_usleep (MIN (wait_us, RETRY_US));
  return 0;
}

/* What may have been true when @cqe was posted, but need not be now. */
static gboolean
is_doubtful (const GaioFdmonUring *self, const struct io_uring_cqe *cqe, gboolean old)
{
  return cqe->res >= 0 && (old || self->many_askers || (cqe->res & SELDOM) != 0);
}

/* Puts what @cqe says into @event. What is doubtful is to be confirmed with @poll. FALSE if it says
 * nothing. */
static gboolean
report (GaioFdmon *mon,
        const struct io_uring_cqe *cqe,
        struct epoll_event *event,
        struct pollfd *poll)
{
  Watch *watch = watch_of (mon, cqe);
  gboolean old = mon->uring->n_old > 0;

  mon->uring->n_old -= old;
  if (watch == NULL || !see (mon->uring, watch, cqe))
    return FALSE;
  event->events = cqe->res;
  event->data.u64 = watch->key;
  if (cqe->res < 0)
    event->data.u64 = cqe->user_data << 32 | GAIO_FDMON_KEY_GONE;
  *poll = (struct pollfd){ .fd = is_doubtful (mon->uring, cqe, old) ? (int) cqe->user_data : -1,
                           .events = watch->mask };
  return TRUE;
}

/* Keeps of @n events those that need no confirmation and those that get it. */
static int
confirm (GaioFdmon *mon, struct pollfd *polls, int n)
{
  int n_kept = 0;

  poll (polls, n, 0);
  for (int i = 0; i < n; i++)
    {
      struct epoll_event event = mon->events[i];

      if (polls[i].fd >= 0)
        event.events = polls[i].revents;
      if ((polls[i].revents & POLLNVAL) != 0)
        event.data.u64 = (guint64) polls[i].fd << 32 | GAIO_FDMON_KEY_GONE;
      if (polls[i].fd < 0 || polls[i].revents != 0)
        mon->events[n_kept++] = event;
    }
  return n_kept;
}

static int
fdmon_uring_end_wait (GaioFdmon *mon, int n, int max_events)
{
  GaioFdmonUring *self = mon->uring;
  struct pollfd polls[GAIO_FDMON_MAX_EVENTS];
  struct io_uring_cqe *cqes[GAIO_FDMON_MAX_EVENTS];
  gboolean any_doubt = FALSE;
  int n_events = 0;
  guint n_cqes;

  if (n < 0)
    return n;
  while (n_events < max_events &&
         (n_cqes = io_uring_peek_batch_cqe (&self->ring, cqes, max_events - n_events)) > 0)
    {
      for (guint i = 0; i < n_cqes; i++)
        if (report (mon, cqes[i], &mon->events[n_events], &polls[n_events]))
          any_doubt |= polls[n_events++].fd >= 0;
      io_uring_cq_advance (&self->ring, n_cqes);
    }
  return any_doubt ? confirm (mon, polls, n_events) : n_events;
}

const GaioFdmonOps gaio_fdmon_uring_ops = {
  .name = "io_uring",
  .lazy = TRUE,
  .open = fdmon_uring_open,
  .close = fdmon_uring_close,
  .clear = fdmon_uring_clear,
  .add = fdmon_uring_add,
  .modify = fdmon_uring_modify,
  .remove = fdmon_uring_remove,
  .show = fdmon_uring_show,
  .peek = fdmon_uring_peek,
  .begin_wait = fdmon_uring_begin_wait,
  .wait = fdmon_uring_wait,
  .end_wait = fdmon_uring_end_wait,
};
