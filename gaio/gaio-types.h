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

typedef struct _GaioHandler GaioHandler;
typedef struct _GaioTimer GaioTimer;
typedef struct _GaioBottomHalf GaioBottomHalf;

/**
 * GaioMonitorType:
 * @GAIO_MONITOR_TYPE_AUTO: the best one for an application, epoll(7). The environment variable
 *   `GAIO_MONITOR` (`epoll`, `poll` or `io_uring`) overrides it.
 * @GAIO_MONITOR_TYPE_EPOLL: epoll(7).
 * @GAIO_MONITOR_TYPE_POLL: poll(2). Not in this version yet: a context that asks for it uses epoll
 *   and gaio_context_dup_stats() says so.
 * @GAIO_MONITOR_TYPE_IO_URING: io_uring(7). Not in this version yet, likewise.
 *
 * What a #GaioContext asks the kernel with.
 *
 * Since: 1.0
 */
typedef enum
{
  GAIO_MONITOR_TYPE_AUTO,
  GAIO_MONITOR_TYPE_EPOLL,
  GAIO_MONITOR_TYPE_POLL,
  GAIO_MONITOR_TYPE_IO_URING,
} GaioMonitorType;

G_END_DECLS
