/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

typedef struct
{
  char *socket_path;
  char *log_path;
  gboolean sync;
  gint command_seconds;
  GHashTable *commands; /* name -> argv */
} LogbookConfig;

LogbookConfig *logbook_config_load (const char *path, GError **error);
void logbook_config_free (LogbookConfig *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (LogbookConfig, logbook_config_free)
