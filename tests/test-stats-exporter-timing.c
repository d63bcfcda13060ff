/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-stats-exporter.h"

static gboolean
take_time_fd (gint fd, GIOCondition condition, gpointer data)
{
  g_assert_true (eventfd_take (fd));
  atomic_fetch_add (&clock_ahead_us, GPOINTER_TO_INT (data) * 1000);
  return G_SOURCE_CONTINUE;
}

static void
take_time (gpointer ms)
{
  atomic_fetch_add (&clock_ahead_us, GPOINTER_TO_INT (ms) * 1000);
}

static GaioHandler *
add_slow (GaioContext *context, gint fd, const char *name, guint ms)
{
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, take_time_fd, GINT_TO_POINTER (ms), NULL);

  gaio_handler_set_name (handler, name);
  return handler;
}

static void
test_slowest (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  gint fds[4] = { eventfd_new (0), eventfd_new (0), eventfd_new (0), eventfd_new (0) };
  GaioHandler *handlers[4] = { add_slow (context, fds[0], NULL, 300),
                               add_slow (context, fds[1], NULL, 100),
                               add_slow (context, fds[2], "twin", 200),
                               add_slow (context, fds[3], "twin", 400) };
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (context, take_time, GINT_TO_POINTER (600), NULL);

  assert_slowest (&bus, exporter, 10, "%s", "");
  for (guint i = 0; i < 4; i++)
    eventfd_add (fds[i]);
  gaio_timer_arm (timer, 0);
  gaio_context_defer (context, take_time, GINT_TO_POINTER (500), NULL);
  gaio_context_defer (context, take_time, GINT_TO_POINTER (50), NULL);
  while (gaio_context_iterate (context, 0))
    ;
  assert_slowest (
      &bus, exporter, 10,
      "timer '' -1 1 600 600, bottom half '' -1 2 550 500, handler 'twin' %d 2 600 400, "
      "handler '' %d 1 300 300, handler '' %d 1 100 100",
      fds[3], fds[0], fds[1]);
  assert_slowest (&bus, exporter, 1, "timer '' -1 1 600 600");
  assert_slowest (&bus, exporter, 0, "%s", "");
  for (guint i = 0; i < 4; i++)
    {
      gaio_clear_handler (&handlers[i]);
      close (fds[i]);
    }
}

static gboolean
take_time_in_turn (gpointer ms)
{
  take_time (ms);
  return G_SOURCE_REMOVE;
}

static void
test_turns (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GMainContext) main_context =
      gaio_context_create_main_context (context, G_OBJECT (exporter), NULL);
  g_autoptr (GSource) source = g_idle_source_new ();
  g_autofree char *name = g_strdup_printf ("%p of a GaioStatsExporter", (void *) main_context);
  g_autoptr (GVariant) rows = NULL, row = NULL;
  const char *row_kind, *row_name;
  guint64 longest_us;
  gint fd;

  assert_slowest (&bus, exporter, 10, "%s", "");
  g_source_set_callback (source, take_time_in_turn, GINT_TO_POINTER (300), NULL);
  g_source_attach (source, main_context);
  while (gaio_context_iterate (context, 0))
    ;
  rows = get_slowest (&bus, path_of (exporter), 1);
  row = g_variant_get_child_value (rows, 0);
  g_variant_get (row, "(&s&sittt)", &row_kind, &row_name, &fd, NULL, NULL, &longest_us);
  g_assert_cmpstr (row_kind, ==, "main context");
  g_assert_cmpstr (row_name, ==, name);
  g_assert_cmpint (fd, ==, -1);
  g_assert_cmpuint (longest_us, >=, 300 * 1000);
}

static void
nest (gpointer context)
{
  gaio_context_defer (context, take_time, GINT_TO_POINTER (400), NULL);
  gaio_context_iterate (context, 0);
  take_time (GINT_TO_POINTER (300));
}

static void
test_nested (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, nest, context, NULL);
  gint64 us;

  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  g_assert_cmpint (callback_time (&bus, exporter), ==, 0);
  gaio_timer_arm (timer, 0);
  gaio_context_iterate (context, 0);
  us = callback_time (&bus, exporter);
  g_assert_cmpint (us, >=, 700 * 1000);
  g_assert_cmpint (us, <, 1100 * 1000);
  assert_slowest (&bus, exporter, 2, "timer '' -1 1 700 700, bottom half '' -1 1 400 400");
}

static void
test_bounded (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  gint fd = eventfd_new (0);
  g_autoptr (GaioHandler) handler = add_slow (context, fd, NULL, 1);
  g_autoptr (GVariant) rows = NULL;

  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  for (guint i = 0; i < 300; i++)
    {
      g_autofree char *name = g_strdup_printf ("%u", i);

      gaio_handler_set_name (handler, name);
      eventfd_add (fd);
      while (gaio_context_iterate (context, 0))
        ;
    }
  rows = get_slowest (&bus, path_of (exporter), G_MAXUINT);
  g_assert_cmpuint (g_variant_n_children (rows), ==, 257);
  gaio_handler_set_name (handler, "one more");
  gaio_context_defer (context, take_time, GINT_TO_POINTER (900), NULL);
  gaio_context_iterate (context, 0);
  assert_slowest (&bus, exporter, 1, "others '' -1 45 %d 900", 900 + 44);
  gaio_clear_handler (&handler);
  close (fd);
}

static void
test_timing_ends (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  guint readings = readings_of_a_call (context);

  assert_slowest (&bus, exporter, 9, "%s", "");
  g_assert_cmpuint (readings_of_a_call (context), ==, readings + 2);
  let_timing_end ();
  g_assert_cmpuint (readings_of_a_call (context), ==, readings);
  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  assert_slowest (&bus, exporter, 9, "%s", "");
}

static void
test_asked_again (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GSource) end = NULL;

  assert_slowest (&bus, exporter, 9, "%s", "");
  end = g_source_ref (timing_end);
  gaio_context_defer (context, take_time, GINT_TO_POINTER (500), NULL);
  gaio_context_iterate (context, 0);
  g_assert_cmpint (callback_time (&bus, exporter), >=, 500 * 1000);
  g_assert_true (g_source_is_destroyed (end));
  g_assert_false (g_source_is_destroyed (timing_end));
  assert_slowest (&bus, exporter, 9, "bottom half '' -1 1 500 500");
}

static void
test_two_of_one_context (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioStatsExporter) other = exporter_new (context, &bus);

  g_assert_cmpint (callback_time (&bus, exporter), ==, -1);
  g_assert_cmpint (callback_time (&bus, other), ==, 0);
  gaio_stats_exporter_stop (exporter);
  g_assert_cmpint (callback_time (&bus, other), ==, 0);
  let_timing_end ();
  g_assert_cmpint (callback_time (&bus, other), ==, -1);
}

static void
test_other_context (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioContext) other = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);

  assert_slowest (&bus, exporter, 9, "%s", "");
  gaio_context_defer (other, take_time, GINT_TO_POINTER (500), NULL);
  gaio_context_iterate (other, 0);
  assert_slowest (&bus, exporter, 9, "%s", "");
}

typedef struct
{
  Bus *bus;
  GaioStatsExporter *exporter;
} Asker;

static void
ask_inside (gpointer data)
{
  Asker *asker = data;

  take_time (GINT_TO_POINTER (1));
  g_assert_cmpint (callback_time (asker->bus, asker->exporter), ==, -1);
  take_time (GINT_TO_POINTER (500));
}

static void
test_began_before (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioContext) other = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  g_autoptr (GaioStatsExporter) of_other = exporter_new (other, &bus);
  Asker asker = { &bus, exporter };

  /* From now on every call is timed, of whichever context. */
  assert_slowest (&bus, of_other, 9, "%s", "");
  gaio_context_defer (context, ask_inside, &asker, NULL);
  gaio_context_iterate (context, 0);
  g_assert_cmpint (callback_time (&bus, exporter), ==, 0);
  assert_slowest (&bus, exporter, 9, "%s", "");
}

static void
test_no_text (void)
{
  g_auto (Bus) bus = bus_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioStatsExporter) exporter = exporter_new (context, &bus);
  gint fd = eventfd_new (1);
  g_autoptr (GaioHandler) handler = add_slow (context, fd, "\xff", 100);

  assert_slowest (&bus, exporter, 9, "%s", "");
  gaio_context_iterate (context, 0);
  assert_slowest (&bus, exporter, 9, "handler '\357\277\275' %d 1 100 100", fd);
  gaio_clear_handler (&handler);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  clock_read_us = 1000 * (gint64) G_USEC_PER_SEC;
  clock_stands = TRUE;
  g_test_add_func ("/stats-exporter/slowest-comes-first", test_slowest);
  g_test_add_func ("/stats-exporter/turn-of-a-main-context-is-a-call", test_turns);
  g_test_add_func ("/stats-exporter/nested-call-is-part-of-the-time", test_nested);
  g_test_add_func ("/stats-exporter/rows-are-bounded", test_bounded);
  g_test_add_func ("/stats-exporter/timing-ends-when-nobody-asks", test_timing_ends);
  g_test_add_func ("/stats-exporter/timing-goes-on-when-asked-again", test_asked_again);
  g_test_add_func ("/stats-exporter/timing-goes-on-for-another", test_two_of_one_context);
  g_test_add_func ("/stats-exporter/tells-nothing-of-another-context", test_other_context);
  g_test_add_func ("/stats-exporter/what-began-before-does-not-count", test_began_before);
  g_test_add_func ("/stats-exporter/name-that-is-no-text", test_no_text);
  return g_test_run ();
}
