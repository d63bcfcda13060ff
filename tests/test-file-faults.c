/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File operations when the kernel refuses what was asked rightly, or only does a part of it: each
 * ends once, with what the system call says. */
#include <liburing.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "test-file.h"
#include "test-loop.h"
#include "test-stand-in.h"

/* --- Stand-ins --- */

/* How often what fails fails. */
#define ALWAYS G_MAXINT

static struct
{
  gint submit_errsv, submit_after, submit_times; /* how many submissions go well before */
  guint takes; /* how many operations the kernel takes at most, or 0 for no limit */
  gint result; /* what the kernel says, as many times, of operations that it has done, or 0 */
  guint result_times;
  gint slow_fd; /* in the ring, operations end when this has something to read, or -1 */
  gint setup_errsv, setup_times, watch_errsv, statx_errsv;
  gint threads; /* how many may be created */
  void (*before_submit) (gpointer), (*before_statx) (gpointer), (*before_pread) (gpointer);
  gpointer data;
  guint submits, setups, overflows;
} stand;

static void
stand_reset (void)
{
  memset (&stand, 0, sizeof stand);
  stand.slow_fd = -1;
  stand.threads = G_MAXINT;
}

static gboolean
fails (gint *times)
{
  if (*times == 0)
    return FALSE;
  if (*times != ALWAYS)
    --*times;
  return TRUE;
}

static void
slow_down (struct io_uring_sq *sq)
{
  for (guint i = *sq->khead; i != sq->sqe_tail; i++)
    {
      struct io_uring_sqe *sqe = &sq->sqes[i & *sq->kring_mask];

      if (sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_FSYNC)
        {
          sqe->opcode = IORING_OP_POLL_ADD;
          sqe->fd = stand.slow_fd;
          sqe->off = sqe->addr = sqe->len = 0;
          sqe->poll32_events = POLLIN;
        }
    }
}

static void
change_results (struct io_uring_cq *cq)
{
  for (guint i = *cq->khead; i != *cq->ktail && stand.result_times > 0; i++, stand.result_times--)
    cq->cqes[i & *cq->kring_mask].res = stand.result;
}

/* Only as many as the kernel is to take. */
static int
submit_some (struct io_uring *ring)
{
  guint tail = ring->sq.sqe_tail, khead = *ring->sq.khead;
  int result;

  if (stand.takes > 0 && tail - khead > stand.takes)
    ring->sq.sqe_tail = khead + stand.takes;
  result = NEXT (io_uring_submit) (ring);
  ring->sq.sqe_tail = tail;
  return result;
}

int
io_uring_submit (struct io_uring *ring)
{
  int result;

  stand.submits++;
  if (stand.before_submit != NULL)
    stand.before_submit (stand.data);
  if (stand.submit_after > 0)
    stand.submit_after--;
  else if (fails (&stand.submit_times))
    return -stand.submit_errsv;
  if (stand.slow_fd >= 0)
    slow_down (&ring->sq);
  result = submit_some (ring);
  change_results (&ring->cq);
  stand.overflows += *ring->cq.koverflow > 0 || (*ring->sq.kflags & IORING_SQ_CQ_OVERFLOW) != 0;
  return result;
}

int
io_uring_queue_init_params (unsigned int entries, struct io_uring *ring, struct io_uring_params *p)
{
  stand.setups++;
  if (fails (&stand.setup_times))
    return -stand.setup_errsv;
  return NEXT (io_uring_queue_init_params) (entries, ring, p);
}

static gboolean
is_ring (gint fd)
{
  g_autofree char *name = g_strdup_printf ("/proc/self/fd/%d", fd);
  g_autofree char *target = g_file_read_link (name, NULL);

  return target != NULL && strstr (target, "io_uring") != NULL;
}

int
epoll_ctl (int epoll_fd, int op, int fd, struct epoll_event *event)
{
  if (stand.watch_errsv != 0 && op == EPOLL_CTL_ADD && is_ring (fd))
    {
      errno = stand.watch_errsv;
      return -1;
    }
  return NEXT (epoll_ctl) (epoll_fd, op, fd, event);
}

int
statx (int fd, const char *path, int flags, unsigned int mask, struct statx *stx)
{
  if (stand.before_statx != NULL)
    stand.before_statx (stand.data);
  if (stand.statx_errsv != 0)
    {
      errno = stand.statx_errsv;
      return -1;
    }
  return NEXT (statx) (fd, path, flags, mask, stx);
}

int
pthread_create (pthread_t *thread, const pthread_attr_t *attr, void *(*func) (void *), void *data)
{
  if (stand.threads == 0)
    return EAGAIN;
  if (stand.threads != G_MAXINT)
    stand.threads--;
  return NEXT (pthread_create) (thread, attr, func, data);
}

ssize_t
pread (int fd, void *buffer, size_t count, off_t offset)
{
  if (stand.before_pread != NULL)
    stand.before_pread (stand.data);
  return NEXT (pread) (fd, buffer, count, offset);
}

static gboolean ring_exists;

/* In a child: the kernel interrupts waits when a ring has gone. */
static void
look_for_ring (void)
{
  struct io_uring ring;
  pid_t child = fork ();
  int status;

  if (child == 0)
    _exit (io_uring_queue_init (4, &ring, 0) != 0);
  while (waitpid (child, &status, 0) != child)
    g_assert_cmpint (errno, ==, EINTR);
  ring_exists = WIFEXITED (status) && WEXITSTATUS (status) == 0;
}

/* FALSE, with the test skipped, where there is no io_uring. */
static gboolean
has_ring (void)
{
  if (!ring_exists)
    g_test_skip ("no io_uring here");
  return ring_exists;
}

/* --- A thousand reads, each of something else --- */

#define MANY 1000

typedef struct
{
  Desk desk;
  End ends[MANY];
  guint64 buffers[MANY];
  GaioIOOp *ops[MANY];
} Readers;

static Readers *
readers_new (gconstpointer how)
{
  Readers *self = g_new0 (Readers, 1);

  stand_reset ();
  desk_begin (&self->desk, how);
  for (guint64 i = 0; i < MANY; i++)
    g_assert_cmpint (pwrite (self->desk.fd, &i, sizeof i, i * sizeof i), ==, sizeof i);
  return self;
}

static void
submit_all (Readers *self)
{
  for (guint i = 0; i < MANY; i++)
    {
      self->ends[i] = (End){ 0 };
      self->buffers[i] = G_MAXUINT64;
      self->ops[i] =
          gaio_context_submit_pread (self->desk.context, self->desk.fd, &self->buffers[i],
                                     sizeof self->buffers[i], i * sizeof self->buffers[i], on_end,
                                     &self->ends[i], NULL);
      g_assert_nonnull (self->ops[i]);
    }
}

static guint
count_ended (const Readers *self)
{
  guint n = 0;

  for (guint i = 0; i < MANY; i++)
    n += self->ends[i].calls;
  return n;
}

static void
finish_all (Readers *self)
{
  desk_until (&self->desk, count_ended (self) >= MANY);
  desk_round (&self->desk, FALSE);
  for (guint i = 0; i < MANY; i++)
    {
      g_assert_no_error (self->ends[i].error);
      g_assert_cmpuint (self->ends[i].calls, ==, 1);
      g_assert_cmpint (self->ends[i].result, ==, sizeof self->buffers[i]);
      g_assert_cmpuint (self->buffers[i], ==, i);
      gaio_io_op_unref (self->ops[i]);
    }
}

static void
read_all (Readers *self)
{
  submit_all (self);
  finish_all (self);
}

static void
readers_free (Readers *self)
{
  desk_end (&self->desk);
  stand_reset ();
  g_free (self);
}

/* --- Refused submissions --- */

static const gint submit_errsvs[] = { EINTR, EAGAIN, EBUSY, ENOMEM, EPERM, ENOSYS, EINVAL };

static void
test_submission_fails (gconstpointer how)
{
  static const struct
  {
    gint after, times;
    guint takes;
  } cases[] = { { 0, 1, 0 }, { 0, 3, 0 },       { 1, 1, 0 },     { 3, 2, 50 },
                { 0, 0, 1 }, { 2, ALWAYS, 10 }, { 0, ALWAYS, 0 } };

  for (guint i = 0; i < G_N_ELEMENTS (submit_errsvs) * G_N_ELEMENTS (cases); i++)
    {
      gint errsv = submit_errsvs[i % G_N_ELEMENTS (submit_errsvs)];
      guint n = i / G_N_ELEMENTS (submit_errsvs);
      Readers *readers;

      /* What is always interrupted does not end. */
      if (errsv == EINTR && cases[n].times == ALWAYS)
        continue;
      readers = readers_new (how);
      stand.submit_errsv = errsv;
      stand.submit_after = cases[n].after;
      stand.submit_times = cases[n].times;
      stand.takes = cases[n].takes;
      read_all (readers);
      read_all (readers);
      readers_free (readers);
    }
}

/* Nobody asks the kernel again that has said no for good. */
static void
test_refused_later (gconstpointer how)
{
  Readers *readers;
  guint submits;

  if (!has_ring ())
    return;
  readers = readers_new (how);
  read_all (readers);
  stand.submit_errsv = EPERM;
  stand.submit_times = ALWAYS;
  stand.submit_after = 1;
  read_all (readers);
  submits = stand.submits;
  read_all (readers);
  g_assert_cmpuint (stand.submits, ==, submits);
  readers_free (readers);
}

/* What the page cache has takes one system call for each load of the ring, once that is known. */
static void
test_batched (gconstpointer how)
{
  Readers *readers;
  guint submits;

  if (!has_ring ())
    return;
  readers = readers_new (how);
  read_all (readers);
  submits = stand.submits;
  read_all (readers);
  g_assert_cmpuint (stand.submits, <=, submits + MANY / 100);
  g_assert_cmpuint (stand.submits, >, submits);
  readers_free (readers);
}

/* --- Results that nobody has asked for --- */

static void
test_interrupted_by_nobody (gconstpointer how)
{
  static const gint results[] = { -EAGAIN, -EINTR, -ECANCELED };

  for (guint i = 0; i < G_N_ELEMENTS (results); i++)
    for (guint times = 1; times <= 3 * MANY; times = times * 10 + MANY / 2)
      {
        Readers *readers = readers_new (how);

        stand.result = results[i];
        stand.result_times = times;
        read_all (readers);
        read_all (readers);
        readers_free (readers);
      }
}

/* As where the kernel may not start a worker, because of RLIMIT_NPROC. */
static void
test_interrupted_for_ever (gconstpointer how)
{
  static const gint results[] = { -EAGAIN, -EINTR, -ECANCELED };

  for (guint i = 0; i < G_N_ELEMENTS (results); i++)
    {
      Readers *readers = readers_new (how);

      stand.result = results[i];
      stand.result_times = ALWAYS;
      read_all (readers);
      readers_free (readers);
    }
}

/* --- No ring, no thread --- */

static void
test_no_ring_for_a_while (gconstpointer how)
{
  static const gint errsvs[] = { EMFILE, ENFILE, ENOMEM };

  if (!has_ring ())
    return;
  for (guint i = 0; i < G_N_ELEMENTS (errsvs); i++)
    {
      Readers *readers = readers_new (how);

      stand.setup_errsv = errsvs[i];
      stand.setup_times = ALWAYS;
      read_all (readers);
      g_assert_cmpuint (stand.submits, ==, 0);
      stand.setup_times = 0;
      read_all (readers);
      read_all (readers);
      g_assert_cmpuint (stand.submits, >, 0);
      readers_free (readers);
    }
}

static void
test_no_ring_at_all (gconstpointer how)
{
  static const gint errsvs[] = { EPERM, ENOSYS, EACCES, EINVAL };

  for (guint i = 0; i < G_N_ELEMENTS (errsvs); i++)
    {
      Readers *readers = readers_new (how);

      stand.setup_errsv = errsvs[i];
      stand.setup_times = ALWAYS;
      read_all (readers);
      read_all (readers);
      g_assert_cmpuint (stand.setups, ==, 1);
      readers_free (readers);
    }
}

/* At the limit of watches. */
static void
test_ring_that_cannot_be_watched (gconstpointer how)
{
  guint before = count_open_fds ();
  Readers *readers = readers_new (how);

  stand.watch_errsv = ENOSPC;
  read_all (readers);
  stand.watch_errsv = 0;
  read_all (readers);
  readers_free (readers);
  g_assert_cmpuint (count_open_fds (), ==, before);
}

static void
test_unknown_kind_of_file (gconstpointer how)
{
  Readers *readers = readers_new (how);

  stand.statx_errsv = ENOMEM;
  read_all (readers);
  readers_free (readers);
}

static void
test_no_thread (gconstpointer how)
{
  Readers *readers = readers_new (how);

  stand.setup_errsv = EPERM;
  stand.setup_times = ALWAYS;
  stand.threads = 0;
  submit_all (readers);
  desk_until (&readers->desk, count_ended (readers) == MANY);
  for (guint i = 0; i < MANY; i++)
    {
      assert_failed (&readers->ends[i], G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, g_strerror (EAGAIN));
      gaio_io_op_unref (readers->ops[i]);
    }
  stand.threads = 1;
  read_all (readers);
  readers_free (readers);
}

/* --- What comes meanwhile --- */

typedef struct
{
  Readers *readers;
  sem_t semaphore;
  GaioBottomHalf *half;
  guint calls;
  gint fds[2];
  char byte;
} Meanwhile;

static void
post_semaphore (gpointer data)
{
  g_assert_cmpint (sem_post (&((Meanwhile *) data)->semaphore), ==, 0);
}

static void
await_semaphore (gpointer data)
{
  struct timespec until;

  g_assert_cmpint (clock_gettime (CLOCK_REALTIME, &until), ==, 0);
  until.tv_sec += GUARD_US / G_USEC_PER_SEC;
  while (sem_timedwait (&((Meanwhile *) data)->semaphore, &until) != 0)
    g_assert_cmpint (errno, ==, EINTR);
}

static gpointer
schedule_post (gpointer data)
{
  gaio_bottom_half_schedule (((Meanwhile *) data)->half);
  return NULL;
}

static void
schedule_from_a_thread (gpointer data)
{
  stand.before_statx = NULL;
  join (spawn (schedule_post, data));
}

/* The read of a device does not end before the loop has done what another thread asked for while
 * the operations were being started. */
static void
test_nothing_is_missed (gconstpointer how)
{
  Meanwhile self = { .readers = readers_new (how) };
  Desk *desk = &self.readers->desk;
  gint zero = open ("/dev/zero", O_RDONLY | O_CLOEXEC);
  End end = { 0 };

  read_all (self.readers);
  sem_init (&self.semaphore, 0, 0);
  self.half = gaio_context_add_bottom_half (desk->context, post_semaphore, &self, NULL);
  stand.data = &self;
  stand.before_statx = schedule_from_a_thread;
  stand.before_pread = await_semaphore;
  if (!ring_exists)
    schedule_post (&self);
  drop (gaio_context_submit_pread (desk->context, zero, &self.byte, 1, 0, on_end, &end, NULL));
  desk_until (desk, end.calls == 1);
  g_assert_cmpint (end.result, ==, 1);
  close (zero);
  gaio_clear_bottom_half (&self.half);
  sem_destroy (&self.semaphore);
  readers_free (self.readers);
}

static void
never_mind (gssize result, const GError *error, gpointer data)
{
  ++*(guint *) data;
}

static void
submit_another (gpointer data)
{
  Meanwhile *self = data;
  Desk *desk = &self->readers->desk;

  g_assert_cmpuint (stand.submits, <, 10000);
  if (self->calls == 0)
    drop (gaio_context_submit_pread (desk->context, desk->fd, &self->byte, 1, 0, never_mind,
                                     &self->calls, NULL));
}

/* Something new has come whenever the kernel has been told of what is there. */
static void
test_submitters_do_not_starve_the_loop (gconstpointer how)
{
  Meanwhile self = { .readers = readers_new (how) };

  stand.data = &self;
  stand.before_submit = submit_another;
  if (ring_exists)
    {
      submit_another (&self);
      desk_until (&self.readers->desk, self.calls > 0);
    }
  stand.before_submit = NULL;
  read_all (self.readers);
  readers_free (self.readers);
}

static void
meanwhile_begin (Meanwhile *self, gconstpointer how)
{
  *self = (Meanwhile){ .readers = readers_new (how) };
  g_assert_cmpint (pipe2 (self->fds, O_CLOEXEC | O_NONBLOCK), ==, 0);
  stand.slow_fd = self->fds[0];
}

static void
meanwhile_end (Meanwhile *self)
{
  stand.slow_fd = -1;
  close (self->fds[0]);
  close (self->fds[1]);
  readers_free (self->readers);
}

static void
stop_when_ended (gssize result, const GError *error, gpointer data)
{
  Meanwhile *self = data;

  self->calls++;
  g_cancellable_cancel (self->readers->desk.stop);
}

/* The very first operation opens the ring, perhaps when GLib is about to sleep. */
static void
test_first_operation_wakes_the_loop (gconstpointer how)
{
  g_autofree char *data = g_malloc0 (1 << 22);

  for (guint i = 0; i < 5; i++)
    {
      Meanwhile self = { .readers = readers_new (how) };
      Desk *desk = &self.readers->desk;

      for (guint n = 0; n < 10; n++)
        desk_round (desk, FALSE);
      g_cancellable_reset (desk->stop);
      g_assert_cmpint (pwrite (desk->fd, data, 1 << 22, 0), ==, 1 << 22);
      drop (gaio_context_submit_fsync (desk->context, desk->fd, stop_when_ended, &self, NULL));
      if (desk->how == HOSTED)
        gaio_context_run (desk->context, desk->main_context, desk->stop, NULL);
      else
        desk_until (desk, self.calls == 1);
      g_assert_cmpuint (self.calls, ==, 1);
      readers_free (self.readers);
    }
}

/* More than the ring has room for, all of them in it or before it, and all cancelled: each cancel
 * has a result of its own. */
static void
test_results_never_overflow (gconstpointer how)
{
  Meanwhile self;

  if (!has_ring ())
    return;
  meanwhile_begin (&self, how);
  for (guint n = 0; n < 3; n++)
    {
      submit_all (self.readers);
      for (guint i = 0; i < 10; i++)
        desk_round (&self.readers->desk, FALSE);
      g_assert_cmpuint (count_ended (self.readers), ==, 0);
      for (guint i = 0; i < MANY; i++)
        gaio_io_op_cancel (self.readers->ops[MANY - 1 - i]);
      desk_until (&self.readers->desk, count_ended (self.readers) == MANY);
      for (guint i = 0; i < MANY; i++)
        {
          assert_failed (&self.readers->ends[i], G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled");
          gaio_io_op_unref (self.readers->ops[i]);
        }
    }
  g_assert_cmpuint (stand.submits, >, 8);
  g_assert_cmpuint (stand.overflows, ==, 0);
  meanwhile_end (&self);
}

static void
count_cancelled (gssize result, const GError *error, gpointer calls)
{
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  atomic_fetch_add ((atomic_uint *) calls, 1);
}

/* Nothing else wakes it, as the kernel never ends the operation. */
static void
test_cancel_wakes_the_loop (gconstpointer nested)
{
  atomic_uint calls = 0;
  gint fd = temporary_file ();
  Loop loop;

  if (!has_ring ())
    return;
  stand_reset ();
  stand.slow_fd = eventfd_new (0);
  loop_start (&loop, nested);
  for (guint i = 1; i <= 20; i++)
    {
      g_autoptr (GaioIOOp) op =
          gaio_context_submit_fsync (loop.context, fd, count_cancelled, &calls, NULL);

      loop_barrier (&loop);
      gaio_io_op_cancel (op);
      wait_for (atomic_load (&calls) == i);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (stand.slow_fd);
  stand_reset ();
  close (fd);
}

/* Then what is cancelled ends by itself. */
static void
test_cancel_that_the_kernel_refuses (gconstpointer how)
{
  Readers *readers = readers_new (how);

  for (guint n = 0; n < 20; n++)
    {
      stand.submit_errsv = EBUSY;
      stand.submit_after = n;
      stand.submit_times = 2;
      submit_all (readers);
      desk_round (&readers->desk, FALSE);
      for (guint i = 0; i < MANY; i++)
        gaio_io_op_cancel (readers->ops[i]);
      desk_until (&readers->desk, count_ended (readers) == MANY);
      for (guint i = 0; i < MANY; i++)
        {
          if (readers->ends[i].error != NULL)
            assert_failed (&readers->ends[i], G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled");
          gaio_io_op_unref (readers->ops[i]);
        }
    }
  readers_free (readers);
}

/* --- The pool --- */

typedef struct
{
  Readers *readers;
  pthread_barrier_t barrier;
  atomic_uint preads;
} Pool;

/* The first goes on alone, the next eight only together. */
static void
meet (gpointer data)
{
  Pool *self = data;

  if (atomic_fetch_add (&self->preads, 1) > 0)
    pthread_barrier_wait (&self->barrier);
}

/* A thread that is idle can take one operation, not all that come at once. */
static void
test_idle_thread_is_not_counted_twice (gconstpointer how)
{
  Pool self = { .readers = readers_new (how) };
  Desk *desk = &self.readers->desk;
  gint zero = open ("/dev/zero", O_RDONLY | O_CLOEXEC);
  char buffers[8];
  End ends[8] = { 0 };

  pthread_barrier_init (&self.barrier, NULL, 8);
  stand.data = &self;
  stand.before_pread = meet;
  g_assert_cmpint (read_at (desk, zero, buffers, 1, 0, &ends[0]), ==, 1);
  ends[0] = (End){ 0 };
  for (guint i = 0; i < 8; i++)
    drop (
        gaio_context_submit_pread (desk->context, zero, &buffers[i], 1, 0, on_end, &ends[i], NULL));
  for (guint i = 0; i < 8; i++)
    desk_until (desk, ends[i].calls == 1);
  pthread_barrier_destroy (&self.barrier);
  close (zero);
  readers_free (self.readers);
}

/* --- Somebody closes the fd of the ring --- */

static gint
find_ring (void)
{
  for (gint fd = 3; fd < 200; fd++)
    if (is_ring (fd))
      return fd;
  return -1;
}

static void
test_closed_ring (gconstpointer how)
{
  for (guint n = 0; n < 4; n++)
    {
      Meanwhile self;
      gint ring, other;
      End end = { 0 };

      if (!has_ring ())
        return;
      meanwhile_begin (&self, how);
      drop (gaio_context_submit_fsync (self.readers->desk.context, self.readers->desk.fd, on_end,
                                       &end, NULL));
      desk_round (&self.readers->desk, FALSE);
      g_assert_cmpuint (end.calls, ==, 0);
      ring = find_ring ();
      close (ring);
      if (n % 2 == 1)
        g_assert_cmpint (dup2 (self.readers->desk.fd, ring), ==, ring);
      g_assert_cmpint (write (self.fds[1], "x", 1), ==, 1);
      stand.slow_fd = -1;
      if (n / 2 == 1)
        {
          g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
          read_all (self.readers);
          desk_until (&self.readers->desk, end.calls == 1);
          read_all (self.readers);
          g_test_assert_expected_messages ();
        }
      /* What has the number now is not the context's. */
      other = n % 2 == 1 ? ring : fcntl (self.readers->desk.fd, F_DUPFD_CLOEXEC, ring);
      g_assert_cmpint (other, ==, ring);
      gaio_context_close (self.readers->desk.context);
      g_assert_cmpuint (end.calls, ==, 1);
      g_clear_error (&end.error);
      g_assert_cmpint (fcntl (ring, F_GETFD), !=, -1);
      close (ring);
      meanwhile_end (&self);
    }
}

/* --- Statistics --- */

static guint
get_stat (GaioContext *context, const char *name)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  guint value = G_MAXUINT;

  g_assert_true (g_variant_lookup (stats, name, "u", &value));
  return value;
}

static gpointer
look_while_it_closes (gpointer data)
{
  Meanwhile *self = data;

  wait_for (gaio_context_is_closed (self->readers->desk.context));
  for (guint i = 0; i < 1000; i++)
    g_assert_cmpuint (get_stat (self->readers->desk.context, "handlers"), ==, 0);
  post_semaphore (self);
  return NULL;
}

/* Closing waits for a thread of the pool. */
static void
test_stats_while_it_closes (gconstpointer how)
{
  Meanwhile self = { .readers = readers_new (how) };
  Desk *desk = &self.readers->desk;
  gint zero = open ("/dev/zero", O_RDONLY | O_CLOEXEC);
  pthread_t thread;
  End end = { 0 };

  sem_init (&self.semaphore, 0, 0);
  read_all (self.readers);
  stand.data = &self;
  stand.before_pread = await_semaphore;
  drop (gaio_context_submit_pread (desk->context, zero, &self.byte, 1, 0, on_end, &end, NULL));
  desk_round (desk, FALSE);
  g_assert_cmpuint (get_stat (desk->context, "handlers"), ==, 0);
  g_assert_cmpuint (get_stat (desk->context, "pending-file-operations"), ==, 1);
  thread = spawn (look_while_it_closes, &self);
  gaio_context_close (desk->context);
  join (thread);
  g_assert_cmpuint (end.calls, ==, 1);
  g_clear_error (&end.error);
  g_assert_cmpuint (get_stat (desk->context, "pending-file-operations"), ==, 0);
  close (zero);
  sem_destroy (&self.semaphore);
  readers_free (self.readers);
}

/* --- Busy polling --- */

static gboolean
count_and_say_no (gpointer polls)
{
  ++*(guint *) polls;
  return FALSE;
}

/* Nobody sees that the ring is watched: what could be busy-polled before still can. */
static void
test_busy_polling_goes_on (gconstpointer how)
{
  Readers *readers = readers_new (how);
  gint fd = eventfd_new (0);
  guint polls = 0;
  g_autoptr (GaioHandler) handler =
      add_fd (readers->desk.context, fd, G_IO_IN, never_fd, &polls, NULL);

  gaio_handler_set_poll_funcs (handler, count_and_say_no, NULL, NULL);
  gaio_context_set_poll_params (readers->desk.context, 1000, 0, 2);
  read_all (readers);
  polls = 0;
  read_all (readers);
  g_assert_cmpuint (polls, >, 0);
  gaio_handler_remove (handler);
  close (fd);
  readers_free (readers);
}

/* --- A poll function that forks --- */

typedef struct
{
  Desk desk;
  GaioIOOp *op;
  End end, slow_end;
  gint fds[2];
  char byte;
  pid_t child;
} Forker;

static gboolean
submit_and_fork (gpointer data)
{
  Forker *self = data;

  if (self->op != NULL)
    return FALSE;
  g_assert_cmpint (write (self->fds[1], "x", 1), ==, 1);
  self->op = gaio_context_submit_pwrite (self->desk.context, self->desk.fd, &self->byte, 1, 0,
                                         on_end, &self->end, NULL);
  self->child = fork ();
  return self->child == 0;
}

/* The ring is the parent's, which does the operation alone, and alone hears what has been done. */
static void
test_fork_in_a_poll_function (void)
{
  Forker self = { .byte = 'x', .child = -1 };
  gint fd = eventfd_new (0), flags;
  g_autoptr (GaioHandler) handler = NULL;
  End end;

  stand_reset ();
  desk_begin (&self.desk, GINT_TO_POINTER (ALONE));
  write_at (&self.desk, self.desk.fd, "a", 1, 0, &end);
  flags = fcntl (self.desk.fd, F_GETFL);
  g_assert_cmpint (fcntl (self.desk.fd, F_SETFL, flags | O_APPEND), ==, 0);
  handler = add_fd (self.desk.context, fd, G_IO_IN, never_fd, &self, NULL);
  gaio_handler_set_poll_funcs (handler, submit_and_fork, NULL, NULL);
  g_assert_cmpint (pipe2 (self.fds, O_CLOEXEC), ==, 0);
  stand.slow_fd = self.fds[0];
  drop (gaio_context_submit_fsync (self.desk.context, self.desk.fd, on_end, &self.slow_end, NULL));
  desk_round (&self.desk, FALSE);
  stand.slow_fd = -1;
  gaio_context_set_poll_params (self.desk.context, 1000, 0, 0);
  gaio_context_iterate (self.desk.context, 1000);
  g_assert_cmpint (self.child, !=, -1);
  if (self.child == 0)
    _exit (0);
  assert_exits_well (self.child);
  desk_until (&self.desk, self.end.calls == 1 && self.slow_end.calls == 1);
  g_assert_cmpint (self.end.result, ==, 1);
  close (self.fds[0]);
  close (self.fds[1]);
  gaio_io_op_unref (self.op);
  g_assert_cmpint (lseek (self.desk.fd, 0, SEEK_END), ==, 2);
  gaio_handler_remove (handler);
  close (fd);
  desk_end (&self.desk);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  stand_reset ();
  look_for_ring ();
  add_ways ("/file-faults/submission-fails", test_submission_fails);
  add_ways ("/file-faults/refused-later-with-operations-in-flight", test_refused_later);
  add_ways ("/file-faults/one-submission-for-many", test_batched);
  add_ways ("/file-faults/interrupted-by-nobody", test_interrupted_by_nobody);
  add_ways ("/file-faults/interrupted-for-ever", test_interrupted_for_ever);
  add_ways ("/file-faults/no-ring-for-a-while", test_no_ring_for_a_while);
  add_ways ("/file-faults/no-ring-at-all", test_no_ring_at_all);
  add_ways ("/file-faults/ring-that-cannot-be-watched", test_ring_that_cannot_be_watched);
  add_ways ("/file-faults/unknown-kind-of-file", test_unknown_kind_of_file);
  add_ways ("/file-faults/no-thread", test_no_thread);
  add_ways ("/file-faults/nothing-is-missed-during-a-submission", test_nothing_is_missed);
  add_ways ("/file-faults/submitters-do-not-starve-the-loop",
            test_submitters_do_not_starve_the_loop);
  add_ways ("/file-faults/first-operation-wakes-the-loop", test_first_operation_wakes_the_loop);
  g_test_add_data_func ("/file-faults/cancel-wakes-the-loop/alone", NULL,
                        test_cancel_wakes_the_loop);
  g_test_add_data_func ("/file-faults/cancel-wakes-the-loop/nested", "",
                        test_cancel_wakes_the_loop);
  add_ways ("/file-faults/results-never-overflow", test_results_never_overflow);
  add_ways ("/file-faults/cancel-that-the-kernel-refuses", test_cancel_that_the_kernel_refuses);
  add_ways ("/file-faults/idle-thread-is-not-counted-twice", test_idle_thread_is_not_counted_twice);
  add_ways ("/file-faults/closed-ring", test_closed_ring);
  add_ways ("/file-faults/stats-while-it-closes", test_stats_while_it_closes);
  add_ways ("/file-faults/busy-polling-goes-on", test_busy_polling_goes_on);
  g_test_add_func ("/file-faults/fork-in-a-poll-function", test_fork_in_a_poll_function);
  return g_test_run ();
}
