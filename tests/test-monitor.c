/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "test-monitor.h"

/* --- A kernel that refuses: stands in for the C library's --- */

/* As in a setuid program. */
static gboolean environment_is_untrusted;

char *
secure_getenv (const char *name)
{
  return environment_is_untrusted ? NULL : getenv (name);
}

/* --- Memory is for the fds in use, however high their numbers --- */

static gsize
count_bytes (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

/* Of one handler on that number. */
static gsize
bytes_of_handler (GaioMonitorType monitor, gint number)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (monitor);
  gint fd = eventfd_new (0), low = eventfd_new (0);
  gint high = fcntl (fd, F_DUPFD_CLOEXEC, number);
  GaioHandler *first = add_fd (context, low, G_IO_IN, never_fd, NULL, NULL), *handler;
  gsize before = count_bytes ();

  g_assert_cmpint (high, >=, number);
  handler = add_fd (context, high, G_IO_IN, never_fd, NULL, NULL);
  before = count_bytes () - before;
  gaio_clear_handler (&handler);
  gaio_clear_handler (&first);
  close (high);
  close (low);
  close (fd);
  return before;
}

/* A number up to 16,000 costs a pointer for each 32, with room to grow: half a byte each. */
static void
test_high_number_takes_little_memory (void)
{
  if (!test_may_open (16100))
    return;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
  g_test_skip ("a sanitizer has memory of its own");
  return;
#endif
  g_assert_cmpuint (bytes_of_handler (GAIO_MONITOR_TYPE_EPOLL, 16000), <, 20000);
  g_assert_cmpuint (bytes_of_handler (GAIO_MONITOR_TYPE_POLL, 16000), <, 20000);
}

/* --- Files go when they should --- */

static void
assert_peer_sees_the_end (gint peer)
{
  struct pollfd pollfd = { .fd = peer, .events = POLLIN };
  char byte;

  g_assert_cmpint (TEMP_FAILURE_RETRY (poll (&pollfd, 1, GUARD_US / 1000)), ==, 1);
  g_assert_cmpint (read (peer, &byte, 1), ==, 0);
}

static void
socketpair_new (gint fds[2])
{
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
}

/* Nothing of the monitor's may hold on to the file, although no round comes after. */
static void
test_closed_after_removal_ends_for_the_peer (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  GaioHandler *handler;
  gint fds[2];

  socketpair_new (fds);
  handler = add_fd (rig.context, fds[0], G_IO_IN, never_fd, NULL, NULL);
  rig_assert_sleeps (&rig);
  gaio_clear_handler (&handler);
  close (fds[0]);
  assert_peer_sees_the_end (fds[1]);
  close (fds[1]);
}

typedef struct
{
  Rig *rig;
  atomic_bool stop;
} Loop;

static gboolean
stop_loop (gint fd, GIOCondition condition, gpointer data)
{
  atomic_store (&((Loop *) data)->stop, true);
  return G_SOURCE_REMOVE;
}

static void *
run_loop (void *data)
{
  Loop *loop = data;

  while (!atomic_load (&loop->stop))
    rig_round (loop->rig, TRUE);
  return NULL;
}

/* Also while the loop sleeps in another thread. */
static void
test_closed_from_elsewhere_ends_for_the_peer (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Loop loop = { &rig, false };
  gint end = eventfd_new (0);
  GaioHandler *stopper = add_fd (rig.context, end, G_IO_IN, stop_loop, &loop, NULL);
  pthread_t thread = spawn (run_loop, &loop);

  for (guint i = 0; i < 50; i++)
    {
      GaioHandler *handler;
      gint fds[2];

      socketpair_new (fds);
      handler = add_fd (rig.context, fds[0], G_IO_IN, never_fd, NULL, NULL);
      gaio_clear_handler (&handler);
      close (fds[0]);
      assert_peer_sees_the_end (fds[1]);
      close (fds[1]);
    }
  eventfd_add (end);
  join (thread);
  gaio_clear_handler (&stopper);
  close (end);
}

/* --- Threads come and go --- */

static void *
make_rig (void *nested)
{
  Rig *rig = g_new (Rig, 1);

  *rig = rig_new (nested);
  rig_assert_sleeps (rig);
  return rig;
}

static Rig
rig_new_elsewhere (gconstpointer nested)
{
  Rig rig, *made;

  g_assert_cmpint (pthread_join (spawn (make_rig, (gpointer) nested), (void **) &made), ==, 0);
  rig = *made;
  g_free (made);
  return rig;
}

/* What has asked the kernel may end: another thread goes on with the same main context. */
static void
test_loop_survives_its_thread (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new_elsewhere (nested);
  guint calls = 0;
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (rig.context, fd, G_IO_IN, count_fd, &calls, NULL);
  guint fired = 0;
  GaioTimer *timer = gaio_context_add_timer (rig.context, count_once, &fired, NULL);

  for (guint i = 0; i < 5; i++)
    {
      Loop loop = { &rig, false };
      gint end = eventfd_new (1);
      GaioHandler *stopper = add_fd (rig.context, end, G_IO_IN, stop_loop, &loop, NULL);

      join (spawn (run_loop, &loop));
      gaio_clear_handler (&stopper);
      close (end);
      eventfd_add (fd);
      calls = 0;
      rig_until (&rig, calls > 0);
      g_assert_true (eventfd_take (fd));
      gaio_timer_arm (timer, 100);
      rig_until (&rig, fired > i);
      rig_assert_sleeps (&rig);
    }
  gaio_clear_timer (&timer);
  gaio_clear_handler (&handler);
  close (fd);
}

/* --- More is ready than fits --- */

static gboolean
take_and_count (gint fd, GIOCondition condition, gpointer data)
{
  g_assert_true (eventfd_take (fd));
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

/* More than any queue of the kernel's holds, twice, without losing one. */
static void
test_flood_loses_nothing (gconstpointer nested)
{
  enum
  {
    N = 1500
  };
  g_auto (Rig) rig = rig_new (nested);
  g_autofree gint *fds = g_new (gint, N);
  guint calls = 0;
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < N + 100)
    {
      g_test_skip ("needs 1,600 fds");
      return;
    }
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  for (guint i = 0; i < N; i++)
    {
      fds[i] = eventfd_new (0);
      watch_fd (rig.context, fds[i], take_and_count, &calls);
    }
  for (guint round = 1; round <= 2; round++)
    {
      rig_assert_sleeps (&rig);
      for (guint i = 0; i < N; i++)
        eventfd_add (fds[i]);
      rig_until (&rig, calls == round * N);
    }
  rig_assert_sleeps (&rig);
  g_assert_cmpuint (calls, ==, 2 * N);
  gaio_context_close (rig.context);
  for (guint i = 0; i < N; i++)
    close (fds[i]);
}

/* A limit on callbacks lets everybody have a turn. */
static void
test_everybody_has_a_turn (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  guint calls[40] = { 0 };
  gint fds[40];

  gaio_context_set_dispatch_limits (rig.context, 7, 0);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      fds[i] = eventfd_new (1);
      watch_fd (rig.context, fds[i], count_fd, &calls[i]);
    }
  for (guint i = 0; i < 60; i++)
    rig_round (&rig, TRUE);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      g_assert_cmpuint (calls[i], >=, 60 * 7 / 40 - 1);
      close (fds[i]);
    }
}

/* --- Nobody is told of what has been consumed since --- */

typedef struct
{
  gint fd;
  guint calls;
} Drained;

static gboolean
drain_elsewhere (gpointer data)
{
  eventfd_take (((Drained *) data)->fd);
  return G_SOURCE_CONTINUE;
}

static gboolean
must_be_ready (gint fd, GIOCondition condition, gpointer data)
{
  ((Drained *) data)->calls++;
  g_assert_true (eventfd_take (fd));
  return G_SOURCE_CONTINUE;
}

/* A GSource of higher priority reads first: then there is nothing left to report. */
static void
test_consumed_by_another_source_is_not_reported (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Drained drained = { eventfd_new (0), 0 };
  GaioHandler *handler = add_fd (context, drained.fd, G_IO_IN, must_be_ready, &drained, NULL);
  GSource *idle = g_idle_source_new ();

  attach (context, main_context);
  main_context_settle (main_context);
  g_source_set_callback (idle, drain_elsewhere, &drained, NULL);
  g_source_set_priority (idle, G_PRIORITY_HIGH);
  g_source_attach (idle, main_context);
  for (guint i = 0; i < 20; i++)
    {
      eventfd_add (drained.fd);
      g_main_context_iteration (main_context, FALSE);
    }
  g_source_destroy (idle);
  g_source_unref (idle);
  eventfd_take (drained.fd);
  main_context_settle (main_context);
  gaio_clear_handler (&handler);
  main_context_settle (main_context);
  close (drained.fd);
}

static void
assert_automatic_is (const char *monitor)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autofree char *name = string_stat (context, "monitor");

  g_assert_cmpstr (name, ==, monitor);
}

static void
test_environment_chooses_unless_setuid (void)
{
  g_autofree char *before = g_strdup (g_getenv ("GAIO_MONITOR"));

  g_setenv ("GAIO_MONITOR", "poll", TRUE);
  assert_automatic_is ("poll");
  environment_is_untrusted = TRUE;
  assert_automatic_is ("epoll");
  environment_is_untrusted = FALSE;
  if (before != NULL)
    g_setenv ("GAIO_MONITOR", before, TRUE);
  else
    g_unsetenv ("GAIO_MONITOR");
}

static guint
count_inherited_fds (void)
{
  guint n = 0;

  for (gint fd = 0; fd < 1024; fd++)
    {
      gint flags = fcntl (fd, F_GETFD);

      n += flags != -1 && (flags & FD_CLOEXEC) == 0;
    }
  return n;
}

/* A copy keeps a file in an epoll set, from which its number is gone: that takes a new set. */
static void
have_rebuilt (GaioContext *context)
{
  gint fd = eventfd_new (0);
  gint copy = fcntl (fd, F_DUPFD_CLOEXEC, 0);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  close (fd);
  gaio_clear_handler (&handler);
  eventfd_add (copy);
  gaio_context_iterate (context, 0);
  close (copy);
}

static void
test_own_fds_are_close_on_exec (void)
{
  guint before = count_inherited_fds ();
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = gaio_notifier_new (NULL);
  g_autofree char *monitor = NULL;

  g_assert_nonnull (notifier);
  attach (context, main_context);
  assert_serves (context, main_context);
  monitor = string_stat (context, "monitor");
  g_assert_cmpuint (count_inherited_fds (), ==, before);
  have_rebuilt (context);
  g_assert_cmpuint (count_inherited_fds (), ==, before);
  if (g_str_equal (monitor, "epoll"))
    g_assert_cmpuint (stat_of (context, "rebuilds"), ==, 1);
}

static void
test_unknown_name_is_a_warning (void)
{
  g_autofree char *before = g_strdup (g_getenv ("GAIO_MONITOR"));
  g_autofree char *name = NULL;
  g_autoptr (GaioContext) context = NULL;

  g_setenv ("GAIO_MONITOR", "kqueue", TRUE);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_WARNING, "GAIO_MONITOR=kqueue is neither *");
  context = gaio_context_new ();
  g_test_assert_expected_messages ();
  name = string_stat (context, "monitor");
  g_assert_cmpstr (name, ==, "epoll");
  if (before != NULL)
    g_setenv ("GAIO_MONITOR", before, TRUE);
  else
    g_unsetenv ("GAIO_MONITOR");
}

/* poll(2) has no set of its own that could be closed, but wakes by an eventfd. */
static void
test_closed_eventfd_closes_poll (void)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_POLL);
  gint fd = eventfd_new (0);
  gint next = eventfd_new (0);
  guint notified = 0;
  GaioHandler *handler;

  close (next);
  handler = add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once);
  close (next);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  g_assert_false (gaio_context_iterate (context, -1));
  g_test_assert_expected_messages ();
  g_assert_true (gaio_context_is_closed (context));
  g_assert_cmpuint (notified, ==, 1);
  gaio_clear_handler (&handler);
  close (fd);
}

static void
close_set_and_nest (gpointer data)
{
  GaioContext *context = data;

  close (find_epoll_fd ());
  for (guint i = 0; i < 3; i++)
    g_assert_false (gaio_context_iterate (context, 0));
  g_assert_true (gaio_context_is_closed (context));
}

/* It is torn down, and that is told, when the outermost round ends. */
static void
test_closed_amid_nested_rounds_is_told (void)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_EPOLL);
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  if (find_epoll_fd () == -1)
    {
      g_test_skip ("there is no epoll");
      gaio_clear_handler (&handler);
      close (fd);
      return;
    }
  gaio_context_defer (context, close_set_and_nest, context, NULL);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  g_assert_true (gaio_context_iterate (context, 0));
  g_test_assert_expected_messages ();
  gaio_clear_handler (&handler);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/monitor/high-number-takes-little-memory",
                   test_high_number_takes_little_memory);
  g_test_add_func ("/monitor/own-fds-are-close-on-exec", test_own_fds_are_close_on_exec);
  g_test_add_func ("/monitor/environment-chooses-unless-setuid",
                   test_environment_chooses_unless_setuid);
  add_both ("/monitor/closed-after-removal-ends-for-the-peer",
            test_closed_after_removal_ends_for_the_peer);
  add_both ("/monitor/closed-from-elsewhere-ends-for-the-peer",
            test_closed_from_elsewhere_ends_for_the_peer);
  add_both ("/monitor/loop-survives-its-thread", test_loop_survives_its_thread);
  add_both ("/monitor/flood-loses-nothing", test_flood_loses_nothing);
  add_both ("/monitor/everybody-has-a-turn", test_everybody_has_a_turn);
  g_test_add_func ("/monitor/consumed-by-another-source-is-not-reported",
                   test_consumed_by_another_source_is_not_reported);
  g_test_add_func ("/monitor/unknown-name-is-a-warning", test_unknown_name_is_a_warning);
  g_test_add_func ("/monitor/closed-eventfd-closes-poll", test_closed_eventfd_closes_poll);
  g_test_add_func ("/monitor/closed-amid-nested-rounds-is-told",
                   test_closed_amid_nested_rounds_is_told);
  return g_test_run ();
}
