/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bench.h"

#define BENCH_MAX_COSTS 8
#define BENCH_MAX_CONTENDERS 4

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
  guint n_fds;
  guint n_ready;
  gboolean dry;
  gboolean nested;
};

/* A promise about the ratio of two contenders, in every row. */
typedef struct
{
  guint ours;
  guint rival;
  double limit; /* 0: not slower in three rounds of four */
} BenchBound;

typedef struct
{
  const char *summary;
  const BenchContender *const *contenders; /* the first n_ours are compared with the others */
  guint n_contenders;
  guint n_ours;
  const BenchTask *tasks;
  guint n_tasks;
  const BenchBound *bounds; /* NULL: ours are never behind any of the others */
  guint n_bounds;
} BenchTable;

/* Measures and reports. To be returned from main(). */
int bench_table_main (const BenchTable *table, int argc, char **argv);

/* What to do how often in this run. */
guint bench_task_n (const BenchTask *task);

/* Gaio nested and alone, GLib and libuv. */
#ifdef HAVE_LIBUV
#  define BENCH_LIBRARIES                                                                          \
    {                                                                                              \
      &bench_gaio_nested, &bench_gaio_alone, &bench_glib, &bench_uv                                \
    }
#else
#  define BENCH_LIBRARIES                                                                          \
    {                                                                                              \
      &bench_gaio_nested, &bench_gaio_alone, &bench_glib                                           \
    }
#endif
