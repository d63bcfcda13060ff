/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-support.h"

/* --- Which one --- */

static void
test_default_is_always_the_same (void)
{
  GaioContext *first = gaio_context_get_default ();
  g_autoptr (GaioContext) second = gaio_context_ref_for_main_context (NULL);
  g_autoptr (GaioContext) third = gaio_context_ref_for_main_context (g_main_context_default ());

  g_assert_true (GAIO_IS_CONTEXT (first));
  g_assert_true (gaio_context_get_default () == first);
  g_assert_true (second == first);
  g_assert_true (third == first);
  assert_serves (first, NULL);
}

static void
test_one_per_main_context (void)
{
  g_autoptr (GMainContext) one = main_context_new ();
  g_autoptr (GMainContext) two = main_context_new ();
  g_autoptr (GaioContext) first = gaio_context_ref_for_main_context (one);
  g_autoptr (GaioContext) again = gaio_context_ref_for_main_context (one);
  g_autoptr (GaioContext) second = gaio_context_ref_for_main_context (two);

  g_assert_true (first == again);
  g_assert_true (first != second);
  g_assert_true (first != gaio_context_get_default ());
  g_assert_cmpint (main_context_n_fds (one), ==, 2);
  assert_serves (first, one);
  assert_serves (second, two);
}

static void
test_thread_default (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) before = gaio_context_ref_thread_default ();
  g_autoptr (GaioContext) of_main_context = NULL;
  g_autoptr (GaioContext) during = NULL;
  g_autoptr (GaioContext) after = NULL;

  g_assert_true (before == gaio_context_get_default ());
  g_main_context_push_thread_default (main_context);
  during = gaio_context_ref_thread_default ();
  g_assert_true (during != before);
  of_main_context = gaio_context_ref_for_main_context (main_context);
  g_assert_true (during == of_main_context);
  g_main_context_pop_thread_default (main_context);
  after = gaio_context_ref_thread_default ();
  g_assert_true (after == before);
}

/* --- Its life is that of its GMainContext --- */

static void
test_lives_as_long_as_its_main_context (void)
{
  GMainContext *main_context = main_context_new ();
  GaioContext *context = gaio_context_ref_for_main_context (main_context);
  guint calls = 0;
  guint notified = 0;

  g_object_add_weak_pointer (G_OBJECT (context), (gpointer *) &context);
  gaio_context_defer (context, count_once, &calls, NULL);
  gaio_timer_unref (gaio_context_add_timer (context, never_once, &notified, count_once));
  g_object_unref (context);
  g_assert_nonnull (context);
  main_context_until (main_context, calls == 1);
  g_main_context_unref (main_context);
  g_assert_null (context);
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_held_context_outlives_its_main_context (void)
{
  GMainContext *main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_ref_for_main_context (main_context);
  guint notified = 0;
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, never_once, &notified, count_once);

  assert_serves (context, main_context);
  g_main_context_unref (main_context);
  gaio_timer_arm (timer, 0);
  gaio_timer_disarm (timer);
  gaio_timer_remove (timer);
  g_assert_finalize_object (g_steal_pointer (&context));
  g_assert_cmpuint (notified, ==, 1);
}

/* malloc() likes to give the address of the old GMainContext to the new one. */
static void
test_new_main_context_at_an_old_address (void)
{
  g_autoptr (GaioContext) last = NULL;

  for (guint i = 0; i < 50; i++)
    {
      GMainContext *main_context = main_context_new ();
      GaioContext *context = gaio_context_ref_for_main_context (main_context);

      g_assert_true (context != last);
      assert_serves (context, main_context);
      g_main_context_unref (main_context);
      g_clear_object (&last);
      last = context;
    }
}

static void
test_main_context_dies_while_its_source_is_held (void)
{
  GMainContext *main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_ref_for_main_context (main_context);
  g_autoptr (GMainContext) next = NULL;
  g_autoptr (GaioContext) fresh = NULL;
  g_autoptr (GSource) held = NULL;

  gaio_context_defer (context, never_once, NULL, NULL);
  for (guint id = 1; held == NULL; id++)
    {
      g_assert_cmpuint (id, <, 1000);
      held = g_main_context_find_source_by_id (main_context, id);
    }
  g_source_ref (held);
  g_main_context_unref (main_context);
  g_assert_finalize_object (g_steal_pointer (&context));
  next = main_context_new ();
  fresh = gaio_context_ref_for_main_context (next);
  assert_serves (fresh, next);
}

/* --- It is everybody's --- */

static void
test_close_is_a_critical_and_does_nothing (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_ref_for_main_context (main_context);

  expect_critical (gaio_context_close (context));
  g_assert_false (gaio_context_is_closed (context));
  assert_serves (context, main_context);
  expect_critical (gaio_context_close (gaio_context_get_default ()));
  g_assert_false (gaio_context_is_closed (gaio_context_get_default ()));
  assert_serves (gaio_context_get_default (), NULL);
}

static void
test_is_attached_already (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GMainContext) other = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_ref_for_main_context (main_context);
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_attach (context, other, &error));
  g_assert_nonnull (error);
  g_assert_true (error->domain == GAIO_ERROR);
  assert_serves (context, main_context);
}

/* --- Threads --- */

static void *
ref_shared (gpointer main_context)
{
  return gaio_context_ref_for_main_context (main_context);
}

static void
test_threads_get_the_same (void)
{
  for (guint round = 0; round < 50; round++)
    {
      g_autoptr (GMainContext) main_context = main_context_new ();
      pthread_t threads[N_THREADS];
      void *contexts[N_THREADS];

      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        threads[i] = spawn (ref_shared, main_context);
      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        g_assert_cmpint (pthread_join (threads[i], &contexts[i]), ==, 0);
      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        g_assert_true (contexts[i] == contexts[0]);
      assert_serves (contexts[0], main_context);
      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        g_object_unref (contexts[i]);
    }
}

static void *
use_own_thread_default (gpointer data)
{
  GMainContext *main_context = g_main_context_new ();
  GaioContext *context;

  g_main_context_push_thread_default (main_context);
  context = gaio_context_ref_thread_default ();
  assert_serves (context, main_context);
  g_main_context_pop_thread_default (main_context);
  g_object_unref (context);
  g_main_context_unref (main_context);
  return NULL;
}

static void
test_threads_use_their_own (void)
{
  pthread_t threads[N_THREADS];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (use_own_thread_default, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
}

typedef struct
{
  GMainContext *main_context;
  guint calls;
} Asker;

static void *
defer_on_shared (gpointer data)
{
  Asker *asker = data;
  g_autoptr (GaioContext) context = gaio_context_ref_for_main_context (asker->main_context);

  gaio_context_defer (context, count_once, &asker->calls, NULL);
  return NULL;
}

/* The source is attached from outside while its loop may be asleep already. */
static void
test_first_use_in_another_thread_wakes_the_loop (void)
{
  for (guint round = 0; round < 50; round++)
    {
      g_autoptr (GMainContext) main_context = main_context_new ();
      Asker asker = { .main_context = main_context };
      pthread_t thread = spawn (defer_on_shared, &asker);

      main_context_until (main_context, asker.calls == 1);
      join (thread);
    }
}

typedef struct
{
  GMainContext *main_context;
  atomic_uint users;
  atomic_uint *notified;
} Visitor;

/* A reference count that ThreadSanitizer sees, unlike GLib's. */
static void
leave_main_context (Visitor *visitor)
{
  if (atomic_fetch_sub (&visitor->users, 1) == 1)
    g_main_context_unref (visitor->main_context);
}

static void
do_nothing (gpointer data)
{
}

/* May drop the last reference on the GMainContext, and with it the shared context. */
static void *
visit (gpointer data)
{
  Visitor *visitor = data;

  for (guint i = 0; i < 10; i++)
    {
      g_autoptr (GaioContext) context = gaio_context_ref_for_main_context (visitor->main_context);

      gaio_context_defer (context, do_nothing, visitor->notified, count_atomic);
    }
  leave_main_context (visitor);
  return NULL;
}

static void
test_main_contexts_come_and_go (void)
{
  atomic_uint notified = 0;

  for (guint round = 0; round < 50; round++)
    {
      Visitor visitor = { main_context_new (), N_THREADS + 1, &notified };
      pthread_t threads[N_THREADS];

      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        threads[i] = spawn (visit, &visitor);
      for (guint i = 0; i < round % 4; i++)
        g_main_context_iteration (visitor.main_context, FALSE);
      leave_main_context (&visitor);
      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        join (threads[i]);
    }
  g_assert_cmpuint (atomic_load (&notified), ==, 50 * N_THREADS * 10);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/shared/default-is-always-the-same", test_default_is_always_the_same);
  g_test_add_func ("/shared/one-per-main-context", test_one_per_main_context);
  g_test_add_func ("/shared/thread-default", test_thread_default);
  g_test_add_func ("/shared/lives-as-long-as-its-main-context",
                   test_lives_as_long_as_its_main_context);
  g_test_add_func ("/shared/held-outlives-its-main-context",
                   test_held_context_outlives_its_main_context);
  g_test_add_func ("/shared/new-main-context-at-an-old-address",
                   test_new_main_context_at_an_old_address);
  g_test_add_func ("/shared/main-context-dies-while-its-source-is-held",
                   test_main_context_dies_while_its_source_is_held);
  g_test_add_func ("/shared/close-is-a-critical-and-does-nothing",
                   test_close_is_a_critical_and_does_nothing);
  g_test_add_func ("/shared/is-attached-already", test_is_attached_already);
  g_test_add_func ("/shared/threads-get-the-same", test_threads_get_the_same);
  g_test_add_func ("/shared/threads-use-their-own", test_threads_use_their_own);
  g_test_add_func ("/shared/first-use-in-another-thread-wakes-the-loop",
                   test_first_use_in_another_thread_wakes_the_loop);
  g_test_add_func ("/shared/main-contexts-come-and-go", test_main_contexts_come_and_go);
  return g_test_run ();
}
