/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

#include "config.h"

#define LOGBOOK_TYPE_SERVER (logbook_server_get_type ())
G_DECLARE_FINAL_TYPE (LogbookServer, logbook_server, LOGBOOK, SERVER, GObject)

struct _LogbookClient;

/* @result as in LogbookJobFunc. */
typedef void (*LogbookRunFunc) (const char *name, const char *result, gpointer user_data);

LogbookServer *logbook_server_new (const LogbookConfig *config, GError **error);
void logbook_server_stop (LogbookServer *self);
guint logbook_server_count_clients (LogbookServer *self);
guint64 logbook_server_count_entries (LogbookServer *self);
gboolean logbook_server_run (LogbookServer *self,
                             const char *name,
                             LogbookRunFunc func,
                             gpointer user_data,
                             GError **error);

/* What clients ask for. */
void logbook_server_put (LogbookServer *self,
                         struct _LogbookClient *client,
                         const char *id,
                         const char *text);
void logbook_server_add_watcher (LogbookServer *self, struct _LogbookClient *client);
void logbook_server_run_for (LogbookServer *self, struct _LogbookClient *client, const char *name);
void logbook_server_remove_client (LogbookServer *self, struct _LogbookClient *client);
