/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What coroutines wait with. */
#include "test-support.h"

typedef struct
{
  Rig rig;
  guint calls;
  GIOCondition condition;
  guint8 *records;
  gsize length;
  GError *error;
} Waiter;

static void
waiter_begin (Waiter *self, gconstpointer nested)
{
  *self = (Waiter){ .rig = rig_new (nested) };
}

static void
waiter_end (Waiter *self)
{
  rig_clear (&self->rig);
  g_clear_error (&self->error);
  g_free (self->records);
}

/* The callback comes in the main context of this thread, whatever the context is nested in. */
static void
waiter_until (Waiter *self, guint calls)
{
  gint64 until = g_get_monotonic_time () + GUARD_US;

  while (self->calls < calls)
    {
      rig_round (&self->rig, FALSE);
      g_main_context_iteration (NULL, FALSE);
      g_assert_cmpint (g_get_monotonic_time (), <, until);
    }
  for (guint i = 0; i < 10; i++)
    {
      rig_round (&self->rig, FALSE);
      g_main_context_iteration (NULL, FALSE);
    }
  g_assert_cmpuint (self->calls, ==, calls);
}

static void
on_slept (GObject *context, GAsyncResult *result, gpointer data)
{
  Waiter *self = data;
  gboolean slept;

  g_clear_error (&self->error);
  slept = gaio_context_sleep_finish (GAIO_CONTEXT (context), result, &self->error);
  g_assert_true (slept == (self->error == NULL));
  self->calls++;
}

static void
on_fd (GObject *context, GAsyncResult *result, gpointer data)
{
  Waiter *self = data;

  g_clear_error (&self->error);
  self->condition = gaio_context_wait_fd_finish (GAIO_CONTEXT (context), result, &self->error);
  g_assert_true ((self->condition == 0) == (self->error != NULL));
  self->calls++;
}

static void
on_set (GObject *set, GAsyncResult *result, gpointer data)
{
  Waiter *self = data;

  g_clear_error (&self->error);
  g_clear_pointer (&self->records, g_free);
  self->records =
      gaio_ready_set_wait_finish (GAIO_READY_SET (set), result, &self->length, &self->error);
  self->calls++;
}

static void
test_sleep (gconstpointer nested)
{
  Waiter waiter;
  gint64 began = g_get_monotonic_time ();

  waiter_begin (&waiter, nested);
  gaio_context_sleep_async (waiter.rig.context, 5000, NULL, on_slept, &waiter);
  waiter_until (&waiter, 1);
  g_assert_no_error (waiter.error);
  g_assert_cmpint (g_get_monotonic_time () - began, >=, 5000);
  gaio_context_sleep_async (waiter.rig.context, 0, NULL, on_slept, &waiter);
  waiter_until (&waiter, 2);
  g_assert_no_error (waiter.error);
  waiter_end (&waiter);
}

static void
test_fd (gconstpointer nested)
{
  Waiter waiter;
  gint fd = eventfd_new (0);

  waiter_begin (&waiter, nested);
  for (guint i = 1; i <= 3; i++)
    {
      gaio_context_wait_fd_async (waiter.rig.context, fd, G_IO_IN, NULL, on_fd, &waiter);
      rig_settle (&waiter.rig);
      g_assert_cmpuint (waiter.calls, ==, i - 1);
      eventfd_add (fd);
      waiter_until (&waiter, i);
      g_assert_cmpint (waiter.condition, ==, G_IO_IN);
      eventfd_take (fd);
    }
  waiter_end (&waiter);
  close (fd);
}

static void
test_bad_fd (gconstpointer nested)
{
  Waiter waiter;

  waiter_begin (&waiter, nested);
  gaio_context_wait_fd_async (waiter.rig.context, -1, G_IO_IN, NULL, on_fd, &waiter);
  waiter_until (&waiter, 1);
  g_assert_error (waiter.error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  waiter_end (&waiter);
}

static void
test_set (gconstpointer nested)
{
  Waiter waiter;
  gint fd = eventfd_new (0);
  GaioReadySet *set;
  GaioHandler *handler;

  waiter_begin (&waiter, nested);
  set = gaio_ready_set_new (waiter.rig.context);
  handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 7, NULL);
  for (guint i = 1; i <= 3; i++)
    {
      GaioReadyRecord *record;

      gaio_ready_set_wait_async (set, NULL, on_set, &waiter);
      rig_settle (&waiter.rig);
      g_assert_cmpuint (waiter.calls, ==, i - 1);
      eventfd_add (fd);
      waiter_until (&waiter, i);
      g_assert_no_error (waiter.error);
      g_assert_cmpuint (waiter.length, ==, sizeof *record);
      record = (GaioReadyRecord *) (void *) waiter.records;
      g_assert_cmpuint (record->token, ==, 7);
      eventfd_take (fd);
    }
  gaio_handler_remove (handler);
  gaio_handler_unref (handler);
  g_object_unref (set);
  waiter_end (&waiter);
  close (fd);
}

/* Of two that wait for one set, the second one does. */
static void
test_set_replaced (gconstpointer nested)
{
  Waiter first, second;
  GaioReadySet *set;

  waiter_begin (&first, nested);
  waiter_begin (&second, nested);
  set = gaio_ready_set_new (first.rig.context);
  gaio_ready_set_wait_async (set, NULL, on_set, &first);
  gaio_ready_set_wait_async (set, NULL, on_set, &second);
  waiter_until (&first, 1);
  g_assert_error (first.error, GAIO_ERROR, GAIO_ERROR_REMOVED);
  g_assert_null (first.records);
  g_assert_cmpuint (second.calls, ==, 0);
  gaio_context_close (first.rig.context);
  waiter_until (&second, 1);
  g_assert_error (second.error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_object_unref (set);
  waiter_end (&second);
  waiter_end (&first);
}

/* All three, on an fd that is never ready. */
static void
begin_all (Waiter *self, GaioReadySet *set, gint fd, GCancellable *cancellable)
{
  gaio_context_sleep_async (self->rig.context, -1, cancellable, on_slept, self);
  gaio_context_wait_fd_async (self->rig.context, fd, G_IO_IN, cancellable, on_fd, self);
  gaio_ready_set_wait_async (set, cancellable, on_set, self);
}

static void
test_cancelled (gconstpointer nested)
{
  Waiter waiter;
  gint fd = eventfd_new (0);
  GaioReadySet *set;

  waiter_begin (&waiter, nested);
  set = gaio_ready_set_new (waiter.rig.context);
  for (guint before = 0; before <= 1; before++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();

      if (before)
        g_cancellable_cancel (cancellable);
      begin_all (&waiter, set, fd, cancellable);
      rig_settle (&waiter.rig);
      g_cancellable_cancel (cancellable);
      waiter_until (&waiter, 3 + 3 * before);
      g_assert_error (waiter.error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
  g_assert_cmpuint (stat_of (waiter.rig.context, "handlers"), ==, 0);
  g_assert_cmpuint (stat_of (waiter.rig.context, "timers"), ==, 0);
  g_object_unref (set);
  waiter_end (&waiter);
  close (fd);
}

static void
test_closed (gconstpointer nested)
{
  Waiter waiter;
  gint fd = eventfd_new (0);
  GaioReadySet *set;

  waiter_begin (&waiter, nested);
  set = gaio_ready_set_new (waiter.rig.context);
  begin_all (&waiter, set, fd, NULL);
  rig_settle (&waiter.rig);
  gaio_context_close (waiter.rig.context);
  waiter_until (&waiter, 3);
  g_assert_error (waiter.error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  begin_all (&waiter, set, fd, NULL);
  waiter_until (&waiter, 6);
  g_assert_error (waiter.error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_object_unref (set);
  waiter_end (&waiter);
  close (fd);
}

#define ROUNDS 300

typedef struct
{
  GCancellable *cancellables[ROUNDS];
  atomic_uint begun;
} Canceller;

static void *
cancel_all (void *data)
{
  Canceller *self = data;

  for (guint i = 0; i < ROUNDS; i++)
    {
      while (atomic_load (&self->begun) <= i)
        sched_yield ();
      g_cancellable_cancel (self->cancellables[i]);
    }
  return NULL;
}

/* Each ends once, whatever comes first. */
static void
test_cancelled_by_a_thread (gconstpointer nested)
{
  Waiter waiter;
  Canceller canceller = { { NULL }, 0 };
  gint fd = eventfd_new (0), ready = eventfd_new (1);
  GaioReadySet *set;
  pthread_t thread;

  waiter_begin (&waiter, nested);
  set = gaio_ready_set_new (waiter.rig.context);
  for (guint i = 0; i < ROUNDS; i++)
    canceller.cancellables[i] = g_cancellable_new ();
  thread = spawn (cancel_all, &canceller);
  for (guint i = 0; i < ROUNDS; i++)
    {
      begin_all (&waiter, set, i % 2 ? fd : ready, canceller.cancellables[i]);
      atomic_store (&canceller.begun, i + 1);
      waiter_until (&waiter, 3 * (i + 1));
    }
  join (thread);
  for (guint i = 0; i < ROUNDS; i++)
    g_object_unref (canceller.cancellables[i]);
  g_object_unref (set);
  waiter_end (&waiter);
  close (fd);
  close (ready);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/waiting/sleep", test_sleep);
  add_both ("/waiting/fd", test_fd);
  add_both ("/waiting/bad-fd", test_bad_fd);
  add_both ("/waiting/set", test_set);
  add_both ("/waiting/set-replaced", test_set_replaced);
  add_both ("/waiting/cancelled", test_cancelled);
  add_both ("/waiting/closed", test_closed);
  add_both ("/waiting/cancelled-by-a-thread", test_cancelled_by_a_thread);
  return g_test_run ();
}
