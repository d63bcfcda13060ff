/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-error.h>

/* Sets @error after a system call has failed: for @fd, or for something of our own, which @what
 * describes. */
void gaio_error_set_for_fd (GError **error, int errsv, int fd);
void gaio_error_set_for_own (GError **error, int errsv, const char *what);
