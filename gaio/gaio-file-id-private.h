/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <glib.h>
#include <sys/stat.h>

/* What tells one file from another that came later under the same number. It does not tell eventfds
 * and their likes apart, which share one inode. */
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

static inline gboolean
gaio_file_id_is_still (const GaioFileId *id, int fd)
{
  GaioFileId now;

  return gaio_file_id_get (&now, fd) == 0 && now.dev == id->dev && now.ino == id->ino;
}
