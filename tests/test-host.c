/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib-unix.h>

#include "test-host.h"

/* --- Who still uses a main context that has gone: stands in for GLib's --- */

static gboolean main_context_gone;

void
g_main_context_release (GMainContext *main_context)
{
  g_assert_false (main_context_gone);
  NEXT (g_main_context_release) (main_context);
}

static gboolean
cancel_from_glib (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
  return G_SOURCE_REMOVE;
}

/* --- It does what GLib does --- */

static void
note_main_context_gone (gpointer data)
{
  main_context_gone = TRUE;
}

static void
drop_main_context_and_cancel (gpointer data)
{
  Fixture *self = data;

  g_clear_pointer (&self->main_context, g_main_context_unref);
  g_assert_false (main_context_gone);
  g_cancellable_cancel (self->cancellable);
}

static void
test_last_reference_on_the_main_context_dropped_in_a_callback (Fixture *self, gconstpointer data)
{
  GSource *source = g_timeout_source_new (G_MAXINT);

  g_source_set_callback (source, count_again, NULL, note_main_context_gone);
  g_source_attach (source, self->main_context);
  g_source_unref (source);
  gaio_context_defer (self->context, drop_main_context_and_cancel, self, NULL);
  g_assert_true (gaio_context_run (self->context, self->main_context, self->cancellable, NULL));
  g_assert_true (main_context_gone);
  main_context_gone = FALSE;
}

static void
test_events_take_one_wait_each (Fixture *self, gconstpointer data)
{
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, go_round, self, NULL);

  self->wanted = 1000;
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->calls, ==, 1000);
  if (is_epoll (self->context))
    {
      g_assert_cmpuint (n_epoll_waits, <=, 1000 + 10);
      g_assert_cmpuint (n_polls, <=, 10);
    }
  gaio_clear_handler (&handler);
}

/* A source with an fd of its own is polled as ever. */
static gboolean
count_other_fd (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  g_assert_true (eventfd_take (fd));
  if (++self->others == 10)
    g_cancellable_cancel (self->cancellable);
  else
    eventfd_add (fd);
  return G_SOURCE_CONTINUE;
}

static void
test_foreign_fds_are_served (Fixture *self, gconstpointer data)
{
  gint fd = eventfd_new (1);
  GSource *source = g_unix_fd_source_new (fd, G_IO_IN);
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, go_round, self, NULL);

  g_source_set_callback (source, (GSourceFunc) (void (*) (void)) count_other_fd, self, NULL);
  g_source_attach (source, self->main_context);
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->others, ==, 10);
  g_assert_cmpuint (self->calls, >=, 9);
  g_source_destroy (source);
  g_source_unref (source);
  gaio_clear_handler (&handler);
  close (fd);
}

static void
test_timeouts_of_glib_fire (Fixture *self, gconstpointer data)
{
  GSource *source = g_timeout_source_new (5);

  g_source_set_callback (source, cancel_from_glib, self->cancellable, NULL);
  g_source_attach (source, self->main_context);
  assert_runs (self);
  g_source_unref (source);
}

static void
test_timers_of_ours_fire (Fixture *self, gconstpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (self->context, cancel, self->cancellable, NULL);

  gaio_timer_arm (timer, 3000);
  assert_runs (self);
  gaio_clear_timer (&timer);
}

static gboolean
must_not_be_old_news (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  self->calls++;
  g_assert_true (eventfd_take (fd));
  return G_SOURCE_CONTINUE;
}

/* Turns ready in check, without an fd, once @fd is readable; consumes it in its dispatch. */
static gint checked_fd;

static gboolean
checked_check (GSource *source)
{
  struct pollfd pollfd = { .fd = checked_fd, .events = POLLIN };

  return NEXT (poll) (&pollfd, 1, 0) == 1;
}

static gboolean
checked_dispatch (GSource *source, GSourceFunc callback, gpointer user_data)
{
  g_assert_true (eventfd_take (checked_fd));
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs checked_funcs = { .check = checked_check, .dispatch = checked_dispatch };

static void *
fill_often (void *data)
{
  Fixture *self = data;

  for (guint i = 0; i < 50; i++)
    eventfd_add (self->fd);
  gaio_context_defer (self->context, cancel, self->cancellable, NULL);
  return NULL;
}

/* What was found ready is not reported once another source has consumed it: one that is dispatched
 * before, because it comes first in the list or has a higher priority. */
static void
test_consumed_by_another_source_is_not_reported (Fixture *self, gconstpointer priority)
{
  GSource *source = g_source_new (&checked_funcs, sizeof (GSource));
  GaioHandler *handler;
  pthread_t thread;

  gaio_context_detach (self->context);
  checked_fd = self->fd;
  g_source_set_priority (source, GPOINTER_TO_INT (priority));
  g_source_attach (source, self->main_context);
  attach (self->context, self->main_context);
  handler = add_fd (self->context, self->fd, G_IO_IN, must_not_be_old_news, self, NULL);
  thread = spawn (fill_often, self);
  assert_runs (self);
  join (thread);
  g_source_destroy (source);
  g_source_unref (source);
  gaio_clear_handler (&handler);
}

static void
note_source (gpointer data)
{
  Fixture *self = data;
  GSource *source = g_main_current_source ();

  g_assert_nonnull (source);
  g_assert_true (g_source_get_context (source) == self->main_context);
  g_assert_cmpint (g_main_depth (), ==, 1);
  g_assert_true (gaio_context_get_current () == self->context);
  g_assert_true (g_main_context_is_owner (self->main_context));
  g_cancellable_cancel (self->cancellable);
}

static void
test_current_source_and_depth (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, note_source, self, NULL);
  assert_runs (self);
}

static gboolean
never_again (gpointer data)
{
  g_assert_not_reached ();
}

static gboolean
cancel_first (gpointer data)
{
  Fixture *self = data;

  g_cancellable_cancel (self->cancellable);
  return G_SOURCE_REMOVE;
}

static void
test_priorities (Fixture *self, gconstpointer data)
{
  GSource *low = g_idle_source_new ();
  GSource *high = g_idle_source_new ();

  g_source_set_callback (low, never_again, NULL, NULL);
  g_source_attach (low, self->main_context);
  g_source_set_priority (high, G_PRIORITY_HIGH);
  g_source_set_callback (high, cancel_first, self, NULL);
  g_source_attach (high, self->main_context);
  assert_runs (self);
  g_source_destroy (low);
  g_source_unref (low);
  g_source_unref (high);
}

#define N_ARMINGS 500

typedef struct
{
  Fixture *fixture;
  gint fired;
} Arming;

static gpointer
arm_often (gpointer data)
{
  Arming *self = data;
  GaioTimer *timer =
      gaio_context_add_timer (self->fixture->context, count_atomic, &self->fired, NULL);

  for (gint i = 0; i < N_ARMINGS; i++)
    {
      gaio_timer_arm (timer, i % 3 * 50);
      while (g_atomic_int_get (&self->fired) <= i)
        g_thread_yield ();
    }
  gaio_clear_timer (&timer);
  g_cancellable_cancel (self->fixture->cancellable);
  return NULL;
}

static void
test_armed_by_another_thread_while_it_waits (Fixture *self, gconstpointer data)
{
  Arming arming = { .fixture = self };
  GThread *thread = g_thread_new ("arm", arm_often, &arming);

  assert_runs (self);
  g_thread_join (thread);
  g_assert_cmpint (arming.fired, ==, N_ARMINGS);
}

/* --- Idle --- */

static void
test_idle_costs_nothing (Fixture *self, gconstpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (self->context, cancel, self->cancellable, NULL);
  guint interruptions = test_interruptions ();

  gaio_timer_arm (timer, 30 * 1000);
  assert_runs (self);
  g_assert_cmpuint (n_epoll_waits + n_polls, <=, 6 + test_interruptions () - interruptions);
  gaio_clear_timer (&timer);
}

/* --- Where it nests, and where it does not --- */

static void
test_attaches_and_detaches (Fixture *self, gconstpointer data)
{
  gint before;

  gaio_context_detach (self->context);
  before = main_context_n_fds (self->main_context);
  gaio_context_defer (self->context, note_source, self, NULL);
  assert_runs (self);
  g_assert_cmpint (main_context_n_fds (self->main_context), ==, before);
  attach (self->context, self->main_context);
}

static void
test_nested_elsewhere_fails (Fixture *self, gconstpointer data)
{
  g_autoptr (GMainContext) other = g_main_context_new ();
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_run (self->context, other, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_true (g_main_context_acquire (other));
  g_main_context_release (other);
}

static void *
run_elsewhere (void *data)
{
  Fixture *self = data;
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_run (self->context, self->main_context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_WRONG_THREAD);
  return NULL;
}

static void
test_owned_by_another_thread_fails (Fixture *self, gconstpointer data)
{
  g_assert_true (g_main_context_acquire (self->main_context));
  join (spawn (run_elsewhere, self));
  g_main_context_release (self->main_context);
}

static void
test_closed_fails (Fixture *self, gconstpointer data)
{
  g_autoptr (GError) error = NULL;

  gaio_context_close (self->context);
  g_assert_false (gaio_context_run (self->context, self->main_context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
}

static void
test_forked_child_fails (Fixture *self, gconstpointer data)
{
  gint status;
  pid_t pid = fork ();

  if (pid == 0)
    {
      g_autoptr (GError) error = NULL;
      gboolean ran = gaio_context_run (self->context, self->main_context, NULL, &error);

      _exit (!ran && g_error_matches (error, GAIO_ERROR, GAIO_ERROR_FORKED) ? 0 : 1);
    }
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (pid, &status, 0)), ==, pid);
  g_assert_cmpint (status, ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/host/last-reference-on-the-main-context-dropped-in-a-callback",
       test_last_reference_on_the_main_context_dropped_in_a_callback);
  add ("/host/events-take-one-wait-each", test_events_take_one_wait_each);
  add ("/host/foreign-fds-are-served", test_foreign_fds_are_served);
  add ("/host/timeouts-of-glib-fire", test_timeouts_of_glib_fire);
  add ("/host/timers-of-ours-fire", test_timers_of_ours_fire);
  g_test_add ("/host/consumed-by-another-source-is-not-reported/first", Fixture,
              GINT_TO_POINTER (G_PRIORITY_DEFAULT), set_up,
              test_consumed_by_another_source_is_not_reported, tear_down);
  g_test_add ("/host/consumed-by-another-source-is-not-reported/urgent", Fixture,
              GINT_TO_POINTER (G_PRIORITY_HIGH), set_up,
              test_consumed_by_another_source_is_not_reported, tear_down);
  add ("/host/current-source-and-depth", test_current_source_and_depth);
  add ("/host/priorities", test_priorities);
  add ("/host/armed-by-another-thread-while-it-waits", test_armed_by_another_thread_while_it_waits);
  add ("/host/idle-costs-nothing", test_idle_costs_nothing);
  add ("/host/attaches-and-detaches", test_attaches_and_detaches);
  add ("/host/nested-elsewhere-fails", test_nested_elsewhere_fails);
  add ("/host/owned-by-another-thread-fails", test_owned_by_another_thread_fails);
  add ("/host/closed-fails", test_closed_fails);
  add ("/host/forked-child-fails", test_forked_child_fails);
  return g_test_run ();
}
