/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Main contexts that a GaioThread serves, and what other threads do to them meanwhile. */
#include <string.h>

#include <gio/gio.h>

#include "test-support.h"

#define N_THREADS 8

#ifdef __SANITIZE_ADDRESS__
#  define DEFAULT_OPERATIONS 20000
#else
#  define DEFAULT_OPERATIONS 100000
#endif

typedef struct
{
  GaioContext *context;
  guint n_operations;
  guint32 seed;
  atomic_uint *attached;
  atomic_uint *ended;
} Worker;

static gboolean
run_once (gpointer data)
{
  return G_SOURCE_REMOVE;
}

static void
count_end (gpointer data)
{
  atomic_fetch_add ((atomic_uint *) data, 1);
}

/* Its notify comes once, whether it was called or went with its main context. */
static void
attach_counted (Worker *worker, GMainContext *main_context)
{
  GSource *source = g_idle_source_new ();

  atomic_fetch_add (worker->attached, 1);
  g_source_set_callback (source, run_once, worker->ended, count_end);
  g_source_attach (source, main_context);
  g_source_unref (source);
}

/* Those whose owner has gone go when the loop comes to them: until then, no fd may be left. */
static GMainContext *
create_owned (Worker *worker, GObject **owner)
{
  g_autoptr (GError) error = NULL;
  GMainContext *main_context;

  if (*owner == NULL)
    *owner = g_object_new (G_TYPE_OBJECT, NULL);
  main_context = gaio_context_create_main_context (worker->context, *owner, &error);
  if (main_context == NULL)
    {
      g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
      sched_yield ();
    }
  return main_context;
}

static gpointer
work (gpointer data)
{
  Worker *worker = data;
  g_autoptr (GRand) rand = g_rand_new_with_seed (worker->seed);
  GMainContext *main_contexts[8] = { NULL };
  GObject *owners[8] = { NULL };

  for (guint i = 0; i < worker->n_operations; i++)
    {
      guint n = g_rand_int_range (rand, 0, 8);

      while (main_contexts[n] == NULL)
        main_contexts[n] = create_owned (worker, &owners[n]);
      switch (g_rand_int_range (rand, 0, 8))
        {
        case 0:
          g_clear_object (&owners[n]);
          g_clear_pointer (&main_contexts[n], g_main_context_unref);
          break;
        case 1:
          gaio_context_stop_serving (worker->context, main_contexts[n]);
          break;
        case 2:
          g_main_context_wakeup (main_contexts[n]);
          break;
        default:
          attach_counted (worker, main_contexts[n]);
        }
    }
  for (guint n = 0; n < 8; n++)
    {
      g_clear_object (&owners[n]);
      g_clear_pointer (&main_contexts[n], g_main_context_unref);
    }
  return NULL;
}

static void
test_storm (void)
{
  GaioThread *thread;
  const char *n = g_getenv ("GAIO_STORM");
  guint n_operations = n != NULL ? (guint) atoi (n) : DEFAULT_OPERATIONS;
  atomic_uint attached = 0, ended = 0;
  Worker workers[N_THREADS];
  GThread *threads[N_THREADS];

#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer does not see who has the last reference on a main context");
  return;
#endif
  if (!test_may_open (300))
    return;
  thread = gaio_thread_new ("serves", NULL);
  for (guint i = 0; i < N_THREADS; i++)
    {
      workers[i] = (Worker){ gaio_thread_get_context (thread), n_operations / N_THREADS, i,
                             &attached, &ended };
      threads[i] = g_thread_new ("worker", work, &workers[i]);
    }
  for (guint i = 0; i < N_THREADS; i++)
    g_thread_join (threads[i]);
  gaio_thread_stop (thread);
  g_object_unref (thread);
  g_assert_cmpuint (attached, >, 0);
  g_assert_cmpuint (ended, ==, attached);
}

static void
call_in_thread (gpointer data)
{
  g_assert_true (g_main_context_get_thread_default () == *(GMainContext **) data);
}

typedef struct
{
  GaioContext *context;
  GMainContext *inner;
  atomic_uint calls;
} Story;

static void
call_in (gpointer data)
{
  Story *story = data;

  gaio_context_call_in (story->context, story->inner, call_in_thread, &story->inner);
  atomic_fetch_add (&story->calls, 1);
}

static gboolean
check_default (gpointer data)
{
  Story *story = data;

  g_assert_true (g_main_context_get_thread_default () == story->inner);
  atomic_fetch_add (&story->calls, 1);
  return G_SOURCE_REMOVE;
}

static void
test_event_thread_serves (void)
{
  GaioThread *thread = gaio_thread_new ("serves", NULL);
  Story story = { gaio_thread_get_context (thread), NULL, 0 };

#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer does not see the locks of GLib");
  return;
#endif
  story.inner = gaio_context_create_main_context (story.context, NULL, NULL);
  for (guint i = 0; i < 100; i++)
    {
      g_main_context_invoke (story.inner, check_default, &story);
      gaio_context_defer (story.context, call_in, &story, NULL);
      while (atomic_load (&story.calls) < 2 * (i + 1))
        sched_yield ();
    }
  gaio_thread_stop (thread);
  g_object_unref (thread);
  g_main_context_unref (story.inner);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/serve-threads/event-thread-serves", test_event_thread_serves);
  g_test_add_func ("/serve-threads/storm", test_storm);

  return g_test_run ();
}
