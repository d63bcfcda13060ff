/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "test-support.h"
#include "test-stand-in.h"

/* --- System calls: these stand in for the C library's --- */

/* What happens once, just before or after the next one. */
static void (*before_read) (GaioNotifier *);
static void (*after_read) (GaioNotifier *);
static void (*before_write) (GaioNotifier *);
static void (*before_epoll_ctl) (GaioNotifier *);
static GaioNotifier *hooked;
static guint n_interrupted; /* how many more fail with EINTR */

static void
run_hook (void (**hook) (GaioNotifier *))
{
  void (*func) (GaioNotifier *) = g_steal_pointer (hook);

  if (func != NULL)
    func (hooked);
}

static gboolean
is_interrupted (void)
{
  if (n_interrupted == 0)
    return FALSE;
  n_interrupted--;
  errno = EINTR;
  return TRUE;
}

ssize_t
read (int fd, void *buffer, size_t size)
{
  ssize_t length;

  if (hooked == NULL || fd != gaio_notifier_get_fd (hooked))
    return NEXT (read) (fd, buffer, size);
  if (is_interrupted ())
    return -1;
  run_hook (&before_read);
  length = NEXT (read) (fd, buffer, size);
  run_hook (&after_read);
  return length;
}

ssize_t
write (int fd, const void *buffer, size_t size)
{
  if (hooked == NULL || fd != gaio_notifier_get_fd (hooked))
    return NEXT (write) (fd, buffer, size);
  if (is_interrupted ())
    return -1;
  run_hook (&before_write);
  return NEXT (write) (fd, buffer, size);
}

int
epoll_ctl (int set, int op, int fd, struct epoll_event *event)
{
  if (hooked != NULL && fd == gaio_notifier_get_fd (hooked))
    run_hook (&before_epoll_ctl);
  return NEXT (epoll_ctl) (set, op, fd, event);
}

static GaioNotifier *
notifier_new (void)
{
  g_autoptr (GError) error = NULL;
  GaioNotifier *notifier = gaio_notifier_new (&error);

  g_assert_no_error (error);
  g_assert_nonnull (notifier);
  return notifier;
}

static GaioHandler *
add_notifier (GaioContext *context,
              GaioNotifier *notifier,
              GSourceOnceFunc func,
              gpointer data,
              GDestroyNotify notify)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_context_add_notifier (context, notifier, func, data, notify, &error);

  g_assert_no_error (error);
  g_assert_nonnull (handler);
  return handler;
}

/* --- What it tells --- */

static void
test_several_sets_call_once (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 0);
  for (guint i = 1; i <= 3; i++)
    {
      gaio_notifier_set (notifier);
      gaio_notifier_set (notifier);
      rig_until (&rig, calls == i);
      rig_settle (&rig);
      g_assert_cmpuint (calls, ==, i);
    }
  rig_assert_sleeps (&rig);
  gaio_clear_handler (&handler);
}

static void
test_several_sets_write_once (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint64 n_writes = 0;

  for (guint i = 0; i < 100; i++)
    gaio_notifier_set (notifier);
  g_assert_cmpint (read (gaio_notifier_get_fd (notifier), &n_writes, sizeof n_writes), ==,
                   sizeof n_writes);
  g_assert_cmpuint (n_writes, ==, 1);
}

static void
test_test_and_clear (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();

  g_assert_false (gaio_notifier_test_and_clear (notifier));
  for (guint i = 0; i < 3; i++)
    {
      gaio_notifier_set (notifier);
      gaio_notifier_set (notifier);
      g_assert_true (gaio_notifier_test_and_clear (notifier));
      g_assert_false (gaio_notifier_test_and_clear (notifier));
    }
}

static void
test_set_and_cleared_is_not_called (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  GaioHandler *handler = add_notifier (rig.context, notifier, never_once, NULL, NULL);

  gaio_notifier_set (notifier);
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  rig_settle (&rig);
  gaio_clear_handler (&handler);
}

static void
test_a_foreign_write_sets_it (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  for (guint i = 1; i <= 3; i++)
    {
      eventfd_add (gaio_notifier_get_fd (notifier));
      rig_until (&rig, calls == i);
      rig_settle (&rig);
      g_assert_cmpuint (calls, ==, i);
    }
  gaio_clear_handler (&handler);
}

typedef struct
{
  Rig *rig;
  GaioNotifier *notifier;
  guint calls;
  guint depth;
} Recursion;

static void
set_and_nest (gpointer data)
{
  Recursion *recursion = data;

  g_assert_cmpuint (recursion->depth++, ==, 0);
  if (++recursion->calls == 1)
    {
      gaio_notifier_set (recursion->notifier);
      rig_assert_sleeps (recursion->rig);
      g_assert_cmpuint (recursion->calls, ==, 1);
    }
  recursion->depth--;
}

static void
test_set_while_it_runs_calls_again_later (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  Recursion recursion = { &rig, notifier, 0, 0 };
  GaioHandler *handler = add_notifier (rig.context, notifier, set_and_nest, &recursion, NULL);

  gaio_notifier_set (notifier);
  rig_until (&rig, recursion.calls == 2);
  gaio_clear_handler (&handler);
}

/* --- Threads and signals --- */

static GaioNotifier *signal_notifier;

static void
on_signal (int number)
{
  gaio_notifier_set (signal_notifier);
}

static void
test_signal_handler_sets (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  struct sigaction action = { .sa_handler = on_signal }, before;
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  signal_notifier = notifier;
  sigaction (SIGUSR1, &action, &before);
  raise (SIGUSR1);
  raise (SIGUSR1);
  sigaction (SIGUSR1, &before, NULL);
  rig_until (&rig, calls > 0);
  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 1);
  gaio_clear_handler (&handler);
}

/* The counter is as high as it goes: write(2) fails. */
static void
test_set_leaves_errno_alone (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();

  g_assert_cmpint (eventfd_write (gaio_notifier_get_fd (notifier), G_MAXUINT64 - 1), ==, 0);
  errno = EDOM;
  gaio_notifier_set (notifier);
  g_assert_cmpint (errno, ==, EDOM);
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  g_assert_false (gaio_notifier_test_and_clear (notifier));
}

typedef struct
{
  GaioNotifier *notifier;
  guint written; /* deliberately not atomic */
  atomic_bool is_set;
} Letter;

static void *
write_and_set (gpointer data)
{
  Letter *letter = data;

  letter->written = 42;
  gaio_notifier_set (letter->notifier);
  /* Relaxed, so that for ThreadSanitizer nothing but the notifier is between the two threads. */
  atomic_store_explicit (&letter->is_set, TRUE, memory_order_relaxed);
  return NULL;
}

static void
assert_written (gpointer data)
{
  Letter *letter = data;

  g_assert_cmpuint (letter->written, ==, 42);
  letter->written = 0;
}

/* Also by a set() that had nothing to write. */
static void
test_callback_sees_what_was_written_before (gconstpointer set_before)
{
  g_auto (Rig) rig = rig_new (NULL);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  Letter letter = { .notifier = notifier };
  GaioHandler *handler = add_notifier (rig.context, notifier, assert_written, &letter, NULL);
  pthread_t thread;

  if (set_before != NULL)
    gaio_notifier_set (notifier);
  thread = spawn (write_and_set, &letter);
  while (!atomic_load_explicit (&letter.is_set, memory_order_relaxed))
    g_thread_yield ();
  rig_round (&rig, TRUE);
  g_assert_cmpuint (letter.written, ==, 0);
  join (thread);
  gaio_clear_handler (&handler);
}

enum
{
  N_SETTERS = N_THREADS,
  N_SETS = 3000
};

typedef struct
{
  GaioNotifier *notifier;
  atomic_uint sent;
  atomic_uint seen;
} Traffic;

/* Each waits until it has been seen, so that the others set while the loop clears. */
static void *
send_many (gpointer data)
{
  Traffic *traffic = data;

  for (guint i = 0; i < N_SETS; i++)
    {
      guint number = atomic_fetch_add (&traffic->sent, 1) + 1;

      gaio_notifier_set (traffic->notifier);
      while (atomic_load (&traffic->seen) < number)
        sched_yield ();
    }
  return NULL;
}

static void
see (gpointer data)
{
  Traffic *traffic = data;

  atomic_store (&traffic->seen, atomic_load (&traffic->sent));
}

static void
test_no_set_of_any_thread_is_lost (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  Traffic traffic = { .notifier = notifier };
  GaioHandler *handler = add_notifier (rig.context, notifier, see, &traffic, NULL);
  pthread_t threads[N_SETTERS];

  for (guint i = 0; i < N_SETTERS; i++)
    threads[i] = spawn (send_many, &traffic);
  rig_until (&rig, traffic.seen == N_SETTERS * N_SETS);
  for (guint i = 0; i < N_SETTERS; i++)
    join (threads[i]);
  gaio_clear_handler (&handler);
}

static void
assert_works (GaioNotifier *notifier)
{
  gaio_notifier_set (notifier);
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  g_assert_false (gaio_notifier_test_and_clear (notifier));
}

static void
test_set_in_the_middle_of_a_clear (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();

  hooked = notifier;
  gaio_notifier_set (notifier);
  before_read = gaio_notifier_set;
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  assert_works (notifier);
  gaio_notifier_set (notifier);
  after_read = gaio_notifier_set;
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  assert_works (notifier);
  hooked = NULL;
}

static void
clear_too_early (GaioNotifier *notifier)
{
  g_assert_false (gaio_notifier_test_and_clear (notifier));
}

static void
test_clear_in_the_middle_of_a_set (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();

  hooked = notifier;
  before_write = clear_too_early;
  gaio_notifier_set (notifier);
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  assert_works (notifier);
  before_write = gaio_notifier_set;
  assert_works (notifier);
  hooked = NULL;
}

static void
test_signals_do_not_interrupt (void)
{
  g_autoptr (GaioNotifier) notifier = notifier_new ();

  hooked = notifier;
  n_interrupted = 2;
  gaio_notifier_set (notifier);
  n_interrupted = 2;
  g_assert_true (gaio_notifier_test_and_clear (notifier));
  g_assert_cmpuint (n_interrupted, ==, 0);
  hooked = NULL;
}

/* --- To whom it belongs --- */

static void
test_handler_holds_the_notifier (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  GaioNotifier *notifier = notifier_new ();
  guint calls = 0;
  guint n_fds;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  gaio_notifier_set (notifier);
  gaio_notifier_unref (notifier);
  rig_until (&rig, calls == 1);
  n_fds = count_open_fds ();
  gaio_clear_handler (&handler);
  rig_settle (&rig);
  g_assert_cmpuint (count_open_fds (), ==, n_fds - 1);
}

static void
assert_not_added (GaioContext *context, GaioNotifier *notifier)
{
  g_autofree char *fd = g_strdup_printf ("fd %d:", gaio_notifier_get_fd (notifier));
  g_autoptr (GError) error = NULL;
  guint notified = 0;

  g_assert_null (
      gaio_context_add_notifier (context, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_true (g_str_has_prefix (error->message, fd));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_only_one_context_at_a_time (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_auto (Rig) other = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  assert_not_added (rig.context, notifier);
  assert_not_added (other.context, notifier);
  gaio_notifier_set (notifier);
  rig_until (&rig, calls == 1);
  /* At once, before its notify has run. */
  gaio_clear_handler (&handler);
  handler = add_notifier (other.context, notifier, count_once, &calls, NULL);
  assert_not_added (rig.context, notifier);
  gaio_notifier_set (notifier);
  rig_until (&other, calls == 2);
  rig_settle (&rig);
  assert_not_added (rig.context, notifier);
  gaio_clear_handler (&handler);
}

static void
test_a_closed_context_lets_go_of_it (void)
{
  g_auto (Rig) rig = rig_new (NULL);
  g_autoptr (GaioContext) closed = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  g_autoptr (GaioHandler) first G_GNUC_UNUSED =
      add_notifier (closed, notifier, never_once, NULL, NULL);
  g_autoptr (GError) error = NULL;
  guint notified = 0;
  guint calls = 0;
  GaioHandler *handler;

  gaio_context_close (closed);
  g_assert_null (
      gaio_context_add_notifier (closed, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_assert_cmpuint (notified, ==, 1);
  handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);
  gaio_notifier_set (notifier);
  rig_until (&rig, calls == 1);
  gaio_clear_handler (&handler);
}

static void
add_meanwhile (GaioNotifier *notifier)
{
  g_autoptr (GaioContext) context = gaio_context_new ();

  assert_not_added (context, notifier);
}

static void
test_only_one_is_adding_it (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  GaioHandler *handler;

  hooked = notifier;
  before_epoll_ctl = add_meanwhile;
  handler = add_notifier (context, notifier, never_once, NULL, NULL);
  g_assert_null (before_epoll_ctl);
  hooked = NULL;
  gaio_clear_handler (&handler);
}

/* --- Where it cannot be --- */

static void
disturb (GaioNotifier *notifier, GaioContext *inherited)
{
  g_autoptr (GaioContext) fresh = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  guint notified = 0;

  gaio_notifier_set (notifier);
  g_assert_false (gaio_notifier_test_and_clear (notifier));
  g_assert_null (
      gaio_context_add_notifier (fresh, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_assert_cmpuint (notified, ==, 1);
  g_clear_error (&error);
  g_assert_null (
      gaio_context_add_notifier (inherited, notifier, never_once, &notified, count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_assert_cmpuint (notified, ==, 2);
  gaio_notifier_unref (notifier);
}

static void
disturb_in_child (GaioNotifier *notifier, GaioContext *context)
{
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      disturb (notifier, context);
      leave_child ();
    }
  assert_exits_well (child);
}

static void
test_a_forked_child_does_not_disturb (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  guint calls = 0;
  GaioHandler *handler = add_notifier (rig.context, notifier, count_once, &calls, NULL);

  disturb_in_child (notifier, rig.context);
  rig_settle (&rig);
  g_assert_cmpuint (calls, ==, 0);
  gaio_notifier_set (notifier);
  disturb_in_child (notifier, rig.context);
  rig_until (&rig, calls == 1);
  gaio_notifier_set (notifier);
  rig_until (&rig, calls == 2);
  gaio_clear_handler (&handler);
}

static void
test_no_fd_left (void)
{
  g_autoptr (GError) error = NULL;
  struct rlimit before, none;

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  none = before;
  none.rlim_cur = 0;
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &none), ==, 0);
  g_assert_null (gaio_notifier_new (&error));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
}

static void
test_null_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioNotifier) notifier = notifier_new ();
  GaioHandler *handler = NULL;
  guint notified = 0;

  expect_critical (gaio_notifier_set (NULL));
  expect_critical (g_assert_false (gaio_notifier_test_and_clear (NULL)));
  expect_critical (g_assert_cmpint (gaio_notifier_get_fd (NULL), ==, -1));
  expect_critical (gaio_notifier_unref (NULL));
  expect_critical (
      handler = gaio_context_add_notifier (context, NULL, never_once, &notified, count_once, NULL));
  g_assert_null (handler);
  expect_critical (
      handler = gaio_context_add_notifier (context, notifier, NULL, &notified, count_once, NULL));
  g_assert_null (handler);
  g_assert_cmpuint (notified, ==, 2);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);

  add_both ("/notifier/several-sets-call-once", test_several_sets_call_once);
  g_test_add_func ("/notifier/several-sets-write-once", test_several_sets_write_once);
  g_test_add_func ("/notifier/test-and-clear", test_test_and_clear);
  add_both ("/notifier/set-and-cleared-is-not-called", test_set_and_cleared_is_not_called);
  add_both ("/notifier/a-foreign-write-sets-it", test_a_foreign_write_sets_it);
  add_both ("/notifier/set-while-it-runs-calls-again-later",
            test_set_while_it_runs_calls_again_later);
  add_both ("/notifier/signal-handler-sets", test_signal_handler_sets);
  g_test_add_func ("/notifier/set-leaves-errno-alone", test_set_leaves_errno_alone);
  g_test_add_data_func ("/notifier/callback-sees-what-was-written-before/who-writes", NULL,
                        test_callback_sees_what_was_written_before);
  g_test_add_data_func ("/notifier/callback-sees-what-was-written-before/who-need-not-write",
                        GINT_TO_POINTER (TRUE), test_callback_sees_what_was_written_before);
  add_both ("/notifier/no-set-of-any-thread-is-lost", test_no_set_of_any_thread_is_lost);
  g_test_add_func ("/notifier/set-in-the-middle-of-a-clear", test_set_in_the_middle_of_a_clear);
  g_test_add_func ("/notifier/clear-in-the-middle-of-a-set", test_clear_in_the_middle_of_a_set);
  g_test_add_func ("/notifier/signals-do-not-interrupt", test_signals_do_not_interrupt);
  add_both ("/notifier/handler-holds-the-notifier", test_handler_holds_the_notifier);
  add_both ("/notifier/only-one-context-at-a-time", test_only_one_context_at_a_time);
  g_test_add_func ("/notifier/a-closed-context-lets-go-of-it", test_a_closed_context_lets_go_of_it);
  g_test_add_func ("/notifier/only-one-is-adding-it", test_only_one_is_adding_it);
  add_both ("/notifier/a-forked-child-does-not-disturb", test_a_forked_child_does_not_disturb);
  g_test_add_func ("/notifier/no-fd-left", test_no_fd_left);
  g_test_add_func ("/notifier/null-is-a-critical", test_null_is_a_critical);

  return g_test_run ();
}
