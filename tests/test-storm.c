/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contexts and their threads come and go: all threads fill them, run them, take them from one
 * main context to another, close them and drop them while the others use them. */
#include <sys/mman.h>

#include "test-loop.h"

#define N_PLACES 8

/* GLib makes the table of the sources of a GMainContext longer under a lock that ThreadSanitizer
 * does not see. */
const char *__tsan_default_suppressions (void);

const char *
__tsan_default_suppressions (void)
{
  return "race:g_realloc\n";
}

/* One context, and what has been asked of it and has become of that. It stays until the end. */
typedef struct
{
  pthread_mutex_t running; /* who may iterate it */
  pthread_mutex_t mutex;   /* of its references, which GLib counts where TSan does not see it */
  atomic_uint added;
  atomic_uint notified;
  atomic_bool stopped; /* set before its thread is told to */
} Life;

/* Where all threads find one. */
typedef struct
{
  pthread_mutex_t mutex;
  Life *life;
  GObject *object; /* a GaioContext or a GaioThread */
} Place;

typedef struct _Worker Worker;

typedef struct
{
  Loop loops[2]; /* of the main contexts */
  gboolean nested;
  gint fd; /* always ready */
  gint file;
  Place places[N_PLACES];
  pthread_barrier_t barrier; /* all begin at once */
  guint n_steps;
  void (*step) (Worker *self, guint what);
  GObject *(*object_new) (void);
} Storm;

struct _Worker
{
  Storm *storm;
  pthread_t thread;
  guint seed;
  GPtrArray *lives;
};

/* --- What is asked of a context --- */

typedef struct
{
  Life *life;
  guint calls; /* (owner) */
  char byte;   /* of a file operation */
} Item;

static void
item_called (gpointer data)
{
  Item *item = data;

  item->calls++;
  g_assert_cmpuint (item->calls, ==, 1);
  sched_yield ();
}

/* Of an fd that is always ready, to leave time for others. */
static gboolean
item_called_once (gint fd, GIOCondition condition, gpointer data)
{
  item_called (data);
  return G_SOURCE_REMOVE;
}

static void
item_notified (gpointer data)
{
  Item *item = data;

  atomic_fetch_add (&item->life->notified, 1);
  g_free (item);
}

static Item *
item_new (Life *life)
{
  Item *item = g_new0 (Item, 1);

  item->life = life;
  atomic_fetch_add (&life->added, 1);
  return item;
}

/* By now the context may be closed. */
static void
add_handler (GaioContext *context, Item *item, gint fd, gboolean remove)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler =
      gaio_context_add_fd (context, fd, G_IO_IN, item_called_once, item, item_notified, &error);

  if (handler == NULL)
    g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  else if (remove)
    gaio_clear_handler (&handler);
  else
    gaio_handler_unref (handler);
}

static void
add_timer (GaioContext *context, Item *item, guint what)
{
  GaioTimer *timer = gaio_context_add_timer (context, item_called, item, item_notified);

  gaio_timer_arm (timer, what % 64);
  if (what % 4 == 0)
    gaio_timer_unref (timer);
  else
    gaio_clear_timer (&timer);
}

static void
item_has_ended (gssize result, const GError *error, gpointer data)
{
  item_called (data);
  item_notified (data);
}

/* Reads or writes one byte. */
static void
submit_file (GaioContext *context, Item *item, gint fd, guint what)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioIOOp) op = what % 2 ? gaio_context_submit_pread (context, fd, &item->byte, 1, 0,
                                                                  item_has_ended, item, &error)
                                     : gaio_context_submit_pwrite (context, fd, &item->byte, 1, 0,
                                                                   item_has_ended, item, &error);

  if (op == NULL)
    {
      g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
      item_notified (item);
    }
  else if (what % 4 == 0)
    gaio_io_op_cancel (op);
}

static void
fill (Storm *storm, GaioContext *context, Life *life, guint what)
{
  Item *item = item_new (life);

  if (what % 64 == 2)
    submit_file (context, item, storm->file, what / 64);
  else if (what % 4 == 0)
    add_handler (context, item, storm->fd, what & 4);
  else if (what % 4 == 1)
    add_timer (context, item, what >> 2);
  else
    gaio_context_defer (context, item_called, item, item_notified);
}

/* --- Places --- */

static GObject *
place_borrow (Place *place, Life **life)
{
  GObject *object;

  pthread_mutex_lock (&place->mutex);
  *life = place->life;
  object = g_object_ref (place->object);
  pthread_mutex_unlock (&place->mutex);
  return object;
}

static void
drop (gpointer object, Life *life)
{
  pthread_mutex_lock (&life->mutex);
  g_object_unref (object);
  pthread_mutex_unlock (&life->mutex);
}

/* Puts these there, and gives what was there before. */
static void
place_exchange (Place *place, GObject **object, Life **life)
{
  Place before;

  pthread_mutex_lock (&place->mutex);
  before = *place;
  place->life = *life;
  place->object = *object;
  pthread_mutex_unlock (&place->mutex);
  *life = before.life;
  *object = before.object;
}

static Life *
life_new (Worker *worker)
{
  Life *life = g_new0 (Life, 1);

  pthread_mutex_init (&life->running, NULL);
  pthread_mutex_init (&life->mutex, NULL);
  g_ptr_array_add (worker->lives, life);
  return life;
}

static void
life_end (gpointer data)
{
  Life *life = data;

  /* A thread whose last reference was dropped ends by itself. */
  wait_for (atomic_load (&life->notified) == atomic_load (&life->added));
  pthread_mutex_destroy (&life->running);
  pthread_mutex_destroy (&life->mutex);
  g_free (life);
}

/* --- Contexts --- */

static void
iterate (GaioContext *context, Life *life)
{
  if (pthread_mutex_trylock (&life->running) != 0)
    return;
  gaio_context_iterate (context, 0);
  pthread_mutex_unlock (&life->running);
}

/* It may have a source already, or be closed. */
static void
move (Storm *storm, GaioContext *context, guint what)
{
  if (what % 2)
    gaio_context_detach (context);
  else
    gaio_context_attach (context, storm->loops[what / 2 % 2].main_context, NULL);
}

static void
replace_context (Worker *self, Place *place, guint what)
{
  Life *life = life_new (self);
  GObject *object = G_OBJECT (gaio_context_new ());

  place_exchange (place, &object, &life);
  if (what % 2)
    gaio_context_close (GAIO_CONTEXT (object));
  drop (object, life);
}

static void
use_context (Worker *self, Place *place, guint what)
{
  Storm *storm = self->storm;
  Life *life;
  GaioContext *context = GAIO_CONTEXT (place_borrow (place, &life));

  if (what % 4 != 0)
    fill (storm, context, life, what >> 2);
  else if (what % 128 == 0)
    gaio_context_close (context);
  else if (storm->nested)
    move (storm, context, what >> 2);
  else
    iterate (context, life);
  drop (context, life);
}

static void
step_context (Worker *self, guint what)
{
  Place *place = &self->storm->places[what % N_PLACES];
  guint other = what / N_PLACES;

  if (other % 64 == 0)
    replace_context (self, place, other / 64);
  else
    use_context (self, place, other / 64);
}

static GObject *
context_new (void)
{
  return G_OBJECT (gaio_context_new ());
}

/* --- Threads --- */

static GObject *
thread_new (void)
{
  g_autoptr (GError) error = NULL;
  GaioThread *thread = gaio_thread_new ("storm", &error);

  g_assert_no_error (error);
  return G_OBJECT (thread);
}

static void
stop (GaioThread *thread, Life *life)
{
  atomic_store (&life->stopped, TRUE);
  gaio_thread_stop (thread);
}

/* What was deferred before anybody stopped it has been called when that is over. */
static void
stop_after_a_call (GaioThread *thread, Life *life)
{
  atomic_uint calls = 0;
  gboolean must_run;

  gaio_context_defer (gaio_thread_get_context (thread), count_atomic, &calls, NULL);
  must_run = !atomic_load (&life->stopped);
  stop (thread, life);
  g_assert_cmpuint (atomic_load (&calls), <=, 1);
  if (must_run)
    g_assert_cmpuint (atomic_load (&calls), ==, 1);
}

static void
replace_thread (Worker *self, Place *place, guint what)
{
  Life *life = life_new (self);
  GObject *object = thread_new ();

  place_exchange (place, &object, &life);
  if (what % 2)
    stop_after_a_call (GAIO_THREAD (object), life);
  drop (object, life);
}

static void
use_thread (Worker *self, Place *place, guint what)
{
  Life *life;
  GaioThread *thread = GAIO_THREAD (place_borrow (place, &life));

  if (what % 512 == 0)
    stop (thread, life);
  else
    fill (self->storm, gaio_thread_get_context (thread), life, what);
  drop (thread, life);
}

static void
step_thread (Worker *self, guint what)
{
  Place *place = &self->storm->places[what % N_PLACES];
  guint other = what / N_PLACES;

  if (other % 512 == 0)
    replace_thread (self, place, other / 512);
  else
    use_thread (self, place, other / 512);
}

/* --- Storms --- */

static void *
work (gpointer data)
{
  Worker *self = data;

  pthread_barrier_wait (&self->storm->barrier);
  for (guint i = 0; i < self->storm->n_steps; i++)
    self->storm->step (self, rand_r (&self->seed));
  return NULL;
}

static void
storm_start (Storm *storm, Worker *workers)
{
  g_assert_cmpint (pthread_barrier_init (&storm->barrier, NULL, N_THREADS), ==, 0);
  storm->fd = eventfd_new (1);
  storm->file = memfd_create ("storm", MFD_CLOEXEC);
  for (guint i = 0; i < G_N_ELEMENTS (storm->loops); i++)
    loop_start (&storm->loops[i], storm);
  for (guint i = 0; i < N_THREADS; i++)
    workers[i] =
        (Worker){ storm, 0, g_test_rand_int (), g_ptr_array_new_with_free_func (life_end) };
  for (guint i = 0; i < N_PLACES; i++)
    {
      pthread_mutex_init (&storm->places[i].mutex, NULL);
      storm->places[i].life = life_new (&workers[0]);
      storm->places[i].object = storm->object_new ();
    }
  for (guint i = 0; i < N_THREADS; i++)
    workers[i].thread = spawn (work, &workers[i]);
}

static void
storm_stop (Storm *storm, Worker *workers)
{
  for (guint i = 0; i < N_THREADS; i++)
    join (workers[i].thread);
  for (guint i = 0; i < N_PLACES; i++)
    {
      drop (storm->places[i].object, storm->places[i].life);
      pthread_mutex_destroy (&storm->places[i].mutex);
    }
  for (guint i = 0; i < G_N_ELEMENTS (storm->loops); i++)
    {
      loop_stop (&storm->loops[i]);
      loop_free (&storm->loops[i]);
    }
  for (guint i = 0; i < N_THREADS; i++)
    g_ptr_array_unref (workers[i].lives);
  pthread_barrier_destroy (&storm->barrier);
  close (storm->fd);
  close (storm->file);
}

/* Half of a storm of contexts is alone, the other nested. */
static void
test_storm_of_contexts (gconstpointer nested)
{
  Storm storm = { .nested = nested != NULL,
                  .n_steps = storm_size () / 2 / N_THREADS,
                  .step = step_context,
                  .object_new = context_new };
  Worker workers[N_THREADS];

  if (!test_may_open (512))
    return;
  storm_start (&storm, workers);
  storm_stop (&storm, workers);
}

static void
test_storm_of_threads (void)
{
  Storm storm = { .n_steps = storm_size () / N_THREADS,
                  .step = step_thread,
                  .object_new = thread_new };
  Worker workers[N_THREADS];

  if (!test_may_open (512))
    return;
  storm_start (&storm, workers);
  storm_stop (&storm, workers);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  /* What the first error makes, all threads would make at once, which is harmless, and a race. */
  g_error_free (g_error_new_literal (GAIO_ERROR, GAIO_ERROR_FAILED, "the first"));
  add_both ("/storm/contexts-come-and-go", test_storm_of_contexts);
  g_test_add_func ("/storm/threads-come-and-go", test_storm_of_threads);
  return g_test_run ();
}
