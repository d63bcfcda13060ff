/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-file-io.h>

#include "gaio-core-private.h"

/* A file operation, from its submission until its function has been called. */

typedef enum
{
  GAIO_IO_OP_NEW,     /* not submitted */
  GAIO_IO_OP_QUEUED,  /* to be started */
  GAIO_IO_OP_IN_RING, /* the kernel has it, or is about to get it */
  GAIO_IO_OP_WAITING, /* for a thread of the pool */
  GAIO_IO_OP_RUNNING, /* in a thread of the pool */
  GAIO_IO_OP_DONE,    /* its function is about to be called */
} GaioIOOpStage;

struct _GaioIOOp
{
  GaioFileRequest request;
  GaioRefCount ref_count; /* of the handles, and one until the function has returned */
  guint8 stage;           /* (lock) a GaioIOOpStage */
  bool cancelled;         /* (lock) by the user */
  GaioLink link;          /* (lock) among those that are queued, waiting or to be cancelled */
  GaioCore *core;
  GaioIOFunc func;
  gpointer user_data;
};

GaioIOOp *gaio_io_op_new (GaioCore *core,
                          const GaioFileRequest *request,
                          GaioIOFunc func,
                          gpointer user_data);
gboolean gaio_io_op_submit (GaioIOOp *self, GError **error);
void gaio_io_op_end (GaioIOOp *self, gint64 result);

static inline GaioIOOp *
gaio_io_op_from_link (GaioLink *link)
{
  return gaio_link_entry (link, GaioIOOp, link);
}

static inline GaioIOOp *
gaio_io_op_from_request (GaioFileRequest *request)
{
  return gaio_link_entry (request, GaioIOOp, request);
}
