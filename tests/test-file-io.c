/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File operations do what the system calls of their names do. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "test-file.h"

static void
test_read_and_write (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[16] = "";

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, "hello, world", 12, 0, &end), ==, 12);
  g_assert_cmpint (sync_file (&desk, desk.fd, &end), ==, 0);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, 5, 7, &end), ==, 5);
  g_assert_cmpstr (buffer, ==, "world");
  desk_end (&desk);
}

static void
test_short_at_the_end (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[16];

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, "abc", 3, 0, &end), ==, 3);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, sizeof buffer, 1, &end), ==, 2);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, sizeof buffer, 3, &end), ==, 0);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, sizeof buffer, 1000, &end), ==, 0);
  desk_end (&desk);
}

static void
test_large_offsets (gconstpointer how)
{
  const goffset offset = (G_GINT64_CONSTANT (1) << 33) + 1;
  Desk desk;
  End end;
  char buffer[4] = "";

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, "far", 3, offset, &end), ==, 3);
  g_assert_cmpint (lseek (desk.fd, 0, SEEK_END), ==, offset + 3);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, 3, offset, &end), ==, 3);
  g_assert_cmpstr (buffer, ==, "far");
  desk_end (&desk);
}

static void
test_nothing (gconstpointer how)
{
  Desk desk;
  End end;

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, NULL, 0, 5, &end), ==, 0);
  g_assert_cmpint (lseek (desk.fd, 0, SEEK_END), ==, 0);
  g_assert_cmpint (read_at (&desk, desk.fd, NULL, 0, 0, &end), ==, 0);
  desk_end (&desk);
}

/* The position of the fd is another matter. */
static void
test_position_stays (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[4];

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, "abcdef", 6, 0, &end), ==, 6);
  g_assert_cmpint (lseek (desk.fd, 4, SEEK_SET), ==, 4);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, 3, 1, &end), ==, 3);
  g_assert_cmpint (lseek (desk.fd, 0, SEEK_CUR), ==, 4);
  desk_end (&desk);
}

static void
test_fd_that_is_not_open (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[4];
  gint fd;
  g_autofree char *message = NULL;

  desk_begin (&desk, how);
  fd = fcntl (desk.fd, F_DUPFD_CLOEXEC, 40);
  close (fd);
  message = g_strdup_printf ("fd %d is not open", fd);
  g_assert_cmpint (read_at (&desk, fd, buffer, 4, 0, &end), ==, -1);
  assert_failed (&end, GAIO_ERROR, GAIO_ERROR_BAD_FD, message);
  g_assert_cmpint (write_at (&desk, fd, "abcd", 4, 0, &end), ==, -1);
  assert_failed (&end, GAIO_ERROR, GAIO_ERROR_BAD_FD, message);
  g_assert_cmpint (sync_file (&desk, fd, &end), ==, -1);
  assert_failed (&end, GAIO_ERROR, GAIO_ERROR_BAD_FD, message);
  desk_end (&desk);
}

static void
test_fd_for_the_other_direction (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[4];
  g_autofree char *path = NULL;
  gint fd;

  desk_begin (&desk, how);
  path = g_strdup_printf ("/proc/self/fd/%d", desk.fd);
  fd = open (path, O_RDONLY | O_CLOEXEC);
  g_assert_cmpint (write_at (&desk, fd, "abcd", 4, 0, &end), ==, -1);
  assert_failed (&end, GAIO_ERROR, GAIO_ERROR_BAD_FD, "is not open for writing");
  g_assert_cmpint (sync_file (&desk, fd, &end), ==, 0);
  close (fd);
  fd = open (path, O_WRONLY | O_CLOEXEC);
  g_assert_cmpint (read_at (&desk, fd, buffer, 4, 0, &end), ==, -1);
  assert_failed (&end, GAIO_ERROR, GAIO_ERROR_BAD_FD, "is not open for reading");
  close (fd);
  desk_end (&desk);
}

/* What has no offsets keeps what is in it. */
static void
test_files_without_offsets (gconstpointer how)
{
  Desk desk;
  End end;
  gint pipe_fds[2], sockets[2], event_fd = eventfd_new (1);
  char buffer[8];

  desk_begin (&desk, how);
  g_assert_cmpint (pipe2 (pipe_fds, O_CLOEXEC), ==, 0);
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), ==, 0);
  g_assert_cmpint (write (pipe_fds[1], "x", 1), ==, 1);
  g_assert_cmpint (write (sockets[1], "x", 1), ==, 1);
  for (guint i = 0; i < 3; i++)
    {
      gint fd = i == 0 ? pipe_fds[0] : i == 1 ? sockets[0] : event_fd;

      g_assert_cmpint (read_at (&desk, fd, buffer, 8, 0, &end), ==, -1);
      assert_failed (&end, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "offsets");
    }
  g_assert_cmpint (read (pipe_fds[0], buffer, 8), ==, 1);
  g_assert_cmpint (read (sockets[0], buffer, 8), ==, 1);
  g_assert_true (eventfd_take (event_fd));
  close (event_fd);
  for (guint i = 0; i < 2; i++)
    {
      close (pipe_fds[i]);
      close (sockets[i]);
    }
  desk_end (&desk);
}

static void
test_directory (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[4];
  gint fd = open ("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  desk_begin (&desk, how);
  g_assert_cmpint (read_at (&desk, fd, buffer, 4, 0, &end), ==, -1);
  assert_failed (&end, G_IO_ERROR, G_IO_ERROR_IS_DIRECTORY, "Cannot read 4 bytes at offset 0");
  close (fd);
  desk_end (&desk);
}

static void
test_devices (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[4] = "abc";
  gint zero = open ("/dev/zero", O_RDWR | O_CLOEXEC), full = open ("/dev/full", O_RDWR | O_CLOEXEC);

  desk_begin (&desk, how);
  g_assert_cmpint (read_at (&desk, zero, buffer, 4, 0, &end), ==, 4);
  g_assert_cmpmem (buffer, 4, "\0\0\0\0", 4);
  g_assert_cmpint (write_at (&desk, full, "abc", 3, 0, &end), ==, -1);
  assert_failed (&end, G_IO_ERROR, G_IO_ERROR_NO_SPACE, "Cannot write 3 bytes at offset 0");
  close (zero);
  close (full);
  desk_end (&desk);
}

/* pread(2) waits for the disk with O_NONBLOCK as well. */
static void
test_nonblocking_fd (gconstpointer how)
{
  Desk desk;
  End end;
  char buffer[4] = "";

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, "abc", 3, 0, &end), ==, 3);
  g_assert_cmpint (sync_file (&desk, desk.fd, &end), ==, 0);
  posix_fadvise (desk.fd, 0, 0, POSIX_FADV_DONTNEED);
  g_assert_cmpint (fcntl (desk.fd, F_SETFL, O_NONBLOCK), ==, 0);
  g_assert_cmpint (read_at (&desk, desk.fd, buffer, 3, 0, &end), ==, 3);
  g_assert_cmpstr (buffer, ==, "abc");
  desk_end (&desk);
}

static void
test_file_size_limit (gconstpointer how)
{
  const struct rlimit small = { 4096, RLIM_INFINITY };
  struct rlimit before;
  Desk desk;
  End end;
  char buffer[8192] = "";
  g_autofree char *expected = g_strdup (g_strerror (EFBIG));

  desk_begin (&desk, how);
  signal (SIGXFSZ, SIG_IGN);
  g_assert_cmpint (getrlimit (RLIMIT_FSIZE, &before), ==, 0);
  g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &small), ==, 0);
  g_assert_cmpint (write_at (&desk, desk.fd, buffer, sizeof buffer, 0, &end), ==, 4096);
  g_assert_cmpint (write_at (&desk, desk.fd, buffer, 1, 4096, &end), ==, -1);
  assert_failed (&end, G_IO_ERROR, (gint) g_io_error_from_errno (EFBIG), expected);
  g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &before), ==, 0);
  signal (SIGXFSZ, SIG_DFL);
  desk_end (&desk);
}

/* --- Many --- */

#define MANY 3000

typedef struct
{
  guint32 value;
  End end;
} Item;

static void
test_many_at_once (gconstpointer how)
{
  g_autofree Item *items = g_new0 (Item, MANY);
  Desk desk;
  guint ended = 0;

  desk_begin (&desk, how);
  for (guint32 i = 0; i < MANY; i++)
    {
      items[i].value = i;
      drop (gaio_context_submit_pwrite (desk.context, desk.fd, &items[i].value, 4, 4 * i, on_end,
                                        &items[i].end, NULL));
    }
  for (guint i = 0; i < MANY; i++)
    desk_until (&desk, items[i].end.calls == 1);
  for (guint i = 0; i < MANY; i++)
    {
      g_assert_cmpint (items[i].end.result, ==, 4);
      items[i] = (Item){ .value = G_MAXUINT32 };
      drop (gaio_context_submit_pread (desk.context, desk.fd, &items[i].value, 4, 4 * i, on_end,
                                       &items[i].end, NULL));
    }
  for (guint i = 0; i < MANY; i++)
    {
      desk_until (&desk, items[i].end.calls == 1);
      g_assert_cmpuint (items[i].value, ==, i);
      ended += items[i].end.calls;
    }
  g_assert_cmpuint (ended, ==, MANY);
  desk_end (&desk);
}

/* Each callback submits the next. */
typedef struct
{
  Desk *desk;
  guint left;
  char buffer[8];
} Chain;

static void
continue_chain (gssize result, const GError *error, gpointer data)
{
  Chain *chain = data;

  g_assert_no_error (error);
  g_assert_cmpint (result, ==, 8);
  if (--chain->left > 0)
    drop (gaio_context_submit_pread (chain->desk->context, chain->desk->fd, chain->buffer, 8, 0,
                                     continue_chain, chain, NULL));
}

static void
test_submitted_in_a_callback (gconstpointer how)
{
  Desk desk;
  End end;
  Chain chains[5];

  desk_begin (&desk, how);
  g_assert_cmpint (write_at (&desk, desk.fd, "12345678", 8, 0, &end), ==, 8);
  for (guint i = 0; i < G_N_ELEMENTS (chains); i++)
    {
      chains[i] = (Chain){ .desk = &desk, .left = 101 };
      continue_chain (8, NULL, &chains[i]);
    }
  for (guint i = 0; i < G_N_ELEMENTS (chains); i++)
    desk_until (&desk, chains[i].left == 0);
  desk_end (&desk);
}

static void
set_flag (gpointer flag)
{
  *(gboolean *) flag = TRUE;
}

static void
expect_flag (gssize result, const GError *error, gpointer flag)
{
  g_assert_true (*(gboolean *) flag);
  *(gboolean *) flag = FALSE;
}

/* Also if the kernel has finished it at once. */
static void
test_always_in_a_later_round (gconstpointer how)
{
  Desk desk;
  gboolean submitted = FALSE;

  desk_begin (&desk, how);
  drop (gaio_context_submit_fsync (desk.context, desk.fd, expect_flag, &submitted, NULL));
  set_flag (&submitted);
  desk_until (&desk, !submitted);
  desk_end (&desk);
}

/* --- Bad input --- */

static void
test_bad_arguments (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  GaioIOOp *op;
  char buffer[4];

  expect_critical (op = gaio_context_submit_pread (context, 0, NULL, 4, 0, on_end, NULL, NULL));
  g_assert_null (op);
  expect_critical (op = gaio_context_submit_pread (context, 0, buffer, 4, -1, on_end, NULL, NULL));
  g_assert_null (op);
  expect_critical (op = gaio_context_submit_pwrite (context, 0, buffer, 4, 0, NULL, NULL, NULL));
  g_assert_null (op);
  op = gaio_context_submit_pread (context, -1, buffer, 4, 0, on_end, NULL, &error);
  g_assert_null (op);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  g_assert_cmpstr (error->message, ==, "fd -1 is not open");
}

static void
test_closed_context (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  char buffer[4];

  gaio_context_close (context);
  g_assert_null (gaio_context_submit_pread (context, 0, buffer, 4, 0, on_end, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_ways ("/file-io/read-and-write", test_read_and_write);
  add_ways ("/file-io/short-at-the-end-of-the-file", test_short_at_the_end);
  add_ways ("/file-io/offsets-beyond-32-bits", test_large_offsets);
  add_ways ("/file-io/no-bytes", test_nothing);
  add_ways ("/file-io/position-of-the-fd-stays", test_position_stays);
  add_ways ("/file-io/fd-that-is-not-open", test_fd_that_is_not_open);
  add_ways ("/file-io/fd-for-the-other-direction", test_fd_for_the_other_direction);
  add_ways ("/file-io/files-without-offsets-keep-what-is-in-them", test_files_without_offsets);
  add_ways ("/file-io/directory", test_directory);
  add_ways ("/file-io/devices", test_devices);
  add_ways ("/file-io/nonblocking-fd-waits-for-the-disk", test_nonblocking_fd);
  add_ways ("/file-io/file-size-limit", test_file_size_limit);
  add_ways ("/file-io/many-at-once", test_many_at_once);
  add_ways ("/file-io/submitted-in-a-callback", test_submitted_in_a_callback);
  add_ways ("/file-io/always-in-a-later-round", test_always_in_a_later_round);
  g_test_add_func ("/file-io/bad-arguments", test_bad_arguments);
  g_test_add_func ("/file-io/closed-context", test_closed_context);
  return g_test_run ();
}
