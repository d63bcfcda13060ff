/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random operations on all kinds of files, beside the same system calls on copies of these files:
 * same results, same errors, same contents. */
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "test-file.h"

#define STEPS 200
#define FILE_SIZE 20000
#define BUFFER_SIZE 16384
#define BLOCK 4096

/* Opens the first or the second of two files of a kind; -1 where there are none. */
typedef gint (*Opener) (guint n);

static gint
reopen (gint fd, gint flags)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  gint again = open (path, flags | O_CLOEXEC);

  close (fd);
  return again;
}

static gint
open_file (gint flags)
{
  g_autofree char *content = g_malloc (FILE_SIZE);
  gint fd = temporary_file ();

  for (guint i = 0; i < FILE_SIZE; i++)
    content[i] = i * 7;
  g_assert_cmpint (pwrite (fd, content, FILE_SIZE, 0), ==, FILE_SIZE);
  return reopen (fd, flags);
}

static gint
open_regular (guint n)
{
  return open_file (O_RDWR);
}

static gint
open_append (guint n)
{
  return open_file (O_RDWR | O_APPEND);
}

static gint
open_direct (guint n)
{
  return open_file (O_RDWR | O_DIRECT);
}

static gint
open_sync (guint n)
{
  return open_file (O_RDWR | O_DSYNC);
}

static gint
open_nonblocking (guint n)
{
  return open_file (O_RDWR | O_NONBLOCK);
}

static gint
open_read_only (guint n)
{
  return open_file (O_RDONLY);
}

static gint
open_write_only (guint n)
{
  return open_file (O_WRONLY);
}

static gint
open_path (guint n)
{
  return open_file (O_PATH);
}

static gint
open_sparse (guint n)
{
  gint fd = temporary_file ();

  g_assert_cmpint (ftruncate (fd, G_GINT64_CONSTANT (1) << 33), ==, 0);
  return fd;
}

static gint
open_memory (guint n)
{
  gint fd = memfd_create ("gaio", MFD_CLOEXEC | MFD_ALLOW_SEALING);

  g_assert_cmpint (ftruncate (fd, FILE_SIZE), ==, 0);
  return fd;
}

static gint
open_sealed (guint n)
{
  gint fd = open_memory (n);

  g_assert_cmpint (fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE), ==, 0);
  return fd;
}

static gint
open_directory (guint n)
{
  return open ("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static gint
open_zero (guint n)
{
  return open ("/dev/zero", O_RDWR | O_CLOEXEC);
}

static gint
open_null (guint n)
{
  return open ("/dev/null", O_RDWR | O_CLOEXEC);
}

static gint
open_full (guint n)
{
  return open ("/dev/full", O_RDWR | O_CLOEXEC);
}

static gint
open_eventfd (guint n)
{
  return eventfd_new (1);
}

static gint
open_pipe (guint n)
{
  static gint fds[2];

  if (n % 2 == 0)
    g_assert_cmpint (pipe2 (fds, O_CLOEXEC | O_NONBLOCK), ==, 0);
  return fds[n % 2];
}

static gint
open_socket (guint n)
{
  static gint fds[2];

  if (n % 2 == 0)
    g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==,
                     0);
  return fds[n % 2];
}

static gint
open_nothing (guint n)
{
  gint event_fd = eventfd_new (0), fd = fcntl (event_fd, F_DUPFD_CLOEXEC, 40 + (gint) n);

  close (event_fd);
  close (fd);
  return fd;
}

/* A small one, which is soon full. */
static gint
open_tmpfs (guint n)
{
  g_autofree char *directory = g_dir_make_tmp ("gaio-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (directory, "file", NULL);
  gint fd = -1;

  if (mount ("gaio", directory, "tmpfs", 0, "size=64k") == 0)
    {
      fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      g_assert_cmpint (umount2 (directory, MNT_DETACH), ==, 0);
    }
  g_assert_cmpint (rmdir (directory), ==, 0);
  return fd;
}

static gint
open_free_loop (void)
{
  gint control = open ("/dev/loop-control", O_RDWR | O_CLOEXEC), n;
  g_autofree char *path = NULL;

  if (control < 0)
    return -1;
  n = ioctl (control, LOOP_CTL_GET_FREE);
  close (control);
  path = g_strdup_printf ("/dev/loop%d", n);
  return open (path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

/* A disk of which only the beginning can be read or written. */
static gint
open_bad_disk (guint n)
{
  struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
  gint disk = open_free_loop (), fd;

  if (disk < 0)
    return -1;
  fd = temporary_file ();
  g_assert_cmpint (ftruncate (fd, 8 * BLOCK), ==, 0);
  if (ioctl (disk, LOOP_SET_FD, fd) == 0 && ioctl (disk, LOOP_SET_STATUS64, &info) == 0)
    g_assert_cmpint (ftruncate (fd, 2 * BLOCK), ==, 0);
  else
    {
      close (disk);
      disk = -1;
    }
  close (fd);
  return disk;
}

static const struct
{
  const char *name;
  Opener open;
} kinds[] = {
  { "regular", open_regular },
  { "append", open_append },
  { "direct", open_direct },
  { "sync", open_sync },
  { "nonblocking", open_nonblocking },
  { "read-only", open_read_only },
  { "write-only", open_write_only },
  { "path", open_path },
  { "sparse", open_sparse },
  { "memory", open_memory },
  { "sealed", open_sealed },
  { "directory", open_directory },
  { "zero", open_zero },
  { "null", open_null },
  { "full", open_full },
  { "eventfd", open_eventfd },
  { "pipe", open_pipe },
  { "socket", open_socket },
  { "not-open", open_nothing },
  { "full-filesystem", open_tmpfs },
  { "bad-disk", open_bad_disk },
};

/* --- What is done --- */

typedef struct
{
  Desk desk;
  gint fds[2];      /* for operations, and for system calls */
  char *buffers[2]; /* likewise */
} Pair;

static goffset
random_offset (void)
{
  static const goffset offsets[] = { 0,
                                     1,
                                     511,
                                     BLOCK,
                                     2 * BLOCK,
                                     5 * BLOCK - 1,
                                     FILE_SIZE - 1,
                                     FILE_SIZE,
                                     FILE_SIZE + BLOCK,
                                     G_MAXINT32,
                                     (goffset) G_MAXUINT32 + 1,
                                     G_MAXINT64 - BLOCK,
                                     G_MAXINT64 };

  return g_test_rand_bit () ? g_test_rand_int_range (0, 12) * BLOCK
                            : offsets[g_test_rand_int_range (0, G_N_ELEMENTS (offsets))];
}

static gsize
random_count (void)
{
  static const gsize counts[] = { 0, 1, 511, 512, BLOCK, BLOCK + 1, BUFFER_SIZE - BLOCK };

  return counts[g_test_rand_int_range (0, G_N_ELEMENTS (counts))];
}

/* A signal cuts a read of /dev/zero short. The threads of the library get none. */
static void
hold_signals (sigset_t *before)
{
  sigset_t all;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, before);
}

static void
release_signals (const sigset_t *before)
{
  pthread_sigmask (SIG_SETMASK, before, NULL);
}

/* Both say the same. */
static void
compare (End *end, gssize result, gint errsv)
{
  g_assert_cmpint (end->result, ==, result);
  if (result != -1)
    g_assert_no_error (end->error);
  else if (errsv == EBADF)
    g_assert_error (end->error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  else if (errsv == ESPIPE)
    g_assert_error (end->error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
  else
    g_assert_error (end->error, G_IO_ERROR, (gint) g_io_error_from_errno (errsv));
  g_clear_error (&end->error);
}

/* The same bytes from START to END. */
static void
compare_bytes (Pair *pair, gsize start, gsize end)
{
  g_assert_cmpmem (pair->buffers[0] + start, end - start, pair->buffers[1] + start, end - start);
}

/* What a read leaves in the rest of its buffer is up to the kernel: a direct read that fails at a
 * block of the disk has cleared what is not on the disk yet. */
static void
step_read (Pair *pair, gsize skew)
{
  goffset offset = random_offset ();
  gsize count = random_count ();
  gssize result;
  sigset_t before;
  gint errsv;
  End end;

  for (guint i = 0; i < 2; i++)
    memset (pair->buffers[i], 0xa5, BUFFER_SIZE);
  read_at (&pair->desk, pair->fds[0], pair->buffers[0] + skew, count, offset, &end);
  hold_signals (&before);
  result = pread (pair->fds[1], pair->buffers[1] + skew, count, offset);
  errsv = errno;
  release_signals (&before);
  compare (&end, result, errsv);
  compare_bytes (pair, 0, skew + MAX (result, 0));
  compare_bytes (pair, skew + count, BUFFER_SIZE);
}

static void
step_write (Pair *pair, gsize skew)
{
  goffset offset = random_offset ();
  gsize count = random_count ();
  gssize result;
  sigset_t before;
  gint errsv;
  End end;

  for (guint i = 0; i < BUFFER_SIZE; i++)
    pair->buffers[1][i] = pair->buffers[0][i] = g_test_rand_int ();
  write_at (&pair->desk, pair->fds[0], pair->buffers[0] + skew, count, offset, &end);
  hold_signals (&before);
  result = pwrite (pair->fds[1], pair->buffers[1] + skew, count, offset);
  errsv = errno;
  release_signals (&before);
  compare (&end, result, errsv);
}

static void
step_sync (Pair *pair, gsize skew)
{
  End end;
  gint result;

  sync_file (&pair->desk, pair->fds[0], &end);
  result = fsync (pair->fds[1]);
  compare (&end, result, errno);
}

/* The file gets shorter, or longer. */
static void
step_truncate (Pair *pair, gsize skew)
{
  goffset size = random_offset ();

  if (size <= 8 * FILE_SIZE)
    for (guint i = 0; i < 2; i++)
      (void) !ftruncate (pair->fds[i], size);
}

static void
step (Pair *pair)
{
  static void (*const steps[]) (Pair *,
                                gsize) = { step_read,  step_read,  step_read, step_read,
                                           step_write, step_write, step_sync, step_truncate };

  steps[g_test_rand_int_range (0, G_N_ELEMENTS (steps))](pair, g_test_rand_int_range (0, 4) == 0);
}

/* To the end, or as much as matters. */
static void
compare_files (Pair *pair)
{
  struct stat stats[2];

  for (guint i = 0; i < 2; i++)
    if (fstat (pair->fds[i], &stats[i]) != 0 || !S_ISREG (stats[i].st_mode))
      return;
  g_assert_cmpint (stats[0].st_size, ==, stats[1].st_size);
  for (goffset offset = 0; offset < 20 * BUFFER_SIZE; offset += BUFFER_SIZE)
    {
      gssize n = pread (pair->fds[0], pair->buffers[0], BUFFER_SIZE, offset);

      g_assert_cmpint (pread (pair->fds[1], pair->buffers[1], BUFFER_SIZE, offset), ==, n);
      if (n > 0)
        g_assert_cmpmem (pair->buffers[0], n, pair->buffers[1], n);
    }
}

static void
test_kind (gconstpointer kind)
{
  Opener opener = kinds[GPOINTER_TO_UINT (kind)].open;
  Pair pair;

  desk_begin (&pair.desk, GINT_TO_POINTER (g_test_rand_int_range (ALONE, HOSTED + 1)));
  for (guint i = 0; i < 2; i++)
    {
      pair.fds[i] = opener (i);
      pair.buffers[i] = aligned_alloc (BLOCK, BUFFER_SIZE);
    }
  if (pair.fds[0] >= 0 && pair.fds[1] >= 0)
    {
      for (guint i = 0; i < STEPS; i++)
        step (&pair);
      compare_files (&pair);
    }
  else
    g_test_skip ("there is no such file here");
  for (guint i = 0; i < 2; i++)
    {
      close (pair.fds[i]);
      free (pair.buffers[i]);
    }
  desk_end (&pair.desk);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    {
      g_autofree char *path = g_strdup_printf ("/file-oracle/%s", kinds[i].name);

      g_test_add_data_func (path, GUINT_TO_POINTER (i), test_kind);
    }
  return g_test_run ();
}
