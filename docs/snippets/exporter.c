/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

static gboolean
on_tick (gpointer data)
{
  g_usleep (2000);
  return G_SOURCE_CONTINUE;
}

int
main (void)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GError) error = NULL;
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GaioTimer) timer = gaio_context_add_timeout (context, 50000, on_tick, NULL, NULL);
  g_autoptr (GaioStatsExporter) exporter = NULL;
  g_autoptr (GDBusConnection) bus = NULL;

  g_set_prgname ("exporter");
  bus = g_bus_get_sync (G_BUS_TYPE_SESSION, NULL, &error);
  if (bus != NULL)
    exporter = gaio_stats_exporter_new (context, bus, &error);
  if (exporter == NULL)
    g_error ("%s", error->message);
  g_print ("%s\n", gaio_stats_exporter_get_object_path (exporter));
  g_main_loop_run (loop);
  return 0;
}
