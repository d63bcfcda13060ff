/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-io-op-private.h"

/* The threads that do what the ring does not. By the owner. */

/* With the lock held. */
void gaio_file_pool_push (GaioIOOp *op);
void gaio_file_pool_close (GaioCore *core);
