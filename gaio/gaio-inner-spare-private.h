/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-inner-private.h"

void gaio_inner_spare_offer (GaioInner *self);
GMainContext *gaio_inner_spare_take (GaioCore *core);
void gaio_inner_spare_mark (GaioInner *self);
void gaio_inner_spare_clear (GaioCore *core);
