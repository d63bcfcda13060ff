/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "server.h"

/* One connection. Whoever still has an answer to give holds a reference; when the client has gone,
 * to answer it does nothing. */
typedef struct _LogbookClient LogbookClient;

LogbookClient *logbook_client_new (LogbookServer *server, int fd);
LogbookClient *logbook_client_ref (LogbookClient *self);
void logbook_client_unref (LogbookClient *self);
void logbook_client_close (LogbookClient *self);
void logbook_client_tell (LogbookClient *self, const char *line);
void logbook_client_expect_answer (LogbookClient *self);
void logbook_client_answer (LogbookClient *self, const char *line);
