/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-thread.h>

#include <errno.h>
#include <semaphore.h>

#include <gaio/gaio-bottom-half.h>
#include <gaio/gaio-context.h>
#include <gaio/gaio-shared.h>

#include "gaio-close-private.h"
#include "gaio-error-private.h"
#include "gaio-serve-private.h"

/* A callback that schedules itself forever is stopped after this many rounds. */
#define LAST_ROUNDS 100

/**
 * SECTION:gaio-thread
 * @title: GaioThread
 * @short_description: a thread that runs an event loop
 *
 * A #GaioThread runs its own #GMainContext, in which a #GaioContext is nested. The #GMainContext is
 * the thread's default one, so that asynchronous GIO calls made in callbacks of the thread complete
 * there. The #GaioContext is the one that all users of this #GMainContext share. Callbacks may run
 * nested main loops.
 *
 * From other threads, use gaio_context_defer() or g_main_context_invoke() to have a function called
 * in the thread.
 *
 * JavaScript runs on one thread. GJS calls no function on another thread, and crashes when it frees
 * one there. Therefore, in GJS, adding something to the context of a #GaioThread throws an
 * exception. Use only the functions of a #GaioThread that take no callback.
 *
 * gaio_thread_stop() stops the thread and waits until it has ended. Dropping the last reference
 * also stops it, but does not wait: whoever drops it, such as a garbage collector, may hold a lock
 * that callbacks of the thread need.
 *
 * The idea is that of QEMU's IOThread.
 */

/* What the thread works with. It holds no reference to the object, because dropping the last one
 * stops the thread. */
typedef struct
{
  GaioRefCount ref_count;
  GMainContext *main_context; /* (const) */
  GaioContext *context;       /* (const) once it runs */
  const void *thread;         /* (const) once it runs: its gaio_this_thread() */
  sem_t runs;
  atomic_bool stopping;
} Loop;

/**
 * GaioThread:
 *
 * A thread that runs an event loop.
 *
 * Since: 1.0
 */
struct _GaioThread
{
  GObject parent_instance;

  Loop *loop; /* (const) NULL if it was not made by gaio_thread_new() */
  pthread_mutex_t mutex;
  GThread *thread; /* (mutex) until it has been joined */
};

G_DEFINE_FINAL_TYPE (GaioThread, gaio_thread, G_TYPE_OBJECT)

/* Returns a loop with one reference for the object and one for the thread. */
static Loop *
loop_new (void)
{
  Loop *loop = g_new0 (Loop, 1);

  gaio_ref_count_init (&loop->ref_count, 2);
  loop->main_context = g_main_context_new ();
  sem_init (&loop->runs, 0, 0);
  return loop;
}

static void
loop_unref (Loop *loop)
{
  if (!gaio_ref_count_dec (&loop->ref_count))
    return;
  g_clear_object (&loop->context);
  g_main_context_unref (loop->main_context);
  sem_destroy (&loop->runs);
  g_free (loop);
}

/* Whether this is a child that a callback has forked; then the loop is the parent's. */
static gboolean
is_forked (Loop *loop)
{
  return gaio_core_is_forked (loop->context->core);
}

static gboolean
is_stopping (Loop *loop)
{
  return atomic_load_explicit (&loop->stopping, memory_order_acquire) || is_forked (loop);
}

static gboolean
is_this_thread (Loop *loop)
{
  return loop->thread == gaio_this_thread ();
}

static void
set_true (gpointer data)
{
  *(gboolean *) data = TRUE;
}

/* Runs what has been scheduled in the context, at least up to a call that is scheduled now: calls
 * run first in, first out. */
static void
run_bottom_halves (Loop *loop)
{
  gboolean done = FALSE;

  /* The notify runs even if the context has been closed and calls nothing. */
  gaio_context_defer (loop->context, set_true, &done, set_true);
  while (!done && !is_forked (loop))
    gaio_context_iterate (loop->context, 0);
}

static void
run_pending (Loop *loop)
{
  for (guint i = 0; i < LAST_ROUNDS && !is_forked (loop); i++)
    if (!g_main_context_iteration (loop->main_context, FALSE))
      return;
}

static gpointer
run (gpointer data)
{
  Loop *loop = data;

  /* From now on, this thread owns the main context: nobody else can run it between two rounds. */
  g_main_context_push_thread_default (loop->main_context);
  loop->thread = gaio_this_thread ();
  loop->context = gaio_context_ref_for_main_context (loop->main_context);
  sem_post (&loop->runs);
  while (!is_stopping (loop))
    g_main_context_iteration (loop->main_context, TRUE);
  run_bottom_halves (loop);
  run_pending (loop);
  /* Its source goes too: whoever wants the shared context next gets a new one. */
  gaio_close (loop->context->core);
  /* What the destroy notifies have scheduled, and what a busy context has delayed. */
  run_pending (loop);
  g_main_context_pop_thread_default (loop->main_context);
  loop_unref (loop);
  return NULL;
}

/* Waits until the thread has ended. The mutex makes other threads that stop it at the same time
 * wait; the thread itself does not take it. */
static void
join (GaioThread *self)
{
  pthread_mutex_lock (&self->mutex);
  g_clear_pointer (&self->thread, g_thread_join);
  pthread_mutex_unlock (&self->mutex);
}

/* FALSE in a forked child, which does not have the thread. */
static gboolean
ask_to_stop (Loop *loop)
{
  if (is_forked (loop))
    return FALSE;
  atomic_store_explicit (&loop->stopping, true, memory_order_release);
  g_main_context_wakeup (loop->main_context);
  return TRUE;
}

/* Does not wait: whoever drops the last reference, for example a garbage collector, may hold a lock
 * that callbacks of the thread take. Nobody can join the thread any more; it ends by itself. */
static void
gaio_thread_finalize (GObject *object)
{
  GaioThread *self = GAIO_THREAD (object);

  if (self->loop != NULL && ask_to_stop (self->loop))
    {
      g_clear_pointer (&self->thread, g_thread_unref);
      pthread_mutex_destroy (&self->mutex);
    }
  g_clear_pointer (&self->loop, loop_unref);
  G_OBJECT_CLASS (gaio_thread_parent_class)->finalize (object);
}

static void
gaio_thread_class_init (GaioThreadClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = gaio_thread_finalize;
}

static void
gaio_thread_init (GaioThread *self)
{
  pthread_mutex_init (&self->mutex, NULL);
}

static GThread *
spawn (const char *name, Loop *loop, GError **error)
{
  g_autoptr (GError) cause = NULL;
  GThread *thread = g_thread_try_new (name, run, loop, &cause);

  if (thread == NULL)
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "Thread \"%s\": %s",
                   name != NULL ? name : "", cause->message);
      loop_unref (loop);
      loop_unref (loop);
      return NULL;
    }
  while (sem_wait (&loop->runs) == -1 && errno == EINTR)
    ;
  return thread;
}

/**
 * gaio_thread_new:
 * @name: (nullable): a name for debuggers, of which Linux keeps 15 bytes
 * @error: return location for a #GError
 *
 * Starts a thread that runs an event loop. When this function returns, the thread has its main
 * context and its context, and the loop is running. May be called from any thread.
 *
 * Fails with %GAIO_ERROR_PROCESS_LIMIT or %GAIO_ERROR_SYSTEM_LIMIT if there is no fd for it, and
 * with %GAIO_ERROR_FAILED if the system cannot start another thread.
 *
 * Returns: (transfer full): a new thread, or %NULL on error
 *
 * Since: 1.0
 */
GaioThread *
gaio_thread_new (const char *name, GError **error)
{
  GaioThread *self;
  GThread *thread;
  Loop *loop;

  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  if (!gaio_serve_check_fds (error))
    return NULL;
  loop = loop_new ();
  thread = spawn (name, loop, error);
  if (thread == NULL)
    return NULL;
  self = g_object_new (GAIO_TYPE_THREAD, NULL);
  self->loop = loop;
  self->thread = thread;
  return self;
}

/**
 * gaio_thread_get_context:
 * @self: a thread
 *
 * Returns the context that @self runs: the shared context of its #GMainContext, so closing or
 * detaching it is a programming error. It is closed once @self has been stopped. May be called from
 * any thread.
 *
 * Returns: (transfer none): the context, valid as long as @self exists
 *
 * Since: 1.0
 */
GaioContext *
gaio_thread_get_context (GaioThread *self)
{
  g_return_val_if_fail (GAIO_IS_THREAD (self), NULL);
  g_return_val_if_fail (self->loop != NULL, NULL);
  return self->loop->context;
}

/**
 * gaio_thread_get_main_context:
 * @self: a thread
 *
 * Returns the #GMainContext that @self runs, for use with g_main_context_invoke() and for sources.
 * Once @self has been stopped, nobody runs it. May be called from any thread.
 *
 * Returns: (transfer none): the main context, valid as long as @self exists
 *
 * Since: 1.0
 */
GMainContext *
gaio_thread_get_main_context (GaioThread *self)
{
  g_return_val_if_fail (GAIO_IS_THREAD (self), NULL);
  g_return_val_if_fail (self->loop != NULL, NULL);
  return self->loop->main_context;
}

/**
 * gaio_thread_stop:
 * @self: a thread
 *
 * Stops @self, and waits until it has ended. This includes waiting for a callback that is running,
 * and for any main loops nested in it.
 *
 * Bottom halves, deferred calls and calls of g_main_context_invoke() that were scheduled earlier
 * still run. So does everything that these schedule, and everything else that is ready, until
 * nothing is left or 100 more rounds have passed: work that never ends does not keep the thread
 * from ending. Then the context of @self is closed: its destroy notifies run in the thread, and
 * adding anything later fails with %GAIO_ERROR_CLOSED.
 *
 * May be called from any thread. Stopping a thread again does nothing, but also waits. The thread
 * cannot wait for its own end: called in the thread itself, this function returns at once, and the
 * thread ends when its callbacks have returned. In a forked child, which does not have the thread,
 * this does nothing. A child process that a callback of @self forked, and that returns from that
 * callback, ends with it. Two threads must not stop each other at the same time.
 *
 * Dropping the last reference does the same, but does not wait: callbacks and destroy notifies may
 * still run in the thread afterwards. What they use must exist until the destroy notifies have run,
 * and a program that exits in the meantime may cut them off. If that matters, or before you unload
 * their code, stop @self explicitly.
 *
 * Since: 1.0
 */
void
gaio_thread_stop (GaioThread *self)
{
  g_return_if_fail (GAIO_IS_THREAD (self));
  g_return_if_fail (self->loop != NULL);

  if (ask_to_stop (self->loop) && !is_this_thread (self->loop))
    join (self);
}
