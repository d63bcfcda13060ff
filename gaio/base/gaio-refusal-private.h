/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <stdbool.h>

/* Whether @errsv says that the kernel, its configuration or a sandbox does not have something at
 * all. A sandbox says so with whatever error it likes. A limit, which is reported and retried, does
 * not count; nor does an fd of ours that somebody has closed. */
static inline bool
gaio_is_refusal (int errsv)
{
  switch (errsv)
    {
    case 0:
    case EBADF:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
      return false;
    default:
      return true;
    }
}
