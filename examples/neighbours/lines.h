/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

/* @line is NULL at the end. */
typedef void (*LineFunc) (const char *line, gpointer user_data);

void read_lines (GaioContext *context, LineFunc func, gpointer user_data);
GMainLoop *create_main_loop (void);
