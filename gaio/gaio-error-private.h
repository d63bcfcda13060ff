/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-error.h>

/* Sets @error for what a system call has said: about @fd, or about something of ours, told by
 * @what. */
void gaio_error_set_for_fd (GError **error, int errsv, int fd);
void gaio_error_set_for_own (GError **error, int errsv, const char *what);
