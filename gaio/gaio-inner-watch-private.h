/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-inner-private.h"

gint64 gaio_inner_watch (GaioInner *self, gboolean complete, gint64 *retry_us);
gboolean gaio_inner_check (GaioInner *self);
void gaio_inner_set_paused (GaioInner *self, gboolean paused);
