/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <gaio/gaio-types.h>

G_BEGIN_DECLS

/**
 * GAIO_ERROR:
 *
 * The error domain of Gaio; the codes are #GaioError.
 *
 * Since: 1.0
 */
#define GAIO_ERROR (gaio_error_quark ())

/**
 * GaioError:
 * @GAIO_ERROR_FAILED: another error; the message says which.
 * @GAIO_ERROR_BAD_FD: the fd is not open, or no longer refers to the file it was added for (EBADF,
 *   ENOENT).
 * @GAIO_ERROR_PROCESS_LIMIT: the process cannot open more fds (EMFILE).
 * @GAIO_ERROR_SYSTEM_LIMIT: the system cannot open more files (ENFILE).
 * @GAIO_ERROR_WATCH_LIMIT: the user cannot watch more fds with epoll (ENOSPC, see
 *   `/proc/sys/fs/epoll/max_user_watches`).
 * @GAIO_ERROR_NO_MEMORY: the kernel is out of memory (ENOMEM).
 * @GAIO_ERROR_CLOSED: the context is closed.
 * @GAIO_ERROR_FORKED: the context belongs to the process that this one was forked from.
 * @GAIO_ERROR_REMOVED: the handler has been removed.
 * @GAIO_ERROR_WRONG_THREAD: another thread owns the context.
 * @GAIO_ERROR_NOT_SUPPORTED: the kernel cannot watch this fd, because it is an epoll fd that is
 *   nested too deeply or one of the context's own fds; or the kernel has no pidfd_open(2).
 *
 * Why a call failed. After an error, nothing has changed.
 *
 * Since: 1.0
 */
typedef enum
{
  GAIO_ERROR_FAILED,
  GAIO_ERROR_BAD_FD,
  GAIO_ERROR_PROCESS_LIMIT,
  GAIO_ERROR_SYSTEM_LIMIT,
  GAIO_ERROR_WATCH_LIMIT,
  GAIO_ERROR_NO_MEMORY,
  GAIO_ERROR_CLOSED,
  GAIO_ERROR_FORKED,
  GAIO_ERROR_REMOVED,
  GAIO_ERROR_WRONG_THREAD,
  GAIO_ERROR_NOT_SUPPORTED,
} GaioError;

GAIO_AVAILABLE_IN_1_0
GQuark gaio_error_quark (void);

G_END_DECLS
