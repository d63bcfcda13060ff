/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GVariant) stats = NULL;
  const char *monitor = NULL, *note = "as asked for";

  gaio_context_iterate (context, 0);
  stats = gaio_context_dup_stats (context);
  g_variant_lookup (stats, "monitor", "&s", &monitor);
  g_variant_lookup (stats, "monitor-note", "&s", &note);
  g_print ("%s: %s\n", monitor, note);
  return 0;
}
