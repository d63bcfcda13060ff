/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-fdmon-private.h"

/* A table of fds that are asked with poll(2): all of the poll monitor's, and those that the epoll
 * monitor does not put into its set. The operations are those of GaioFdmonOps. */

void gaio_fdmon_poll_make (GaioFdmon *mon);
gboolean gaio_fdmon_poll_has (const GaioFdmon *mon, int fd);
gboolean gaio_fdmon_poll_tells_once (const GaioFdmon *mon, int fd);
gboolean gaio_fdmon_poll_is_still (const GaioFdmon *mon, int fd);
int gaio_fdmon_poll_add (GaioFdmon *mon, int fd, guint32 mask, guint64 key);
int gaio_fdmon_poll_modify (GaioFdmon *mon, int fd, guint32 mask, guint64 key);
int gaio_fdmon_poll_remove (GaioFdmon *mon, int fd);
void gaio_fdmon_poll_clear (GaioFdmon *mon);
gboolean gaio_fdmon_poll_show (GaioFdmon *mon, GSource *source);
void gaio_fdmon_poll_wake_for_told (GaioFdmon *mon);
gboolean gaio_fdmon_poll_see_glib (GaioFdmon *mon, GSource *source);
void gaio_fdmon_poll_begin_wait (GaioFdmon *mon);
int gaio_fdmon_poll_wait (GaioFdmon *mon, int max_events, gint64 timeout_us);
int gaio_fdmon_poll_end_wait (GaioFdmon *mon, int n, int max_events);
