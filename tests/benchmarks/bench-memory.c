/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a watch and a timer take of user space, all told: what the program has to keep for it, where
 * the library lets the program do that, is a part of it. The kernel's own is not, nor what comes
 * with the first one and never again. */
#include "bench-table.h"

#include <malloc.h>
#include <unistd.h>

/* mallinfo2() counts large blocks, which are mapped, apart. */
static gsize
heap_in_use (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

static gboolean
on_ready (int fd, GIOCondition condition, gpointer user_data)
{
  return G_SOURCE_CONTINUE;
}

static gboolean
on_timer (gpointer user_data)
{
  return G_SOURCE_REMOVE;
}

static void
measure_fds (const BenchTask *task, const BenchContender *contender, double *bytes)
{
  const BenchPool *pool = bench_pool_get (BENCH_EVENTFD, task->n_fds);
  guint n = task->n_fds;
  gpointer loop = contender->open ();
  g_autofree gpointer *watches = g_new (gpointer, n);
  gsize before;

  watches[0] = contender->fd_add (loop, pool->fds[0], on_ready, NULL);
  before = heap_in_use ();
  for (guint i = n; i-- > 1;)
    watches[i] = contender->fd_add (loop, pool->fds[i], on_ready, NULL);
  *bytes = (double) (heap_in_use () - before) / (n - 1);
  bench_unwatch (contender, g_steal_pointer (&watches), n);
  contender->close (loop);
}

static void
measure_timers (const BenchTask *task, const BenchContender *contender, double *bytes)
{
  guint n = task->n;
  g_autofree gpointer *timers = g_new (gpointer, n);
  gpointer loop;
  gsize before;

  if (contender->timer_new == NULL)
    return;
  loop = contender->open ();
  before = heap_in_use ();
  for (guint i = 0; i < n; i++)
    timers[i] = contender->timer_new (loop, 60000 + i, on_timer, NULL);
  *bytes = (double) (heap_in_use () - before) / n;
  for (guint i = 0; i < n; i++)
    contender->timer_free (timers[i]);
  contender->close (loop);
}

#define FDS(n_fds_)                                                                                \
  {                                                                                                \
    .name = "fd", .costs = { "N=" #n_fds_ }, .measure = measure_fds, .every = 5, .n_fds = n_fds_   \
  }

#define TIMERS(n_)                                                                                 \
  {                                                                                                \
    .name = "timer", .costs = { "N=" #n_ }, .measure = measure_timers, .every = 5, .n = n_         \
  }

static const BenchTask tasks[] = { FDS (100), FDS (1000), FDS (10000), FDS (19000),
                                   TIMERS (10000) };

static const BenchContender *const contenders[] = {
  &bench_gaio_nested, &bench_gaio_alone, &bench_raw_epoll, &bench_glib,      &bench_uv,
  &bench_libevent,    &bench_libev,      &bench_sd_event,  &bench_raw_uring,
};

int
main (int argc, char **argv)
{
  /* GSlice keeps what is freed to itself, and reads this before main(). */
  if (g_getenv ("G_SLICE") == NULL)
    {
      g_setenv ("G_SLICE", "always-malloc", TRUE);
      execv ("/proc/self/exe", argv);
    }
  return bench_table_main (&(BenchTable){ .name = "memory",
                                          .summary = "What it takes of user space",
                                          .unit = "bytes",
                                          .contenders = contenders,
                                          .n_contenders = G_N_ELEMENTS (contenders),
                                          .tasks = tasks,
                                          .n_tasks = G_N_ELEMENTS (tasks) },
                           argc, argv);
}
