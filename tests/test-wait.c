/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/time.h>

#include "test-waits.h"
#include "test-wait.h"

/* --- How often epoll sets are changed: stands in for the C library's --- */

static atomic_uint n_epoll_ctls;

int
epoll_ctl (int set, int operation, int fd, struct epoll_event *event)
{
  n_epoll_ctls++;
  return NEXT (epoll_ctl) (set, operation, fd, event);
}

/* --- What ends it --- */

static void
test_takes_what_is_ready (Fixture *self, gconstpointer data)
{
  gsize length;
  g_autofree guint8 *bytes = NULL;
  const GaioReadyRecord *record;

  eventfd_add (self->fd);
  bytes = gaio_ready_set_wait (self->set, 0, NULL, &length, NULL);
  g_assert_cmpuint (length, ==, sizeof *record);
  record = (const GaioReadyRecord *) (const void *) bytes;
  g_assert_cmpuint (record->token, ==, 7);
  g_assert_cmpint (record->fd, ==, self->fd);
  g_assert_cmpuint (record->condition, ==, G_IO_IN);
}

/* As poll(2): once more, until somebody reads it. */
static void
test_level_triggered (Fixture *self, gconstpointer data)
{
  eventfd_add (self->fd);
  for (guint i = 0; i < 5; i++)
    g_assert_cmpuint (wait_for (self, -1), ==, 1);
  g_assert_true (eventfd_take (self->fd));
  g_assert_cmpuint (wait_for (self, 0), ==, 0);
}

static void
test_never_early (Fixture *self, gconstpointer data)
{
  for (gint64 timeout = 0; timeout < 3000; timeout += 250)
    {
      gint64 began = g_get_monotonic_time ();

      g_assert_cmpuint (wait_for (self, timeout), ==, 0);
      g_assert_cmpint (g_get_monotonic_time () - began, >=, timeout);
    }
}

/* Else what a callback of GLib has asked of the other loop would have to wait. */
static void
test_comes_back_after_a_callback_of_glib (Fixture *self, gconstpointer data)
{
  g_autoptr (GSource) timeout = g_timeout_source_new (1);

  g_source_set_callback (timeout, count_and_go, &self->calls, NULL);
  g_source_attach (timeout, self->main_context);
  g_assert_cmpuint (wait_for (self, -1), ==, 0);
  g_assert_cmpuint (self->calls, ==, 1);
}

static void
test_comes_back_after_a_callback_of_ours (Fixture *self, gconstpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (self->context, count_once, &self->calls, NULL);

  gaio_timer_arm (timer, 1000);
  g_assert_cmpuint (wait_for (self, -1), ==, 0);
  g_assert_cmpuint (self->calls, ==, 1);
  gaio_clear_timer (&timer);
}

static void
on_signal (int number)
{
}

/* Whose handler in a language that runs them later has to be run now. */
static void
test_signal_interrupts (Fixture *self, gconstpointer data)
{
  const struct itimerval each_ms = { { 0, 1000 }, { 0, 1000 } }, never = { 0 };
  struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;
  gboolean interrupted;
  gsize length;

  if (test_is_interrupted ())
    return;
  sigaction (SIGALRM, &action, &before);
  setitimer (ITIMER_REAL, &each_ms, NULL);
  g_assert_null (gaio_ready_set_wait (self->set, -1, &interrupted, &length, NULL));
  setitimer (ITIMER_REAL, &never, NULL);
  sigaction (SIGALRM, &before, NULL);
  g_assert_true (interrupted);
}

static void
note_time (gpointer data)
{
  *(gint64 *) data = g_get_monotonic_time ();
}

/* The notify of what was removed before has to run, and that is all: the wait goes on. */
static void
test_removed_before_does_not_end_it (Fixture *self, gconstpointer data)
{
  gint fd = eventfd_new (0);
  gint64 notified = 0, began = g_get_monotonic_time ();
  GaioHandler *handler = add_fd (self->context, fd, G_IO_IN, never_fd, &notified, note_time);

  gaio_clear_handler (&handler);
  g_assert_cmpuint (wait_for (self, 3000), ==, 0);
  g_assert_cmpint (notified, !=, 0);
  g_assert_cmpint (g_get_monotonic_time () - began, >=, 3000);
  close (fd);
}

static void
close_once (gpointer context)
{
  gaio_context_close (context);
}

static void
detach_once (gpointer context)
{
  gaio_context_detach (context);
}

/* There is nothing left to wait for. */
static void
test_notify_ends_it (Fixture *self, gconstpointer notify)
{
  gint fd = eventfd_new (0);
  GaioHandler *handler =
      add_fd (self->context, fd, G_IO_IN, never_fd, self->context, (GDestroyNotify) notify);
  GSource *guard = guard_new (self->main_context, "a wait for nothing");

  gaio_clear_handler (&handler);
  g_assert_cmpuint (wait_for (self, -1), ==, 0);
  guard_free (guard);
  close (fd);
}

typedef struct
{
  Fixture *fixture;
  GMainContext *other;
  GaioHandler *victim;
  pthread_t owner;
  guint notified;
} Taker;

static void
count_on_owner (gpointer data)
{
  Taker *taker = data;

  g_assert_true (pthread_equal (pthread_self (), taker->owner));
  taker->notified++;
}

static void *
take_away_and_wait (void *data)
{
  Taker *taker = data;

  gaio_context_detach (taker->fixture->context);
  attach (taker->fixture->context, taker->other);
  gaio_clear_handler (&taker->victim);
  wait_for (taker->fixture, 0);
  gaio_context_detach (taker->fixture->context);
  return NULL;
}

static gboolean
let_it_be_taken_away (gint fd, GIOCondition condition, gpointer data)
{
  g_assert_true (eventfd_take (fd));
  join (spawn (take_away_and_wait, data));
  return G_SOURCE_CONTINUE;
}

/* The owner is the thread that is inside a round still. */
static void
test_notifies_of_a_round_elsewhere_are_left_alone (Fixture *self, gconstpointer data)
{
  Taker taker = { self, g_main_context_new (), NULL, pthread_self (), 0 };
  gint fds[2] = { eventfd_new (1), eventfd_new (1) };
  GaioHandler *first;

  gaio_clear_handler (&self->handler);
  first = add_fd (self->context, fds[0], G_IO_IN, let_it_be_taken_away, &taker, NULL);
  taker.victim = add_fd (self->context, fds[1], G_IO_IN, never_fd, &taker, count_on_owner);
  main_context_settle (self->main_context);
  g_assert_cmpuint (taker.notified, ==, 1);
  gaio_clear_handler (&first);
  g_main_context_unref (taker.other);
  for (guint i = 0; i < 2; i++)
    close (fds[i]);
}

/* --- What it costs --- */

static void
test_events_take_one_system_call_each (Fixture *self, gconstpointer data)
{
  guint interruptions;

  eventfd_add (self->fd);
  g_assert_cmpuint (wait_for (self, -1), ==, 1);
  n_epoll_waits = n_epoll_ctls = 0;
  interruptions = test_interruptions ();
  for (guint i = 0; i < 100; i++)
    g_assert_cmpuint (wait_for (self, i % 2 == 0 ? -1 : 0), ==, 1);
  g_assert_cmpuint (n_epoll_waits, <=, 100 + test_interruptions () - interruptions);
  g_assert_cmpuint (n_epoll_ctls, ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/wait/takes-what-is-ready", test_takes_what_is_ready);
  add ("/wait/level-triggered", test_level_triggered);
  add ("/wait/never-early", test_never_early);
  add ("/wait/comes-back-after-a-callback-of-glib", test_comes_back_after_a_callback_of_glib);
  add ("/wait/comes-back-after-a-callback-of-ours", test_comes_back_after_a_callback_of_ours);
  add ("/wait/another-thread-adds-a-source", test_another_thread_adds_a_source);
  add ("/wait/signal-interrupts", test_signal_interrupts);
  add ("/wait/removed-before-does-not-end-it", test_removed_before_does_not_end_it);
  g_test_add ("/wait/notify-ends-it/close", Fixture, close_once, set_up, test_notify_ends_it,
              tear_down);
  g_test_add ("/wait/notify-ends-it/detach", Fixture, detach_once, set_up, test_notify_ends_it,
              tear_down);
  add ("/wait/notifies-of-a-round-elsewhere-are-left-alone",
       test_notifies_of_a_round_elsewhere_are_left_alone);
  add ("/wait/events-take-one-system-call-each", test_events_take_one_system_call_each);
  return g_test_run ();
}
