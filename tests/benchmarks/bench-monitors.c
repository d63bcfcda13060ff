/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an event costs on each monitor, over the number of fds ready at once (K), nested and alone.
 * Gaio asks the environment for the monitor whenever it makes a context. */
#include "bench-run.h"
#include "bench-table.h"

#include <gaio/gaio.h>

#define N_FDS 1000

/* Live and dry for each of these. */
static const guint actives[] = { 1, 16, 256 };

/* Only what the monitor is called, and how it grows. */
static const BenchContender *const contenders[] = {
  &(BenchContender){ .name = "epoll" },
  &(BenchContender){ .name = "io_uring" },
  &(BenchContender){ .name = "poll", .linear = TRUE },
};

static int *order;

static void
reshuffle (const BenchTask *task, GRand *rand)
{
  bench_reshuffle (rand, &order, N_FDS);
}

static void
measure (const BenchTask *task, const BenchContender *monitor, double *ns)
{
  BenchSet set = { bench_pool_get (BENCH_EVENTFD, N_FDS), N_FDS, order };
  BenchContender contender = task->nested ? bench_gaio_nested : bench_gaio_alone;
  BenchRun *run;

  contender.linear = monitor->linear;
  g_setenv ("GAIO_MONITOR", monitor->name, TRUE);
  run = bench_run_open (&set, &contender);
  for (guint cost = 0; cost < 2 * G_N_ELEMENTS (actives); cost++)
    if (bench_cost_chosen (task, cost))
      ns[cost] = bench_run_measure (run, cost % 2, actives[cost / 2], bench_task_n (task));
  bench_run_close (run);
}

#define TASK(name_, nested_)                                                                       \
  {                                                                                                \
    .name = name_,                                                                                 \
    .costs = { "live K=1", "dry K=1", "live K=16", "dry K=16", "live K=256", "dry K=256" },        \
    .prepare = reshuffle, .measure = measure, .n = 2000, .n_quick = 500, .n_fds = N_FDS,           \
    .nested = nested_                                                                              \
  }

static const BenchTask tasks[] = {
  TASK ("nested N=" G_STRINGIFY (N_FDS), TRUE),
  TASK ("alone N=" G_STRINGIFY (N_FDS), FALSE),
};

/* Why the kernel refuses io_uring, or NULL. */
static char *
refusal (void)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_IO_URING);
  g_autoptr (GVariant) stats = NULL;
  char *note = NULL;

  gaio_context_iterate (context, 0);
  stats = g_variant_ref_sink (gaio_context_dup_stats (context));
  g_variant_lookup (stats, "monitor-note", "s", &note);
  return note;
}

int
main (int argc, char **argv)
{
  g_autofree char *note = refusal ();

  if (note != NULL)
    g_printerr ("io_uring is epoll here: %s\n", note);
  return bench_table_main (&(BenchTable){ .name = "monitors",
                                          .summary =
                                              "What an event costs on each monitor, in CPU time",
                                          .unit = "ns",
                                          .contenders = contenders,
                                          .n_contenders = G_N_ELEMENTS (contenders),
                                          .tasks = tasks,
                                          .n_tasks = G_N_ELEMENTS (tasks) },
                           argc, argv);
}
