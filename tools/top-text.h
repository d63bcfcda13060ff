/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text from other processes, made harmless. */
#pragma once

#include <glib.h>

char *top_text_escape (const char *text, gboolean ascii_only);
void top_text_append_json (GString *out, const char *text);
guint top_text_get_width (const char *text);
gsize top_text_fit (const char *text, guint width);
void top_text_append_padded (GString *out, const char *text, guint width, gboolean to_the_right);
