/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What it costs to reach a loop from other threads: calls with data, which all arrive
 * (gaio_context_defer(), g_main_context_invoke_full(), a queue beside uv_async_send()); signals, of
 * which several may become one (gaio_bottom_half_schedule(), g_source_set_ready_time(),
 * uv_async_send()); and how long a round trip between two sleeping loops takes with either. */
#include "bench-table.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MAX_PRODUCERS 4
/* The first, untimed, warms up. */
#define N_PHASES 2

/* Those that the program may use. */
static cpu_set_t processors;

/* A thread that the scheduler moves to another processor, or to that of the thread it talks to,
 * measures something else: a round trip then differs by ten times. So each is told where to be. */
static void
bind_to_processor (guint n)
{
  cpu_set_t one;

  CPU_ZERO (&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET (cpu, &processors) && n-- == 0)
      CPU_SET (cpu, &one);
  sched_setaffinity (0, sizeof one, &one);
}

/* All but the first, where the loop is, or that if there is no other. */
static void
bind_to_other_processor (guint n)
{
  guint n_others = CPU_COUNT (&processors) - 1;

  bind_to_processor (n_others > 0 ? 1 + n % n_others : 0);
}

typedef struct
{
  const BenchContender *contender;
  gpointer loop;
  guint n; /* how many times each producer is to send */
  pthread_barrier_t begin;
  guint n_received;
  guint n_complete; /* whose last signal has been seen */
} Flood;

typedef struct
{
  Flood *flood;
  guint index;
  pthread_t thread;
  gpointer signal;
  atomic_uint n_sent;
  guint n_wanted;
  gboolean complete;
} Producer;

static gboolean
on_call (gpointer user_data)
{
  Flood *flood = user_data;

  flood->n_received++;
  return G_SOURCE_REMOVE;
}

static gpointer
produce_calls (gpointer user_data)
{
  Producer *producer = user_data;
  Flood *flood = producer->flood;

  bind_to_other_processor (producer->index);
  for (guint phase = 0; phase < N_PHASES; phase++)
    {
      pthread_barrier_wait (&flood->begin);
      for (guint i = 0; i < flood->n; i++)
        flood->contender->call (flood->loop, on_call, flood);
    }
  return NULL;
}

/* Whatever becomes one, the last that was sent is not lost. */
static gboolean
on_signal (gpointer user_data)
{
  Producer *producer = user_data;

  if (atomic_load_explicit (&producer->n_sent, memory_order_acquire) == producer->n_wanted &&
      !producer->complete)
    {
      producer->complete = TRUE;
      producer->flood->n_complete++;
    }
  return G_SOURCE_CONTINUE;
}

static gpointer
produce_signals (gpointer user_data)
{
  Producer *producer = user_data;
  Flood *flood = producer->flood;

  bind_to_other_processor (producer->index);
  for (guint phase = 0; phase < N_PHASES; phase++)
    {
      pthread_barrier_wait (&flood->begin);
      for (guint i = 0; i < flood->n; i++)
        {
          atomic_fetch_add_explicit (&producer->n_sent, 1, memory_order_release);
          flood->contender->signal_send (producer->signal);
        }
    }
  return NULL;
}

static void
flood_init (Flood *flood, const BenchTask *task, const BenchContender *contender)
{
  *flood = (Flood){ .contender = contender, .n = bench_task_n (task) / task->n_threads };
  flood->loop = contender->open ();
  pthread_barrier_init (&flood->begin, NULL, task->n_threads + 1);
}

static void
start_producer (Producer *producer,
                Flood *flood,
                guint index,
                gpointer (*produce) (gpointer user_data))
{
  producer->flood = flood;
  producer->index = index;
  if (pthread_create (&producer->thread, NULL, produce, producer) != 0)
    g_error ("pthread_create failed");
}

static void
flood_clear (Flood *flood, Producer *producers, guint n_producers)
{
  for (guint i = 0; i < n_producers; i++)
    {
      pthread_join (producers[i].thread, NULL);
      if (producers[i].signal != NULL)
        flood->contender->signal_free (producers[i].signal);
    }
  flood->contender->close (flood->loop);
  pthread_barrier_destroy (&flood->begin);
}

static void
measure_calls (const BenchTask *task, const BenchContender *contender, double *ns)
{
  Producer producers[MAX_PRODUCERS] = { 0 };
  Flood flood;

  flood_init (&flood, task, contender);
  for (guint i = 0; i < task->n_threads; i++)
    start_producer (&producers[i], &flood, i, produce_calls);
  for (guint phase = 0; phase < N_PHASES; phase++)
    {
      guint wanted = (phase + 1) * flood.n * task->n_threads;
      double start;

      pthread_barrier_wait (&flood.begin);
      start = bench_now_ns ();
      while (flood.n_received < wanted)
        contender->turn (flood.loop);
      *ns = (bench_now_ns () - start) / (flood.n * task->n_threads);
    }
  flood_clear (&flood, producers, task->n_threads);
}

/* Before a phase: nobody sends now. */
static void
want_signals (Flood *flood, Producer *producers, guint n_producers, guint n)
{
  flood->n_complete = 0;
  for (guint i = 0; i < n_producers; i++)
    {
      producers[i].n_wanted = n;
      producers[i].complete = FALSE;
    }
}

static void
measure_signals (const BenchTask *task, const BenchContender *contender, double *ns)
{
  Producer producers[MAX_PRODUCERS] = { 0 };
  Flood flood;

  flood_init (&flood, task, contender);
  for (guint i = 0; i < task->n_threads; i++)
    {
      producers[i].signal = contender->signal_new (flood.loop, on_signal, &producers[i]);
      start_producer (&producers[i], &flood, i, produce_signals);
    }
  for (guint phase = 0; phase < N_PHASES; phase++)
    {
      double start;

      want_signals (&flood, producers, task->n_threads, (phase + 1) * flood.n);
      pthread_barrier_wait (&flood.begin);
      start = bench_now_ns ();
      while (flood.n_complete < task->n_threads)
        contender->turn (flood.loop);
      *ns = (bench_now_ns () - start) / (flood.n * task->n_threads);
    }
  flood_clear (&flood, producers, task->n_threads);
}

/* The costs of a round trip: itself, and how long after it was sent something arrives. */
enum
{
  ROUND_TRIP,
  PERCENTILES,
};

static const double percentiles[] = { 1, 10, 25, 50, 75, 90, 99, 99.9 };

typedef struct Player Player;

struct Player
{
  const BenchContender *contender;
  gpointer loop;
  gpointer signal; /* NULL: by calls */
  gboolean by_signal;
  gboolean apart; /* each on a processor of its own */
  Player *other;
  guint n_received;
  guint n; /* after which the first player stops */
  gboolean first;
  double warm; /* when the first player had a quarter behind it */
  double sent; /* when the other last played */
  double *latencies;
  pthread_barrier_t *barrier;
};

static gboolean on_call_for_player (gpointer user_data);

static void
play (Player *other)
{
  other->sent = bench_now_ns ();
  if (other->by_signal)
    other->contender->signal_send (other->signal);
  else
    other->contender->call (other->loop, on_call_for_player, other);
}

static void
receive (Player *self)
{
  self->latencies[self->n_received++] = bench_now_ns () - self->sent;
  if (self->first && self->n_received == self->n / 4)
    self->warm = bench_now_ns ();
  if (!self->first || self->n_received < self->n)
    play (self->other);
}

static gboolean
on_call_for_player (gpointer user_data)
{
  receive (user_data);
  return G_SOURCE_REMOVE;
}

static gboolean
on_signal_for_player (gpointer user_data)
{
  receive (user_data);
  return G_SOURCE_CONTINUE;
}

static void
player_open (Player *self)
{
  self->loop = self->contender->open ();
  if (self->by_signal)
    self->signal = self->contender->signal_new (self->loop, on_signal_for_player, self);
  pthread_barrier_wait (self->barrier);
}

/* Once the other does not send any more. */
static void
player_close (Player *self)
{
  pthread_barrier_wait (self->barrier);
  if (self->by_signal)
    self->contender->signal_free (self->signal);
  self->contender->close (self->loop);
}

static gpointer
run_player (gpointer user_data)
{
  Player *self = user_data;

  if (self->apart)
    bind_to_other_processor (0);
  player_open (self);
  while (self->n_received < self->n)
    self->contender->turn (self->loop);
  player_close (self);
  return NULL;
}

static double
run_first_player (Player *self)
{
  double ns;

  player_open (self);
  play (self->other);
  while (self->n_received < self->n)
    self->contender->turn (self->loop);
  ns = (bench_now_ns () - self->warm) / (self->n - self->n / 4);
  player_close (self);
  return ns;
}

static int
compare_doubles (gconstpointer a, gconstpointer b)
{
  double difference = *(const double *) a - *(const double *) b;

  return (difference > 0) - (difference < 0);
}

static void
fill_in_percentiles (double *latencies, guint n, double *ns)
{
  qsort (latencies, n, sizeof (double), compare_doubles);
  for (guint i = 0; i < G_N_ELEMENTS (percentiles); i++)
    ns[i] = latencies[(guint) (percentiles[i] / 100 * (n - 1))];
}

static void
measure_round_trip (const BenchTask *task,
                    const BenchContender *contender,
                    gboolean by_signal,
                    double *ns)
{
  guint n = bench_task_n (task);
  g_autofree double *latencies = g_new (double, 2 * n);
  pthread_barrier_t barrier;
  Player first = {
    .contender = contender,
    .by_signal = by_signal,
    .apart = task->n_processors == 2,
    .n = n,
    .latencies = latencies,
    .barrier = &barrier,
  };
  Player second = first;
  pthread_t thread;

  first.first = TRUE;
  first.other = &second;
  second.other = &first;
  second.latencies = latencies + n;
  pthread_barrier_init (&barrier, NULL, 2);
  if (pthread_create (&thread, NULL, run_player, &second) != 0)
    g_error ("pthread_create failed");
  ns[ROUND_TRIP] = run_first_player (&first);
  pthread_join (thread, NULL);
  pthread_barrier_destroy (&barrier);
  fill_in_percentiles (latencies, 2 * n, &ns[PERCENTILES]);
}

static void
measure_call_trip (const BenchTask *task, const BenchContender *contender, double *ns)
{
  measure_round_trip (task, contender, FALSE, ns);
}

static void
measure_signal_trip (const BenchTask *task, const BenchContender *contender, double *ns)
{
  measure_round_trip (task, contender, TRUE, ns);
}

#define FLOOD(name_, measure_, n_)                                                                 \
  {                                                                                                \
    .name = name_, .costs = { "threads=" #n_ }, .measure = measure_, .n = 20000, .n_quick = 8000,  \
    .n_threads = n_                                                                                \
  }

#define TRIP(name_, measure_, n_, n_quick_, n_cpus)                                                \
  {                                                                                                \
    .name = name_ " cpus=" #n_cpus,                                                                \
    .costs = { "round trip", "p=1", "p=10", "p=25", "p=50", "p=75", "p=90", "p=99", "p=99.9" },    \
    .measure = measure_, .n = n_, .n_quick = n_quick_, .n_processors = n_cpus                      \
  }

static const BenchTask tasks[] = {
  FLOOD ("calls", measure_calls, 1),
  FLOOD ("calls", measure_calls, 2),
  FLOOD ("calls", measure_calls, 4),
  FLOOD ("signals", measure_signals, 1),
  FLOOD ("signals", measure_signals, 2),
  FLOOD ("signals", measure_signals, 4),
  TRIP ("wake-up by call", measure_call_trip, 2000, 400, 1),
  TRIP ("wake-up by call", measure_call_trip, 1000, 400, 2),
  TRIP ("wake-up by signal", measure_signal_trip, 2000, 400, 1),
  TRIP ("wake-up by signal", measure_signal_trip, 1000, 400, 2),
};

static const BenchContender *const contenders[] = {
  &bench_gaio_nested,
  &bench_gaio_alone,
  &bench_glib,
  &bench_uv,
};

int
main (int argc, char **argv)
{
  sched_getaffinity (0, sizeof processors, &processors);
  bind_to_processor (0);
  return bench_table_main (&(BenchTable){ .name = "threads",
                                          .summary = "What it costs to reach a loop",
                                          .unit = "ns",
                                          .contenders = contenders,
                                          .n_contenders = G_N_ELEMENTS (contenders),
                                          .tasks = tasks,
                                          .n_tasks = G_N_ELEMENTS (tasks) },
                           argc, argv);
}
