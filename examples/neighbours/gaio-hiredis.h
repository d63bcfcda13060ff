/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <hiredis/async.h>
#include <gaio.h>

/* From now on, @context runs @redis, in its own thread, until hiredis has freed it. */
gboolean gaio_hiredis_attach (GaioContext *context, redisAsyncContext *redis, GError **error);
