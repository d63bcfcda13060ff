/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bench.h"
#include "bench-pool.h"

#define BENCH_MAX_COSTS 12
#define BENCH_MAX_CONTENDERS 12

/* Something that each contender does in a round; one run of it gives one cost or several. */
typedef struct _BenchTask BenchTask;

/* What has a number in its name, as in "N=10", is found by it in the results. */
struct _BenchTask
{
  const char *name;
  const char *costs[BENCH_MAX_COSTS]; /* names, as many as there are */
  /* In each round before the contenders, or NULL. */
  void (*prepare) (const BenchTask *task, GRand *rand);
  /* Fills in each cost that the contender can have. */
  void (*measure) (const BenchTask *task, const BenchContender *contender, double *costs);
  guint n;       /* how much of it */
  guint n_quick; /* the same for --quick, or 0 */
  guint every;   /* measured only in each such round, so not at all in fewer; or 0 */
  guint n_fds;   /* left out where the process may not have that many */
  BenchFdKind fd_kind;
  /* As the benchmark likes. */
  guint n_threads;
  guint n_processors;
  gboolean nested;
};

typedef struct
{
  const char *name;
  const char *summary;
  const char *unit;
  const BenchContender *const *contenders;
  guint n_contenders;
  const BenchTask *tasks;
  guint n_tasks;
} BenchTable;

/* Measures, and writes the results as JSON. To be returned from main(). */
int bench_table_main (const BenchTable *table, int argc, char **argv);

/* What to do how often in this run. */
guint bench_task_n (const BenchTask *task);
/* Others need not be measured. */
gboolean bench_cost_chosen (const BenchTask *task, guint cost);
