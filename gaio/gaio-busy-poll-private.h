/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-registration-private.h"

/* Adaptive busy polling: before the loop sleeps, it checks in user space for a while whether
 * something is ready. Each handler learns how long from how long the loop has had to wait for it.
 * By the owner, with the lock held, which is released while the handlers' functions run. The idea
 * is QEMU's. */

gboolean gaio_busy_poll_is_usable (GaioCore *core);
gboolean gaio_busy_poll_session (GaioCore *core, gint64 deadline);
gboolean gaio_busy_poll_once (GaioCore *core);
void gaio_busy_poll_adapt (GaioCore *core);

static inline gboolean
gaio_busy_poll_is_on (GaioCore *core)
{
  return G_UNLIKELY (core->busy_poll.max_us > 0) && gaio_busy_poll_is_usable (core);
}
