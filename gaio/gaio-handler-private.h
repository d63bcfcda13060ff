/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-registration-private.h"

typedef struct
{
  gint fd;
  GIOCondition condition;
  GaioFdFunc func;      /* of its own, or */
  GaioRecords *records; /* of the ready set that it is a member of */
  guint64 token;
  gpointer user_data;
  GDestroyNotify notify;
} GaioHandlerParams;

extern const GaioEntryType gaio_handler_entry_type;

/* On error @params->notify has run. */
GaioHandler *gaio_handler_add (GaioCore *core, const GaioHandlerParams *params, GError **error);
gboolean gaio_handler_check_condition (gint fd, GIOCondition condition);
void gaio_handler_bury (GaioHandler *self);
gboolean gaio_handler_serve (GaioHandler *self);
