/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-inner-private.h"

gboolean gaio_inner_serve (GaioInner *self);
void gaio_inner_look (GaioInner *self, gboolean thorough);
gboolean gaio_inner_call (GaioInner *self, GSourceOnceFunc func, gpointer user_data);
gboolean gaio_inner_begin_wait (GaioCore *core, gboolean under_glib);
