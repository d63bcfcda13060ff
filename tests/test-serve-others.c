/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Main contexts that a context serves: loops inside of their callbacks, and others who iterate
 * them. */

#include "test-serve.h"

/* --- Loops inside of it --- */

typedef struct
{
  Stage *stage;
  GMainContext *other; /* another inner context */
  guint timeouts;
  guint idles;
  guint others;
  guint calls;
} Nest;

static gboolean
nest_outer (gpointer data)
{
  Nest *nest = data;

  nest->calls++;
  until (nest->stage, nest->timeouts > 0 && nest->idles > 0 && nest->others > 0);
  return G_SOURCE_REMOVE;
}

static gboolean
attach_others_and_nest (gpointer data)
{
  Nest *nest = data;
  GSource *timeout = g_timeout_source_new (2);

  g_source_set_callback (timeout, count_and_stop, &nest->timeouts, NULL);
  g_source_attach (timeout, nest->stage->inner);
  g_source_unref (timeout);
  attach_idle (nest->stage->inner, G_PRIORITY_DEFAULT, count_and_stop, &nest->idles);
  attach_idle (nest->other, G_PRIORITY_DEFAULT, count_and_stop, &nest->others);
  return nest_outer (nest);
}

static void
test_loop_nested_in_a_turn (gconstpointer nested)
{
  Stage stage;
  Nest nest = { &stage };

  stage_begin (&stage, nested);
  nest.other = gaio_context_create_main_context (stage.context, NULL, NULL);
  settle (&stage);
  attach_idle (stage.inner, 0, attach_others_and_nest, &nest);
  until (&stage, nest.calls == 1);
  settle (&stage);
  g_assert_cmpuint (nest.timeouts, ==, 1);
  g_assert_cmpuint (nest.idles, ==, 1);
  g_assert_cmpuint (nest.others, ==, 1);
  g_main_context_unref (nest.other);
  stage_end (&stage);
}

static gboolean
nest_inner (gpointer data)
{
  Nest *nest = data;
  GSource *timeout = g_timeout_source_new (2);

  nest->calls++;
  g_source_set_callback (timeout, count_and_stop, &nest->timeouts, NULL);
  g_source_attach (timeout, nest->stage->inner);
  g_source_unref (timeout);
  while (nest->timeouts == 0)
    g_main_context_iteration (nest->stage->inner, TRUE);
  return G_SOURCE_REMOVE;
}

static void
test_loop_nested_on_itself (gconstpointer nested)
{
  Stage stage;
  Nest nest = { &stage };
  guint calls = 0;
  gint fd = eventfd_new (0);

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_fd, &calls);
  attach_idle (stage.inner, 0, nest_inner, &nest);
  until (&stage, nest.calls == 1);
  eventfd_add (fd);
  until (&stage, calls == 1);
  stage_end (&stage);
  close (fd);
}

/* The wake-up is gone with it, and what was attached has to be heard of. */
static void
test_iterated_by_the_user (gconstpointer nested)
{
  Stage stage;
  guint calls = 0, idles = 0, timeouts = 0;
  gint fd = eventfd_new (0);
  GSource *timeout = g_timeout_source_new (5);

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, 0, count_and_stop, &idles);
  attach_fd (stage.inner, fd, take_fd, &calls);
  g_source_set_callback (timeout, count_and_stop, &timeouts, NULL);
  g_source_attach (timeout, stage.inner);
  g_source_unref (timeout);
  while (g_main_context_iteration (stage.inner, FALSE))
    ;
  g_assert_cmpuint (idles, ==, 1);
  until (&stage, timeouts == 1);
  eventfd_add (fd);
  until (&stage, calls == 1);
  stage_end (&stage);
  close (fd);
}

/* --- Others --- */

static void
test_owned_by_another_thread_is_tried_later (gconstpointer nested)
{
  Stage stage;
  Holder holder = { NULL };
  guint calls = 0, rounds = 0;
  gint fd = eventfd_new (0);
  GThread *thread;
  guint interruptions = test_interruptions ();
  gint64 end;

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  holder.inner = stage.inner;
  thread = g_thread_new ("holder", hold, &holder);
  while (!atomic_load (&holder.holds))
    sched_yield ();
  eventfd_add (fd);
  end = g_get_monotonic_time () + 100000;
  /* It does not spin: a few rounds each 10 ms at most. */
  for (; g_get_monotonic_time () < end; rounds++)
    round_of (&stage, TRUE);
  g_assert_cmpuint (rounds, <, 60 + 2 * (test_interruptions () - interruptions));
  g_assert_cmpuint (calls, ==, 0);
  atomic_store (&holder.lets_go, TRUE);
  until (&stage, calls == 1);
  g_thread_join (thread);
  stage_end (&stage);
  close (fd);
}

/* One that is always ready leaves others their turn. */
static void
test_busy_idle_source_starves_nobody (gconstpointer nested)
{
  Stage stage;
  guint busy = 0, others = 0, handled = 0, low = 0;
  gint fd = eventfd_new (0);
  GaioHandler *handler;
  g_autoptr (GMainContext) other = NULL;
  gint own = eventfd_new (0);
  guint own_calls = 0;

  stage_begin (&stage, nested);
  other = gaio_context_create_main_context (stage.context, NULL, NULL);
  attach_idle (stage.inner, G_PRIORITY_DEFAULT_IDLE, count_again, &busy);
  attach_fd (stage.inner, own, take_fd, &own_calls);
  until (&stage, busy > 3);
  attach_idle (other, G_PRIORITY_DEFAULT_IDLE, count_and_stop, &others);
  handler = add_fd (stage.context, fd, G_IO_IN, take_fd, &handled, NULL);
  eventfd_add (fd);
  eventfd_add (own);
  if (stage.outer != NULL)
    attach_idle (stage.outer, G_PRIORITY_DEFAULT_IDLE, count_and_stop, &low);
  until (&stage,
         others == 1 && handled == 1 && own_calls == 1 && (stage.outer == NULL || low == 1));
  gaio_clear_handler (&handler);
  stage_end (&stage);
  close (fd);
  close (own);
}

static gboolean
iterate_here (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_iterate (story->stage->context, 0);
  return G_SOURCE_REMOVE;
}

/* Whatever its priority, and whether or not the user's iteration polls. */
static void
test_round_in_an_iteration_by_the_user (gconstpointer nested)
{
  for (gint priority = -1; priority <= 1; priority++)
    {
      Stage stage;
      Story story = { &stage };
      guint calls = 0;

      stage_begin (&stage, NULL);
      settle (&stage);
      attach_idle (stage.inner, priority, iterate_here, &story);
      attach_idle (stage.inner, priority, count_and_stop, &calls);
      while (g_main_context_iteration (stage.inner, FALSE))
        ;
      until (&stage, story.calls == 1 && calls == 1);
      stage_end (&stage);
    }
}

static void
test_pending_calls_nothing_twice (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, -1, count_again, &calls);
  until (&stage, calls == 1);
  for (guint i = 0; i < 10; i++)
    {
      guint before = calls;

      g_main_context_pending (stage.inner);
      round_of (&stage, FALSE);
      g_assert_cmpuint (calls, <=, before + 1);
    }
  until (&stage, calls > 5);
  stage_end (&stage);
}

/* Nobody runs the main context that it waits for. */
static void
test_low_priority_goes_on_without_glib (void)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, "nested");
  attach_idle (stage.inner, G_PRIORITY_DEFAULT_IDLE, count_again, &calls);
  until (&stage, calls > 1);
  for (guint i = 1; i < 10; i++)
    {
      guint before = calls;

      while (calls == before)
        gaio_context_iterate (stage.context, -1);
    }
  stage_end (&stage);
}

static gboolean
leave_ready (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static void
test_always_ready_fd_starves_no_other (gconstpointer nested)
{
  Stage stage;
  guint busy = 0, calls = 0;
  gint fd = eventfd_new (1);
  g_autoptr (GMainContext) other = NULL;

  stage_begin (&stage, nested);
  other = gaio_context_create_main_context (stage.context, NULL, NULL);
  attach_fd (stage.inner, fd, leave_ready, &busy);
  attach_idle (other, G_PRIORITY_DEFAULT_IDLE, count_again, &calls);
  until (&stage, busy > 10 && calls > 10);
  stage_end (&stage);
  close (fd);
}

/* Nothing is called in between that would have it looked at. */
static void
test_number_reused_outside_of_a_turn (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  gint fd = eventfd_new (0), other = eventfd_new (0);
  GSource *source;

  stage_begin (&stage, nested);
  source = attach_fd (stage.inner, fd, never_fd, NULL);
  settle (&stage);
  g_source_destroy (source);
  g_assert_cmpint (dup2 (other, fd), ==, fd);
  close (other);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  eventfd_add (fd);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  stage_end (&stage);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/serve-others/loop-nested-in-a-turn", test_loop_nested_in_a_turn);
  add_both ("/serve-others/loop-nested-on-itself", test_loop_nested_on_itself);
  add_both ("/serve-others/iterated-by-the-user", test_iterated_by_the_user);
  add_both ("/serve-others/owned-by-another-thread-is-tried-later",
            test_owned_by_another_thread_is_tried_later);
  add_both ("/serve-others/busy-idle-source-starves-nobody", test_busy_idle_source_starves_nobody);
  g_test_add_data_func ("/serve-others/round-in-an-iteration-by-the-user", NULL,
                        test_round_in_an_iteration_by_the_user);
  add_both ("/serve-others/pending-calls-nothing-twice", test_pending_calls_nothing_twice);
  g_test_add_func ("/serve-others/low-priority-goes-on-without-glib",
                   test_low_priority_goes_on_without_glib);
  add_both ("/serve-others/always-ready-fd-starves-no-other",
            test_always_ready_fd_starves_no_other);
  add_both ("/serve-others/number-reused-outside-of-a-turn", test_number_reused_outside_of_a_turn);
  return g_test_run ();
}
