/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

/* The end of a context. */
void gaio_close (GaioCore *core);
void gaio_close_finish (GaioCore *core);
void gaio_close_drop_shell (GaioCore *core);
void gaio_close_leave_in_child (GaioCore *core);
