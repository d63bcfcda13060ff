/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gio/gio.h>

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GAIO_TYPE_SOCKET_SERVICE:
 *
 * The type of #GaioSocketService.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_SOCKET_SERVICE (gaio_socket_service_get_type ())
GAIO_AVAILABLE_IN_1_0
G_DECLARE_DERIVABLE_TYPE (GaioSocketService,
                          gaio_socket_service,
                          GAIO,
                          SOCKET_SERVICE,
                          GSocketService)

/**
 * GaioSocketServiceClass:
 * @parent_class: the class of #GSocketService
 * @connection: the default handler of #GaioSocketService::connection
 *
 * The class of #GaioSocketService.
 *
 * Since: 1.0
 */
struct _GaioSocketServiceClass
{
  GSocketServiceClass parent_class;

  void (*connection) (GaioSocketService *self,
                      GSocketConnection *connection,
                      GObject *source_object);

  /*< private >*/
  gpointer padding[8];
};

GAIO_AVAILABLE_IN_1_0
GSocketService *gaio_socket_service_new (GaioContext *context) G_GNUC_WARN_UNUSED_RESULT;
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_socket_service_get_context (GaioSocketService *self);

G_END_DECLS
