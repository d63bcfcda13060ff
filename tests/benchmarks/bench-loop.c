/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an event costs, over the number of fds watched (N) and of those ready at once (K). */
#include "bench-run.h"
#include "bench-table.h"

/* The costs of a task: live and dry for each of these, as far as N goes. */
static const guint actives[] = { 1, 16, 256 };

static int *order;

static void
reshuffle (const BenchTask *task, GRand *rand)
{
  bench_reshuffle (rand, &order, task->n_fds);
}

static void
measure (const BenchTask *task, const BenchContender *contender, double *ns)
{
  BenchSet set = { bench_pool_get (task->fd_kind, task->n_fds), task->n_fds, order };
  BenchRun *run = bench_run_open (&set, contender);

  for (guint cost = 0; cost < BENCH_MAX_COSTS && task->costs[cost] != NULL; cost++)
    if (bench_cost_chosen (task, cost))
      ns[cost] = bench_run_measure (run, cost % 2, actives[cost / 2], bench_task_n (task));
  bench_run_close (run);
}

#define K_1 "live K=1", "dry K=1"
#define K_16 K_1, "live K=16", "dry K=16"
#define K_256 K_16, "live K=256", "dry K=256"

#define TASK(kind, n_fds_, ...)                                                                    \
  {                                                                                                \
    .name = "fd=" #kind " N=" #n_fds_, .costs = { __VA_ARGS__ }, .prepare = reshuffle,             \
    .measure = measure, .n = 2000, .n_quick = 500, .fd_kind = BENCH_##kind, .n_fds = n_fds_        \
  }

static const BenchTask tasks[] = {
  TASK (EVENTFD, 1, K_1),       TASK (EVENTFD, 2, K_1),       TASK (EVENTFD, 5, K_1),
  TASK (EVENTFD, 10, K_1),      TASK (EVENTFD, 100, K_16),    TASK (EVENTFD, 1000, K_256),
  TASK (EVENTFD, 10000, K_256), TASK (EVENTFD, 19000, K_256), TASK (PIPE, 10, K_1),
  TASK (PIPE, 1000, K_256),     TASK (TCP, 10, K_1),          TASK (TCP, 1000, K_256),
};

static const BenchContender *const contenders[] = {
  &bench_gaio_nested, &bench_gaio_alone, &bench_raw_epoll, &bench_hand_written, &bench_glib,
  &bench_uv,          &bench_libevent,   &bench_libev,     &bench_sd_event,     &bench_raw_uring,
};

int
main (int argc, char **argv)
{
  return bench_table_main (&(BenchTable){ .name = "loop",
                                          .summary = "What an event costs, in CPU time",
                                          .unit = "ns",
                                          .contenders = contenders,
                                          .n_contenders = G_N_ELEMENTS (contenders),
                                          .tasks = tasks,
                                          .n_tasks = G_N_ELEMENTS (tasks) },
                           argc, argv);
}
