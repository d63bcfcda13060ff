/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-source.h"

/* --- A main context that goes --- */

static gboolean
never_source (gpointer data)
{
  g_assert_not_reached ();
}

static void
detach_from_notify (gpointer context)
{
  gaio_context_detach (context);
}

static void
close_from_notify (gpointer context)
{
  gaio_context_close (context);
}

/* It has no reference left, and another source, which goes first, has its say. */
static void
test_notify_of_a_dying_main_context (gconstpointer notify)
{
  GMainContext *main_context = main_context_new ();
  GaioContext *context = gaio_context_new ();
  GSource *other = g_idle_source_new ();

  g_source_set_priority (other, G_PRIORITY_HIGH);
  g_source_set_callback (other, never_source, context, (GDestroyNotify) notify);
  g_source_attach (other, main_context);
  g_source_unref (other);
  attach (context, main_context);
  g_main_context_unref (main_context);
  if (!gaio_context_is_closed (context))
    assert_works_alone (context);
  g_assert_finalize_object (context);
}

/* --- A callback that it does not take --- */

static void
set_callback (GSource *source, guint *notified)
{
  expect_critical (g_source_set_callback (source, never_source, notified, count_once));
}

static void
test_callback_is_refused (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  GaioContext *context = gaio_context_new ();
  GSource *source = create_source (context);
  guint notified = 0;

  set_callback (source, &notified);
  g_assert_cmpuint (notified, ==, 1);
  g_source_attach (source, main_context);
  assert_serves (context, main_context);
  set_callback (source, &notified);
  g_assert_cmpuint (notified, ==, 2);
  assert_serves (context, main_context);
  expect_critical (g_source_set_callback_indirect (source, NULL, NULL));
  assert_serves (context, main_context);
  /* It still hears of its end. */
  g_clear_pointer (&main_context, g_main_context_unref);
  assert_works_alone (context);
  g_source_unref (source);
  g_assert_finalize_object (context);
}

static void
set_callback_inside (gpointer data)
{
  g_source_set_callback (g_main_current_source (), never_source, data, count_once);
}

/* Only when it has returned GLib lets go of what it replaces. */
static void
test_callback_is_refused_in_a_dispatch (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;

  attach (context, main_context);
  gaio_context_defer (context, set_callback_inside, &notified, NULL);
  expect_critical (main_context_until (main_context, notified == 1));
  assert_serves (context, main_context);
}

static void
set_callback_and_detach (gpointer data)
{
  gpointer *args = data;

  set_callback_inside (args[1]);
  gaio_context_detach (args[0]);
}

static void
test_detached_with_a_callback_that_is_not_refused_yet (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  GaioContext *context = gaio_context_new ();
  guint notified = 0;
  gpointer args[] = { context, &notified };

  attach (context, main_context);
  gaio_context_defer (context, set_callback_and_detach, args, NULL);
  main_context_until (main_context, notified == 1);
  assert_works_alone (context);
  attach (context, main_context);
  assert_serves (context, main_context);
  gaio_context_detach (context);
  g_assert_finalize_object (context);
}

static void
test_source_that_is_never_attached (void)
{
  GaioContext *context = gaio_context_new ();

  for (guint i = 0; i < 2; i++)
    {
      GSource *source = create_source (context);

      g_source_unref (source);
    }
  assert_works_alone (context);
  g_assert_finalize_object (context);
}

/* --- Attach and detach --- */

static void
test_attached_context_works (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();

  attach (context, main_context);
  assert_serves (context, main_context);
}

static void
test_null_is_the_global_default (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;

  attach (context, NULL);
  gaio_context_defer (context, count_once, &calls, NULL);
  main_context_until (NULL, calls == 1);
  gaio_context_detach (context);
  main_context_settle (NULL);
  g_assert_finalize_object (g_steal_pointer (&context));
}

static void
test_detached_context_is_not_served (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;
  gint fd = eventfd_new (1);

  attach (context, main_context);
  assert_serves (context, main_context);
  gaio_context_detach (context);
  gaio_context_detach (context);
  watch_fd (context, fd, count_fd, &calls);
  gaio_context_defer (context, count_once, &calls, NULL);
  main_context_settle (main_context);
  g_assert_cmpuint (calls, ==, 0);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  assert_works_alone (context);
  close (fd);
}

static void
test_attached_again_goes_on (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;
  gint fd = eventfd_new (1);

  watch_fd (context, fd, count_fd, &calls);
  for (guint i = 0; i < 5; i++)
    {
      g_autoptr (GMainContext) main_context = main_context_new ();
      guint before = calls;

      attach (context, main_context);
      main_context_until (main_context, calls > before);
      assert_serves (context, main_context);
      gaio_context_detach (context);
    }
  close (fd);
}

static void
test_attached_twice_is_an_error (void)
{
  g_autoptr (GMainContext) first = main_context_new ();
  g_autoptr (GMainContext) second = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;

  attach (context, first);
  g_assert_false (gaio_context_attach (context, second, &error));
  g_assert_nonnull (error);
  g_assert_true (error->domain == GAIO_ERROR);
  g_clear_error (&error);
  g_assert_null (gaio_context_create_source (context, &error));
  g_assert_nonnull (error);
  g_assert_true (error->domain == GAIO_ERROR);
  g_assert_cmpint (main_context_n_fds (second), ==, 1);
  assert_serves (context, first);
  gaio_context_detach (context);
  attach (context, second);
  assert_serves (context, second);
}

static void
detach_self (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_detach (story->context);
}

static void
test_detached_in_a_callback (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context };

  attach (context, main_context);
  gaio_context_defer (context, detach_self, &story, NULL);
  main_context_until (main_context, story.calls == 1);
  main_context_settle (main_context);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  assert_works_alone (context);
  attach (context, main_context);
  assert_serves (context, main_context);
}

static void
move_self (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_detach (story->context);
  attach (story->context, story->main_context);
}

static void
test_moved_in_a_callback (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GMainContext) second = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .main_context = second };

  attach (context, main_context);
  gaio_context_defer (context, move_self, &story, NULL);
  main_context_until (main_context, story.calls == 1);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  assert_serves (context, second);
}

/* --- The GMainContext dies --- */

static void
test_main_context_dies (void)
{
  g_autoptr (GMainContext) second = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  GMainContext *first = main_context_new ();

  attach (context, first);
  assert_serves (context, first);
  g_main_context_unref (first);
  assert_works_alone (context);
  attach (context, second);
  assert_serves (context, second);
}

/* GLib then calls neither dispose nor finalize of the source. */
static void
test_main_context_dies_while_somebody_refs_the_source (void)
{
  g_autoptr (GMainContext) second = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GSource) held = create_source (context);
  GMainContext *first = main_context_new ();

  g_source_attach (held, first);
  assert_serves (context, first);
  g_main_context_unref (first);
  g_assert_true (g_source_is_destroyed (held));
  assert_works_alone (context);
  attach (context, second);
  assert_serves (context, second);
  gaio_context_detach (context);
  g_assert_finalize_object (g_steal_pointer (&context));
}

static void
test_main_context_takes_its_last_context_along (void)
{
  GMainContext *main_context = main_context_new ();
  GaioContext *context = gaio_context_new ();
  guint notified = 0;

  g_object_add_weak_pointer (G_OBJECT (context), (gpointer *) &context);
  attach (context, main_context);
  gaio_context_defer (context, never_once, &notified, count_once);
  g_object_unref (context);
  g_assert_nonnull (context);
  g_main_context_unref (main_context);
  g_assert_null (context);
  g_assert_cmpuint (notified, ==, 1);
}

/* --- Closing --- */

/* An epoll fd that is closed while GLib polls it is a busy loop on POLLNVAL. */
static void
test_closed_context_leaves_glib (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  GSource *end = g_timeout_source_new (20);
  gboolean over = FALSE;
  guint interruptions = test_interruptions ();

  attach (context, main_context);
  assert_serves (context, main_context);
  gaio_context_close (context);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  g_source_set_callback (end, end_wait, &over, NULL);
  g_source_attach (end, main_context);
  atomic_store (&glib_polls, 0);
  while (!over)
    g_main_context_iteration (main_context, TRUE);
  g_assert_cmpuint (atomic_load (&glib_polls), <=, 3 + test_interruptions () - interruptions);
  g_source_unref (end);
}

static void
close_self (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_close (story->context);
}

static void
test_context_closed_in_a_callback_leaves_glib (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context };

  attach (context, main_context);
  gaio_context_defer (context, close_self, &story, NULL);
  main_context_until (main_context, story.calls == 1);
  main_context_settle (main_context);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
}

static void
test_context_closed_under_a_held_source (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GSource) held = create_source (context);

  g_source_attach (held, main_context);
  gaio_context_close (context);
  main_context_settle (main_context);
  g_assert_true (g_source_is_destroyed (held));
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  g_assert_finalize_object (g_steal_pointer (&context));
}

static void
test_source_of_a_closed_context_is_attached_in_vain (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GSource) source = create_source (context);

  gaio_context_close (context);
  if (!g_source_is_destroyed (source))
    g_source_attach (source, main_context);
  main_context_settle (main_context);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  g_source_destroy (source);
}

static void
test_source_destroyed_before_it_is_attached (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GSource) destroyed = create_source (context);
  g_autoptr (GSource) detached = NULL;

  g_source_destroy (destroyed);
  gaio_context_detach (context);
  detached = create_source (context);
  gaio_context_detach (context);
  gaio_context_detach (context);
  g_assert_true (g_source_is_destroyed (detached));
  attach (context, main_context);
  assert_serves (context, main_context);
  gaio_context_detach (context);
  g_source_unref (g_steal_pointer (&detached));
  detached = create_source (context);
  g_source_destroy (detached);
  gaio_context_close (context);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/source/dying-main-context-may-be-left/detach", detach_from_notify,
                        test_notify_of_a_dying_main_context);
  g_test_add_data_func ("/source/dying-main-context-may-be-left/close", close_from_notify,
                        test_notify_of_a_dying_main_context);
  g_test_add_func ("/source/callback-is-refused", test_callback_is_refused);
  g_test_add_func ("/source/callback-is-refused-in-a-dispatch",
                   test_callback_is_refused_in_a_dispatch);
  g_test_add_func ("/source/detached-with-a-callback-that-is-not-refused-yet",
                   test_detached_with_a_callback_that_is_not_refused_yet);
  g_test_add_func ("/source/never-attached", test_source_that_is_never_attached);
  g_test_add_func ("/attach/works", test_attached_context_works);
  g_test_add_func ("/attach/null-is-the-global-default", test_null_is_the_global_default);
  g_test_add_func ("/attach/detached-is-not-served", test_detached_context_is_not_served);
  g_test_add_func ("/attach/again-goes-on", test_attached_again_goes_on);
  g_test_add_func ("/attach/twice-is-an-error", test_attached_twice_is_an_error);
  g_test_add_func ("/attach/detached-in-a-callback", test_detached_in_a_callback);
  g_test_add_func ("/attach/moved-in-a-callback", test_moved_in_a_callback);
  g_test_add_func ("/source/main-context-dies", test_main_context_dies);
  g_test_add_func ("/source/main-context-dies-while-somebody-refs-the-source",
                   test_main_context_dies_while_somebody_refs_the_source);
  g_test_add_func ("/source/main-context-takes-its-last-context-along",
                   test_main_context_takes_its_last_context_along);
  g_test_add_func ("/source/closed-leaves-glib", test_closed_context_leaves_glib);
  g_test_add_func ("/source/closed-in-a-callback-leaves-glib",
                   test_context_closed_in_a_callback_leaves_glib);
  g_test_add_func ("/source/closed-under-a-held-source", test_context_closed_under_a_held_source);
  g_test_add_func ("/source/closed-is-attached-in-vain",
                   test_source_of_a_closed_context_is_attached_in_vain);
  g_test_add_func ("/source/destroyed-before-it-is-attached",
                   test_source_destroyed_before_it_is_attached);
  return g_test_run ();
}
