/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-file-request-private.h"

/* A ring of io_uring, to which requests are given, and from which they come back. One thread at a
 * time may use it. */

/* How many requests can be added at most before they are submitted. */
#define GAIO_URING_BATCH 128

/* How many requests the kernel may have at a time. Its queue of results has room for twice as many:
 * each may have to be cancelled, which has a result of its own. */
#define GAIO_URING_MAX_IN_FLIGHT 512

typedef struct _GaioUring GaioUring;

GaioUring *gaio_uring_new (int *errsv);
gboolean gaio_uring_is_lost (int errsv);
void gaio_uring_free (GaioUring *self);
void gaio_uring_forget (GaioUring *self);
int gaio_uring_get_fd (const GaioUring *self);
guint gaio_uring_get_room (const GaioUring *self);
gboolean gaio_uring_is_empty (const GaioUring *self);
gboolean gaio_uring_is_ready (gpointer uring);
void gaio_uring_add (GaioUring *self, GaioFileRequest *request);
void gaio_uring_add_cancel (GaioUring *self, GaioFileRequest *request);
guint gaio_uring_submit (GaioUring *self, int *errsv);
GaioFileRequest *gaio_uring_take (GaioUring *self);
void gaio_uring_wait (GaioUring *self);
