/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-util.h"

typedef struct
{
  TestLoop *loop;
  GThread *thread;
  gint stopping;
  GaioHandler *handler;
  gint fd;
  gint calls;
  gint finished;
  gint notified;
} Worker;

static gpointer
worker_run (gpointer data)
{
  Worker *self = data;

  while (!g_atomic_int_get (&self->stopping))
    test_loop_step_full (self->loop, TRUE);
  return NULL;
}

static void
worker_start (Worker *self, TestLoop *loop)
{
  *self = (Worker){ .loop = loop, .fd = test_eventfd (1) };
  self->thread = g_thread_new ("owner", worker_run, self);
}

static void
worker_stop (Worker *self)
{
  g_atomic_int_set (&self->stopping, TRUE);
  gaio_context_wakeup (self->loop->context);
  g_thread_join (self->thread);
  gaio_clear_handler (&self->handler);
  close (self->fd);
}

static void
wait_for (gint *value, gint least)
{
  gint64 deadline = g_get_monotonic_time () + TEST_PATIENCE_US;

  while (g_atomic_int_get (value) < least)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, deadline);
      g_usleep (100);
    }
}

static gboolean
worker_called (gint fd, GIOCondition condition, gpointer user_data)
{
  Worker *self = user_data;

  g_assert_false (g_atomic_int_get (&self->notified));
  g_atomic_int_inc (&self->calls);
  return G_SOURCE_CONTINUE;
}

static void
worker_notified (gpointer user_data)
{
  Worker *self = user_data;

  g_assert_true (g_thread_self () == self->thread);
  g_atomic_int_inc (&self->notified);
}

static void
worker_watch (Worker *self, GaioFdFunc func)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_context_add_fd (self->loop->context, self->fd, G_IO_IN, func, self,
                                              worker_notified, &error);

  g_assert_no_error (error);
  g_atomic_pointer_set (&self->handler, handler);
}

static void
another_thread_adds_and_removes (TestLoop *loop, gconstpointer mode)
{
  Worker worker;
  gint calls;

  worker_start (&worker, loop);
  worker_watch (&worker, worker_called);
  wait_for (&worker.calls, 10);
  gaio_handler_remove (worker.handler);
  wait_for (&worker.notified, 1);
  calls = g_atomic_int_get (&worker.calls);
  worker_stop (&worker);
  g_assert_cmpint (worker.calls, ==, calls);
  g_assert_cmpint (worker.notified, ==, 1);
}

static void
another_thread_changes_the_condition (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  worker_watch (&worker, worker_called);
  for (gint i = 1; i <= 20; i++)
    {
      g_assert_true (gaio_handler_set_condition (worker.handler, 0, NULL));
      g_assert_true (gaio_handler_set_condition (worker.handler, G_IO_IN, NULL));
      wait_for (&worker.calls, g_atomic_int_get (&worker.calls) + 1);
    }
  gaio_handler_remove (worker.handler);
  wait_for (&worker.notified, 1);
  worker_stop (&worker);
}

/* Stays in the callback until the removal has begun, and then some. */
static gboolean
worker_called_until_removed (gint fd, GIOCondition condition, gpointer user_data)
{
  Worker *self = user_data;

  g_atomic_int_inc (&self->calls);
  while (!gaio_handler_is_removed (g_atomic_pointer_get (&self->handler)))
    g_thread_yield ();
  for (guint i = 0; i < 1000; i++)
    g_thread_yield ();
  g_atomic_int_set (&self->finished, TRUE);
  return G_SOURCE_CONTINUE;
}

static void
remove_sync_waits_for_the_callback (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  /* Silent at first, so that the callback finds the handler stored. */
  test_drain (worker.fd);
  worker_watch (&worker, worker_called_until_removed);
  test_signal (worker.fd);
  wait_for (&worker.calls, 1);
  gaio_handler_remove_sync (worker.handler);
  g_assert_true (g_atomic_int_get (&worker.finished));
  wait_for (&worker.notified, 1);
  worker_stop (&worker);
  g_assert_cmpint (worker.calls, ==, 1);
}

static gboolean
count_on_the_heap (gint fd, GIOCondition condition, gpointer user_data)
{
  g_atomic_int_inc ((gint *) user_data);
  return G_SOURCE_CONTINUE;
}

static void
remove_sync_lets_the_data_be_freed (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  for (guint i = 0; i < 200; i++)
    {
      gint *calls = g_new0 (gint, 1);
      g_autoptr (GaioHandler) handler = gaio_context_add_fd (loop->context, worker.fd, G_IO_IN,
                                                             count_on_the_heap, calls, NULL, NULL);

      g_assert_nonnull (handler);
      if (i % 2 == 0)
        wait_for (calls, 1);
      gaio_handler_remove_sync (handler);
      g_free (calls);
    }
  worker_stop (&worker);
}

static void
remove_waits_for_nobody (TestLoop *loop, gconstpointer mode)
{
  Worker worker;

  worker_start (&worker, loop);
  test_drain (worker.fd);
  worker_watch (&worker, worker_called_until_removed);
  test_signal (worker.fd);
  wait_for (&worker.calls, 1);
  gaio_handler_remove (worker.handler);
  wait_for (&worker.notified, 1);
  g_assert_true (g_atomic_int_get (&worker.finished));
  worker_stop (&worker);
  g_assert_cmpint (worker.calls, ==, 1);
}

static void
remove_other_sync (TestWatch *self)
{
  gaio_handler_remove_sync (self->other->handler);
}

static void
remove_sync_on_the_owner_returns (TestLoop *loop, gconstpointer mode)
{
  g_auto (TestWatch) a = TEST_WATCH_INIT;
  g_auto (TestWatch) b = TEST_WATCH_INIT;

  a.act = b.act = remove_other_sync;
  a.other = &b;
  b.other = &a;
  test_watch_start (&a, loop, test_eventfd (1), G_IO_IN);
  test_watch_start (&b, loop, test_eventfd (1), G_IO_IN);
  test_loop_step (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
  gaio_handler_remove_sync (a.handler);
  gaio_handler_remove_sync (b.handler);
  test_loop_settle (loop);
  g_assert_cmpuint (a.calls + b.calls, ==, 1);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  test_add ("/handler/another-thread-adds-and-removes", another_thread_adds_and_removes);
  test_add ("/handler/another-thread-changes-the-condition", another_thread_changes_the_condition);
  test_add ("/handler/remove-sync-waits-for-the-callback", remove_sync_waits_for_the_callback);
  test_add ("/handler/remove-sync-lets-the-data-be-freed", remove_sync_lets_the_data_be_freed);
  test_add ("/handler/remove-waits-for-nobody", remove_waits_for_nobody);
  test_add ("/handler/remove-sync-on-the-owner-returns", remove_sync_on_the_owner_returns);
  return g_test_run ();
}
