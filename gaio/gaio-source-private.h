/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-source.h>

#include "gaio-core-private.h"

void gaio_source_attach_shared (GaioContext *context, GMainContext *main_context);
