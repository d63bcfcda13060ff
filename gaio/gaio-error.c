/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-error-private.h"

#include <errno.h>
#include <sys/resource.h>

/**
 * SECTION:gaio-error
 * @title: Errors
 * @short_description: why a call has failed
 *
 * Every #GError from Gaio is in the %GAIO_ERROR domain, and its message names the fd and the cause.
 */

/* It would take the dashes for minuses. */
/* clang-format off */
G_DEFINE_QUARK (gaio-error-quark, gaio_error)
/* clang-format on */

static GaioError
code_from_errno (int errsv)
{
  switch (errsv)
    {
    case EBADF:
    case ENOENT:
      return GAIO_ERROR_BAD_FD;
    case EMFILE:
      return GAIO_ERROR_PROCESS_LIMIT;
    case ENFILE:
      return GAIO_ERROR_SYSTEM_LIMIT;
    case ENOSPC:
      return GAIO_ERROR_WATCH_LIMIT;
    case ENOMEM:
      return GAIO_ERROR_NO_MEMORY;
    case ELOOP:
    case EINVAL:
      return GAIO_ERROR_NOT_SUPPORTED;
    default:
      return GAIO_ERROR_FAILED;
    }
}

static char *
describe (int errsv)
{
  struct rlimit limit = { 0, 0 };

  switch (errsv)
    {
    case EBADF:
      return g_strdup ("is not open");
    case ENOENT:
      return g_strdup ("is no longer the file it was added for");
    case EMFILE:
      getrlimit (RLIMIT_NOFILE, &limit);
      return g_strdup_printf ("the process has reached its limit of %lu open fds (RLIMIT_NOFILE)",
                              (unsigned long) limit.rlim_cur);
    case ENFILE:
      return g_strdup ("the system has reached its limit of open files (fs.file-max)");
    case ENOSPC:
      return g_strdup ("the user has reached the limit of epoll watches "
                       "(/proc/sys/fs/epoll/max_user_watches)");
    case ELOOP:
    case EINVAL:
      return g_strdup ("is an epoll fd that is nested too deeply, or the context's own");
    default:
      return g_strdup (g_strerror (errsv));
    }
}

static gboolean
is_about_the_fd (int errsv)
{
  return errsv == EBADF || errsv == ENOENT || errsv == ELOOP || errsv == EINVAL;
}

void
gaio_error_set_for_fd (GError **error, int errsv, int fd)
{
  g_autofree char *cause = describe (errsv);

  g_set_error (error, GAIO_ERROR, code_from_errno (errsv), "fd %d%s %s", fd,
               is_about_the_fd (errsv) ? "" : ":", cause);
}

/* No fd of the caller's is to blame. */
void
gaio_error_set_for_own (GError **error, int errsv, const char *what)
{
  gboolean odd = is_about_the_fd (errsv);
  g_autofree char *cause = odd ? g_strdup (g_strerror (errsv)) : describe (errsv);

  g_set_error (error, GAIO_ERROR, odd ? GAIO_ERROR_FAILED : code_from_errno (errsv), "%s: %s", what,
               cause);
}
