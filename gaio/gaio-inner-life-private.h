/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-inner-private.h"

GaioInner *gaio_inner_new (GaioContext *context,
                           GMainContext *main_context,
                           int wake_fd,
                           GObject *owner,
                           GError **error);
void gaio_inner_set_owner (GaioInner *self, GObject *owner);
void gaio_inner_set_served_error (GError **error);
void gaio_inner_destroy (GaioInner *self);
