/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The loops as a table for people, and as a line of JSON. */
#pragma once

#include <glib.h>

void top_print_table (GString *out, const GPtrArray *loops);
void top_print_json (GString *out, const GPtrArray *loops, gint64 real_time_us);
