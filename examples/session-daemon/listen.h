/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

int logbook_listen (const char *path, gboolean *made, GError **error);
