/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

/* From the kernel to the ready list, in two halves: between them the caller asks the kernel. By the
 * owner, with the lock held. */

typedef struct
{
  int max;        /* how many events to ask for */
  gboolean all;   /* more are asked for if there are more */
  gboolean news;  /* there is something to report */
  gboolean again; /* an fd has been seen before: the kernel has come round */
  gboolean stale; /* an fd that nobody knows */
} GaioGathering;

void gaio_gather_begin (GaioCore *core, guint room, GaioGathering *self);
gboolean gaio_gather_end (GaioCore *core, int n, GaioGathering *self);
