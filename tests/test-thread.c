/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "test-stand-in.h"
#include "test-thread.h"

/* --- Writes to eventfds: stands in for the C library's --- */

static atomic_bool counts_writes;
static atomic_uint n_writes;

ssize_t
write (int fd, const void *buffer, size_t size)
{
  if (size == sizeof (guint64) && atomic_load (&counts_writes))
    atomic_fetch_add (&n_writes, 1);
  return NEXT (write) (fd, buffer, size);
}

/* --- On the owner --- */

typedef struct
{
  GaioContext *context;
  GaioHandler *outer;
  GaioHandler *other;
  guint calls;
  guint removed;
} Nest;

static void
remove_outer (gpointer data)
{
  Nest *nest = data;

  expect_critical (gaio_handler_remove_sync (nest->outer));
  g_assert_true (gaio_handler_is_removed (nest->outer));
  nest->removed++;
}

static gboolean
nest_once (gint fd, GIOCondition condition, gpointer data)
{
  Nest *nest = data;

  nest->calls++;
  gaio_context_defer (nest->context, remove_outer, nest, NULL);
  iterate_until (nest->context, nest->removed == 1);
  return G_SOURCE_CONTINUE;
}

/* To wait here for a callback further up this very stack would be to wait for ever. */
static void
test_remove_sync_below_its_own_callback_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Nest nest = { .context = context };
  gint fd = eventfd_new (1);

  nest.outer = add_fd (context, fd, G_IO_IN, nest_once, &nest, NULL);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_false (gaio_context_iterate (context, 0));
  g_assert_cmpuint (nest.calls, ==, 1);
  g_assert_cmpuint (nest.removed, ==, 1);
  gaio_clear_handler (&nest.outer);
  close (fd);
}

static void
remove_member (GaioReadySet *set, guint n_ready, gpointer data)
{
  remove_outer (data);
}

static void
test_remove_sync_of_a_member_in_its_function_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (context);
  Nest nest = { .context = context };
  gint fd = eventfd_new (1);

  nest.outer = set_add (set, fd);
  gaio_ready_set_set_func (set, remove_member, &nest, NULL);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_cmpuint (nest.removed, ==, 1);
  gaio_clear_handler (&nest.outer);
  close (fd);
}

static gboolean
remove_other (gint fd, GIOCondition condition, gpointer data)
{
  Nest *nest = data;

  nest->calls++;
  gaio_handler_remove_sync (nest->other);
  g_assert_true (gaio_handler_is_removed (nest->other));
  return G_SOURCE_REMOVE;
}

static void
test_remove_sync_of_another_in_a_callback (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Nest nest = { .context = context };
  gint fd = eventfd_new (1);

  watch_fd (context, fd, remove_other, &nest);
  nest.other = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_false (gaio_context_iterate (context, 0));
  g_assert_cmpuint (nest.calls, ==, 1);
  gaio_clear_handler (&nest.other);
  close (fd);
}

static void
test_notifies_run_on_the_owner (void)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (0);

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  for (guint i = 0; i < 100; i++)
    {
      blocker_init (&blocker, &loop);
      if (i % 3 == 0)
        blocker.handler = add_fd (loop.context, fd, G_IO_IN, never_fd, &blocker, note_blocker);
      else if (i % 3 == 1)
        blocker.timer = gaio_context_add_timer (loop.context, never_once, &blocker, note_blocker);
      else
        blocker.bh =
            gaio_context_add_bottom_half (loop.context, never_once, &blocker, note_blocker);
      gaio_clear_handler (&blocker.handler);
      gaio_clear_timer (&blocker.timer);
      gaio_clear_bottom_half (&blocker.bh);
      eventfd_wait (blocker.notified_fd);
      g_assert_true (blocker.on_owner);
      blocker_clear (&blocker);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

/* --- Order --- */

typedef struct
{
  Loop *loop;
  guint sent;
  guint received;
} Sender;

typedef struct
{
  Sender *sender;
  guint number;
} Letter;

static void
receive (gpointer data)
{
  Letter *letter = data;

  g_assert_cmpuint (letter->number, ==, letter->sender->received);
  letter->sender->received++;
}

static void *
send_many (gpointer data)
{
  Sender *sender = data;

  for (sender->sent = 0; sender->sent < 1000; sender->sent++)
    {
      Letter *letter = g_new (Letter, 1);

      *letter = (Letter){ sender, sender->sent };
      gaio_context_defer (sender->loop->context, receive, letter, g_free);
    }
  return NULL;
}

static void
test_deferred_calls_of_a_thread_keep_their_order (gconstpointer nested)
{
  Loop loop;
  Sender senders[N_THREADS];
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    {
      senders[i] = (Sender){ .loop = &loop };
      threads[i] = spawn (send_many, &senders[i]);
    }
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  loop_barrier (&loop);
  loop_stop (&loop);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_cmpuint (senders[i].received, ==, 1000);
  loop_free (&loop);
}

/* --- Main contexts --- */

static void *
iterate_main_context (gpointer data)
{
  Rig *rig = data;
  guint calls = 0;

  gaio_context_defer (rig->context, count_once, &calls, NULL);
  rig_until (rig, calls == 1);
  return NULL;
}

static void
test_threads_take_turns_in_a_main_context (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));

  for (guint i = 0; i < 5; i++)
    {
      join (spawn (iterate_main_context, &rig));
      iterate_main_context (&rig);
    }
}

typedef struct
{
  GaioContext *context;
  GaioTimer *timer;
  atomic_uint calls;
  atomic_uint timer_calls;
  guint sent;
} Flood;

static void *
flood (gpointer data)
{
  Flood *self = data;

  for (self->sent = 0; self->sent < 2000; self->sent++)
    {
      gaio_context_defer (self->context, count_atomic, &self->calls, NULL);
      gaio_timer_arm (self->timer, self->sent % 50);
    }
  return NULL;
}

static void
test_main_contexts_die_under_load (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Flood self = { .context = context };
  pthread_t thread;

  self.timer = gaio_context_add_timer (context, count_atomic, &self.timer_calls, NULL);
  thread = spawn (flood, &self);
  for (guint i = 0; i < 200; i++)
    {
      GMainContext *main_context = main_context_new ();

      attach (context, main_context);
      g_main_context_iteration (main_context, FALSE);
      if (i % 2)
        g_main_context_iteration (main_context, FALSE);
      g_main_context_unref (main_context);
    }
  join (thread);
  iterate_until (context, atomic_load (&self.calls) == 2000);
  gaio_clear_timer (&self.timer);
}

/* --- Waking costs what it must --- */

typedef struct
{
  GaioContext *context;
  atomic_uint calls;
} Burst;

static void *
defer_many (void *data)
{
  Burst *burst = data;

  for (guint i = 0; i < 1000; i++)
    gaio_context_defer (burst->context, count_atomic, &burst->calls, NULL);
  return NULL;
}

static void
burst_from_elsewhere (gpointer data)
{
  atomic_store (&n_writes, 0);
  atomic_store (&counts_writes, true);
  join (spawn (defer_many, data));
  atomic_store (&counts_writes, false);
}

/* A loop that is awake looks at everything before it sleeps: nobody need tell it. */
static void
test_awake_loop_is_not_woken (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Burst burst = { rig.context, 0 };

  gaio_context_defer (rig.context, burst_from_elsewhere, &burst, NULL);
  rig_until (&rig, atomic_load (&burst.calls) == 1000);
  g_assert_cmpuint (atomic_load (&n_writes), ==, 0);
}

/* One that sleeps is told once. */
static void
test_sleeping_loop_is_woken_once (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Burst burst = { rig.context, 0 };
  guint64 rounds = stat_of (rig.context, "rounds");
  pthread_t thread;

  atomic_store (&n_writes, 0);
  atomic_store (&counts_writes, true);
  thread = spawn (defer_many, &burst);
  rig_until (&rig, atomic_load (&burst.calls) == 1000);
  join (thread);
  atomic_store (&counts_writes, false);
  if (rig.main_context == NULL)
    g_assert_cmpuint (atomic_load (&n_writes), <=, stat_of (rig.context, "rounds") - rounds);
  g_assert_cmpuint (stat_of (rig.context, "wakeups"), <=, stat_of (rig.context, "rounds"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/thread/deferred-calls-of-a-thread-keep-their-order",
            test_deferred_calls_of_a_thread_keep_their_order);
  g_test_add_func ("/thread/notifies-run-on-the-owner", test_notifies_run_on_the_owner);
  g_test_add_func ("/thread/remove-sync-of-a-member-in-its-function-is-a-critical",
                   test_remove_sync_of_a_member_in_its_function_is_a_critical);
  g_test_add_func ("/thread/remove-sync-below-its-own-callback-is-a-critical",
                   test_remove_sync_below_its_own_callback_is_a_critical);
  g_test_add_func ("/thread/remove-sync-of-another-in-a-callback",
                   test_remove_sync_of_another_in_a_callback);
  g_test_add_func ("/thread/main-context-iterated-in-turns",
                   test_threads_take_turns_in_a_main_context);
  g_test_add_func ("/thread/main-contexts-die-under-load", test_main_contexts_die_under_load);
  add_both ("/thread/awake-loop-is-not-woken", test_awake_loop_is_not_woken);
  add_both ("/thread/sleeping-loop-is-woken-once", test_sleeping_loop_is_woken_once);
  return g_test_run ();
}
