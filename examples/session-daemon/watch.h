/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

typedef struct
{
  guint source_id;      /* --watch=glib */
  GaioHandler *handler; /* --watch=gaio */
} LogbookWatch;

/* How all are watched; Gaio if nothing is said. */
extern gboolean logbook_watch_with_glib;

gboolean logbook_watch_set (LogbookWatch *self,
                            const char *name,
                            int fd,
                            GIOCondition condition,
                            GaioFdFunc func,
                            gpointer user_data);
void logbook_watch_clear (LogbookWatch *self);
