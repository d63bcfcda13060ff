/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "test-waits.h"
#include "test-wait.h"

static void
assert_fails (Fixture *self, GaioError code)
{
  gsize length = 1;
  g_autoptr (GError) error = NULL;

  g_assert_null (gaio_ready_set_wait (self->set, 0, NULL, &length, &error));
  g_assert_error (error, GAIO_ERROR, (gint) code);
  g_assert_cmpuint (length, ==, 0);
}

/* --- Loops inside it --- */

static gboolean
quit (gpointer loop)
{
  g_main_loop_quit (loop);
  return G_SOURCE_REMOVE;
}

static gboolean
run_nested_loop (gpointer data)
{
  Fixture *self = data;
  g_autoptr (GMainLoop) loop = g_main_loop_new (self->main_context, FALSE);
  g_autoptr (GSource) timeout = g_timeout_source_new (20);
  guint64 rounds = stat_of (self->context, "rounds");

  eventfd_add (self->fd);
  g_source_set_callback (timeout, quit, loop, NULL);
  g_source_attach (timeout, self->main_context);
  g_main_loop_run (loop);
  g_assert_cmpuint (stat_of (self->context, "rounds") - rounds, <, 10);
  return G_SOURCE_REMOVE;
}

/* In a main loop that nobody takes anything in, what is ready is silent, and is there afterwards.
 */
static void
test_nested_loop_sleeps (Fixture *self, gconstpointer data)
{
  g_autoptr (GSource) idle = g_idle_source_new ();

  g_source_set_callback (idle, run_nested_loop, self, NULL);
  g_source_attach (idle, self->main_context);
  g_assert_cmpuint (wait_for (self, -1), ==, 1);
  g_assert_cmpuint (wait_for (self, -1), ==, 1);
  g_assert_true (eventfd_take (self->fd));
  g_assert_cmpuint (wait_for (self, 0), ==, 0);
}

/* Such as what a main loop of GLib has found before. The time limit is never reached. */
static void
test_what_is_ready_before_is_not_waited_for (Fixture *self, gconstpointer data)
{
  const gint64 timeouts[] = { -1, 0, GUARD_US };

  for (guint i = 0; i < G_N_ELEMENTS (timeouts); i++)
    {
      gint64 began = g_get_monotonic_time ();

      eventfd_add (self->fd);
      main_context_settle (self->main_context);
      g_assert_cmpuint (wait_for (self, timeouts[i]), ==, 1);
      g_assert_cmpint (g_get_monotonic_time () - began, <, GUARD_US);
      g_assert_true (eventfd_take (self->fd));
    }
}

static void
iterate_twice (gpointer data)
{
  Fixture *self = data;
  gint64 began;

  eventfd_add (self->fd);
  gaio_context_iterate (self->context, 0);
  began = g_get_monotonic_time ();
  gaio_context_iterate (self->context, 3000);
  g_assert_cmpint (g_get_monotonic_time () - began, >=, 3000);
  self->calls++;
}

/* Nor does it keep a wait of ours inside a callback from sleeping, once it is recorded. */
static void
test_iterate_inside_sleeps (Fixture *self, gconstpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (self->context, iterate_twice, self, NULL);

  gaio_timer_arm (timer, 0);
  while (self->calls == 0)
    wait_for (self, -1);
  g_assert_true (eventfd_take (self->fd));
  gaio_clear_timer (&timer);
}

static gboolean
iterate_with_a_wakeup (gpointer data)
{
  Fixture *self = data;
  guint waits = n_epoll_waits, interruptions = test_interruptions ();

  g_main_context_wakeup (self->main_context);
  gaio_context_iterate (self->context, 2000);
  g_assert_cmpuint (n_epoll_waits - waits, <, 10 + test_interruptions () - interruptions);
  self->calls++;
  return G_SOURCE_REMOVE;
}

/* GLib's wake-up, which only GLib can take, does not keep a wait of ours from sleeping; and is not
 * lost by that. */
static void
test_wake_up_of_glib_does_not_spin (Fixture *self, gconstpointer data)
{
  g_autoptr (GSource) idle = g_idle_source_new ();

  eventfd_add (self->fd);
  g_assert_cmpuint (wait_for (self, -1), ==, 1);
  g_assert_true (eventfd_take (self->fd));
  g_source_set_callback (idle, iterate_with_a_wakeup, self, NULL);
  g_source_attach (idle, self->main_context);
  while (self->calls == 0 && g_main_context_pending (self->main_context))
    wait_for (self, -1);
  g_assert_cmpuint (self->calls, ==, 1);
  self->calls = 0;
  test_another_thread_adds_a_source (self, data);
}

static gboolean
wait_inside (gpointer data)
{
  Fixture *self = data;

  eventfd_add (self->fd);
  self->calls = wait_for (self, -1);
  return G_SOURCE_REMOVE;
}

static void
test_inside_itself (Fixture *self, gconstpointer data)
{
  g_autoptr (GSource) idle = g_idle_source_new ();

  g_source_set_callback (idle, wait_inside, self, NULL);
  g_source_attach (idle, self->main_context);
  g_assert_cmpuint (wait_for (self, -1), ==, 0);
  g_assert_cmpuint (self->calls, ==, 1);
}

typedef struct
{
  Fixture *fixture;
  GaioHandler *others[2];
} Remover;

static gboolean
remove_and_wait (gint fd, GIOCondition condition, gpointer data)
{
  Remover *remover = data;

  for (guint i = 0; i < 2; i++)
    gaio_clear_handler (&remover->others[i]);
  wait_for (remover->fixture, 0);
  return G_SOURCE_REMOVE;
}

/* The memory of what was ready in the round further out goes in the wait. */
static void
test_inside_a_callback_that_has_removed_others (Fixture *self, gconstpointer data)
{
  Remover remover = { self };
  gint fds[3];

  /* Members have rounds go another way. */
  gaio_clear_handler (&self->handler);
  for (guint i = 0; i < 3; i++)
    fds[i] = eventfd_new (1);
  gaio_handler_unref (add_fd (self->context, fds[0], G_IO_IN, remove_and_wait, &remover, NULL));
  for (guint i = 0; i < 2; i++)
    remover.others[i] = add_fd (self->context, fds[i + 1], G_IO_IN, never_fd, NULL, NULL);
  while (remover.others[0] != NULL)
    wait_for (self, -1);
  g_assert_cmpuint (wait_for (self, 0), ==, 0);
  g_assert_cmpuint (stat_of (self->context, "handlers"), ==, 0);
  for (guint i = 0; i < 3; i++)
    close (fds[i]);
}

/* --- Where it is nested --- */

/* The wake-up fd of the first one is no longer watched, and that of the next is. */
static void
test_one_main_context_after_the_other (Fixture *self, gconstpointer data)
{
  g_autoptr (GMainContext) first = NULL;
  guint64 rounds;

  for (guint i = 0; i < 20; i++)
    {
      eventfd_add (self->fd);
      g_assert_cmpuint (wait_for (self, -1), ==, 1);
      g_assert_true (eventfd_take (self->fd));
      self->calls = 0;
      test_another_thread_adds_a_source (self, data);
      g_clear_pointer (&first, g_main_context_unref);
      if (i % 2 == 0)
        first = g_main_context_ref (self->main_context);
      gaio_context_detach (self->context);
      g_main_context_unref (self->main_context);
      self->main_context = g_main_context_new ();
      attach (self->context, self->main_context);
      rounds = stat_of (self->context, "rounds");
      for (guint n = 0; n < 5; n++)
        {
          if (first != NULL)
            g_main_context_wakeup (first);
          main_context_settle (self->main_context);
        }
      g_assert_cmpuint (stat_of (self->context, "rounds"), <=, rounds + 1);
    }
}

static void
remove_stale (GaioHandler *handler)
{
  gaio_handler_remove (handler);
}

static void
change_stale (GaioHandler *handler)
{
  gaio_handler_set_condition (handler, G_IO_OUT, NULL);
}

/* A main context may get the number of an fd that was closed without removing its handler. */
static void
nest_under_number_of (Fixture *self, gint fd)
{
  GMainContext *before = self->main_context;

  gaio_context_detach (self->context);
  close (fd);
  self->main_context = g_main_context_new ();
  g_assert_cmpint (fcntl (fd, F_GETFD), !=, -1);
  g_main_context_unref (before);
  attach (self->context, self->main_context);
}

static void
test_stale_handler_leaves_wake_up_fd_alone (Fixture *self, gconstpointer data)
{
  void (*const touch[]) (GaioHandler *) = { remove_stale, change_stale };

  for (guint i = 0; i < G_N_ELEMENTS (touch); i++)
    {
      gint fd = eventfd_new (0);
      GaioHandler *stale = add_fd (self->context, fd, G_IO_IN, never_fd, NULL, NULL);
      GSource *guard;

      nest_under_number_of (self, fd);
      guard = guard_new (self->main_context, "GLib's wake-up");
      g_assert_cmpuint (wait_for (self, 0), ==, 0);
      touch[i](stale);
      self->calls = 0;
      test_another_thread_adds_a_source (self, data);
      guard_free (guard);
      gaio_clear_handler (&stale);
    }
}

static void *
destroy_source (void *data)
{
  Fixture *self = data;

  while (!loop_sleeps ())
    sched_yield ();
  g_source_destroy (self->source);
  return NULL;
}

/* There is nothing left to wait for. */
static void
test_source_destroyed_by_another_thread (Fixture *self, gconstpointer data)
{
  GSource *guard = guard_new (self->main_context, "a wait for nothing");
  gboolean interrupted;
  pthread_t thread;
  gsize length;

  gaio_context_detach (self->context);
  self->source = gaio_context_create_source (self->context, NULL);
  g_source_attach (self->source, self->main_context);
  thread = spawn (destroy_source, self);
  /* It may be gone before the wait. */
  do
    g_assert_null (gaio_ready_set_wait (self->set, -1, &interrupted, &length, NULL));
  while (interrupted);
  join (thread);
  guard_free (guard);
  g_clear_pointer (&self->source, g_source_unref);
}

static void
test_nested_nowhere_fails (Fixture *self, gconstpointer data)
{
  gaio_context_detach (self->context);
  assert_fails (self, GAIO_ERROR_FAILED);
  attach (self->context, self->main_context);
}

static void *
wait_elsewhere (void *data)
{
  assert_fails (data, GAIO_ERROR_WRONG_THREAD);
  return NULL;
}

static void
test_owned_by_another_thread_fails (Fixture *self, gconstpointer data)
{
  g_assert_true (g_main_context_acquire (self->main_context));
  join (spawn (wait_elsewhere, self));
  g_main_context_release (self->main_context);
}

static gboolean
close_context (gpointer data)
{
  gaio_context_close (data);
  return G_SOURCE_REMOVE;
}

static void
test_closed_inside_and_then_fails (Fixture *self, gconstpointer data)
{
  g_autoptr (GSource) idle = g_idle_source_new ();

  g_source_set_callback (idle, close_context, self->context, NULL);
  g_source_attach (idle, self->main_context);
  g_assert_cmpuint (wait_for (self, -1), ==, 0);
  assert_fails (self, GAIO_ERROR_CLOSED);
}

static gboolean
drop_set (gpointer data)
{
  Fixture *self = data;

  gaio_clear_handler (&self->handler);
  g_clear_object (&self->set);
  return G_SOURCE_REMOVE;
}

static void
test_last_reference_dropped_inside (Fixture *self, gconstpointer data)
{
  g_autoptr (GSource) idle = g_idle_source_new ();

  g_source_set_callback (idle, drop_set, self, NULL);
  g_source_attach (idle, self->main_context);
  g_assert_cmpuint (wait_for (self, -1), ==, 0);
}

static void
test_forked_child_fails (Fixture *self, gconstpointer data)
{
  gint status;
  pid_t pid = fork ();

  if (pid == 0)
    {
      g_autoptr (GError) error = NULL;
      gsize length;

      gaio_ready_set_wait (self->set, 0, NULL, &length, &error);
      _exit (g_error_matches (error, GAIO_ERROR, GAIO_ERROR_FORKED) ? 0 : 1);
    }
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (pid, &status, 0)), ==, pid);
  g_assert_cmpint (status, ==, 0);
}

static void
test_bad_timeout_is_a_critical (Fixture *self, gconstpointer data)
{
  gsize length = 1;

  expect_critical (g_assert_null (gaio_ready_set_wait (self->set, -2, NULL, &length, NULL)));
  g_assert_cmpuint (length, ==, 0);
}

static gint asked_ms;

static gint
poll_and_keep_timeout (GPollFD *pollfds, guint n, gint timeout_ms)
{
  asked_ms = timeout_ms;
  return g_poll (pollfds, n, 0);
}

/* What the caller has as long as can be is no short time in another unit. */
static void
test_huge_timeout_is_long_in_milliseconds (Fixture *self, gconstpointer data)
{
  const gint64 huge[] = { G_MAXINT64, G_MAXINT64 - 1, G_MAXINT64 - 998, G_MAXINT64 / 1000 };

  g_main_context_set_poll_func (self->main_context, poll_and_keep_timeout);
  for (guint i = 0; i < G_N_ELEMENTS (huge); i++)
    {
      gsize length = 0;
      g_autofree guint8 *records = NULL;

      eventfd_add (self->fd);
      asked_ms = 0;
      records = gaio_ready_set_wait (self->set, huge[i], NULL, &length, NULL);
      g_assert_cmpuint (length, ==, 16);
      g_assert_cmpint (asked_ms, ==, G_MAXINT);
      g_assert_true (eventfd_take (self->fd));
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/wait/huge-timeout-is-long-in-milliseconds", test_huge_timeout_is_long_in_milliseconds);
  add ("/wait/nested-loop-sleeps", test_nested_loop_sleeps);
  add ("/wait/what-is-ready-before-is-not-waited-for", test_what_is_ready_before_is_not_waited_for);
  add ("/wait/iterate-inside-sleeps", test_iterate_inside_sleeps);
  add ("/wait/wake-up-of-glib-does-not-spin", test_wake_up_of_glib_does_not_spin);
  add ("/wait/inside-itself", test_inside_itself);
  add ("/wait/inside-a-callback-that-has-removed-others",
       test_inside_a_callback_that_has_removed_others);
  add ("/wait/one-main-context-after-the-other", test_one_main_context_after_the_other);
  add ("/wait/stale-handler-leaves-wake-up-fd-alone", test_stale_handler_leaves_wake_up_fd_alone);
  add ("/wait/source-destroyed-by-another-thread", test_source_destroyed_by_another_thread);
  add ("/wait/nested-nowhere-fails", test_nested_nowhere_fails);
  add ("/wait/owned-by-another-thread-fails", test_owned_by_another_thread_fails);
  add ("/wait/closed-inside-and-then-fails", test_closed_inside_and_then_fails);
  add ("/wait/last-reference-dropped-inside", test_last_reference_dropped_inside);
  add ("/wait/forked-child-fails", test_forked_child_fails);
  add ("/wait/bad-timeout-is-a-critical", test_bad_timeout_is_a_critical);
  return g_test_run ();
}
