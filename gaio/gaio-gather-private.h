/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

/* From the kernel to the ready list. By the owner, with the lock held, which is released while it
 * waits. */
gboolean gaio_gather (GaioCore *core, guint room, gint64 timeout_us);
