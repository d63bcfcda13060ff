/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bench.h"

#define BENCH_MAX_COSTS 8

/* Something that each contender does in a round; one run of it gives one cost or several. */
typedef struct BenchTask BenchTask;

struct BenchTask
{
  const char *name;
  const char *costs[BENCH_MAX_COSTS]; /* names, as many as there are */
  /* Fills in nanoseconds for each cost. */
  void (*measure) (const BenchTask *task, const BenchContender *contender, double *ns);
  guint n;       /* how much of it */
  guint n_quick; /* the same for --quick, or 0 */
  /* As the benchmark likes. */
  guint n_threads;
  guint n_processors;
};

/* Measures and reports. To be returned from main(). */
int bench_table_main (const char *summary,
                      const BenchTask *tasks,
                      guint n_tasks,
                      int argc,
                      char **argv);

/* What to do how often in this run. */
guint bench_task_n (const BenchTask *task);
