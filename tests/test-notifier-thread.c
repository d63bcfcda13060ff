/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <signal.h>

#include "test-notifier.h"

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

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
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
  return g_test_run ();
}
