/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>

#include "test-stand-in.h"
#include "test-monitor.h"

/* --- A kernel that refuses: stands in for the C library's --- */

static gint refused_epoll;

int
epoll_create1 (int flags)
{
  if (refused_epoll == 0)
    return NEXT (epoll_create1) (flags);
  errno = refused_epoll;
  return -1;
}

static gboolean refuses_many_fds;
static atomic_uint n_waits_for_one; /* meanwhile */

int
ppoll (struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
  if (refuses_many_fds && n <= 1)
    atomic_fetch_add (&n_waits_for_one, 1);
  if (!refuses_many_fds || n <= 1)
    return NEXT (ppoll) (fds, n, timeout, mask);
  errno = ENOMEM;
  return -1;
}

/* Nothing ends such a sleep early; one of no time is none, as in GLib since 2.77. */
static atomic_uint n_deaf_sleeps;

void
g_usleep (gulong us)
{
  if (us == 0)
    return;
  atomic_fetch_add (&n_deaf_sleeps, 1);
  NEXT (g_usleep) (us);
}

static void
assert_becomes (GaioContext *context, const char *monitor, const char *note)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autofree char *name = NULL;
  g_autofree char *why = NULL;

  attach (context, main_context);
  assert_serves (context, main_context);
  name = string_stat (context, "monitor");
  why = string_stat (context, "monitor-note");
  g_assert_cmpstr (name, ==, monitor);
  g_assert_cmpstr (why, ==, note);
}

static void
test_epoll_refused_is_poll (void)
{
  const gint refusals[] = { ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP, EUCLEAN };

  for (guint i = 0; i < G_N_ELEMENTS (refusals); i++)
    {
      g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_EPOLL);

      refused_epoll = refusals[i];
      assert_becomes (context, "poll", "the kernel refuses epoll");
      refused_epoll = 0;
    }
}

/* A limit is not a refusal: it is reported, and tried again. */
static void
test_limit_is_no_refusal (void)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_EPOLL);
  g_autoptr (GError) error = NULL;
  gint fd;

  if (!test_has_epoll ())
    return;
  fd = eventfd_new (0);
  refused_epoll = EMFILE;
  g_assert_null (gaio_context_add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
  refused_epoll = 0;
  assert_becomes (context, "epoll", NULL);
  close (fd);
}

/* --- A kernel that refuses to wait --- */

/* Once the loop waits, whatever for. */
static void *
defer_once (gpointer data)
{
  gpointer *args = data;

  while (atomic_load (&n_waits_for_one) == 0 && atomic_load (&n_deaf_sleeps) == 0)
    g_thread_yield ();
  gaio_context_defer (args[0], count_once, args[1], NULL);
  return NULL;
}

static void
test_wake_up_is_heard_when_poll_is_refused (void)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_POLL);
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);
  guint calls = 0;
  gpointer args[] = { context, &calls };
  pthread_t thread;

  refuses_many_fds = TRUE;
  atomic_store (&n_deaf_sleeps, 0);
  for (guint i = 1; i <= 3; i++)
    {
      atomic_store (&n_waits_for_one, 0);
      thread = spawn (defer_once, args);
      iterate_until (context, calls == i);
      join (thread);
    }
  g_assert_cmpuint (atomic_load (&n_deaf_sleeps), ==, 0);
  refuses_many_fds = FALSE;
  gaio_clear_handler (&handler);
  close (fd);
}

/* What is ready cannot be seen, and GLib goes on saying that there is something. */
static void
test_ready_fd_does_not_spin_when_poll_is_refused (void)
{
  g_autoptr (GaioContext) context = gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_POLL);
  g_autoptr (GMainContext) main_context = main_context_new ();
  gint fd = eventfd_new (1);
  guint calls = 0;
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, count_fd, &calls, NULL);
  guint sleeps;

  attach (context, main_context);
  refuses_many_fds = TRUE;
  sleeps = atomic_load (&n_deaf_sleeps);
  for (guint i = 1; i <= 3; i++)
    {
      g_main_context_iteration (main_context, FALSE);
      g_assert_cmpuint (atomic_load (&n_deaf_sleeps), ==, sleeps + i);
    }
  g_assert_cmpuint (calls, ==, 0);
  refuses_many_fds = FALSE;
  main_context_until (main_context, calls > 0);
  gaio_clear_handler (&handler);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/monitor/epoll-refused-is-poll", test_epoll_refused_is_poll);
  g_test_add_func ("/monitor/limit-is-no-refusal", test_limit_is_no_refusal);
  g_test_add_func ("/monitor/poll-refused/wake-up-is-heard",
                   test_wake_up_is_heard_when_poll_is_refused);
  g_test_add_func ("/monitor/poll-refused/ready-fd-does-not-spin",
                   test_ready_fd_does_not_spin_when_poll_is_refused);
  return g_test_run ();
}
