/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-io-op-private.h"

/* How file operations get to the kernel and back: through io_uring, or with the threads of a
 * pool. */

gboolean gaio_file_engine_start (GaioCore *core);
gboolean gaio_file_engine_gather (GaioCore *core);
void gaio_file_engine_close (GaioCore *core);
gboolean gaio_file_engine_watches_ring (GaioCore *core);
