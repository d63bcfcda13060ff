/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What other threads do while the loop sleeps, over GLib alone and over main contexts that a
 * context serves. */
#include "test-gio-sockets.h"

/* GLib before 2.84 leaks the source of a cancellable, if the source goes while another thread is
 * still cancelling. Only whole stacks tell which source it is. */
const char *__asan_default_options (void);
const char *__lsan_default_suppressions (void);

const char *
__asan_default_options (void)
{
  return "fast_unwind_on_malloc=0";
}

const char *
__lsan_default_suppressions (void)
{
  return "leak:g_cancellable_source_new";
}

/* --- A thread that waits until nothing goes on, not even a look at what may have changed --- */

typedef struct
{
  guint64 rounds;
  guint armed;
} Look;

static Look
look_at (GaioContext *context)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  Look look = { 0 };

  g_assert_true (g_variant_lookup (stats, "rounds", "t", &look.rounds));
  g_assert_true (g_variant_lookup (stats, "armed-timers", "u", &look.armed));
  return look;
}

/* What is armed for good is the guard against being stuck. With signals all the time, there is no
 * calm: each might have been another source, for which the sweep goes on. */
static void
wait_until_calm (Run *run)
{
  Look before = { 0 };

  for (guint n = 0; run->context != NULL && n < 5 && test_interruptions () == 0;)
    {
      Look look = look_at (run->context);

      n = look.armed <= 1 && look.rounds == before.rounds ? n + 1 : 0;
      before = look;
      g_usleep (1000);
    }
}

static gpointer
act_on_all (gpointer data)
{
  GPtrArray *parties = data;

  for (guint i = 0; i < parties->len; i++)
    {
      Party *party = g_ptr_array_index (parties, i);
      PartyFunc act = (PartyFunc) party->data;

      wait_until_calm (party->run);
      act (party);
    }
  g_ptr_array_unref (parties);
  return NULL;
}

/* One after the other. The last one ends the run, and may not be touched any more. */
static void
start_acting (Run *run)
{
  GPtrArray *parties = g_ptr_array_new ();

  for (guint i = 0; i < run->parties->len; i++)
    g_ptr_array_add (parties, g_ptr_array_index (run->parties, i));
  g_thread_unref (g_thread_new ("actor", act_on_all, parties));
}

/* --- What is waited for, and what the thread does --- */

static void
read_done (GObject *input, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (input), result, &error);

  party_log_result (data, "read", error);
  party_log (data, "%d bytes", (int) n);
  party_end (data);
}

static void
read_something (Party *self)
{
  g_input_stream_read_async (g_io_stream_get_input_stream (self->stream), self->buffer,
                             sizeof self->buffer, G_PRIORITY_DEFAULT, self->cancellable, read_done,
                             self);
}

static void
act_send (Party *self)
{
  peer_send (self, "hello");
}

static void
act_hang_up (Party *self)
{
  gint fd = self->fd;

  self->fd = -1;
  close (fd);
}

static void
act_cancel (Party *self)
{
  g_autoptr (GCancellable) cancellable = g_object_ref (self->cancellable);

  g_cancellable_cancel (cancellable);
}

static void
invoked (Party *self)
{
  party_log (self, "called");
  party_end (self);
}

static void
act_attach (Party *self)
{
  party_later (self, G_PRIORITY_DEFAULT, invoked);
}

static gboolean
invoked_at_last (gpointer data)
{
  invoked (data);
  return G_SOURCE_REMOVE;
}

static void
wait_for_time (Party *self)
{
  g_autoptr (GSource) source = g_timeout_source_new (G_MAXINT);

  g_source_set_callback (source, invoked_at_last, self, NULL);
  g_source_attach (source, self->inner);
  g_object_set_data_full (self->owner, "source", g_source_ref (source),
                          (GDestroyNotify) g_source_unref);
}

static void
act_set_time (Party *self)
{
  g_autoptr (GSource) source = g_source_ref (g_object_get_data (self->owner, "source"));

  g_source_set_ready_time (source, 0);
}

static void
task_returned (GObject *object, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;

  g_task_propagate_boolean (G_TASK (result), &error);
  party_log_result (data, "task", error);
  party_end (data);
}

static void
wait_for_task (Party *self)
{
  GTask *task = g_task_new (NULL, NULL, task_returned, self);

  g_object_set_data_full (self->owner, "task", task, g_object_unref);
}

static void
act_return (Party *self)
{
  g_autoptr (GTask) task = g_object_ref (g_object_get_data (self->owner, "task"));

  g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_BUSY, "busy");
}

static void
wait_for_nothing (Party *self)
{
}

static void
begin_calm (Run *run)
{
  static const struct
  {
    const char *name;
    PartyFunc wait, act;
  } acts[] = {
    { "sent", read_something, act_send },        { "hung up", read_something, act_hang_up },
    { "cancelled", read_something, act_cancel }, { "attached", wait_for_nothing, act_attach },
    { "time set", wait_for_time, act_set_time }, { "returned", wait_for_task, act_return },
  };

  for (guint i = 0; i < G_N_ELEMENTS (acts); i++)
    {
      Party *self = add_solo (run, acts[i].name, AF_UNIX);

      self->data = (gpointer) acts[i].act;
      party_call (self, acts[i].wait);
    }
  start_acting (run);
}

int
main (int argc, char **argv)
{
  static Scenario scenarios[] = {
    { "/gio-threads/loop-that-sleeps-hears-of-it", begin_calm },
  };

  g_test_init (&argc, &argv, NULL);
  return run_scenarios (scenarios, G_N_ELEMENTS (scenarios));
}
