/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a timer costs among many that are armed. GLib's cost O(n) for each turn of the loop, so that
 * it is given fewer turns. */
#include "bench-table.h"

/* Far away: these do not fire. */
#define FAR_MIN_MS 60000
#define FAR_MAX_MS 120000
/* Soon, at different times also for who counts milliseconds. */
#define SOON_MIN_MS 1
#define SOON_MAX_MS 20

enum
{
  NEW,
  REARM,
  FIRE_ONE,
  DISARM,
  FREE,
  FIRE_ALL,
  N_COSTS,
};

typedef struct
{
  const BenchContender *contender;
  gpointer loop;
  guint n;
  gpointer *timers;
  int *order; /* random: not the one in which they were made */
  GRand *rand;
  guint n_fired;
} Run;

static gboolean
on_timer (gpointer user_data)
{
  Run *run = user_data;

  run->n_fired++;
  return G_SOURCE_REMOVE;
}

static void
turn_until (Run *run, guint n_fired)
{
  while (run->n_fired < n_fired)
    run->contender->turn (run->loop);
}

static void
make (Run *run, gint min_ms, gint max_ms)
{
  for (guint i = 0; i < run->n; i++)
    run->timers[i] =
        run->contender->timer_new (run->loop, g_rand_int_range (run->rand, min_ms, max_ms),
                                   on_timer, run);
}

static void
make_far (Run *run)
{
  make (run, FAR_MIN_MS, FAR_MAX_MS);
}

static void
rearm (Run *run)
{
  for (guint i = 0; i < run->n; i++)
    run->contender->timer_arm (run->timers[run->order[i]],
                               g_rand_int_range (run->rand, FAR_MIN_MS, FAR_MAX_MS));
}

static void
disarm (Run *run)
{
  for (guint i = 0; i < run->n; i++)
    run->contender->timer_disarm (run->timers[run->order[i]]);
}

/* What the loop has to do afterwards is a part of it. */
static void
free_timers (Run *run)
{
  gpointer last;

  for (guint i = 0; i < run->n; i++)
    run->contender->timer_free (run->timers[run->order[i]]);
  last = run->contender->timer_new (run->loop, 0, on_timer, run);
  turn_until (run, run->n_fired + 1);
  run->contender->timer_free (last);
}

static double
time_each (Run *run, void (*step) (Run *run))
{
  double start = bench_cpu_ns ();

  step (run);
  return (bench_cpu_ns () - start) / run->n;
}

/* Makes one after the other, for now, the others remaining for later: by the clock, for some loops
 * sleep until the next millisecond. They are freed in the end: what is freed is a reason for a loop
 * not to sleep, and would hide how it waits for a timer. */
static double
time_fire_one (Run *run)
{
  guint n = run->contender->linear ? CLAMP (1000000 / run->n, 4, 1000) : 1000;
  g_autofree gpointer *timers = g_new (gpointer, n);
  double start = bench_now_ns (), ns;

  for (guint i = 0; i < n; i++)
    {
      timers[i] = run->contender->timer_new (run->loop, 0, on_timer, run);
      turn_until (run, run->n_fired + 1);
    }
  ns = (bench_now_ns () - start) / n;
  for (guint i = 0; i < n; i++)
    run->contender->timer_free (timers[i]);
  return ns;
}

static void
fire_all (Run *run)
{
  turn_until (run, run->n_fired + run->n);
}

static double
time_fire_all (Run *run)
{
  double ns;

  make (run, SOON_MIN_MS, SOON_MAX_MS);
  g_usleep ((SOON_MAX_MS + 5) * 1000);
  ns = time_each (run, fire_all);
  free_timers (run);
  return ns;
}

static void
run_init (Run *run, const BenchContender *contender, guint n)
{
  *run = (Run){ .contender = contender, .n = n };
  run->loop = contender->open ();
  run->rand = g_rand_new_with_seed (1);
  run->timers = g_new0 (gpointer, n);
  run->order = g_new (int, n);
  for (guint i = 0; i < n; i++)
    run->order[i] = i;
  bench_shuffle (run->rand, run->order, n);
}

static void
run_clear (Run *run)
{
  run->contender->close (run->loop);
  g_rand_free (run->rand);
  g_free (run->timers);
  g_free (run->order);
}

/* All once untimed, for the memory. */
static void
measure (const BenchTask *task, const BenchContender *contender, double *ns)
{
  Run run;

  run_init (&run, contender, bench_task_n (task));
  make_far (&run);
  free_timers (&run);
  ns[NEW] = time_each (&run, make_far);
  ns[REARM] = time_each (&run, rearm);
  ns[FIRE_ONE] = time_fire_one (&run);
  ns[DISARM] = time_each (&run, disarm);
  rearm (&run);
  ns[FREE] = time_each (&run, free_timers);
  ns[FIRE_ALL] = time_fire_all (&run);
  run_clear (&run);
}

#define TASK(n_, every_)                                                                           \
  {                                                                                                \
    .name = "N=" #n_, .costs = { [NEW] = "make and arm",           [REARM] = "re-arm",             \
                                 [FIRE_ONE] = "make and fire one", [DISARM] = "disarm",            \
                                 [FREE] = "free while armed",      [FIRE_ALL] = "fire all" },      \
    .measure = measure, .n = n_, .every = every_                                                   \
  }

static const BenchTask tasks[] = {
  TASK (100, 1), TASK (1000, 1), TASK (10000, 1), TASK (100000, 5), TASK (1000000, 17),
};

static const BenchContender *const contenders[] = {
  &bench_gaio_nested, &bench_gaio_alone, &bench_glib, &bench_uv, &bench_libevent, &bench_libev,
};

int
main (int argc, char **argv)
{
  return bench_table_main (
      &(BenchTable){ .name = "timers",
                     .summary = "What a timer costs among N, in CPU time, but to fire one",
                     .unit = "ns",
                     .contenders = contenders,
                     .n_contenders = G_N_ELEMENTS (contenders),
                     .tasks = tasks,
                     .n_tasks = G_N_ELEMENTS (tasks) },
      argc, argv);
}
