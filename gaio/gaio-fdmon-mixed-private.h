/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-fdmon-private.h"

int gaio_fdmon_mixed_add_apart (GaioFdmon *mon, int fd, guint32 mask, guint64 key);
