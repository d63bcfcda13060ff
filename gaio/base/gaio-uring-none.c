/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-uring-private.h"

#include <errno.h>

/* Where liburing is missing there is never a ring, and nobody calls the rest. */

GaioUring *
gaio_uring_new (int *errsv)
{
  *errsv = ENOSYS;
  return NULL;
}

gboolean
gaio_uring_is_lost (int errsv)
{
  return FALSE;
}

void
gaio_uring_free (GaioUring *self)
{
}

void
gaio_uring_forget (GaioUring *self)
{
}

int
gaio_uring_get_fd (const GaioUring *self)
{
  return -1;
}

guint
gaio_uring_get_room (const GaioUring *self)
{
  return 0;
}

gboolean
gaio_uring_is_empty (const GaioUring *self)
{
  return TRUE;
}

gboolean
gaio_uring_is_ready (gpointer uring)
{
  return FALSE;
}

void
gaio_uring_add (GaioUring *self, GaioFileRequest *request)
{
}

void
gaio_uring_add_cancel (GaioUring *self, GaioFileRequest *request)
{
}

guint
gaio_uring_submit (GaioUring *self, int *errsv)
{
  return 0;
}

GaioFileRequest *
gaio_uring_take (GaioUring *self)
{
  return NULL;
}

void
gaio_uring_wait (GaioUring *self)
{
}
