/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-file-request-private.h"

#include <errno.h>
#include <unistd.h>

/* Makes the system call, and waits for it. */
gint64
gaio_file_request_run (const GaioFileRequest *request)
{
  gssize n;

  do
    switch (request->call)
      {
      case GAIO_FILE_PREAD:
        n = pread (request->fd, request->buffer, request->count, request->offset);
        break;
      case GAIO_FILE_PWRITE:
        n = pwrite (request->fd, request->buffer, request->count, request->offset);
        break;
      default:
        n = fsync (request->fd);
      }
  while (n == -1 && errno == EINTR);
  return n == -1 ? -errno : n;
}
