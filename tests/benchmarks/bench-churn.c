/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What it costs to change what is watched, among N: to remove one and add it again, and to ask for
 * another condition. Some loops tell the kernel when they wait, so the turn after each batch is a
 * part of it. */
#include "bench-table.h"

#define MAX_BATCH 128

enum
{
  ADD_AND_REMOVE,
  MODIFY,
};

typedef struct
{
  const BenchContender *contender;
  const BenchPool *pool;
  gpointer loop;
  gpointer *watches;
  guint n;
  guint next; /* index into order */
  guint hits;
} Run;

static int *order;

static void
reshuffle (const BenchTask *task, GRand *rand)
{
  bench_reshuffle (rand, &order, task->n_fds);
}

static gboolean
on_ready (int fd, GIOCondition condition, gpointer user_data)
{
  Run *run = user_data;

  if (bench_drain (fd))
    run->hits++;
  return G_SOURCE_CONTINUE;
}

static void
add_and_remove (Run *run, guint index)
{
  run->contender->fd_remove (run->watches[index]);
  run->watches[index] = run->contender->fd_add (run->loop, run->pool->fds[index], on_ready, run);
}

/* The order comes around: every other time it is back. */
static void
modify (Run *run, guint index)
{
  gboolean odd = run->next / run->n % 2;

  run->contender->fd_modify (run->watches[index], odd ? G_IO_IN : G_IO_IN | G_IO_PRI);
}

static void
turn_once (Run *run)
{
  guint hits = run->hits;

  bench_pool_ring (run->pool, order[0]);
  while (run->hits == hits)
    run->contender->turn (run->loop);
}

static double
time_changes (Run *run, guint n_batches, void (*change) (Run *run, guint index))
{
  guint batch = MIN (MAX_BATCH, run->n);
  double start;

  run->next = 0;
  turn_once (run);
  start = bench_cpu_ns ();
  for (guint i = 0; i < n_batches; i++)
    {
      for (guint j = 0; j < batch; j++)
        change (run, order[run->next++ % run->n]);
      turn_once (run);
    }
  return (bench_cpu_ns () - start) / (n_batches * batch);
}

static void
measure (const BenchTask *task, const BenchContender *contender, double *ns)
{
  Run run = { .contender = contender,
              .pool = bench_pool_get (BENCH_EVENTFD, task->n_fds),
              .n = task->n_fds };

  run.loop = contender->open ();
  run.watches = bench_watch (contender, run.loop, run.pool->fds, run.n, on_ready, &run);
  time_changes (&run, 1, add_and_remove);
  ns[ADD_AND_REMOVE] = time_changes (&run, bench_task_n (task), add_and_remove);
  if (contender->fd_modify != NULL)
    ns[MODIFY] = time_changes (&run, bench_task_n (task), modify);
  bench_unwatch (contender, run.watches, run.n);
  contender->close (run.loop);
}

#define TASK(n_fds_)                                                                               \
  {                                                                                                \
    .name = "N=" #n_fds_, .costs = { "add and remove", "modify" }, .prepare = reshuffle,           \
    .measure = measure, .n = 16, .n_quick = 4, .n_fds = n_fds_                                     \
  }

static const BenchTask tasks[] = { TASK (10), TASK (100), TASK (1000), TASK (10000), TASK (19000) };

static const BenchContender *const contenders[] = {
  &bench_gaio_nested, &bench_gaio_alone, &bench_raw_epoll, &bench_glib,      &bench_uv,
  &bench_libevent,    &bench_libev,      &bench_sd_event,  &bench_raw_uring,
};

int
main (int argc, char **argv)
{
  return bench_table_main (
      &(BenchTable){ .name = "churn",
                     .summary = "What it costs to change what is watched, in CPU time",
                     .unit = "ns",
                     .contenders = contenders,
                     .n_contenders = G_N_ELEMENTS (contenders),
                     .tasks = tasks,
                     .n_tasks = G_N_ELEMENTS (tasks) },
      argc, argv);
}
