/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* A context whose loop runs in a thread of its own, stand-alone or under GLib. */
typedef struct
{
  GaioContext *context;
  GMainContext *main_context;
  pthread_t thread;
  pthread_t self; /* as the thread itself knows it */
  gint started;
  atomic_bool stop;
} Loop;

static inline void *
loop_run (gpointer data)
{
  Loop *loop = data;

  loop->self = pthread_self ();
  if (loop->main_context != NULL)
    g_assert_true (g_main_context_acquire (loop->main_context));
  eventfd_add (loop->started);
  while (!atomic_load (&loop->stop))
    {
      if (loop->main_context != NULL)
        g_main_context_iteration (loop->main_context, TRUE);
      else if (!gaio_context_iterate (loop->context, -1))
        sched_yield (); /* a closed one returns at once */
    }
  if (loop->main_context != NULL)
    g_main_context_release (loop->main_context);
  return NULL;
}

static inline void
loop_init (Loop *loop, gconstpointer nested)
{
  *loop = (Loop){ .context = gaio_context_new (), .started = eventfd_new (0) };
  if (nested != NULL)
    loop->main_context = main_context_new ();
}

static inline void
loop_spawn (Loop *loop)
{
  loop->thread = spawn (loop_run, loop);
  eventfd_wait (loop->started);
}

static inline void
loop_start (Loop *loop, gconstpointer nested)
{
  loop_init (loop, nested);
  if (nested != NULL)
    attach (loop->context, loop->main_context);
  loop_spawn (loop);
}

static inline void
loop_stop (Loop *loop)
{
  atomic_store (&loop->stop, TRUE);
  if (loop->main_context != NULL)
    g_main_context_wakeup (loop->main_context);
  else
    gaio_context_wakeup (loop->context);
  join (loop->thread);
}

static inline void
loop_free (Loop *loop)
{
  gaio_context_detach (loop->context);
  g_clear_pointer (&loop->main_context, g_main_context_unref);
  g_assert_finalize_object (g_steal_pointer (&loop->context));
  close (loop->started);
}

static inline void
signal_eventfd (gpointer fd)
{
  eventfd_add (GPOINTER_TO_INT (fd));
}

/* When it returns, the rounds that were under way before have got to their bottom halves again. */
static inline void
loop_barrier (Loop *loop)
{
  gint fd = eventfd_new (0);

  for (guint i = 0; i < 3; i++)
    {
      gaio_context_defer (loop->context, signal_eventfd, GINT_TO_POINTER (fd), NULL);
      eventfd_wait (fd);
    }
  close (fd);
}

/* Of fds that stay ready: it yields so that the loop does not keep the others from running where
 * all threads share one processor, as under valgrind. */
static inline gboolean
count_atomic_fd (gint fd, GIOCondition condition, gpointer data)
{
  atomic_fetch_add ((atomic_uint *) data, 1);
  sched_yield ();
  return G_SOURCE_CONTINUE;
}

/* Waits for what another thread does, with nothing of the library's to help. */
#define wait_for(condition)                                                                        \
  G_STMT_START                                                                                     \
  {                                                                                                \
    gint64 until_ = g_get_monotonic_time () + GUARD_US;                                            \
    while (!(condition))                                                                           \
      {                                                                                            \
        g_assert_cmpint (g_get_monotonic_time (), <, until_);                                      \
        sched_yield ();                                                                            \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#  define STORM_SIZE 20000
#else
#  define STORM_SIZE 1000000
#endif

/* How many operations all threads of a storm do together: GAIO_STORM of them. */
static inline guint
storm_size (void)
{
  const char *size = g_getenv ("GAIO_STORM");

  return size != NULL ? g_ascii_strtoull (size, NULL, 10) : STORM_SIZE;
}
