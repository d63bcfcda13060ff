/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A terminal that is drawn on repeatedly, and restored when the program ends. */
#pragma once

#include <gaio.h>

gboolean top_screen_is_possible (void);
void top_screen_enter (GaioNotifier *on_change);
void top_screen_leave (void);
gboolean top_screen_draw (const char *text);
gboolean top_write (const char *text, gsize length);
