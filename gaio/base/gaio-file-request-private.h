/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* A system call on a file: what it is, and how it has ended. */

/* What pread(2) and pwrite(2) transfer at most. */
#define GAIO_FILE_MAX_COUNT 0x7ffff000

typedef enum
{
  GAIO_FILE_PREAD,
  GAIO_FILE_PWRITE,
  GAIO_FILE_FSYNC,
} GaioFileCall;

typedef struct
{
  GaioFileCall call;
  gint fd;
  gpointer buffer;
  gsize count;
  goffset offset;
  gint64 result; /* as that of the system call, but a negative errno on error */
} GaioFileRequest;

gint64 gaio_file_request_run (const GaioFileRequest *request);
