/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* Time for a program that runs one loop: it stands still, but for who sleeps. What the library and
 * GLib ask of clocks, timerfds and waits is answered from here, so that a run takes no time, comes
 * out the same each time, and what is early or late is so by a microsecond. */

#define FUZZ_NEVER G_MAXINT64

/* Nothing is ready, and time is about to pass until @until. TRUE to look once more instead. */
typedef gboolean (*FuzzSleepFunc) (gint64 until, gpointer data);

void fuzz_time_begin (gint64 now, FuzzSleepFunc asleep, gpointer data);
gint64 fuzz_time_now (void);
void fuzz_time_pass (gint64 until);
guint fuzz_time_count_looks (void);

/* For g_main_context_set_poll_func(). */
gint fuzz_time_poll (GPollFD *fds, guint n_fds, gint timeout_ms);
