/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads add, change, remove, schedule, arm and defer while a loop runs, and take from one another
 * what they have added: everything at once, and a storm of each kind. In the end all is accounted
 * for. */
#include "test-loop.h"

#define N_FDS 4
#define N_SHARED 48
#define N_STEPS_AT_ONCE (N_THREADS * 5000)

typedef enum
{
  HANDLER,
  TIMER,
  BOTTOM_HALF,
  N_KINDS,
  DEFERRED = N_KINDS,
  ANY = N_KINDS,
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

/* What a thread has for itself: of what it asks for, nothing may be lost. */
typedef struct
{
  gpointer handle;
  gint fd;         /* of a handler */
  gint64 deadline; /* of a timer */
  atomic_uint asked;
  atomic_uint served;
} Own;

typedef struct
{
  Loop loop;
  Kind kind; /* which one, or ANY */
  guint n_steps;
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
  Own own[N_KINDS];
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
  for (guint i = thing->number % 64 == 0 ? 16 : 0; i > 0; i--)
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

static Kind
kind_for (Worker *self, guint what)
{
  return self->stress->kind != ANY ? self->stress->kind : what % N_KINDS;
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

/* And waits for some: else the threads would be done before the loop has well begun. */
static void
defer (Worker *self, guint what)
{
  Thing *thing = worker_add (self, DEFERRED);

  if (what % 4 == 0)
    wait_for (atomic_load (&thing->calls) == 1);
}

static void
add (Worker *self, guint what)
{
  Thing *thing = worker_add (self, kind_for (self, what));

  if (thing->kind == HANDLER)
    eventfd_add (fd_of (thing));
  else
    thing_change (thing, what >> 2);
  put (self, thing, what >> 4);
}

/* --- What a thread has for itself --- */

static gboolean
serve_own_fd (gint fd, GIOCondition condition, gpointer data)
{
  Own *own = data;
  guint64 value;

  g_assert_cmpint (read (fd, &value, sizeof value), ==, sizeof value);
  atomic_fetch_add (&own->served, value);
  sched_yield ();
  return G_SOURCE_CONTINUE;
}

static void
serve_own_timer (gpointer data)
{
  Own *own = data;

  g_assert_cmpint (g_get_monotonic_time (), >=, own->deadline);
  atomic_fetch_add (&own->served, 1);
  sched_yield ();
}

static void
serve_own_bottom_half (gpointer data)
{
  Own *own = data;

  atomic_fetch_add (&own->served, 1);
  sched_yield ();
}

static void
own_add (Own *own, Kind kind, GaioContext *context)
{
  *own = (Own){ .fd = eventfd_new (0) };
  if (kind == HANDLER)
    own->handle = add_fd (context, own->fd, G_IO_IN, serve_own_fd, own, NULL);
  else if (kind == TIMER)
    own->handle = gaio_context_add_timer (context, serve_own_timer, own, NULL);
  else
    own->handle = gaio_context_add_bottom_half (context, serve_own_bottom_half, own, NULL);
}

/* One thing at a time, which is found missing, and mostly while the callback runs still. */
static void
own_use (Own *own, Kind kind, guint what)
{
  if (atomic_load (&own->served) != atomic_load (&own->asked))
    return;
  atomic_fetch_add (&own->asked, 1);
  if (kind == HANDLER)
    eventfd_add (own->fd);
  else if (kind == TIMER)
    {
      own->deadline = g_get_monotonic_time () + what % 100;
      gaio_timer_arm_at (own->handle, own->deadline);
    }
  else if (what % 2)
    gaio_bottom_half_schedule (own->handle);
  else
    gaio_bottom_half_schedule_idle (own->handle);
}

static void
own_remove (Own *own, Kind kind)
{
  wait_for (atomic_load (&own->served) == atomic_load (&own->asked));
  if (kind == HANDLER)
    gaio_clear_handler ((GaioHandler **) &own->handle);
  else if (kind == TIMER)
    gaio_clear_timer ((GaioTimer **) &own->handle);
  else
    gaio_clear_bottom_half ((GaioBottomHalf **) &own->handle);
  close (own->fd);
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
      thing_change (&stress->lasting[kind_for (self, other)], other >> 2);
      break;
    case 5:
      eventfd_add (stress->fds[other % G_N_ELEMENTS (stress->fds)]);
      break;
    case 6:
      own_use (&self->own[kind_for (self, other)], kind_for (self, other), other >> 2);
      break;
    default:
      defer (self, other);
      break;
    }
}

static void *
work (gpointer data)
{
  Worker *self = data;

  pthread_barrier_wait (&self->stress->barrier);
  for (guint i = 0; i < self->stress->n_steps; i++)
    work_once (self, rand_r (&self->seed));
  for (Kind kind = 0; kind < N_KINDS; kind++)
    own_remove (&self->own[kind], kind);
  return NULL;
}

static void
stress_start (Stress *stress, gconstpointer nested, Kind kind, guint n_steps)
{
  *stress = (Stress){ .kind = kind, .n_steps = n_steps / N_THREADS };
  g_assert_cmpint (pthread_barrier_init (&stress->barrier, NULL, N_THREADS), ==, 0);
  loop_start (&stress->loop, nested);
  for (guint i = 0; i < G_N_ELEMENTS (stress->fds); i++)
    stress->fds[i] = eventfd_new (0);
  for (Kind i = 0; i < N_KINDS; i++)
    {
      stress->lasting[i].kind = i;
      thing_add (&stress->lasting[i], stress, stress->fds[N_FDS]);
    }
}

static void
worker_start (Worker *self, Stress *stress)
{
  *self = (Worker){ .stress = stress, .seed = g_test_rand_int () };
  self->things = g_new0 (Thing, stress->n_steps);
  for (Kind kind = 0; kind < N_KINDS; kind++)
    own_add (&self->own[kind], kind, stress->loop.context);
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
run (gconstpointer nested, Kind which, guint n_steps)
{
  Stress stress;
  Worker workers[N_THREADS];

  stress_start (&stress, nested, which, n_steps);
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

static void
test_everything_at_once (gconstpointer nested)
{
  run (nested, ANY, N_STEPS_AT_ONCE);
}

/* Half of a storm is alone, the other nested. */
static void
test_storm_of_handlers (gconstpointer nested)
{
  run (nested, HANDLER, storm_size () / 2);
}

static void
test_storm_of_timers (gconstpointer nested)
{
  run (nested, TIMER, storm_size () / 2);
}

static void
test_storm_of_bottom_halves (gconstpointer nested)
{
  run (nested, BOTTOM_HALF, storm_size () / 2);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/stress/everything-at-once", test_everything_at_once);
  add_both ("/stress/storm-of-handlers", test_storm_of_handlers);
  add_both ("/stress/storm-of-timers", test_storm_of_timers);
  add_both ("/stress/storm-of-bottom-halves", test_storm_of_bottom_halves);
  return g_test_run ();
}
