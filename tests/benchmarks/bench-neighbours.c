/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `bench-neighbour-NAME CONTENDER ADDRESS ADDRESS CONNECTIONS ACTIVE`: the clients that
 * bench-neighbours.py measures. Those that may be active have the second server. It prints its
 * version, and "ready" when each connection is there. For each line "ACTIVE SECONDS" of stdin so
 * many of them ask for so long, each when it has been answered, and it prints how many answers
 * came. */
#include "bench-neighbours.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

/* How many at a time, while the connections are made. */
#define AT_ONCE 200

static GMainLoop *loop;       /* of a contender that runs no GaioContext */
static GCancellable *stopper; /* else */
static GaioContext *gaio;     /* NULL for GLib */
static guint n_expected;      /* answers until it stops */
static guint64 n_heard;
static double end_ns;

static void
stop (void)
{
  if (stopper != NULL)
    g_cancellable_cancel (stopper);
  else
    g_main_loop_quit (loop);
}

void
bench_heard (gpointer peer)
{
  n_heard++;
  if (bench_now_ns () < end_ns)
    bench_neighbour.ask (peer);
  else if (--n_expected == 0)
    stop ();
}

static void
run_until_heard (guint n)
{
  g_autoptr (GError) error = NULL;

  n_expected = n;
  if (stopper == NULL)
    g_main_loop_run (loop);
  else
    {
      g_cancellable_reset (stopper);
      if (!gaio_context_run (gaio, NULL, stopper, &error))
        g_error ("%s", error->message);
    }
}

static void
connect_all (gpointer *peers, guint n, guint n_active, char **addresses)
{
  for (guint first = 0; first < n; first += AT_ONCE)
    {
      guint after = MIN (first + AT_ONCE, n);

      for (guint i = first; i < after; i++)
        {
          gboolean active = i >= n - n_active;

          peers[i] = bench_neighbour.open (gaio, addresses[active], active);
        }
      run_until_heard (after - first);
    }
}

/* The last ones of them. Returns how many answers came. */
static guint64
talk (gpointer *peers, guint n, guint n_active, double seconds)
{
  n_heard = 0;
  end_ns = bench_now_ns () + seconds * 1e9;
  for (guint i = n - n_active; i < n; i++)
    bench_neighbour.ask (peers[i]);
  run_until_heard (n_active);
  return n_heard;
}

int
main (int argc, char **argv)
{
  gpointer *peers;
  guint n, n_active;
  double seconds;

  if (argc != 6)
    bench_usage_error ("CONTENDER ADDRESS ADDRESS CONNECTIONS ACTIVE");
  bench_raise_fd_limit ();
  if (!g_str_equal (argv[1], "glib"))
    gaio = gaio_context_get_default ();
  if (g_str_equal (argv[1], "gaio-host"))
    stopper = g_cancellable_new ();
  loop = g_main_loop_new (NULL, FALSE);
  n = atoi (argv[4]);
  peers = g_new (gpointer, n);
  g_print ("%s\n", bench_neighbour.version);
  connect_all (peers, n, atoi (argv[5]), argv + 2);
  g_print ("ready\n");
  while (scanf ("%u %lf", &n_active, &seconds) == 2)
    g_print ("%" G_GUINT64_FORMAT "\n", talk (peers, n, n_active, seconds));
  return 0;
}
