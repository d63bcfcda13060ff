/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Everything at once: threads add, change, remove, schedule, arm and defer while a loop runs, and
 * take from one another what they have added. In the end all is accounted for. */
#include "test-loop.h"

#define N_THREADS 8
#define N_FDS 4
#define N_SHARED 48
#define N_STEPS 5000

typedef enum
{
  HANDLER,
  TIMER,
  BOTTOM_HALF,
  N_KINDS,
  DEFERRED = N_KINDS,
} Kind;

typedef struct _Worker Worker;

/* What was added, and what has become of it. It stays until the end, so that what comes too late is
 * noticed. */
typedef struct
{
  Worker *worker; /* who has added it; NULL: it stays, and all threads use it at the same time */
  Kind kind;
  gpointer handle;
  guint number;
  guint data; /* of the callback, and after remove_sync() of its caller */
  atomic_uint calls;
  atomic_uint notified;
  atomic_bool running;
  atomic_bool gone; /* remove_sync() is back */
} Thing;

typedef struct
{
  Loop loop;
  pthread_barrier_t barrier; /* all begin at once */
  gint fds[N_FDS + 1];       /* the last is that of the one handler that stays */
  Thing lasting[N_KINDS];
  _Atomic (Thing *) shared[N_SHARED]; /* who exchanges one has it for itself */
} Stress;

struct _Worker
{
  Stress *stress;
  pthread_t thread;
  guint seed;
  Thing *things;
  guint n_things;
  guint next_deferred; /* (owner) */
};

static void
round_within (Loop *loop)
{
  if (loop->main_context != NULL)
    g_main_context_iteration (loop->main_context, FALSE);
  else
    gaio_context_iterate (loop->context, 0);
}

static void
called (gpointer data)
{
  Thing *thing = data;

  g_assert_false (atomic_exchange (&thing->running, TRUE));
  g_assert_false (atomic_load (&thing->gone));
  g_assert_cmpuint (atomic_load (&thing->notified), ==, 0);
  thing->data++;
  atomic_fetch_add (&thing->calls, 1);
  for (guint i = thing->number % 16; i > 0; i--)
    sched_yield ();
  if (thing->kind == BOTTOM_HALF && thing->number % 4 == 1)
    round_within (&thing->worker->stress->loop);
  g_assert_false (atomic_load (&thing->gone));
  atomic_store (&thing->running, FALSE);
}

/* Some remove themselves, while others may be doing just that. */
static gboolean
called_for_fd (gint fd, GIOCondition condition, gpointer data)
{
  Thing *thing = data;

  eventfd_take (fd);
  called (thing);
  return thing->worker == NULL || thing->number % 4 != 0;
}

static void
called_deferred (gpointer data)
{
  Thing *thing = data;

  called (thing);
  g_assert_cmpuint (thing->number, >=, thing->worker->next_deferred);
  thing->worker->next_deferred = thing->number + 1;
}

static void
notified (gpointer data)
{
  Thing *thing = data;

  g_assert_false (atomic_load (&thing->running));
  g_assert_cmpuint (atomic_fetch_add (&thing->notified, 1), ==, 0);
}

static void
thing_add (Thing *thing, Stress *stress, gint fd)
{
  GaioContext *context = stress->loop.context;

  if (thing->kind == HANDLER)
    thing->handle = add_fd (context, fd, G_IO_IN, called_for_fd, thing, notified);
  else if (thing->kind == TIMER)
    thing->handle = gaio_context_add_timer (context, called, thing, notified);
  else if (thing->kind == BOTTOM_HALF)
    thing->handle = gaio_context_add_bottom_half (context, called, thing, notified);
  else
    gaio_context_defer (context, called_deferred, thing, notified);
}

static void
thing_remove (Thing *thing, gboolean sync)
{
  if (thing->kind == HANDLER && sync)
    {
      gaio_handler_remove_sync (thing->handle);
      thing->data = 0;
      atomic_store (&thing->gone, TRUE);
    }
  else if (thing->kind == HANDLER)
    gaio_handler_remove (thing->handle);
  else if (thing->kind == TIMER)
    gaio_timer_remove (thing->handle);
  else
    gaio_bottom_half_remove (thing->handle);
}

static void
thing_unref (Thing *thing)
{
  if (thing->kind == HANDLER)
    gaio_handler_unref (thing->handle);
  else if (thing->kind == TIMER)
    gaio_timer_unref (thing->handle);
  else
    gaio_bottom_half_unref (thing->handle);
}

static void
change_handler (GaioHandler *handler, guint what)
{
  g_autoptr (GError) error = NULL;

  if (!gaio_handler_set_condition (handler, what % 3 ? G_IO_IN : 0, &error))
    g_assert_error (error, GAIO_ERROR, GAIO_ERROR_REMOVED);
}

static void
change_timer (GaioTimer *timer, guint what)
{
  if (what % 4 == 0)
    gaio_timer_disarm (timer);
  else
    gaio_timer_arm (timer, what % 100);
}

static void
change_bottom_half (GaioBottomHalf *bottom_half, guint what)
{
  if (what % 4 == 0)
    gaio_bottom_half_cancel (bottom_half);
  else if (what % 4 == 1)
    gaio_bottom_half_schedule_idle (bottom_half);
  else
    gaio_bottom_half_schedule (bottom_half);
}

static void
thing_change (Thing *thing, guint what)
{
  if (thing->kind == HANDLER)
    change_handler (thing->handle, what);
  else if (thing->kind == TIMER)
    change_timer (thing->handle, what);
  else
    change_bottom_half (thing->handle, what);
}

static gint
fd_of (Thing *thing)
{
  return thing->worker->stress->fds[thing->number % N_FDS];
}

static Thing *
worker_add (Worker *self, Kind kind)
{
  Thing *thing = &self->things[self->n_things];

  *thing = (Thing){ .worker = self, .kind = kind, .number = self->n_things++ };
  thing_add (thing, self->stress, fd_of (thing));
  return thing;
}

/* Whoever of two comes second removes what the first has left there. */
static void
put (Worker *self, Thing *thing, guint what)
{
  Thing *other = atomic_exchange (&self->stress->shared[what % N_SHARED], thing);

  if (other == NULL)
    return;
  thing_remove (other, what & 1);
  thing_unref (other);
}

static void
take_and_change (Worker *self, guint what)
{
  Thing *thing = atomic_exchange (&self->stress->shared[what % N_SHARED], NULL);

  if (thing == NULL)
    return;
  thing_change (thing, what >> 5);
  put (self, thing, what);
}

/* And waits for it: else the threads would be done before the loop has well begun. */
static void
defer (Worker *self)
{
  Thing *thing = worker_add (self, DEFERRED);

  wait_for (atomic_load (&thing->calls) == 1);
}

static void
add (Worker *self, guint what)
{
  Thing *thing = worker_add (self, what % N_KINDS);

  if (thing->kind == HANDLER)
    eventfd_add (fd_of (thing));
  else
    thing_change (thing, what >> 2);
  put (self, thing, what >> 4);
}

static void
work_once (Worker *self, guint what)
{
  Stress *stress = self->stress;
  guint other = what >> 4;

  switch (what % 8)
    {
    case 0:
    case 1:
      add (self, other);
      break;
    case 2:
    case 3:
      take_and_change (self, other);
      break;
    case 4:
      thing_change (&stress->lasting[other % N_KINDS], other >> 2);
      break;
    case 5:
    case 6:
      eventfd_add (stress->fds[other % G_N_ELEMENTS (stress->fds)]);
      break;
    default:
      defer (self);
      break;
    }
}

static void *
work (gpointer data)
{
  Worker *self = data;

  pthread_barrier_wait (&self->stress->barrier);
  for (guint i = 0; i < N_STEPS; i++)
    work_once (self, rand_r (&self->seed));
  return NULL;
}

static void
stress_start (Stress *stress, gconstpointer nested)
{
  *stress = (Stress){ 0 };
  g_assert_cmpint (pthread_barrier_init (&stress->barrier, NULL, N_THREADS), ==, 0);
  loop_start (&stress->loop, nested);
  for (guint i = 0; i < G_N_ELEMENTS (stress->fds); i++)
    stress->fds[i] = eventfd_new (0);
  for (Kind kind = 0; kind < N_KINDS; kind++)
    {
      stress->lasting[kind].kind = kind;
      thing_add (&stress->lasting[kind], stress, stress->fds[N_FDS]);
    }
}

static void
worker_start (Worker *self, Stress *stress)
{
  *self = (Worker){ .stress = stress, .seed = g_test_rand_int () };
  self->things = g_new0 (Thing, N_STEPS);
  self->thread = spawn (work, self);
}

static guint
calls_of (Stress *stress, Kind kind)
{
  return atomic_load (&stress->lasting[kind].calls);
}

/* Nothing that was done to them has broken them. */
static void
assert_lasting_still_work (Stress *stress)
{
  guint calls[N_KINDS];

  gaio_timer_disarm (stress->lasting[TIMER].handle);
  gaio_bottom_half_cancel (stress->lasting[BOTTOM_HALF].handle);
  change_handler (stress->lasting[HANDLER].handle, 0);
  loop_barrier (&stress->loop);
  for (Kind kind = 0; kind < N_KINDS; kind++)
    calls[kind] = calls_of (stress, kind);
  change_handler (stress->lasting[HANDLER].handle, 1);
  eventfd_add (stress->fds[N_FDS]);
  gaio_timer_arm (stress->lasting[TIMER].handle, 1);
  gaio_bottom_half_schedule (stress->lasting[BOTTOM_HALF].handle);
  for (Kind kind = 0; kind < N_KINDS; kind++)
    wait_for (calls_of (stress, kind) > calls[kind]);
}

/* What is left has its end with the context. */
static void
stress_stop (Stress *stress)
{
  loop_stop (&stress->loop);
  for (guint i = 0; i < N_SHARED; i++)
    if (stress->shared[i] != NULL)
      thing_unref (stress->shared[i]);
  for (Kind kind = 0; kind < N_KINDS; kind++)
    thing_unref (&stress->lasting[kind]);
  loop_free (&stress->loop);
  pthread_barrier_destroy (&stress->barrier);
  for (guint i = 0; i < G_N_ELEMENTS (stress->fds); i++)
    close (stress->fds[i]);
}

static void
worker_assert_accounted_for (Worker *self)
{
  for (guint i = 0; i < self->n_things; i++)
    {
      g_assert_cmpuint (atomic_load (&self->things[i].notified), ==, 1);
      if (self->things[i].kind == DEFERRED)
        g_assert_cmpuint (atomic_load (&self->things[i].calls), ==, 1);
    }
}

static void
test_everything_at_once (gconstpointer nested)
{
  Stress stress;
  Worker workers[N_THREADS];

  stress_start (&stress, nested);
  for (guint i = 0; i < N_THREADS; i++)
    worker_start (&workers[i], &stress);
  for (guint i = 0; i < N_THREADS; i++)
    join (workers[i].thread);
  assert_lasting_still_work (&stress);
  stress_stop (&stress);
  for (Kind kind = 0; kind < N_KINDS; kind++)
    g_assert_cmpuint (atomic_load (&stress.lasting[kind].notified), ==, 1);
  for (guint i = 0; i < N_THREADS; i++)
    {
      worker_assert_accounted_for (&workers[i]);
      g_free (workers[i].things);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/stress/everything-at-once", test_everything_at_once);
  return g_test_run ();
}
