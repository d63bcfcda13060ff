/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-fdmon-private.h"

/* Between begin and end the caller carries each of its fds over into a new set, which then, if that
 * is complete, takes the place and the number of the old one. Each FALSE leaves the old one in
 * place. Only an epoll set needs that: the others forget what they are told to. */
typedef struct
{
  int new_set;
} GaioFdmonRebuild;

gboolean gaio_fdmon_epoll_rebuild_begin (GaioFdmon *mon, GaioFdmonRebuild *rebuild);
gboolean
gaio_fdmon_epoll_rebuild_carry (GaioFdmonRebuild *rebuild, int fd, guint32 mask, guint64 key);
gboolean
gaio_fdmon_epoll_rebuild_end (GaioFdmon *mon, GaioFdmonRebuild *rebuild, gboolean complete);
