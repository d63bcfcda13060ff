/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an event costs on each monitor, over the number of fds ready at once (K), nested and alone.
 * Gaio asks the environment for the monitor whenever it makes a context. */
#include "bench-loop.h"
#include "bench-table.h"

#include <gaio/gaio.h>

#define N_FDS 1000

enum
{
  IO_URING,
  POLL,
  EPOLL,
};

/* Only what the monitor is called, and how it grows. */
static const BenchContender *const contenders[] = {
  [IO_URING] = &(BenchContender){ .name = "io_uring" },
  [POLL] = &(BenchContender){ .name = "poll", .linear = TRUE },
  [EPOLL] = &(BenchContender){ .name = "epoll" },
};

static int *eventfds;
static int *shuffled;

static void
measure (const BenchTask *task, const BenchContender *monitor, double *ns)
{
  guint units = bench_slice_units (monitor, N_FDS, task->n_ready, bench_task_n (task));
  BenchSlice slice = {
    task->dry ? BENCH_DRY : BENCH_LIVE, N_FDS, task->n_ready, units, eventfds, shuffled
  };

  g_setenv ("GAIO_MONITOR", monitor->name, TRUE);
  ns[0] = bench_slice_measure (&slice, task->nested ? &bench_gaio_nested : &bench_gaio_alone);
}

#define TASK(name, k, ...)                                                                         \
  {                                                                                                \
    name, { "" }, measure, 2000, 500, .n_ready = k, __VA_ARGS__                                    \
  }

static const BenchTask tasks[] = {
  TASK ("live, nested, K=1", 1, .nested = TRUE),
  TASK ("live, nested, K=16", 16, .nested = TRUE),
  TASK ("live, nested, K=256", 256, .nested = TRUE),
  TASK ("live, alone, K=1", 1),
  TASK ("live, alone, K=16", 16),
  TASK ("live, alone, K=256", 256),
  TASK ("dry, nested, K=1", 1, .dry = TRUE, .nested = TRUE),
  TASK ("dry, nested, K=16", 16, .dry = TRUE, .nested = TRUE),
  TASK ("dry, nested, K=256", 256, .dry = TRUE, .nested = TRUE),
  TASK ("dry, alone, K=1", 1, .dry = TRUE),
  TASK ("dry, alone, K=16", 16, .dry = TRUE),
  TASK ("dry, alone, K=256", 256, .dry = TRUE),
};

static const BenchBound bounds[] = { { IO_URING, EPOLL, 0 } };

static const BenchTable table = {
  .summary = "Nanoseconds per event on each monitor, with " G_STRINGIFY (N_FDS) " fds watched.",
  .contenders = contenders,
  .n_contenders = G_N_ELEMENTS (contenders),
  .n_ours = 2,
  .tasks = tasks,
  .n_tasks = G_N_ELEMENTS (tasks),
  .bounds = bounds,
  .n_bounds = G_N_ELEMENTS (bounds),
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
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autofree char *note = refusal ();

  if (note != NULL)
    {
      g_print ("not measured: %s\n", note);
      return 0;
    }
  if (bench_raise_fd_limit () < N_FDS)
    bench_usage_error ("the limit of open files is too low: ulimit -n");
  eventfds = bench_open_eventfds (N_FDS);
  shuffled = g_memdup2 (eventfds, N_FDS * sizeof (int));
  bench_shuffle (rand, shuffled, N_FDS);
  return bench_table_main (&table, argc, argv);
}
