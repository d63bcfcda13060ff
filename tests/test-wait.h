/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* gaio_ready_set_wait(): another event loop on top of GLib's. */

typedef struct
{
  GMainContext *main_context;
  GaioContext *context;
  GaioReadySet *set;
  GaioHandler *handler;
  GSource *source;
  gint fd;
  guint calls;
} Fixture;

static inline void
set_up (Fixture *self, gconstpointer data)
{
  g_autoptr (GError) error = NULL;

  self->main_context = g_main_context_new ();
  self->context = gaio_context_new ();
  attach (self->context, self->main_context);
  self->set = gaio_ready_set_new (self->context);
  self->fd = eventfd_new (0);
  self->handler = gaio_ready_set_add_fd (self->set, self->fd, G_IO_IN, 7, &error);
  g_assert_no_error (error);
}

static inline void
tear_down (Fixture *self, gconstpointer data)
{
  gaio_clear_handler (&self->handler);
  g_clear_object (&self->set);
  g_clear_object (&self->context);
  g_clear_pointer (&self->main_context, g_main_context_unref);
  close (self->fd);
}

/* How many records it gives. A signal of the test suite's own is no reason to come back. */
static inline gsize
wait_for (Fixture *self, gint64 timeout_us)
{
  gint64 end = timeout_us > 0 ? g_get_monotonic_time () + timeout_us : 0, left = timeout_us;
  gboolean interrupted;
  gsize length = 1;

  do
    {
      g_autoptr (GError) error = NULL;
      g_autofree guint8 *bytes =
          gaio_ready_set_wait (self->set, left, &interrupted, &length, &error);

      g_assert_no_error (error);
      g_assert_true ((bytes == NULL) == (length == 0));
      if (timeout_us > 0)
        left = end - g_get_monotonic_time ();
    }
  while (interrupted && length == 0 && (timeout_us == -1 || left > 0));
  return length / sizeof (GaioReadyRecord);
}

static inline gboolean
count_and_go (gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_REMOVE;
}

static inline void *
attach_idle (void *data)
{
  Fixture *self = data;
  g_autoptr (GSource) idle = g_idle_source_new ();

  g_source_set_callback (idle, count_and_go, &self->calls, NULL);
  g_source_attach (idle, self->main_context);
  return NULL;
}

static inline void
test_another_thread_adds_a_source (Fixture *self, gconstpointer data)
{
#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer does not see the locks of GLib");
  return;
#endif
  for (guint i = 1; i <= 100; i++)
    {
      pthread_t thread = spawn (attach_idle, self);

      while (self->calls < i)
        g_assert_cmpuint (wait_for (self, -1), ==, 0);
      join (thread);
    }
}

#define add(path, func) g_test_add (path, Fixture, NULL, set_up, func, tear_down)
