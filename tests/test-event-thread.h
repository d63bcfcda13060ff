/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sched.h>

#include "test-support.h"

static inline GaioThread *
thread_new (void)
{
  g_autoptr (GError) error = NULL;
  GaioThread *thread = gaio_thread_new ("test", &error);

  g_assert_no_error (error);
  g_assert_true (GAIO_IS_THREAD (thread));
  return thread;
}

/* What goes on in the thread, seen from outside. */
typedef struct
{
  GaioThread *thread;
  GaioContext *context;
  GMainContext *main_context;
  GaioBottomHalf *bh;
  pthread_t self; /* set by who says that he has been called */
  atomic_uint calls;
  atomic_uint notified;
  atomic_bool open; /* a gate */
  guint left;
} Story;

static inline void
story_begin (Story *story)
{
  *story = (Story){ .thread = thread_new () };
  story->context = gaio_thread_get_context (story->thread);
  story->main_context = gaio_thread_get_main_context (story->thread);
}

static inline void
story_end (Story *story)
{
  gaio_thread_stop (story->thread);
  g_assert_finalize_object (story->thread);
}

static inline void
wait_for_number (atomic_uint *number, guint value)
{
  gint64 guard = g_get_monotonic_time () + GUARD_US;

  while (atomic_load (number) < value)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, guard);
      sched_yield ();
    }
}

static inline void
called (gpointer data)
{
  Story *story = data;

  story->self = pthread_self ();
  atomic_fetch_add (&story->calls, 1);
}

static inline void
notified (gpointer data)
{
  Story *story = data;

  story->self = pthread_self ();
  atomic_fetch_add (&story->notified, 1);
}

static inline void
wait_at_gate (gpointer data)
{
  Story *story = data;

  called (story);
  while (!atomic_load (&story->open))
    sched_yield ();
}

/* Keeps the thread busy until the gate is opened. */
static inline void
close_gate (Story *story)
{
  gaio_context_defer (story->context, wait_at_gate, story, NULL);
  wait_for_number (&story->calls, 1);
}
