/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

typedef struct _LogbookJob LogbookJob;

/* @result is "exited 0", "killed by signal 9", "timed out" or "stopped". The job is freed. */
typedef void (*LogbookJobFunc) (LogbookJob *job, const char *result, gpointer user_data);

LogbookJob *logbook_job_start (char **argv,
                               gint seconds,
                               LogbookJobFunc func,
                               gpointer user_data,
                               GError **error);
void logbook_job_stop (LogbookJob *self);
