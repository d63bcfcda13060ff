/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

void gaio_sweep_init (GaioContext *context);
void gaio_sweep_clear (GaioCore *core);
void gaio_sweep_before_wait (GaioCore *core);
