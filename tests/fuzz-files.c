/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE 4096

static void
file_free (gpointer data)
{
  FuzzFile *file = data;

  for (guint i = 0; i < FUZZ_N_NUMBERS; i++)
    if (file->numbers[i] != -1)
      close (file->numbers[i]);
  g_free (file);
}

GPtrArray *
fuzz_files_new (void)
{
  return g_ptr_array_new_with_free_func (file_free);
}

static FuzzFile *
add (GPtrArray *files, FuzzFileKind kind, gint number)
{
  FuzzFile *file;

  if (number < 0)
    return NULL;
  file = g_new0 (FuzzFile, 1);
  *file = (FuzzFile){ kind, { number, -1 }, NULL };
  g_ptr_array_add (files, file);
  return file;
}

static FuzzFile *
add_pair (GPtrArray *files, FuzzFileKind kind, const gint numbers[2])
{
  FuzzFile *one = add (files, kind, numbers[0]);

  one->other = add (files, kind, numbers[1]);
  one->other->other = one;
  return one;
}

static FuzzFile *
open_pipe (GPtrArray *files)
{
  gint numbers[2];

  if (pipe2 (numbers, O_CLOEXEC | O_NONBLOCK) != 0)
    return NULL;
  fcntl (numbers[0], F_SETPIPE_SZ, BUFFER_SIZE);
  return add_pair (files, FUZZ_PIPE, numbers);
}

static FuzzFile *
open_sockets (GPtrArray *files)
{
  const gint size = BUFFER_SIZE;
  gint numbers[2];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, numbers) != 0)
    return NULL;
  for (guint i = 0; i < G_N_ELEMENTS (numbers); i++)
    setsockopt (numbers[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  return add_pair (files, FUZZ_SOCKET, numbers);
}

/* Of two ends this gives one. NULL if there is no fd for it. */
FuzzFile *
fuzz_files_open (GPtrArray *files, FuzzFileKind kind)
{
  switch (kind)
    {
    case FUZZ_EVENTFD:
      return add (files, kind, eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK));
    case FUZZ_PIPE:
      return open_pipe (files);
    case FUZZ_SOCKET:
      return open_sockets (files);
    case FUZZ_NULL:
      return add (files, kind, open ("/dev/null", O_RDWR | O_CLOEXEC));
    default:
      return add (files, kind, memfd_create ("fuzz", MFD_CLOEXEC));
    }
}

/* The file that @number means now, or NULL. */
FuzzFile *
fuzz_files_lookup (GPtrArray *files, gint number)
{
  for (guint i = 0; number != -1 && i < files->len; i++)
    {
      FuzzFile *file = files->pdata[i];

      for (guint n = 0; n < FUZZ_N_NUMBERS; n++)
        if (file->numbers[n] == number)
          return file;
    }
  return NULL;
}

/* Whether @number means something that is not among @files, as the wake-up fd of a main context. */
gboolean
fuzz_files_is_foreign (GPtrArray *files, gint number)
{
  return fuzz_files_lookup (files, number) == NULL && fcntl (number, F_GETFD) != -1;
}

/* Nobody may use them any more. */
void
fuzz_files_forget_closed (GPtrArray *files)
{
  for (guint i = 0; i < files->len;)
    {
      FuzzFile *file = files->pdata[i];

      if (fuzz_file_number (file) != -1)
        {
          i++;
          continue;
        }
      if (file->other != NULL)
        file->other->other = NULL;
      g_ptr_array_remove_index_fast (files, i);
    }
}

const char *
fuzz_file_name (const FuzzFile *file)
{
  static const char *const names[FUZZ_N_KINDS] = { "eventfd", "pipe", "socket", "/dev/null",
                                                   "memory" };

  return names[file->kind];
}

/* A number under which it is open, or -1. */
gint
fuzz_file_number (const FuzzFile *file)
{
  return file->numbers[0] != -1 ? file->numbers[0] : file->numbers[1];
}

gboolean
fuzz_file_is_always_ready (const FuzzFile *file)
{
  return file->kind == FUZZ_NULL || file->kind == FUZZ_MEMORY;
}

/* What is ready, asked for or not; nothing when it is closed. */
guint
fuzz_file_poll (const FuzzFile *file)
{
  struct pollfd pollfd = { fuzz_file_number (file), POLLIN | POLLOUT | POLLPRI, 0 };

  return poll (&pollfd, 1, 0) == 1 ? pollfd.revents : 0;
}

/* Gives it another number. Returns that, or -1. */
gint
fuzz_file_copy (FuzzFile *file)
{
  for (guint i = 0; fuzz_file_number (file) != -1 && i < FUZZ_N_NUMBERS; i++)
    if (file->numbers[i] == -1)
      return file->numbers[i] = fcntl (fuzz_file_number (file), F_DUPFD_CLOEXEC, 0);
  return -1;
}

/* Returns which number is closed now, or -1. */
gint
fuzz_file_close (FuzzFile *file, guint which)
{
  gint number = file->numbers[which % FUZZ_N_NUMBERS];

  if (number == -1)
    return -1;
  close (number);
  file->numbers[which % FUZZ_N_NUMBERS] = -1;
  return number;
}

void
fuzz_file_write (FuzzFile *file, gboolean until_full)
{
  gint number = fuzz_file_number (file);
  const guint64 buffer[BUFFER_SIZE / sizeof (guint64)] = { 1 };
  gsize length = until_full && file->kind != FUZZ_EVENTFD ? BUFFER_SIZE : sizeof buffer[0];

  if (number == -1)
    return;
  if (until_full && file->kind == FUZZ_EVENTFD)
    {
      const guint64 most = G_MAXUINT64 - 1;

      write (number, &most, sizeof most);
    }
  else
    while (write (number, buffer, length) == (gssize) length && until_full &&
           !fuzz_file_is_always_ready (file))
      ;
}

void
fuzz_file_read (FuzzFile *file)
{
  gint number = fuzz_file_number (file);
  char buffer[BUFFER_SIZE];

  while (number != -1 && read (number, buffer, sizeof buffer) == (gssize) sizeof buffer)
    ;
}

void
fuzz_file_half_close (FuzzFile *file)
{
  if (file->kind == FUZZ_SOCKET && fuzz_file_number (file) != -1)
    shutdown (fuzz_file_number (file), SHUT_WR);
}
