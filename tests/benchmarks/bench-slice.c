/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One contender's share of one round.
 *
 * There is one pool of eventfds, and only the contender whose turn it is has them registered: an fd
 * in several epoll sets would make each write wake all of them, and one set of fds for each
 * contender does not fit under the fd limit at N=19000. Registration is not timed. */
#include "bench-loop.h"

#include <errno.h>
#include <sys/eventfd.h>

typedef struct
{
  const BenchSlice *slice;
  const BenchContender *contender;
  gpointer loop;
  guint64 hits;
  guint next; /* index into slice->order */
} Run;

static void
ring (int fd)
{
  if (eventfd_write (fd, 1) != 0)
    g_error ("eventfd_write: %s", g_strerror (errno));
}

static gboolean
on_ready_live (int fd, GIOCondition condition, gpointer user_data)
{
  Run *run = user_data;
  eventfd_t value;

  if (eventfd_read (fd, &value) == 0)
    run->hits++;
  return G_SOURCE_CONTINUE;
}

static gboolean
on_ready_dry (int fd, GIOCondition condition, gpointer user_data)
{
  Run *run = user_data;

  run->hits++;
  return G_SOURCE_CONTINUE;
}

static void
run_until (Run *run, guint64 hits)
{
  while (run->hits < hits)
    run->contender->turn (run->loop);
}

static void
run_live (Run *run, guint units)
{
  const BenchSlice *slice = run->slice;

  for (guint i = 0; i < units; i++)
    {
      for (guint j = 0; j < slice->k; j++)
        {
          ring (slice->order[run->next]);
          run->next = run->next + 1 == slice->n ? 0 : run->next + 1;
        }
      run_until (run, run->hits + slice->k);
    }
}

static void
run_dry (Run *run, guint units)
{
  for (guint i = 0; i < units; i++)
    run_until (run, run->hits + run->slice->k);
}

static void
make_readable (const BenchSlice *slice)
{
  for (guint i = 0; i < slice->k; i++)
    ring (slice->order[i]);
}

static void
drain (const BenchSlice *slice)
{
  eventfd_t value;

  for (guint i = 0; i < slice->k; i++)
    eventfd_read (slice->order[i], &value);
}

/* An untimed run first: the caches are full of the contender before. */
static double
time_units (Run *run, void (*run_units) (Run *run, guint units))
{
  guint64 hits;
  double start;

  run_units (run, run->slice->units / 4 + 1);
  hits = run->hits;
  start = bench_now_ns ();
  run_units (run, run->slice->units);
  return (bench_now_ns () - start) / (run->hits - hits);
}

/* Nanoseconds per event. */
double
bench_slice_measure (const BenchSlice *slice, const BenchContender *contender)
{
  gboolean dry = slice->kind == BENCH_DRY;
  Run run = { .slice = slice, .contender = contender };
  double ns;

  if (dry)
    make_readable (slice);
  run.loop = contender->open ();
  contender->watch (run.loop, slice->fds, slice->n, dry ? on_ready_dry : on_ready_live, &run);
  ns = time_units (&run, dry ? run_dry : run_live);
  contender->close (run.loop);
  if (dry)
    drain (slice);
  return ns;
}

/* For about that many events. A linear contender is given some milliseconds: 40 us for each event
 * at N=400. */
guint
bench_slice_units (const BenchContender *contender, guint n, guint k, guint n_events)
{
  guint units = MAX (n_events / k, 4);

  if (contender->linear)
    return CLAMP (20 * n_events / (n * k), 2, units);
  return units;
}
