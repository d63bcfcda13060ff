/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

typedef struct _LogbookStore LogbookStore;

typedef enum
{
  LOGBOOK_NEW,     /* not safe before the next commit */
  LOGBOOK_PENDING, /* likewise: somebody else has added it just now */
  LOGBOOK_SAFE,    /* it has been there */
} LogbookState;

LogbookStore *logbook_store_open (const char *path, gboolean sync, GError **error);
void logbook_store_close (LogbookStore *self);
LogbookState logbook_store_add (LogbookStore *self, const char *id, const char *text);
gboolean logbook_store_commit (LogbookStore *self, GError **error);
guint64 logbook_store_count (LogbookStore *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (LogbookStore, logbook_store_close)
