/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-source.h"

/* --- One pollfd --- */

static void
test_exactly_one_pollfd (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fds[100];
  gint before = main_context_n_fds (main_context);

  if (!test_may_open (G_N_ELEMENTS (fds) + 20))
    return;
  attach (context, main_context);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      GaioTimer *timer = gaio_context_add_timer (context, never_once, NULL, NULL);

      fds[i] = eventfd_new (0);
      watch_fd (context, fds[i], never_fd, NULL);
      gaio_timer_arm (timer, 3600 * (gint64) G_USEC_PER_SEC);
      gaio_timer_unref (timer);
    }
  main_context_settle (main_context);
  g_assert_cmpint (main_context_n_fds (main_context), ==, before + 1);
  gaio_context_detach (context);
  g_assert_cmpint (main_context_n_fds (main_context), ==, before);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
}

static gboolean
take_and_count (gint fd, GIOCondition condition, gpointer data)
{
  g_assert_true (eventfd_take (fd));
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

/* A source that GLib blocks while it is dispatched costs a second poll per event. */
static void
test_one_poll_per_event (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (0);
  guint calls = 0;

  attach (context, main_context);
  watch_fd (context, fd, take_and_count, &calls);
  main_context_settle (main_context);
  atomic_store (&glib_polls, 0);
  for (guint i = 1; i <= 100; i++)
    {
      eventfd_add (fd);
      while (calls < i)
        g_main_context_iteration (main_context, TRUE);
    }
  g_assert_cmpuint (atomic_load (&glib_polls), ==, 100);
  close (fd);
}

static void
test_one_poll_per_bottom_half (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;
  guint interruptions = test_interruptions ();

  attach (context, main_context);
  main_context_settle (main_context);
  atomic_store (&glib_polls, 0);
  for (guint i = 1; i <= 100; i++)
    {
      gaio_context_defer (context, count_once, &calls, NULL);
      while (calls < i)
        g_main_context_iteration (main_context, TRUE);
    }
  g_assert_cmpuint (atomic_load (&glib_polls), <=, 101 + test_interruptions () - interruptions);
}

static void
test_idle_context_makes_no_polls (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  GSource *end = g_timeout_source_new (30);
  gint fd = eventfd_new (0);
  gboolean over = FALSE;
  guint interruptions = test_interruptions ();

  attach (context, main_context);
  watch_fd (context, fd, never_fd, NULL);
  main_context_settle (main_context);
  g_source_set_callback (end, end_wait, &over, NULL);
  g_source_attach (end, main_context);
  atomic_store (&glib_polls, 0);
  while (!over)
    g_main_context_iteration (main_context, TRUE);
  g_assert_cmpuint (atomic_load (&glib_polls), <=, 2 + test_interruptions () - interruptions);
  g_source_unref (end);
  close (fd);
}

/* --- A source of one's own --- */

static void
test_own_source_works (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GSource) source = create_source (context);

  g_assert_true (g_source_get_can_recurse (source));
  g_source_set_name (source, "mine");
  g_source_attach (source, main_context);
  g_assert_cmpstr (g_source_get_name (source), ==, "mine");
  assert_serves (context, main_context);
  g_source_destroy (source);
}

static gboolean
mark_and_end (gpointer data)
{
  mark_once (data);
  return G_SOURCE_REMOVE;
}

static void
test_priority_is_kept (void)
{
  const gint priorities[] = { G_PRIORITY_HIGH, G_PRIORITY_LOW };
  const char *expected[] = { "bi", "ib" };

  for (guint i = 0; i < G_N_ELEMENTS (priorities); i++)
    {
      g_autoptr (GString) log = g_string_new (NULL);
      g_autoptr (GMainContext) main_context = main_context_new ();
      g_autoptr (GaioContext) context = gaio_context_new ();
      g_autoptr (GSource) source = create_source (context);
      GSource *idle = g_idle_source_new ();
      Mark own = { log, 'b' };
      Mark other = { log, 'i' };

      g_source_set_priority (idle, G_PRIORITY_DEFAULT);
      g_source_set_callback (idle, mark_and_end, &other, NULL);
      g_source_attach (idle, main_context);
      g_source_set_priority (source, priorities[i]);
      g_source_attach (source, main_context);
      gaio_context_defer (context, mark_once, &own, NULL);
      main_context_until (main_context, log->len == 2);
      g_assert_cmpstr (log->str, ==, expected[i]);
      g_source_unref (idle);
      g_source_destroy (source);
    }
}

static void
test_one_live_source (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  GSource *source = create_source (context);

  g_assert_null (gaio_context_create_source (context, &error));
  g_assert_nonnull (error);
  g_assert_true (error->domain == GAIO_ERROR);
  g_clear_error (&error);
  g_assert_false (gaio_context_attach (context, main_context, &error));
  g_assert_nonnull (error);
  g_source_unref (source);

  source = create_source (context);
  g_source_attach (source, main_context);
  assert_serves (context, main_context);
  g_source_destroy (source);
  g_source_unref (source);
  attach (context, main_context);
  assert_serves (context, main_context);
}

static void
test_source_keeps_its_context (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  GaioContext *context = gaio_context_new ();
  GSource *source = create_source (context);
  guint notified = 0;
  guint calls = 0;

  g_object_add_weak_pointer (G_OBJECT (context), (gpointer *) &context);
  gaio_context_defer (context, count_once, &calls, NULL);
  gaio_timer_unref (gaio_context_add_timer (context, never_once, &notified, count_once));
  g_object_unref (context);
  g_assert_nonnull (context);
  g_source_attach (source, main_context);
  main_context_until (main_context, calls == 1);
  g_source_destroy (source);
  g_source_unref (source);
  g_assert_null (context);
  g_assert_cmpuint (notified, ==, 1);
}

/* Whoever still holds the destroyed source holds nothing of the context. */
static void
test_destroyed_source_lets_the_context_go (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GSource) held = create_source (context);

  g_source_attach (held, main_context);
  g_source_destroy (held);
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  assert_works_alone (context);
  attach (context, main_context);
  assert_serves (context, main_context);
  gaio_context_detach (context);
  g_assert_finalize_object (g_steal_pointer (&context));
}

static void
destroy_own_source (gpointer data)
{
  Story *story = data;

  story->calls++;
  g_source_destroy (story->source);
}

static void
test_source_destroyed_in_a_callback (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .source = create_source (context) };

  g_source_attach (story.source, main_context);
  gaio_context_defer (context, destroy_own_source, &story, NULL);
  main_context_until (main_context, story.calls == 1);
  main_context_settle (main_context);
  g_source_unref (story.source);
  assert_works_alone (context);
  attach (context, main_context);
  assert_serves (context, main_context);
}

/* --- How GLib calls --- */

static gboolean
stay_awake (gpointer data)
{
  guint *left = data;

  return --*left > 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void *
defer_from_thread (gpointer data)
{
  Story *story = data;

  gaio_context_defer (story->context, count_once, &story->calls, NULL);
  return NULL;
}

/* A source of higher priority that is ready keeps ours from being prepared at all. */
static void
test_busy_higher_priority_loses_nothing (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  GSource *busy = g_idle_source_new ();
  guint left = 50;
  Story story = { .context = context };
  pthread_t thread;

  attach (context, main_context);
  main_context_settle (main_context);
  g_source_set_priority (busy, G_PRIORITY_HIGH);
  g_source_set_callback (busy, stay_awake, &left, NULL);
  g_source_attach (busy, main_context);
  for (guint i = 0; i < 20; i++)
    g_main_context_iteration (main_context, TRUE);
  thread = spawn (defer_from_thread, &story);
  join (thread);
  main_context_until (main_context, story.calls == 1);
  g_assert_cmpuint (left, ==, 0);
  g_source_unref (busy);
}

/* As GLib does for g_main_context_pending(), and when a nested loop ends between the two. */
static void
test_prepare_without_check_loses_nothing (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context };

  attach (context, main_context);
  for (guint i = 1; i <= 50; i++)
    {
      pthread_t thread;

      main_context_settle (main_context);
      main_context_n_fds (main_context);
      thread = spawn (defer_from_thread, &story);
      join (thread);
      main_context_n_fds (main_context);
      main_context_until (main_context, story.calls == i);
    }
}

static void
test_pending_tells_the_truth (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;

  attach (context, main_context);
  main_context_settle (main_context);
  g_assert_false (g_main_context_pending (main_context));
  gaio_context_defer (context, count_once, &calls, NULL);
  g_assert_true (g_main_context_pending (main_context));
  main_context_settle (main_context);
  g_assert_false (g_main_context_pending (main_context));
  g_assert_cmpuint (calls, ==, 1);
}

static void
test_source_embedded_by_epoll_fd_is_told_at_once (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  GPollFD poll_fds[4];
  gint priority, timeout, n_fds;
  gint fd = eventfd_new (1);

  attach (context, main_context);
  main_context_settle (main_context);
  g_assert_true (g_main_context_acquire (main_context));
  g_main_context_prepare (main_context, &priority);
  n_fds = g_main_context_query (main_context, G_MAXINT, &timeout, poll_fds, 4);
  g_assert_cmpint (n_fds, ==, 2);
  watch_fd (context, fd, never_fd, NULL);
  g_assert_cmpint (TEMP_FAILURE_RETRY (g_poll (poll_fds, n_fds, GUARD_US / 1000)), >, 0);
  g_main_context_release (main_context);
  gaio_context_close (context);
  close (fd);
}

/* --- Nested loops --- */

static gboolean
take_event (gint fd, GIOCondition condition, gpointer data)
{
  Story *story = data;

  g_assert_true (eventfd_take (fd));
  story->calls++;
  return G_SOURCE_CONTINUE;
}

static void
run_main_loop (gpointer data)
{
  Story *story = data;

  story->depth++;
  eventfd_add (story->fd);
  main_context_until (story->main_context, story->calls == 1);
  story->depth--;
}

static void
test_served_in_a_nested_main_loop (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .main_context = main_context, .fd = eventfd_new (0) };

  attach (context, main_context);
  watch_fd (context, story.fd, take_event, &story);
  gaio_context_defer (context, run_main_loop, &story, NULL);
  main_context_until (main_context, story.calls == 1);
  g_assert_cmpuint (story.depth, ==, 0);
  close (story.fd);
}

static void
iterate_inside (gpointer data)
{
  Story *story = data;

  eventfd_add (story->fd);
  iterate_until (story->context, story->calls == 1);
}

static void
test_attached_context_iterates_in_a_callback (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .fd = eventfd_new (0) };

  attach (context, main_context);
  watch_fd (context, story.fd, take_event, &story);
  gaio_context_defer (context, iterate_inside, &story, NULL);
  main_context_until (main_context, story.calls == 1);
  main_context_settle (main_context);
  assert_serves (context, main_context);
  close (story.fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/source/exactly-one-pollfd", test_exactly_one_pollfd);
  g_test_add_func ("/source/one-poll-per-event", test_one_poll_per_event);
  g_test_add_func ("/source/one-poll-per-bottom-half", test_one_poll_per_bottom_half);
  g_test_add_func ("/source/idle-makes-no-polls", test_idle_context_makes_no_polls);
  g_test_add_func ("/source/own-source-works", test_own_source_works);
  g_test_add_func ("/source/priority-is-kept", test_priority_is_kept);
  g_test_add_func ("/source/one-live-source", test_one_live_source);
  g_test_add_func ("/source/keeps-its-context", test_source_keeps_its_context);
  g_test_add_func ("/source/destroyed-lets-the-context-go",
                   test_destroyed_source_lets_the_context_go);
  g_test_add_func ("/source/destroyed-in-a-callback", test_source_destroyed_in_a_callback);
  g_test_add_func ("/source/busy-higher-priority-loses-nothing",
                   test_busy_higher_priority_loses_nothing);
  g_test_add_func ("/source/prepare-without-check-loses-nothing",
                   test_prepare_without_check_loses_nothing);
  g_test_add_func ("/source/pending-tells-the-truth", test_pending_tells_the_truth);
  g_test_add_func ("/source/kernel-is-told-at-once",
                   test_source_embedded_by_epoll_fd_is_told_at_once);
  g_test_add_func ("/source/served-in-a-nested-main-loop", test_served_in_a_nested_main_loop);
  g_test_add_func ("/source/iterates-in-a-callback", test_attached_context_iterates_in_a_callback);
  return g_test_run ();
}
