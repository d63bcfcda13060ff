/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "test-waits.h"
#include "test-errors.h"

/* --- A kernel that refuses --- */

typedef struct
{
  glong number;
  gint errsv;
  void (*func) (gpointer data);
  gpointer data;
  gboolean refusing;
} Refusal;

/* From now on the system call fails, in this thread alone, as long as it lives. */
static gboolean
refuse (glong number, gint errsv)
{
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, (guint32) number, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (errsv & SECCOMP_RET_DATA)),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { G_N_ELEMENTS (code), code };

  return prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static void *
run_refused (gpointer data)
{
  Refusal *refusal = data;

  refusal->refusing = refuse (refusal->number, refusal->errsv);
  if (refusal->refusing)
    refusal->func (refusal->data);
  return NULL;
}

/* Runs the function in a thread for which the system call fails. */
static gboolean
with_refusal (glong number, gint errsv, void (*func) (gpointer data), gpointer data)
{
  Refusal refusal = { number, errsv, func, data, FALSE };

  join (spawn (run_refused, &refusal));
  if (!refusal.refusing)
    g_test_skip ("no seccomp filters here");
  return refusal.refusing;
}

/* --- The kernel's limits --- */

static void
add_refused (gpointer data)
{
  Story *story = data;
  g_autoptr (GError) error = NULL;

  g_assert_null (gaio_context_add_fd (story->context, story->fd, G_IO_IN, never_fd, story,
                                      note_thread, &error));
  g_assert_error (error, GAIO_ERROR, (gint) story->expected);
  g_assert_cmpuint (strlen (error->message), >, 0);
  g_assert_cmpuint (story->notified, ==, 1);
  g_assert_true (pthread_equal (story->notifier, pthread_self ()));
  g_assert_cmpuint (stat_of (story->context, "handlers"), ==, 0);
}

/* Nothing has changed after it, nothing is lost, and it works as soon as the kernel lets it. */
static void
test_add_refused (glong number, gint errsv, GaioError expected)
{
  gint fd = eventfd_new (1);
  guint before = count_open_fds ();
  GaioContext *context = gaio_context_new ();
  Story story = { .context = context, .fd = fd, .expected = expected };

  if (with_refusal (number, errsv, add_refused, &story))
    {
      g_assert_false (gaio_context_iterate (context, 0));
      assert_works (context);
    }
  g_assert_finalize_object (context);
  g_assert_cmpuint (count_open_fds (), ==, before);
  close (fd);
}

static void
test_first_use_refused (void)
{
  test_add_refused (SYS_epoll_create1, EMFILE, GAIO_ERROR_PROCESS_LIMIT);
  test_add_refused (SYS_epoll_create1, ENFILE, GAIO_ERROR_SYSTEM_LIMIT);
  test_add_refused (SYS_epoll_create1, ENOMEM, GAIO_ERROR_NO_MEMORY);
  test_add_refused (SYS_eventfd2, EMFILE, GAIO_ERROR_PROCESS_LIMIT);
  test_add_refused (SYS_eventfd2, ENFILE, GAIO_ERROR_SYSTEM_LIMIT);
  test_add_refused (SYS_epoll_ctl, ENOSPC, GAIO_ERROR_WATCH_LIMIT);
  test_add_refused (SYS_epoll_ctl, ENOMEM, GAIO_ERROR_NO_MEMORY);
}

static void
add_refused_later (gpointer data)
{
  Story *story = data;

  assert_add_fails (story, story->fd, story->expected);
}

static void
test_watch_refused (gint errsv, GaioError expected)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .fd = eventfd_new (1), .expected = expected };

  assert_works (context);
  if (with_refusal (SYS_epoll_ctl, errsv, add_refused_later, &story))
    {
      g_assert_false (gaio_context_iterate (context, 0));
      watch_fd (context, story.fd, count_fd, &story.calls);
      g_assert_true (gaio_context_iterate (context, 0));
      g_assert_cmpuint (story.calls, ==, 1);
      assert_works (context);
    }
  close (story.fd);
}

static void
test_watch_limit (void)
{
  test_watch_refused (ENOSPC, GAIO_ERROR_WATCH_LIMIT);
}

static void
test_no_memory (void)
{
  test_watch_refused (ENOMEM, GAIO_ERROR_NO_MEMORY);
}

static void
test_nested_too_deep (void)
{
  test_watch_refused (ELOOP, GAIO_ERROR_NOT_SUPPORTED);
}

static void
test_unforeseen_error (void)
{
  test_watch_refused (EIO, GAIO_ERROR_FAILED);
}

static void
add_to_set_refused (gpointer data)
{
  Story *story = data;
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (story->context);
  g_autoptr (GError) error = NULL;

  g_assert_null (gaio_ready_set_add_fd (set, story->fd, G_IO_IN, 1, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_WATCH_LIMIT);
}

static void
test_ready_set_at_the_watch_limit (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .fd = eventfd_new (1) };

  if (with_refusal (SYS_epoll_ctl, ENOSPC, add_to_set_refused, &story))
    assert_works (context);
  close (story.fd);
}

static void
set_condition_refused (gpointer data)
{
  Story *story = data;
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_handler_set_condition (story->handler, G_IO_PRI, &error));
  assert_error_tells (error, GAIO_ERROR_NO_MEMORY, story->fd);
  g_assert_cmpint (gaio_handler_get_condition (story->handler), ==, G_IO_IN);
  g_assert_false (gaio_handler_is_removed (story->handler));
}

static void
test_condition_refused (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context, .fd = eventfd_new (1) };

  story.handler = add_fd (context, story.fd, G_IO_IN, count_fd, &story.calls, NULL);
  if (with_refusal (SYS_epoll_ctl, ENOMEM, set_condition_refused, &story))
    {
      g_assert_true (gaio_context_iterate (context, 0));
      g_assert_cmpuint (story.calls, ==, 1);
      g_assert_true (gaio_handler_set_condition (story.handler, G_IO_PRI, NULL));
      g_assert_false (gaio_context_iterate (context, 0));
    }
  gaio_clear_handler (&story.handler);
  close (story.fd);
}

static void
remove_refused (gpointer data)
{
  Story *story = data;

  gaio_clear_handler (&story->handler);
}

/* The kernel goes on reporting what it would not let go of; that must neither call nor spin. */
static void
test_removal_refused (gconstpointer nested)
{
  Story story = { .fd = eventfd_new (1) };
  g_auto (Rig) rig = rig_new (nested);

  story.handler = add_fd (rig.context, story.fd, G_IO_IN, never_fd, &story, note_thread);
  if (with_refusal (SYS_epoll_ctl, ENOMEM, remove_refused, &story))
    {
      rig_settle (&rig);
      g_assert_cmpuint (story.notified, ==, 1);
      rig_assert_sleeps (&rig);
    }
  gaio_clear_handler (&story.handler);
  close (story.fd);
}

static void
attach_refused (gpointer data)
{
  Story *story = data;
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_attach (story->context, story->main_context, &error));
  g_assert_error (error, GAIO_ERROR, (gint) story->expected);
  g_clear_error (&error);
  g_assert_null (gaio_context_create_source (story->context, &error));
  g_assert_error (error, GAIO_ERROR, (gint) story->expected);
}

static void
test_attach_refused (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context,
                  .main_context = main_context,
                  .expected = GAIO_ERROR_PROCESS_LIMIT };

  if (!with_refusal (SYS_epoll_create1, EMFILE, attach_refused, &story))
    return;
  g_assert_cmpint (main_context_n_fds (main_context), ==, 1);
  attach (context, main_context);
  assert_serves (context, main_context);
}

static void
ref_shared_refused (gpointer data)
{
  Story *story = data;

  story->context = gaio_context_ref_for_main_context (story->main_context);
  g_assert_nonnull (story->context);
}

/* It has no way to fail, so it must come to work later. */
static void
test_shared_made_at_the_limit_works_later (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  Story story = { .main_context = main_context };

  if (!with_refusal (SYS_epoll_create1, EMFILE, ref_shared_refused, &story))
    return;
  assert_serves (story.context, main_context);
  g_object_unref (story.context);
}

static void
serve_without_epoll (gpointer data)
{
  Story *story = data;
  GaioTimer *timer = gaio_context_add_timer (story->context, count_once, &story->calls, NULL);

  gaio_context_defer (story->context, count_once, &story->calls, NULL);
  gaio_timer_arm (timer, 500);
  iterate_until (story->context, story->calls == 2);
  gaio_clear_timer (&timer);
}

static void
test_round_without_epoll_serves_the_rest (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Story story = { .context = context };

  if (with_refusal (SYS_epoll_create1, EMFILE, serve_without_epoll, &story))
    assert_works (context);
}

/* --- Timers without what they need --- */

static void
test_timers_fire_without_timerfd (void)
{
  const glong numbers[] = { SYS_timerfd_create, SYS_timerfd_settime };

  for (guint i = 0; i < G_N_ELEMENTS (numbers); i++)
    {
      g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
      Story story = { .context = rig.context, .main_context = rig.main_context };

      if (!with_refusal (numbers[i], EMFILE, fire_timer_nested, &story))
        return;
      story.calls = 0;
      fire_timer_nested (&story);
    }
}

/* Where it is refused from the start, and for good, the rest is used all the same. */
static void
use_without_timerfd (gpointer data)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Story story = { .context = rig.context, .main_context = rig.main_context };

  fire_timer_nested (&story);
  assert_works (rig.context);
}

static void
test_timers_fire_without_timerfd_from_the_start (void)
{
  const gint errnos[] = { ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP, EUCLEAN };

  for (guint i = 0; i < G_N_ELEMENTS (errnos); i++)
    if (!with_refusal (SYS_timerfd_create, errnos[i], use_without_timerfd, NULL))
      return;
}

#ifdef SYS_epoll_wait
/* A sandbox that lets an epoll set be made but not be asked. */
static void
use_without_epoll_wait (gpointer data)
{
  g_auto (Rig) rig = rig_new (data);

  assert_works (rig.context);
  g_assert_false (gaio_context_is_closed (rig.context));
}

static void
test_epoll_wait_refused (gconstpointer nested)
{
  const gint errnos[] = { ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP };

  for (guint i = 0; i < G_N_ELEMENTS (errnos); i++)
    if (!with_refusal (SYS_epoll_wait, errnos[i], use_without_epoll_wait, (gpointer) nested))
      return;
}
#endif

/* There is nothing in its place. */
static void
fail_without_eventfd (gpointer data)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_attach (context, main_context, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_null (strstr (error->message, "fd "));
  g_clear_error (&error);
  g_assert_null (gaio_notifier_new (&error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_null (strstr (error->message, "fd "));
}

static void
test_eventfd_refused (void)
{
  const gint errnos[] = { ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP };

  for (guint i = 0; i < G_N_ELEMENTS (errnos); i++)
    if (!with_refusal (SYS_eventfd2, errnos[i], fail_without_eventfd, NULL))
      return;
}

/* A wait that is rounded down to milliseconds spins for the rest. */
static void
assert_waits_without_spinning (GaioContext *context)
{
  gint64 before = g_get_monotonic_time ();
  guint waits = n_epoll_waits, interruptions = test_interruptions ();

  for (guint i = 0; i < 20; i++)
    g_assert_false (gaio_context_iterate (context, 900));
  g_assert_cmpint (g_get_monotonic_time (), >=, before + 20 * 900);
  g_assert_cmpuint (n_epoll_waits - waits, <=, 20 * 2 + test_interruptions () - interruptions);
}

/* Whether the kernel takes epoll_pwait2() is found out once per process, so each case has its own.
 */
static void
wait_refused (gint errsv)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;
  g_autoptr (GaioTimer) timer = gaio_context_add_timer (context, count_once, &calls, NULL);
  gint64 deadline = g_get_monotonic_time () + 1500;

  if (!refuse (SYS_epoll_pwait2, errsv))
    _exit (77);
  gaio_timer_arm_at (timer, deadline);
  iterate_until (context, calls == 1);
  g_assert_cmpint (g_get_monotonic_time (), >=, deadline);
  assert_waits_without_spinning (context);
  assert_works (context);
}

/* It is noticed all the same that the set is none: then the context is closed. */
static void
lose_set_refused (gint errsv)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (0);
  gint set;

  watch_fd (context, fd, never_fd, NULL);
  set = find_epoll_fd ();
  if (set == -1)
    return;
  g_assert_cmpint (dup2 (fd, set), ==, set);
  if (!refuse (SYS_epoll_pwait2, errsv))
    _exit (77);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  g_assert_false (gaio_context_iterate (context, 1000));
  g_test_assert_expected_messages ();
  g_assert_true (gaio_context_is_closed (context));
}

static void
test_wait_without_epoll_pwait2 (gconstpointer errsv)
{
  gint status = 0;
  pid_t child = fork ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      lose_set_refused (GPOINTER_TO_INT (errsv));
      wait_refused (GPOINTER_TO_INT (errsv));
      _exit (0);
    }
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (child, &status, 0)), ==, child);
  g_assert_true (WIFEXITED (status));
  if (WEXITSTATUS (status) == 77)
    g_test_skip ("no seccomp filters here");
  else
    g_assert_cmpint (WEXITSTATUS (status), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/refused/first-use", test_first_use_refused);
  g_test_add_func ("/refused/watch-limit", test_watch_limit);
  g_test_add_func ("/refused/no-memory", test_no_memory);
  g_test_add_func ("/refused/nested-too-deep", test_nested_too_deep);
  g_test_add_func ("/refused/unforeseen", test_unforeseen_error);
  g_test_add_func ("/refused/ready-set-at-the-watch-limit", test_ready_set_at_the_watch_limit);
  g_test_add_func ("/refused/condition-stays", test_condition_refused);
  add_both ("/refused/removal-neither-calls-nor-spins", test_removal_refused);
  g_test_add_func ("/refused/attach", test_attach_refused);
  g_test_add_func ("/refused/shared-works-later", test_shared_made_at_the_limit_works_later);
  g_test_add_func ("/refused/round-without-epoll-serves-the-rest",
                   test_round_without_epoll_serves_the_rest);
  g_test_add_func ("/refused/timers-fire-without-timerfd", test_timers_fire_without_timerfd);
  g_test_add_data_func ("/refused/epoll-pwait2-unknown", GINT_TO_POINTER (ENOSYS),
                        test_wait_without_epoll_pwait2);
  g_test_add_data_func ("/refused/epoll-pwait2-forbidden", GINT_TO_POINTER (EPERM),
                        test_wait_without_epoll_pwait2);
  g_test_add_data_func ("/refused/epoll-pwait2-denied", GINT_TO_POINTER (EACCES),
                        test_wait_without_epoll_pwait2);
  g_test_add_data_func ("/refused/epoll-pwait2-invalid", GINT_TO_POINTER (EINVAL),
                        test_wait_without_epoll_pwait2);
  g_test_add_data_func ("/refused/epoll-pwait2-not-supported", GINT_TO_POINTER (EOPNOTSUPP),
                        test_wait_without_epoll_pwait2);
  g_test_add_func ("/refused/timerfd-is-done-without-whatever-the-error",
                   test_timers_fire_without_timerfd_from_the_start);
#ifdef SYS_epoll_wait
  add_both ("/refused/epoll-wait-is-done-without", test_epoll_wait_refused);
#endif
  g_test_add_func ("/refused/eventfd-is-no-fault-of-an-fd", test_eventfd_refused);
  return g_test_run ();
}
