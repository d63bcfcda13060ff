/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <glib-object.h>

#include <gaio/gaio-version-macros.h>

G_BEGIN_DECLS

/**
 * GAIO_TYPE_CONTEXT:
 *
 * The type of #GaioContext.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_CONTEXT (gaio_context_get_type ())
GAIO_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (GaioContext, gaio_context, GAIO, CONTEXT, GObject)

/**
 * GAIO_TYPE_READY_SET:
 *
 * The type of #GaioReadySet.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_READY_SET (gaio_ready_set_get_type ())
GAIO_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (GaioReadySet, gaio_ready_set, GAIO, READY_SET, GObject)

/**
 * GAIO_TYPE_THREAD:
 *
 * The type of #GaioThread.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_THREAD (gaio_thread_get_type ())
GAIO_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (GaioThread, gaio_thread, GAIO, THREAD, GObject)

/**
 * GAIO_TYPE_STATS_EXPORTER:
 *
 * The type of #GaioStatsExporter.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_STATS_EXPORTER (gaio_stats_exporter_get_type ())
GAIO_AVAILABLE_IN_1_0
G_DECLARE_FINAL_TYPE (GaioStatsExporter, gaio_stats_exporter, GAIO, STATS_EXPORTER, GObject)

typedef struct _GaioHandler GaioHandler;
typedef struct _GaioTimer GaioTimer;
typedef struct _GaioBottomHalf GaioBottomHalf;
typedef struct _GaioNotifier GaioNotifier;

/**
 * GaioMonitorType:
 * @GAIO_MONITOR_TYPE_AUTO: the best one for an application: epoll(7), or poll(2) where there is no
 *   epoll. The environment variable `GAIO_MONITOR` (`epoll` or `poll`) overrides this choice.
 * @GAIO_MONITOR_TYPE_EPOLL: epoll(7).
 * @GAIO_MONITOR_TYPE_POLL: poll(2), for kernels and sandboxes without epoll. Its cost grows with
 *   the number of fds, and a GLib main loop sees each of them.
 *
 * How a #GaioContext polls the kernel; gaio_context_dup_stats() reports which monitor is in use,
 * and why. The monitors differ in how they treat a handler whose fd was closed without removing the
 * handler: only epoll notices at once that the number now refers to another file. With poll, the
 * handler may be called for the new file until somebody adds that number.
 *
 * Since: 1.0
 */
typedef enum
{
  GAIO_MONITOR_TYPE_AUTO,
  GAIO_MONITOR_TYPE_EPOLL,
  GAIO_MONITOR_TYPE_POLL,
} GaioMonitorType;

/**
 * GaioReadyRecord:
 * @token: the token given to gaio_ready_set_add_fd()
 * @fd: the file descriptor
 * @condition: what is ready, a #GIOCondition
 *
 * The layout of one record of gaio_ready_set_take(): 16 bytes, native endian.
 *
 * Since: 1.0
 */
typedef struct _GaioReadyRecord GaioReadyRecord;

struct _GaioReadyRecord
{
  guint64 token;
  gint32 fd;
  guint32 condition;
};

G_END_DECLS
