/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <glib.h>
#include <sys/stat.h>

/* Tells a file from one that later got the same number. It cannot tell apart eventfds and the like,
 * which share one inode. */
typedef struct
{
  dev_t dev;
  ino_t ino;
} GaioFileId;

/* Returns 0 or an errno. */
static inline int
gaio_file_id_get (GaioFileId *id, int fd)
{
  struct stat st;

  if (fstat (fd, &st) != 0)
    return errno;
  *id = (GaioFileId){ st.st_dev, st.st_ino };
  return 0;
}

/* If the file system does not answer, the file has not gone away. */
static inline gboolean
gaio_file_id_is_still (const GaioFileId *id, int fd)
{
  GaioFileId now;
  int errsv = gaio_file_id_get (&now, fd);

  if (errsv != 0)
    return errsv != EBADF;
  return now.dev == id->dev && now.ino == id->ino;
}
