/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>

#include "test-support.h"
#include "test-waits.h"

/* gaio_context_run(): all that holds for a main loop of GLib holds for it. */

/* --- How often poll() waits: stands in for the C library's --- */

static atomic_uint n_polls;

int
poll (struct pollfd *fds, nfds_t n_fds, int timeout)
{
  if (about_to_sleep != NULL && timeout != 0)
    about_to_sleep ();
  n_polls++;
  return NEXT (poll) (fds, n_fds, timeout);
}

/* What newer versions of GLib call. */
int
ppoll (struct pollfd *fds, nfds_t n_fds, const struct timespec *timeout, const sigset_t *mask)
{
  if (about_to_sleep != NULL && (timeout == NULL || timeout->tv_sec != 0 || timeout->tv_nsec != 0))
    about_to_sleep ();
  return NEXT (ppoll) (fds, n_fds, timeout, mask);
}

typedef struct _Fixture Fixture;

struct _Fixture
{
  GMainContext *main_context;
  GaioContext *context;
  GCancellable *cancellable;
  GSource *source;
  GaioTimer *timer;
  void (*take_away) (Fixture *self);
  gint fd;
  gint copy;
  guint calls;
  guint wanted;
  guint others;
};

static inline void
set_up (Fixture *self, gconstpointer data)
{
  self->main_context = g_main_context_new ();
  self->context = gaio_context_new ();
  self->cancellable = g_cancellable_new ();
  self->fd = eventfd_new (0);
  attach (self->context, self->main_context);
  n_polls = n_epoll_waits = 0;
}

static inline void
tear_down (Fixture *self, gconstpointer data)
{
  g_clear_object (&self->context);
  g_clear_object (&self->cancellable);
  g_clear_pointer (&self->main_context, g_main_context_unref);
  close (self->fd);
}

static inline void
assert_runs (Fixture *self)
{
  g_autoptr (GError) error = NULL;
  gboolean ran = gaio_context_run (self->context, self->main_context, self->cancellable, &error);

  g_assert_no_error (error);
  g_assert_true (ran);
}

static inline void
cancel (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
}

/* Goes on by itself until it has been called often enough. */
static inline gboolean
go_round (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  g_assert_true (eventfd_take (fd));
  if (++self->calls == self->wanted)
    g_cancellable_cancel (self->cancellable);
  else
    eventfd_add (fd);
  return G_SOURCE_CONTINUE;
}

static inline void *
cancel_from_thread (void *data)
{
  Fixture *self = data;

  eventfd_wait (self->fd);
  while (!loop_sleeps ())
    sched_yield ();
  g_cancellable_cancel (self->cancellable);
  return NULL;
}

static inline void
tell_thread (gpointer data)
{
  eventfd_add (((Fixture *) data)->fd);
}

static inline gboolean
is_epoll (GaioContext *context)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  const char *name = NULL;

  return g_variant_lookup (stats, "monitor", "&s", &name) && g_str_equal (name, "epoll");
}

/* Waits, does @what, waits, and is cancelled by another thread. */
static inline void
cancelled_after (Fixture *self, GSourceOnceFunc what)
{
  GaioTimer *first = gaio_context_add_timer (self->context, what, self, NULL);
  GaioTimer *then = gaio_context_add_timer (self->context, tell_thread, self, NULL);
  pthread_t thread = spawn (cancel_from_thread, self);

  gaio_timer_arm (first, 1000);
  gaio_timer_arm (then, 3000);
  assert_runs (self);
  join (thread);
  gaio_clear_timer (&first);
  gaio_clear_timer (&then);
}

typedef struct
{
  GSource parent;
  Fixture *fixture;
  void (*look) (Fixture *fixture);
  guint n_checks; /* in this turn */
} LateSource;

static inline gboolean
late_prepare (GSource *source, gint *timeout)
{
  ((LateSource *) source)->n_checks = 0;
  *timeout = -1;
  return FALSE;
}

static inline gboolean
take_fd (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  g_assert_true (eventfd_take (fd));
  return G_SOURCE_CONTINUE;
}

#define add(path, func) g_test_add (path, Fixture, NULL, set_up, func, tear_down)
