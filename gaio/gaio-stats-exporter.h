/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gio/gio.h>

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

GAIO_AVAILABLE_IN_1_0
GaioStatsExporter *gaio_stats_exporter_new (GaioContext *context,
                                            GDBusConnection *connection,
                                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
const char *gaio_stats_exporter_get_object_path (GaioStatsExporter *self);
GAIO_AVAILABLE_IN_1_0
void gaio_stats_exporter_stop (GaioStatsExporter *self);

G_END_DECLS
