/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GaioChildFunc:
 * @pid: the process
 * @wait_status: how it ended, as waitpid(2) returns it, for g_spawn_check_wait_status(); -1 if
 *   somebody else has already waited for it
 * @user_data: the data given to gaio_context_add_child()
 *
 * Called once, on the owner of the context, when a child process has ended. The same as
 * #GChildWatchFunc.
 *
 * Since: 1.0
 */
typedef void (*GaioChildFunc) (GPid pid, gint wait_status, gpointer user_data);

GAIO_AVAILABLE_IN_1_0
GaioHandler *gaio_context_add_child (GaioContext *self,
                                     GPid pid,
                                     GaioChildFunc func,
                                     gpointer user_data,
                                     GDestroyNotify notify,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_END_DECLS
