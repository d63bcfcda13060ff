/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One contender's share of one round. To open and to close it are not timed. */
#include "bench-run.h"

struct _BenchRun
{
  const BenchSet *set;
  const BenchContender *contender;
  gpointer loop;
  gpointer *watches;
  gboolean dry;
  guint64 hits;
  guint next; /* index into set->order */
};

static gboolean
on_ready (int fd, GIOCondition condition, gpointer user_data)
{
  BenchRun *run = user_data;

  if (run->dry || bench_drain (fd))
    run->hits++;
  return G_SOURCE_CONTINUE;
}

BenchRun *
bench_run_open (const BenchSet *set, const BenchContender *contender)
{
  BenchRun *run = g_new0 (BenchRun, 1);

  run->set = set;
  run->contender = contender;
  run->loop = contender->open ();
  run->watches = bench_watch (contender, run->loop, set->pool->fds, set->n, on_ready, run);
  return run;
}

void
bench_run_close (BenchRun *run)
{
  bench_unwatch (run->contender, run->watches, run->set->n);
  run->contender->close (run->loop);
  g_free (run);
}

/* The next @k, so different ones. */
static void
ring (BenchRun *run, guint k)
{
  for (guint i = 0; i < k; i++)
    {
      bench_pool_ring (run->set->pool, run->set->order[run->next]);
      run->next = run->next + 1 == run->set->n ? 0 : run->next + 1;
    }
}

static void
run_units (BenchRun *run, guint units, guint k)
{
  for (guint i = 0; i < units; i++)
    {
      guint64 wanted = run->hits + k;

      if (!run->dry)
        ring (run, k);
      while (run->hits < wanted)
        run->contender->turn (run->loop);
    }
}

/* An untimed run first: the caches are full of the contender before. */
static double
time_units (BenchRun *run, guint units, guint k)
{
  guint64 hits;
  double start;

  run_units (run, units / 4 + 1, k);
  hits = run->hits;
  start = bench_cpu_ns ();
  run_units (run, units, k);
  return (bench_cpu_ns () - start) / (run->hits - hits);
}

/* A linear contender is given some milliseconds: 40 us for each event at N=400. */
static guint
count_units (const BenchRun *run, guint k, guint n_events)
{
  guint units = MAX (n_events / k, 4);

  if (run->contender->linear)
    return CLAMP (20 * n_events / (run->set->n * k), 2, units);
  return units;
}

double
bench_run_measure (BenchRun *run, gboolean dry, guint k, guint n_events)
{
  guint units = count_units (run, k, n_events);
  guint first = run->next;
  double ns;

  run->dry = dry;
  if (!dry)
    return time_units (run, units, k);
  ring (run, k);
  ns = time_units (run, units, k);
  for (guint i = 0; i < k; i++)
    bench_drain (run->set->pool->fds[run->set->order[(first + i) % run->set->n]]);
  return ns;
}
