/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A program that exports the statistics of its loop, for test-gaio-top.py: it is always busy. */
#include <fcntl.h>

#include <gaio.h>

#define BUSY_US 100

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  gint64 end_us = g_get_monotonic_time () + BUSY_US;

  while (g_get_monotonic_time () < end_us)
    ;
  return G_SOURCE_CONTINUE;
}

static gboolean
stay_ready (gpointer user_data)
{
  return G_SOURCE_CONTINUE;
}

static GMainContext *
create_busy_main_context (GaioContext *context, GObject *owner, GError **error)
{
  GMainContext *main_context = gaio_context_create_main_context (context, owner, error);
  g_autoptr (GSource) source = g_idle_source_new ();

  g_source_set_priority (source, G_PRIORITY_DEFAULT);
  g_source_set_callback (source, stay_ready, NULL, NULL);
  if (main_context != NULL)
    g_source_attach (source, main_context);
  return main_context;
}

int
main (int argc, char **argv)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GError) error = NULL;
  g_autoptr (GDBusConnection) connection = g_bus_get_sync (G_BUS_TYPE_SESSION, NULL, &error);
  g_autoptr (GaioStatsExporter) exporter = NULL;
  g_autoptr (GaioHandler) handler = NULL;
  g_autoptr (GMainContext) served = NULL;

  g_set_prgname ("top-exporter");
  if (connection != NULL)
    exporter = gaio_stats_exporter_new (context, connection, &error);
  if (exporter != NULL)
    served = create_busy_main_context (context, G_OBJECT (exporter), &error);
  if (served != NULL)
    handler = gaio_context_add_fd (context, open ("/dev/zero", O_RDONLY | O_CLOEXEC), G_IO_IN,
                                   on_ready, NULL, NULL, &error);
  if (handler == NULL)
    g_error ("%s", error->message);
  gaio_handler_set_name (handler, "busy");
  g_print ("ready\n");
  g_main_loop_run (loop);
}
