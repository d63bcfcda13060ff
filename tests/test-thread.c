/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdbool.h>

#include "test-loop.h"
#include "test-stand-in.h"

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

/* --- Where others come in between: these, too, stand in for what the library calls --- */

static _Thread_local gboolean lets_others_in;

static void
let_others_in (void)
{
  for (guint i = 0; lets_others_in && i < 50; i++)
    sched_yield ();
}

int
pthread_mutex_unlock (pthread_mutex_t *mutex)
{
  int errsv = NEXT (pthread_mutex_unlock) (mutex);

  let_others_in ();
  return errsv;
}

guint
g_source_attach (GSource *source, GMainContext *main_context)
{
  let_others_in ();
  return NEXT (g_source_attach) (source, main_context);
}

/* --- Adding and removing --- */

static void
test_fd_added_from_thread_wakes (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  for (guint i = 0; i < 300; i++)
    {
      atomic_uint calls = 0;
      g_autoptr (GaioHandler) handler =
          add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);

      wait_for (atomic_load (&calls) > 0);
      gaio_handler_remove_sync (handler);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

typedef struct
{
  Loop *loop;
  atomic_uint calls;
  atomic_uint notified;
  guint rounds;
} Load;

static void
add_and_remove_once (Load *load, guint i)
{
  gint fd = eventfd_new (i % 2);
  g_autoptr (GaioHandler) handler =
      add_fd (load->loop->context, fd, i % 3 ? G_IO_IN : 0, count_atomic_fd, &load->calls, NULL);
  GaioTimer *timer =
      gaio_context_add_timer (load->loop->context, count_atomic, &load->notified, count_atomic);

  g_assert_true (gaio_handler_set_condition (handler, G_IO_IN, NULL));
  gaio_timer_arm (timer, 3600 * (gint64) G_USEC_PER_SEC);
  if (i % 5 == 0)
    sched_yield ();
  if (i % 2)
    gaio_handler_remove (handler);
  else
    gaio_handler_remove_sync (handler);
  close (fd);
  gaio_clear_timer (&timer);
}

static void *
add_and_remove (gpointer data)
{
  Load *load = data;

  for (guint i = 0; i < load->rounds; i++)
    add_and_remove_once (load, i);
  return NULL;
}

static void
test_adds_and_removes_under_load (gconstpointer nested)
{
  Loop loop;
  Load load = { .loop = &loop, .rounds = 400 };
  gint fd = eventfd_new (1);
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  watch_fd (loop.context, fd, count_atomic_fd, &load.calls);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (add_and_remove, &load);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  g_assert_cmpuint (stat_of (loop.context, "handlers"), ==, 1);
  g_assert_cmpuint (stat_of (loop.context, "timers"), ==, 0);
  loop_stop (&loop);
  loop_free (&loop);
  g_assert_cmpuint (atomic_load (&load.notified), ==, N_THREADS * 400);
  close (fd);
}

/* The memory of a handler is its remover's as soon as remove_sync() is back. */
static gboolean
touch_memory (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  sched_yield ();
  return G_SOURCE_CONTINUE;
}

static void
test_remove_sync_gives_the_data_back (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  for (guint i = 0; i < 500; i++)
    {
      guint *data = g_new0 (guint, 1);
      g_autoptr (GaioHandler) handler =
          add_fd (loop.context, fd, G_IO_IN, touch_memory, data, NULL);

      if (i % 3 == 0)
        sched_yield ();
      gaio_handler_remove_sync (handler);
      *data = 0;
      g_free (data);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

/* --- While a callback runs --- */

typedef struct
{
  Loop *loop;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  gint entered;
  gint go;
  gint notified_fd;
  guint calls;
  atomic_bool running;
  atomic_uint notified;
  atomic_uint returned; /* who has waited for it */
  gboolean on_owner;
} Blocker;

static void
block (gpointer data)
{
  Blocker *blocker = data;

  blocker->calls++;
  atomic_store (&blocker->running, TRUE);
  eventfd_add (blocker->entered);
  eventfd_wait (blocker->go);
  atomic_store (&blocker->running, FALSE);
}

static gboolean
block_fd (gint fd, GIOCondition condition, gpointer data)
{
  block (data);
  return G_SOURCE_CONTINUE;
}

static void
note_blocker (gpointer data)
{
  Blocker *blocker = data;

  g_assert_false (atomic_load (&blocker->running));
  blocker->on_owner = pthread_equal (pthread_self (), blocker->loop->self);
  atomic_fetch_add (&blocker->notified, 1);
  eventfd_add (blocker->notified_fd);
}

static void
blocker_init (Blocker *blocker, Loop *loop)
{
  *blocker = (Blocker){
    .loop = loop, .entered = eventfd_new (0), .go = eventfd_new (0), .notified_fd = eventfd_new (0)
  };
}

static void
blocker_clear (Blocker *blocker)
{
  g_clear_pointer (&blocker->handler, gaio_handler_unref);
  g_clear_pointer (&blocker->timer, gaio_timer_unref);
  g_clear_pointer (&blocker->bh, gaio_bottom_half_unref);
  close (blocker->entered);
  close (blocker->go);
  close (blocker->notified_fd);
}

static void
assert_notified_after_the_callback (Blocker *blocker)
{
  g_assert_cmpuint (atomic_load (&blocker->notified), ==, 0);
  eventfd_add (blocker->go);
  eventfd_wait (blocker->notified_fd);
  loop_barrier (blocker->loop);
  g_assert_cmpuint (atomic_load (&blocker->notified), ==, 1);
  g_assert_cmpuint (blocker->calls, ==, 1);
  g_assert_true (blocker->on_owner);
}

static void
test_handler_removed_during_its_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, block_fd, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  gaio_handler_remove (blocker.handler);
  gaio_handler_remove (blocker.handler);
  g_assert_true (gaio_handler_is_removed (blocker.handler));
  assert_notified_after_the_callback (&blocker);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_timer_removed_during_its_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.timer = gaio_context_add_timer (loop.context, block, &blocker, note_blocker);
  gaio_timer_arm (blocker.timer, 0);
  eventfd_wait (blocker.entered);
  gaio_timer_arm (blocker.timer, 0);
  gaio_timer_remove (blocker.timer);
  assert_notified_after_the_callback (&blocker);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
}

static void
test_bottom_half_removed_during_its_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.bh = gaio_context_add_bottom_half (loop.context, block, &blocker, note_blocker);
  gaio_bottom_half_schedule (blocker.bh);
  eventfd_wait (blocker.entered);
  gaio_bottom_half_schedule (blocker.bh);
  gaio_bottom_half_remove (blocker.bh);
  assert_notified_after_the_callback (&blocker);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
}

static void *
remove_sync (gpointer data)
{
  Blocker *blocker = data;

  gaio_handler_remove_sync (blocker->handler);
  g_assert_false (atomic_load (&blocker->running));
  return NULL;
}

static void
test_remove_sync_waits_for_the_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, block_fd, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (remove_sync, &blocker);
  wait_for (gaio_handler_is_removed (blocker.handler));
  for (guint i = 0; i < 100; i++)
    sched_yield ();
  eventfd_add (blocker.go);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  eventfd_wait (blocker.notified_fd);
  g_assert_cmpuint (blocker.calls, ==, 1);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
block_set (GaioReadySet *set, guint n_ready, gpointer data)
{
  block (data);
}

static GaioHandler *
set_add (GaioReadySet *set, gint fd)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 0, &error);

  g_assert_no_error (error);
  return handler;
}

static void
let_others_wait (void)
{
  for (guint i = 0; i < 100; i++)
    sched_yield ();
}

static void *
remove_sync_and_say (gpointer data)
{
  Blocker *blocker = data;

  gaio_handler_remove_sync (blocker->handler);
  atomic_fetch_add (&blocker->returned, 1);
  return NULL;
}

/* It waits for a call that may know of it. The other member has the function called again, which is
 * none of its business. */
static void
test_remove_sync_of_a_member_waits_for_the_function (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1), other_fd = eventfd_new (1);
  GaioReadySet *set;
  GaioHandler *other;
  pthread_t thread;

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  set = gaio_ready_set_new (loop.context);
  blocker.handler = set_add (set, fd);
  other = set_add (set, other_fd);
  gaio_ready_set_set_func (set, block_set, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  thread = spawn (remove_sync_and_say, &blocker);
  wait_for (gaio_handler_is_removed (blocker.handler));
  let_others_wait ();
  g_assert_cmpuint (atomic_load (&blocker.returned), ==, 0);
  eventfd_add (blocker.go);
  eventfd_wait (blocker.entered);
  join (thread);
  gaio_clear_handler (&other);
  gaio_ready_set_set_func (set, NULL, NULL, NULL);
  eventfd_add (blocker.go);
  eventfd_wait (blocker.notified_fd);
  g_assert_cmpuint (blocker.calls, ==, 2);
  gaio_handler_remove_sync (blocker.handler);
  g_object_unref (set);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
  close (other_fd);
}

/* Nobody but the handlers holds the set, which goes before the one who waits knows. */
static void
test_remove_sync_of_a_member_waits_for_a_replaced_function (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);
  GaioReadySet *set;
  pthread_t threads[N_THREADS];

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  set = gaio_ready_set_new (loop.context);
  blocker.handler = set_add (set, fd);
  gaio_ready_set_set_func (set, block_set, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  gaio_ready_set_set_func (set, NULL, NULL, NULL);
  g_object_unref (set);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (remove_sync, &blocker);
  wait_for (gaio_handler_is_removed (blocker.handler));
  let_others_wait ();
  eventfd_add (blocker.go);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  eventfd_wait (blocker.notified_fd);
  g_assert_cmpuint (blocker.calls, ==, 1);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_remove_sync_of_an_idle_handler_returns (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;
  gint fd = eventfd_new (1);
  g_autoptr (GaioHandler) handler = add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once);

  gaio_handler_remove_sync (handler);
  gaio_handler_remove_sync (handler);
  g_assert_true (gaio_handler_is_removed (handler));
  gaio_context_iterate (context, 0);
  g_assert_cmpuint (notified, ==, 1);
  close (fd);
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

/* --- Changes from another thread hold from the end of a call in flight --- */

static void
test_removed_is_not_called_again (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  for (guint i = 0; i < 20; i++)
    {
      atomic_uint calls = 0;
      g_autoptr (GaioHandler) handler =
          add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
      guint before;

      wait_for (atomic_load (&calls) > 2);
      gaio_handler_remove (handler);
      loop_barrier (&loop);
      before = atomic_load (&calls);
      loop_barrier (&loop);
      g_assert_cmpuint (atomic_load (&calls), ==, before);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

static void
test_condition_changes_from_thread (gconstpointer nested)
{
  Loop loop;
  gint fd = eventfd_new (1);
  atomic_uint calls = 0;
  GaioHandler *handler;

  loop_start (&loop, nested);
  handler = add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
  for (guint i = 0; i < 20; i++)
    {
      guint before = atomic_load (&calls);

      wait_for (atomic_load (&calls) > before);
      g_assert_true (gaio_handler_set_condition (handler, 0, NULL));
      loop_barrier (&loop);
      before = atomic_load (&calls);
      loop_barrier (&loop);
      g_assert_cmpuint (atomic_load (&calls), ==, before);
      g_assert_true (gaio_handler_set_condition (handler, G_IO_IN, NULL));
    }
  gaio_handler_remove_sync (handler);
  gaio_clear_handler (&handler);
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

/* --- close() and the last unref --- */

static void
test_close_during_a_callback (gconstpointer nested)
{
  Loop loop;
  Blocker blocker;
  gint fd = eventfd_new (1);

  loop_start (&loop, nested);
  blocker_init (&blocker, &loop);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, block_fd, &blocker, note_blocker);
  eventfd_wait (blocker.entered);
  gaio_context_close (loop.context);
  g_assert_true (gaio_context_is_closed (loop.context));
  g_assert_cmpuint (atomic_load (&blocker.notified), ==, 0);
  eventfd_add (blocker.go);
  eventfd_wait (blocker.notified_fd);
  loop_stop (&loop);
  g_assert_cmpuint (blocker.calls, ==, 1);
  g_assert_cmpuint (atomic_load (&blocker.notified), ==, 1);
  g_assert_true (blocker.on_owner);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_close_while_the_loop_sleeps (gconstpointer nested)
{
  for (guint i = 0; i < 20; i++)
    {
      Loop loop;
      Blocker blocker;

      loop_start (&loop, nested);
      blocker_init (&blocker, &loop);
      gaio_timer_unref (gaio_context_add_timer (loop.context, never_once, &blocker, note_blocker));
      gaio_context_close (loop.context);
      eventfd_wait (blocker.notified_fd);
      if (nested != NULL)
        g_assert_true (blocker.on_owner);
      loop_stop (&loop);
      g_assert_cmpuint (atomic_load (&blocker.notified), ==, 1);
      if (nested != NULL)
        g_assert_cmpint (main_context_n_fds (loop.main_context), ==, 1);
      blocker_clear (&blocker);
      loop_free (&loop);
    }
}

static void *
clear_timer (gpointer timer)
{
  GaioTimer *own = timer;

  gaio_clear_timer (&own);
  return NULL;
}

static void *
close_only (gpointer context)
{
  gaio_context_close (context);
  return NULL;
}

/* The owner need not be inside a round to be waited for. */
static void
test_owner_outside_a_round_runs_the_notifies (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  guint notified = 0;
  GaioTimer *timer = gaio_context_add_timer (rig.context, never_once, &notified, count_once);

  gaio_context_defer (rig.context, never_once, &notified, count_once);
  g_assert_true (g_main_context_acquire (rig.main_context));
  join (spawn (clear_timer, timer));
  join (spawn (close_only, rig.context));
  g_assert_true (gaio_context_is_closed (rig.context));
  g_assert_cmpuint (notified, ==, 0);
  rig_until (&rig, notified == 2);
  rig_settle (&rig);
  g_assert_cmpint (main_context_n_fds (rig.main_context), ==, 1);
  g_main_context_release (rig.main_context);
}

/* The owner never comes round to it, because its main context goes first. */
static void
test_owner_frees_the_main_context_of_a_closed_one (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  GMainContext *main_context = main_context_new ();
  guint notified = 0;

  attach (context, main_context);
  gaio_context_defer (context, never_once, &notified, count_once);
  g_assert_true (g_main_context_acquire (main_context));
  join (spawn (close_only, context));
  g_assert_cmpuint (notified, ==, 0);
  g_main_context_release (main_context);
  g_main_context_unref (main_context);
  g_assert_cmpuint (notified, ==, 1);
}

static void *
close_context (gpointer context)
{
  gaio_context_close (context);
  g_assert_true (gaio_context_is_closed (context));
  return NULL;
}

static void
test_close_from_many_threads_notifies_once (gconstpointer nested)
{
  for (guint i = 0; i < 20; i++)
    {
      Loop loop;
      atomic_uint notified = 0;
      pthread_t threads[N_THREADS];

      loop_start (&loop, nested);
      for (guint k = 0; k < 50; k++)
        gaio_timer_unref (
            gaio_context_add_timer (loop.context, never_once, &notified, count_atomic));
      for (guint k = 0; k < G_N_ELEMENTS (threads); k++)
        threads[k] = spawn (close_context, loop.context);
      for (guint k = 0; k < G_N_ELEMENTS (threads); k++)
        join (threads[k]);
      wait_for (atomic_load (&notified) == 50);
      loop_stop (&loop);
      loop_free (&loop);
      g_assert_cmpuint (atomic_load (&notified), ==, 50);
    }
}

static void
note_thread (gpointer data)
{
  *(pthread_t *) data = pthread_self ();
}

static void *
unref_and_check (gpointer data)
{
  pthread_t notified = 0;
  GaioContext *context = data;

  gaio_context_defer (context, never_once, &notified, note_thread);
  g_object_unref (context);
  g_assert_true (pthread_equal (notified, pthread_self ()));
  return NULL;
}

static void
test_last_unref_where_nobody_owns_notifies_in_the_caller (void)
{
  join (spawn (unref_and_check, gaio_context_new ()));
}

static void *
close_and_check (gpointer data)
{
  pthread_t notified = 0;
  GaioContext *context = data;

  gaio_context_defer (context, never_once, &notified, note_thread);
  gaio_context_close (context);
  g_assert_true (pthread_equal (notified, pthread_self ()));
  return NULL;
}

static void
test_close_where_nobody_owns_notifies_in_the_caller (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);

  join (spawn (close_and_check, rig.context));
}

typedef struct
{
  GaioContext *context;
  gint entered;
  gint go;
} SlowClose;

static void
take_time (gpointer data)
{
  SlowClose *slow = data;

  eventfd_add (slow->entered);
  eventfd_wait (slow->go);
}

static void *
close_slowly (gpointer data)
{
  SlowClose *slow = data;

  gaio_context_close (slow->context);
  return NULL;
}

/* Whoever iterates cannot know that another thread is just closing it. */
static void
test_iterate_while_another_thread_closes_is_quiet (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  SlowClose slow = { context, eventfd_new (0), eventfd_new (0) };
  pthread_t thread;

  gaio_context_defer (context, never_once, &slow, take_time);
  thread = spawn (close_slowly, &slow);
  eventfd_wait (slow.entered);
  g_assert_false (gaio_context_iterate (context, 0));
  g_assert_false (gaio_context_iterate (context, -1));
  eventfd_add (slow.go);
  join (thread);
  close (slow.entered);
  close (slow.go);
}

typedef struct
{
  GaioContext *context;
  pthread_t owner;
  guint calls;
  guint notified;
  gboolean running;
} Last;

static void *
unref_in_thread (gpointer context)
{
  g_object_unref (context);
  return NULL;
}

static void
let_thread_unref (gpointer data)
{
  Last *last = data;

  last->running = TRUE;
  last->calls++;
  join (spawn (unref_in_thread, last->context));
  g_assert_cmpuint (last->notified, ==, 0);
  last->running = FALSE;
}

static void
note_last (gpointer data)
{
  Last *last = data;

  g_assert_false (last->running);
  g_assert_true (pthread_equal (last->owner, pthread_self ()));
  last->notified++;
}

/* As a garbage collector may. */
static void
test_last_unref_from_a_thread_during_a_callback (void)
{
  Last last = { .context = gaio_context_new (), .owner = pthread_self () };

  gaio_context_defer (last.context, let_thread_unref, &last, note_last);
  gaio_context_defer (last.context, never_once, &last, note_last);
  g_assert_true (gaio_context_iterate (last.context, 0));
  g_assert_cmpuint (last.calls, ==, 1);
  g_assert_cmpuint (last.notified, ==, 2);
}

static void
test_source_destroyed_under_a_running_loop (void)
{
  for (guint i = 0; i < 50; i++)
    {
      Loop loop;
      atomic_uint notified = 0;
      g_autoptr (GSource) source = NULL;

      loop_init (&loop, GINT_TO_POINTER (TRUE));
      source = gaio_context_create_source (loop.context, NULL);
      g_assert_nonnull (source);
      g_source_attach (source, loop.main_context);
      loop_spawn (&loop);
      gaio_timer_unref (gaio_context_add_timer (loop.context, never_once, &notified, count_atomic));
      if (i % 2)
        loop_barrier (&loop);
      g_object_unref (g_steal_pointer (&loop.context));
      g_source_destroy (source);
      wait_for (atomic_load (&notified) == 1);
      loop_stop (&loop);
      g_main_context_unref (loop.main_context);
      close (loop.started);
    }
}

static void
make_ready_and_block (gpointer data)
{
  Blocker *blocker = data;

  eventfd_add (gaio_handler_get_fd (blocker->handler));
  gaio_bottom_half_schedule (blocker->bh);
}

/* The round that is running is not disturbed: it serves what it has gathered. */
static void
test_moved_during_a_callback (void)
{
  Loop loop;
  Blocker blocker;
  g_autoptr (GMainContext) other = main_context_new ();
  atomic_uint calls = 0;
  gint fd = eventfd_new (0);

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  blocker_init (&blocker, &loop);
  blocker.bh = gaio_context_add_bottom_half (loop.context, block, &blocker, NULL);
  blocker.handler = add_fd (loop.context, fd, G_IO_IN, count_atomic_fd, &calls, NULL);
  gaio_context_defer (loop.context, make_ready_and_block, &blocker, NULL);
  eventfd_wait (blocker.entered);
  gaio_context_detach (loop.context);
  attach (loop.context, other);
  g_main_context_iteration (other, FALSE);
  g_assert_cmpuint (atomic_load (&calls), ==, 0);
  eventfd_add (blocker.go);
  wait_for (atomic_load (&calls) == 1);
  main_context_until (other, atomic_load (&calls) > 1);
  gaio_handler_remove_sync (blocker.handler);
  loop_stop (&loop);
  blocker_clear (&blocker);
  loop_free (&loop);
  close (fd);
}

static void
test_detach_under_a_running_loop (void)
{
  Loop loop;

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  for (guint i = 0; i < 50; i++)
    {
      loop_barrier (&loop);
      gaio_context_detach (loop.context);
      wait_for (gaio_context_attach (loop.context, loop.main_context, NULL));
    }
  loop_barrier (&loop);
  loop_stop (&loop);
  loop_free (&loop);
}

/* Two threads then look at its fds for the last time: who closes it, and the owner of the main
 * context, who has yet to destroy the source. */
static void
test_closed_right_after_a_detach (void)
{
  Loop loop;
  gint fd = eventfd_new (0);

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  for (guint i = 0; i < 100; i++)
    {
      GaioContext *context = gaio_context_new ();
      guint notified = 0;

      attach (context, loop.main_context);
      gaio_handler_unref (add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once));
      loop_barrier (&loop);
      gaio_context_detach (context);
      lets_others_in = TRUE;
      gaio_context_close (context);
      lets_others_in = FALSE;
      g_assert_cmpuint (notified, ==, 1);
      g_object_unref (context);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

typedef struct
{
  GaioContext *context;
  atomic_bool stop;
} Detacher;

static void *
detach_again_and_again (gpointer data)
{
  Detacher *detacher = data;

  while (!atomic_load (&detacher->stop))
    {
      gaio_context_detach (detacher->context);
      sched_yield ();
    }
  return NULL;
}

/* A source that is not attached yet is nobody else's to destroy. */
static void
test_attach_while_another_detaches (void)
{
  Loop loop;
  Detacher detacher = { gaio_context_new (), FALSE };
  pthread_t thread;

  loop_start (&loop, GINT_TO_POINTER (TRUE));
  thread = spawn (detach_again_and_again, &detacher);
  lets_others_in = TRUE;
  for (guint i = 0; i < 100; i++)
    gaio_context_attach (detacher.context, loop.main_context, NULL);
  lets_others_in = FALSE;
  atomic_store (&detacher.stop, TRUE);
  join (thread);
  gaio_context_detach (detacher.context);
  g_object_unref (detacher.context);
  loop_stop (&loop);
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

static void
add_change_tests (void)
{
  add_both ("/thread/fd-added-wakes-the-loop", test_fd_added_from_thread_wakes);
  add_both ("/thread/adds-and-removes-under-load", test_adds_and_removes_under_load);
  add_both ("/thread/handler-removed-during-its-callback",
            test_handler_removed_during_its_callback);
  add_both ("/thread/timer-removed-during-its-callback", test_timer_removed_during_its_callback);
  add_both ("/thread/bottom-half-removed-during-its-callback",
            test_bottom_half_removed_during_its_callback);
  add_both ("/thread/removed-is-not-called-again", test_removed_is_not_called_again);
  add_both ("/thread/condition-changes", test_condition_changes_from_thread);
  add_both ("/thread/deferred-calls-of-a-thread-keep-their-order",
            test_deferred_calls_of_a_thread_keep_their_order);
  g_test_add_func ("/thread/notifies-run-on-the-owner", test_notifies_run_on_the_owner);
}

static void
add_sync_tests (void)
{
  add_both ("/thread/remove-sync-gives-the-data-back", test_remove_sync_gives_the_data_back);
  add_both ("/thread/remove-sync-waits-for-the-callback", test_remove_sync_waits_for_the_callback);
  add_both ("/thread/remove-sync-of-a-member-waits-for-the-function",
            test_remove_sync_of_a_member_waits_for_the_function);
  add_both ("/thread/remove-sync-of-a-member-waits-for-a-replaced-function",
            test_remove_sync_of_a_member_waits_for_a_replaced_function);
  g_test_add_func ("/thread/remove-sync-of-a-member-in-its-function-is-a-critical",
                   test_remove_sync_of_a_member_in_its_function_is_a_critical);
  g_test_add_func ("/thread/remove-sync-of-an-idle-handler-returns",
                   test_remove_sync_of_an_idle_handler_returns);
  g_test_add_func ("/thread/remove-sync-below-its-own-callback-is-a-critical",
                   test_remove_sync_below_its_own_callback_is_a_critical);
  g_test_add_func ("/thread/remove-sync-of-another-in-a-callback",
                   test_remove_sync_of_another_in_a_callback);
}

static void
add_end_tests (void)
{
  add_both ("/thread/close-during-a-callback", test_close_during_a_callback);
  add_both ("/thread/close-while-the-loop-sleeps", test_close_while_the_loop_sleeps);
  add_both ("/thread/close-from-many-notifies-once", test_close_from_many_threads_notifies_once);
  add_both ("/thread/close-where-nobody-owns-notifies-in-the-caller",
            test_close_where_nobody_owns_notifies_in_the_caller);
  g_test_add_func ("/thread/iterate-while-another-closes-is-quiet",
                   test_iterate_while_another_thread_closes_is_quiet);
  g_test_add_func ("/thread/last-unref-where-nobody-owns-notifies-in-the-caller",
                   test_last_unref_where_nobody_owns_notifies_in_the_caller);
  g_test_add_func ("/thread/owner-outside-a-round-runs-the-notifies",
                   test_owner_outside_a_round_runs_the_notifies);
  g_test_add_func ("/thread/owner-frees-the-main-context-of-a-closed-one",
                   test_owner_frees_the_main_context_of_a_closed_one);
  g_test_add_func ("/thread/main-context-iterated-in-turns",
                   test_threads_take_turns_in_a_main_context);
  g_test_add_func ("/thread/main-contexts-die-under-load", test_main_contexts_die_under_load);
  g_test_add_func ("/thread/last-unref-during-a-callback",
                   test_last_unref_from_a_thread_during_a_callback);
  g_test_add_func ("/thread/source-destroyed-under-a-running-loop",
                   test_source_destroyed_under_a_running_loop);
  g_test_add_func ("/thread/moved-during-a-callback", test_moved_during_a_callback);
  g_test_add_func ("/thread/detach-under-a-running-loop", test_detach_under_a_running_loop);
  g_test_add_func ("/thread/attach-while-another-detaches", test_attach_while_another_detaches);
  g_test_add_func ("/thread/closed-right-after-a-detach", test_closed_right_after_a_detach);
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
  add_change_tests ();
  add_sync_tests ();
  add_end_tests ();
  add_both ("/thread/awake-loop-is-not-woken", test_awake_loop_is_not_woken);
  add_both ("/thread/sleeping-loop-is-woken-once", test_sleeping_loop_is_woken_once);
  return g_test_run ();
}
