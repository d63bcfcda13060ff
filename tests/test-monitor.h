/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* What only monitors have, or what is hard for one of them. The other tests run for each of them
 * too. */

static inline char *
string_stat (GaioContext *context, const char *key)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  char *value = NULL;

  g_variant_lookup (stats, key, "s", &value);
  return value;
}
