/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

gboolean gaio_serve_check_fds (GError **error);
GMainContext *gaio_serve_create_reusable (GaioContext *context, GError **error);
