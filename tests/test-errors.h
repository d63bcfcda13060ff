/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* --- What must be so after an error --- */

typedef struct
{
  GaioContext *context;
  GMainContext *main_context;
  GaioHandler *handler;
  gint fd;
  GaioError expected;
  guint calls;
  guint notified;
  pthread_t notifier;
} Story;

static inline void
note_thread (gpointer data)
{
  Story *story = data;

  story->notified++;
  story->notifier = pthread_self ();
}

static inline void
assert_error_tells (GError *error, GaioError expected, gint fd)
{
  g_autofree char *name = g_strdup_printf ("fd %d", fd);

  g_assert_error (error, GAIO_ERROR, (gint) expected);
  g_assert_nonnull (strstr (error->message, name));
  g_assert_cmpuint (strlen (error->message), >, strlen (name));
}

static inline void
assert_add_fails (Story *story, gint fd, GaioError expected)
{
  g_autoptr (GError) error = NULL;
  guint64 handlers = stat_of (story->context, "handlers");
  guint notified = story->notified;

  g_assert_null (
      gaio_context_add_fd (story->context, fd, G_IO_IN, never_fd, story, note_thread, &error));
  assert_error_tells (error, expected, fd);
  g_assert_cmpuint (story->notified, ==, notified + 1);
  g_assert_true (pthread_equal (story->notifier, pthread_self ()));
  g_assert_cmpuint (stat_of (story->context, "handlers"), ==, handlers);
}

static inline void
assert_works (GaioContext *context)
{
  guint calls = 0;
  guint fd_calls = 0;
  gint fd = eventfd_new (1);
  GaioTimer *timer = gaio_context_add_timer (context, count_once, &calls, NULL);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, count_fd, &fd_calls, NULL);

  gaio_timer_arm (timer, 100);
  gaio_context_defer (context, count_once, &calls, NULL);
  iterate_until (context, calls == 2 && fd_calls > 0);
  gaio_clear_timer (&timer);
  gaio_clear_handler (&handler);
  gaio_context_iterate (context, 0);
  close (fd);
}

static inline void
fire_timer_nested (gpointer data)
{
  Story *story = data;
  GaioTimer *timer = gaio_context_add_timer (story->context, count_once, &story->calls, NULL);

  for (guint i = 1; i <= 3; i++)
    {
      gint64 deadline;

      gaio_timer_arm (timer, 1500);
      deadline = gaio_timer_get_deadline (timer);
      main_context_until (story->main_context, story->calls == i);
      g_assert_cmpint (g_get_monotonic_time (), >=, deadline);
    }
  gaio_clear_timer (&timer);
}
