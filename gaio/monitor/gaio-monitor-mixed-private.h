/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-monitor-ops-private.h"

int gaio_monitor_mixed_add_apart (GaioMonitor *mon, int fd, guint32 mask, guint64 key);
