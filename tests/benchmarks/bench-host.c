/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Programs that drive themselves, in the way that each library is meant to be run: what it saves
 * when gaio_context_run() runs the GMainContext. Of N fds one is ready at a time; its callback
 * reads it and writes another, chosen at random. */
#include "bench-table.h"

typedef struct
{
  const BenchContender *contender;
  gpointer loop;
  const BenchPool *pool;
  guint n;
  guint left;
  guint32 random;
} Run;

static const BenchContender *const contenders[] = {
  &bench_gaio_host, &bench_gaio_nested, &bench_gaio_alone, &bench_raw_epoll, &bench_hand_written,
  &bench_uv,        &bench_libevent,    &bench_libev,      &bench_sd_event,
};

static void
ring_any (Run *run)
{
  run->random = run->random * 1664525u + 1013904223u;
  bench_pool_ring (run->pool, (guint64) run->random * run->n >> 32);
}

static gboolean
on_ready (int fd, GIOCondition condition, gpointer user_data)
{
  Run *run = user_data;

  if (!bench_drain (fd))
    return G_SOURCE_CONTINUE;
  if (--run->left > 0)
    ring_any (run);
  else if (run->contender->quit != NULL)
    run->contender->quit (run->loop);
  return G_SOURCE_CONTINUE;
}

static double
time_events (Run *run, guint n_events)
{
  double start = bench_cpu_ns ();

  run->left = n_events;
  ring_any (run);
  if (run->contender->run != NULL)
    run->contender->run (run->loop);
  while (run->left > 0)
    run->contender->turn (run->loop);
  return (bench_cpu_ns () - start) / n_events;
}

/* An untimed run first: the caches are full of the contender before. */
static void
measure (const BenchTask *task, const BenchContender *contender, double *ns)
{
  Run run = { .contender = contender,
              .pool = bench_pool_get (BENCH_EVENTFD, task->n_fds),
              .n = task->n_fds };
  gpointer *watches;

  run.loop = contender->open ();
  watches = bench_watch (contender, run.loop, run.pool->fds, run.n, on_ready, &run);
  time_events (&run, bench_task_n (task) / 4);
  ns[0] = time_events (&run, bench_task_n (task));
  bench_unwatch (contender, watches, run.n);
  contender->close (run.loop);
}

#define TASK(n_fds_)                                                                               \
  {                                                                                                \
    .name = "N=" #n_fds_, .costs = { "live K=1" }, .measure = measure, .n = 20000,                 \
    .n_quick = 5000, .n_fds = n_fds_                                                               \
  }

static const BenchTask tasks[] = { TASK (10), TASK (1000), TASK (10000) };

int
main (int argc, char **argv)
{
  return bench_table_main (
      &(BenchTable){ .name = "host",
                     .summary = "What an event costs a main loop that drives itself, in CPU time",
                     .unit = "ns",
                     .contenders = contenders,
                     .n_contenders = G_N_ELEMENTS (contenders),
                     .tasks = tasks,
                     .n_tasks = G_N_ELEMENTS (tasks) },
      argc, argv);
}
