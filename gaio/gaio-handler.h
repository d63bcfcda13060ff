/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GaioFdFunc:
 * @fd: the file descriptor
 * @condition: what is ready: only conditions that were requested, and %G_IO_HUP and %G_IO_ERR
 * @user_data: the data given to gaio_context_add_fd()
 *
 * Called on the owner of the context when @fd is ready. The same as #GUnixFDSourceFunc.
 *
 * In Python and JavaScript, a function that raises an exception, or that ends without `return`,
 * counts as returning %G_SOURCE_REMOVE.
 *
 * Returns: %G_SOURCE_CONTINUE to be called again, %G_SOURCE_REMOVE to remove the handler
 *
 * Since: 1.0
 */
typedef gboolean (*GaioFdFunc) (gint fd, GIOCondition condition, gpointer user_data);

/**
 * GAIO_TYPE_HANDLER:
 *
 * The boxed type of #GaioHandler.
 *
 * Since: 1.0
 */
#define GAIO_TYPE_HANDLER (gaio_handler_get_type ())
GAIO_AVAILABLE_IN_1_0
GType gaio_handler_get_type (void) G_GNUC_CONST;

GAIO_AVAILABLE_IN_1_0
GaioHandler *gaio_context_add_fd (GaioContext *self,
                                  gint fd,
                                  GIOCondition condition,
                                  GaioFdFunc func,
                                  gpointer user_data,
                                  GDestroyNotify notify,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

GAIO_AVAILABLE_IN_1_0
GaioHandler *gaio_handler_ref (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
void gaio_handler_unref (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_handler_set_condition (GaioHandler *self, GIOCondition condition, GError **error);
GAIO_AVAILABLE_IN_1_0
GIOCondition gaio_handler_get_condition (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
gint gaio_handler_get_fd (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
GaioContext *gaio_handler_dup_context (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
void gaio_handler_remove (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
void gaio_handler_remove_sync (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
gboolean gaio_handler_is_removed (GaioHandler *self);
GAIO_AVAILABLE_IN_1_0
void gaio_handler_set_name (GaioHandler *self, const char *name);
GAIO_AVAILABLE_IN_1_0
void gaio_handler_set_can_recurse (GaioHandler *self, gboolean can_recurse);
GAIO_AVAILABLE_IN_1_0
void gaio_handler_set_poll_funcs (GaioHandler *self,
                                  GSourceFunc poll,
                                  GSourceOnceFunc poll_begin,
                                  GSourceOnceFunc poll_end);
GAIO_AVAILABLE_IN_1_0
void gaio_clear_handler (GaioHandler **handler_ptr);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioHandler, gaio_handler_unref)

G_END_DECLS
