/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What it saves when gaio_context_run() runs the GMainContext: a program that drives itself. Of N
 * fds one is ready at a time; its callback reads it and writes another, chosen at random. */
#include "bench-table.h"

#include <sys/eventfd.h>

typedef struct
{
  const BenchContender *contender;
  gpointer loop;
  const int *fds;
  guint n;
  guint left;
  guint32 random;
} Run;

enum
{
  HOST,
  RAW_EPOLL,
  HAND_WRITTEN,
  NESTED,
};

static const BenchContender *const contenders[] = {
  [HOST] = &bench_gaio_host,
  [RAW_EPOLL] = &bench_raw_epoll,
  [HAND_WRITTEN] = &bench_hand_written,
  [NESTED] = &bench_gaio_nested,
};

static int *eventfds;

static void
ring_any (Run *run)
{
  run->random = run->random * 1664525u + 1013904223u;
  if (eventfd_write (run->fds[(guint64) run->random * run->n >> 32], 1) != 0)
    g_error ("eventfd_write failed");
}

static gboolean
on_ready (int fd, GIOCondition condition, gpointer user_data)
{
  Run *run = user_data;
  eventfd_t value;

  if (eventfd_read (fd, &value) != 0)
    return G_SOURCE_CONTINUE;
  if (--run->left > 0)
    ring_any (run);
  else
    run->contender->quit (run->loop);
  return G_SOURCE_CONTINUE;
}

static double
time_events (Run *run, guint n_events)
{
  double start = bench_now_ns ();

  run->left = n_events;
  ring_any (run);
  run->contender->run (run->loop);
  return (bench_now_ns () - start) / n_events;
}

/* An untimed run first: the caches are full of the contender before. */
static void
measure (const BenchTask *task, const BenchContender *contender, double *ns)
{
  Run run = { .contender = contender, .fds = eventfds, .n = task->n_fds };

  run.loop = contender->open ();
  contender->watch (run.loop, run.fds, run.n, on_ready, &run);
  time_events (&run, bench_task_n (task) / 4);
  ns[0] = time_events (&run, bench_task_n (task));
  contender->close (run.loop);
}

#define TASK(name, n_fds_)                                                                         \
  {                                                                                                \
    name, { "" }, measure, 20000, 5000, .n_fds = n_fds_                                            \
  }

static const BenchTask tasks[] = {
  TASK ("N=10 K=1, live", 10),
  TASK ("N=1000 K=1, live", 1000),
  TASK ("N=10000 K=1, live", 10000),
};

static const BenchBound bounds[] = { { HOST, NESTED, 0.85 } };

static const BenchTable table = {
  .summary = "Nanoseconds per event of main loops that drive themselves.",
  .contenders = contenders,
  .n_contenders = G_N_ELEMENTS (contenders),
  .n_ours = 1,
  .tasks = tasks,
  .n_tasks = G_N_ELEMENTS (tasks),
  .bounds = bounds,
  .n_bounds = G_N_ELEMENTS (bounds),
};

/* Those at the end have the most fds. */
static guint
count_tasks_that_fit (void)
{
  guint limit = bench_raise_fd_limit ();
  guint n = G_N_ELEMENTS (tasks);

  while (n > 1 && tasks[n - 1].n_fds > limit)
    n--;
  return n;
}

int
main (int argc, char **argv)
{
  BenchTable fitting = table;

  fitting.n_tasks = count_tasks_that_fit ();
  eventfds = bench_open_eventfds (tasks[fitting.n_tasks - 1].n_fds);
  return bench_table_main (&fitting, argc, argv);
}
