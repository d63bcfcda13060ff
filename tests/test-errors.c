/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test-support.h"
#include "test-waits.h"

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

/* --- What must be so after an error --- */

typedef struct
{
  GaioContext *context;
  GMainContext *main_context;
  GaioHandler *handler;
  gint fd;
  GaioError expected;
  guint calls;
  guint notified;
  pthread_t notifier;
} Story;

static void
note_thread (gpointer data)
{
  Story *story = data;

  story->notified++;
  story->notifier = pthread_self ();
}

static void
assert_error_tells (GError *error, GaioError expected, gint fd)
{
  g_autofree char *name = g_strdup_printf ("fd %d", fd);

  g_assert_error (error, GAIO_ERROR, (gint) expected);
  g_assert_nonnull (strstr (error->message, name));
  g_assert_cmpuint (strlen (error->message), >, strlen (name));
}

static void
assert_add_fails (Story *story, gint fd, GaioError expected)
{
  g_autoptr (GError) error = NULL;
  guint64 handlers = stat_of (story->context, "handlers");
  guint notified = story->notified;

  g_assert_null (
      gaio_context_add_fd (story->context, fd, G_IO_IN, never_fd, story, note_thread, &error));
  assert_error_tells (error, expected, fd);
  g_assert_cmpuint (story->notified, ==, notified + 1);
  g_assert_true (pthread_equal (story->notifier, pthread_self ()));
  g_assert_cmpuint (stat_of (story->context, "handlers"), ==, handlers);
}

static void
assert_works (GaioContext *context)
{
  guint calls = 0;
  guint fd_calls = 0;
  gint fd = eventfd_new (1);
  GaioTimer *timer = gaio_context_add_timer (context, count_once, &calls, NULL);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, count_fd, &fd_calls, NULL);

  gaio_timer_arm (timer, 100);
  gaio_context_defer (context, count_once, &calls, NULL);
  iterate_until (context, calls == 2 && fd_calls > 0);
  gaio_clear_timer (&timer);
  gaio_clear_handler (&handler);
  gaio_context_iterate (context, 0);
  close (fd);
}

/* --- Bad fds --- */

static gint
closed_fd (void)
{
  gint fd = eventfd_new (0);

  close (fd);
  return fd;
}

/* The last ones must not make a table of that size either. */
static void
test_bad_fd (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const gint bad[] = { closed_fd (), -1, G_MININT, 1 << 20, G_MAXINT };
  Story story = { .context = context };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      assert_add_fails (&story, bad[i], GAIO_ERROR_BAD_FD);
      assert_works (context);
    }
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    assert_add_fails (&story, bad[i], GAIO_ERROR_BAD_FD);
  g_assert_cmpuint (story.notified, ==, 2 * G_N_ELEMENTS (bad));
}

static void
test_bad_fd_in_ready_set (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (context);
  const gint bad[] = { closed_fd (), -1, G_MAXINT };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      g_autoptr (GError) error = NULL;

      g_assert_null (gaio_ready_set_add_fd (set, bad[i], G_IO_IN, 1, &error));
      assert_error_tells (error, GAIO_ERROR_BAD_FD, bad[i]);
    }
  assert_works (context);
}

static void
test_error_may_be_ignored (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;

  g_assert_null (gaio_context_add_fd (context, -1, G_IO_IN, never_fd, &notified, count_once, NULL));
  g_assert_null (gaio_context_add_fd (context, -1, G_IO_IN, never_fd, NULL, NULL, NULL));
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_condition_of_a_closed_fd (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  guint notified = 0;
  gint fd = eventfd_new (0);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, &notified, count_once);

  close (fd);
  g_assert_false (gaio_handler_set_condition (handler, G_IO_OUT, &error));
  assert_error_tells (error, GAIO_ERROR_BAD_FD, fd);
  g_assert_cmpint (gaio_handler_get_condition (handler), ==, G_IO_IN);
  g_assert_cmpuint (notified, ==, 0);
  gaio_clear_handler (&handler);
  assert_works (context);
  g_assert_cmpuint (notified, ==, 1);
}

static void
test_condition_of_a_number_that_epoll_refuses (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  gint fd = eventfd_new (0);
  gint other = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  g_assert_cmpint (dup2 (other, fd), ==, fd);
  g_assert_false (gaio_handler_set_condition (handler, G_IO_OUT, &error));
  assert_error_tells (error, GAIO_ERROR_BAD_FD, fd);
  gaio_clear_handler (&handler);
  close (fd);
  close (other);
}

static void
test_condition_of_a_removed_handler (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GError) error = NULL;
  gint fd = eventfd_new (0);
  g_autoptr (GaioHandler) handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);

  gaio_handler_remove (handler);
  g_assert_false (gaio_handler_set_condition (handler, G_IO_OUT, &error));
  assert_error_tells (error, GAIO_ERROR_REMOVED, fd);
  close (fd);
}

/* --- Programmer errors --- */

static void
test_null_callback_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (1);
  guint notified = 0;
  gpointer added = NULL;

  expect_critical (
      added = gaio_context_add_fd (context, fd, G_IO_IN, NULL, &notified, count_once, NULL));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timer (context, NULL, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timeout (context, 1, NULL, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_bottom_half (context, NULL, &notified, count_once));
  g_assert_null (added);
  expect_critical (gaio_context_defer (context, NULL, &notified, count_once));
  g_assert_cmpuint (notified, ==, 5);
  g_assert_cmpuint (stat_of (context, "handlers"), ==, 0);
  g_assert_cmpuint (stat_of (context, "timers"), ==, 0);
  assert_works (context);
  close (fd);
}

static void
test_bad_interval_notifies (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint notified = 0;
  gpointer added = NULL;

  expect_critical (added =
                       gaio_context_add_timeout (context, 0, count_again, &notified, count_once));
  g_assert_null (added);
  g_assert_cmpuint (notified, ==, 1);
  assert_works (context);
}

static void
test_bad_timeout_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const gint64 bad[] = { -2, G_MININT, G_MININT64, G_MININT64 + 1 };
  guint calls = 0;

  gaio_context_defer (context, count_once, &calls, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      gboolean ran = TRUE;

      expect_critical (ran = gaio_context_iterate (context, bad[i]));
      g_assert_false (ran);
    }
  g_assert_cmpuint (calls, ==, 0);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_cmpuint (calls, ==, 1);
}

static void
add_to_wrong_context (gpointer wrong)
{
  gint fd = eventfd_new (1);
  guint notified = 0;
  gpointer added = NULL;

  expect_critical (
      added = gaio_context_add_fd (wrong, fd, G_IO_IN, never_fd, &notified, count_once, NULL));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timer (wrong, never_once, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_timeout (wrong, 1, count_again, &notified, count_once));
  g_assert_null (added);
  expect_critical (added = gaio_context_add_bottom_half (wrong, never_once, &notified, count_once));
  g_assert_null (added);
  expect_critical (gaio_context_defer (wrong, never_once, &notified, count_once));
  expect_critical (added = gaio_ready_set_new (wrong));
  g_assert_null (added);
  g_assert_cmpuint (notified, ==, 5);
  close (fd);
}

static void
use_wrong_context (gpointer wrong)
{
  gpointer got = NULL;

  expect_critical (gaio_context_iterate (wrong, 0));
  expect_critical (gaio_context_wakeup (wrong));
  expect_critical (gaio_context_close (wrong));
  expect_critical (gaio_context_is_closed (wrong));
  expect_critical (gaio_context_set_dispatch_limits (wrong, 1, 1));
  expect_critical (got = gaio_context_dup_stats (wrong));
  g_assert_null (got);
  expect_critical (gaio_context_attach (wrong, NULL, NULL));
  expect_critical (gaio_context_detach (wrong));
  expect_critical (got = gaio_context_create_source (wrong, NULL));
  g_assert_null (got);
}

static void
test_null_context_is_a_critical (void)
{
  add_to_wrong_context (NULL);
  use_wrong_context (NULL);
}

static void
test_wrong_type_is_a_critical (void)
{
  g_autoptr (GObject) wrong = g_object_new (G_TYPE_OBJECT, NULL);

  add_to_wrong_context (wrong);
  use_wrong_context (wrong);
}

static void
test_null_handler_is_a_critical (void)
{
  expect_critical (gaio_handler_ref (NULL));
  expect_critical (gaio_handler_unref (NULL));
  expect_critical (gaio_handler_remove (NULL));
  expect_critical (gaio_handler_remove_sync (NULL));
  expect_critical (gaio_handler_is_removed (NULL));
  expect_critical (gaio_handler_set_condition (NULL, G_IO_IN, NULL));
  expect_critical (gaio_handler_get_condition (NULL));
  expect_critical (gaio_handler_get_fd (NULL));
  expect_critical (gaio_handler_dup_context (NULL));
  expect_critical (gaio_handler_set_name (NULL, "name"));
  expect_critical (gaio_handler_set_can_recurse (NULL, TRUE));
}

static void
test_null_timer_or_bottom_half_is_a_critical (void)
{
  expect_critical (gaio_timer_ref (NULL));
  expect_critical (gaio_timer_unref (NULL));
  expect_critical (gaio_timer_arm (NULL, 0));
  expect_critical (gaio_timer_arm_at (NULL, 0));
  expect_critical (gaio_timer_disarm (NULL));
  expect_critical (gaio_timer_get_deadline (NULL));
  expect_critical (gaio_timer_remove (NULL));
  expect_critical (gaio_bottom_half_ref (NULL));
  expect_critical (gaio_bottom_half_unref (NULL));
  expect_critical (gaio_bottom_half_schedule (NULL));
  expect_critical (gaio_bottom_half_schedule_idle (NULL));
  expect_critical (gaio_bottom_half_cancel (NULL));
  expect_critical (gaio_bottom_half_remove (NULL));
}

static void
test_clearing_nothing_is_quiet (void)
{
  GaioHandler *handler = NULL;
  GaioTimer *timer = NULL;
  GaioBottomHalf *bh = NULL;

  gaio_clear_handler (&handler);
  gaio_clear_timer (&timer);
  gaio_clear_bottom_half (&bh);
  g_assert_null (handler);
  g_assert_null (timer);
  g_assert_null (bh);
}

static void
test_null_ready_set_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (context);
  gsize length = 0;

  expect_critical (gaio_ready_set_take (NULL, &length));
  expect_critical (gaio_ready_set_set_func (NULL, NULL, NULL, NULL));
  expect_critical (g_assert_null (gaio_ready_set_add_fd (NULL, 0, G_IO_IN, 1, NULL)));
  expect_critical (gaio_ready_set_take (set, NULL));
}

/* Bits of epoll's own, such as edge-triggered, one-shot and exclusive, must not get through. */
static void
test_unknown_condition_is_a_critical (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const guint bits[] = { 1u << 31, 1u << 30, 1u << 28, 0x10000 };
  gint fd = eventfd_new (1);
  guint notified = 0;

  for (guint i = 0; i < G_N_ELEMENTS (bits); i++)
    {
      g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "*condition*");
      g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "*");
      g_assert_null (gaio_context_add_fd (context, fd, (GIOCondition) (G_IO_IN | bits[i]), never_fd,
                                          &notified, count_once, NULL));
      g_test_assert_expected_messages ();
      g_assert_cmpuint (notified, ==, i + 1);
    }
  g_assert_false (gaio_context_iterate (context, 0));
  assert_works (context);
  close (fd);
}

static void
test_every_condition_of_poll_is_taken (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  const GIOCondition all = G_IO_IN | G_IO_PRI | G_IO_OUT | G_IO_ERR | G_IO_HUP | G_IO_NVAL;
  gint fd = eventfd_new (1);
  guint calls = 0;
  GaioHandler *handler = add_fd (context, fd, all, count_fd, &calls, NULL);

  for (guint i = 1; i <= 3; i++)
    {
      g_assert_true (gaio_context_iterate (context, 0));
      g_assert_cmpuint (calls, ==, i);
    }
  gaio_clear_handler (&handler);
  close (fd);
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
fire_timer_nested (gpointer data)
{
  Story *story = data;
  GaioTimer *timer = gaio_context_add_timer (story->context, count_once, &story->calls, NULL);

  for (guint i = 1; i <= 3; i++)
    {
      gint64 deadline;

      gaio_timer_arm (timer, 1500);
      deadline = gaio_timer_get_deadline (timer);
      main_context_until (story->main_context, story->calls == i);
      g_assert_cmpint (g_get_monotonic_time (), >=, deadline);
    }
  gaio_clear_timer (&timer);
}

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

/* The only epoll set of this process, or -1 if the monitor has none. */
static gint
own_epoll_fd (void)
{
  for (gint fd = 0; fd < 64; fd++)
    {
      g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
      g_autofree char *target = g_file_read_link (path, NULL);

      if (g_strcmp0 (target, "anon_inode:[eventpoll]") == 0)
        return fd;
    }
  return -1;
}

/* It is noticed all the same that the set is none: then the context is closed. */
static void
lose_set_refused (gint errsv)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (0);
  gint set;

  watch_fd (context, fd, never_fd, NULL);
  set = own_epoll_fd ();
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

/* --- The process's limit of fds --- */

static struct rlimit saved_limit;

/* Leaves room for so many more fds. */
static void
leave_room (guint n)
{
  struct rlimit limit;
  gint probes[8];

  g_assert_cmpuint (n, <, G_N_ELEMENTS (probes));
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &saved_limit), ==, 0);
  for (guint i = 0; i <= n; i++)
    probes[i] = eventfd_new (0);
  limit = saved_limit;
  limit.rlim_cur = probes[n];
  for (guint i = 0; i <= n; i++)
    close (probes[i]);
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);
}

static void
give_room (void)
{
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &saved_limit), ==, 0);
}

/* Whichever fd of its own it does not get, the context survives. */
static void
test_add_at_the_fd_limit (void)
{
  gint fd = eventfd_new (1);
  guint before = count_open_fds ();

  for (guint room = 0; room < 4; room++)
    {
      GaioContext *context = gaio_context_new ();
      g_autoptr (GError) error = NULL;
      g_autoptr (GaioHandler) handler = NULL;
      guint calls = 0;
      guint notified = 0;

      leave_room (room);
      handler = gaio_context_add_fd (context, fd, G_IO_IN, count_fd, &calls, count_once, &error);
      give_room ();
      if (handler == NULL)
        {
          g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
          g_assert_cmpuint (calls, ==, 1);
          handler = add_fd (context, fd, G_IO_IN, count_fd, &notified, NULL);
        }
      else
        g_assert_cmpuint (room, >, 0);
      g_assert_true (gaio_context_iterate (context, 0));
      assert_works (context);
      g_assert_finalize_object (context);
      g_assert_cmpuint (count_open_fds (), ==, before);
    }
  close (fd);
}

static void
test_attach_at_the_fd_limit (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();

  for (guint room = 0; room < 4; room++)
    {
      g_autoptr (GaioContext) context = gaio_context_new ();
      g_autoptr (GError) error = NULL;
      gboolean attached;

      leave_room (room);
      attached = gaio_context_attach (context, main_context, &error);
      give_room ();
      if (!attached)
        {
          g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
          attach (context, main_context);
        }
      else
        g_assert_cmpuint (room, >, 0);
      assert_serves (context, main_context);
      gaio_context_detach (context);
    }
}

static void
test_timer_at_the_fd_limit (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Story story = { .context = rig.context, .main_context = rig.main_context };

  leave_room (0);
  fire_timer_nested (&story);
  give_room ();
  story.calls = 0;
  fire_timer_nested (&story);
}

static void
add_input_tests (void)
{
  g_test_add_func ("/errors/bad-fd", test_bad_fd);
  g_test_add_func ("/errors/bad-fd-in-ready-set", test_bad_fd_in_ready_set);
  g_test_add_func ("/errors/may-be-ignored", test_error_may_be_ignored);
  g_test_add_func ("/errors/condition-of-a-closed-fd", test_condition_of_a_closed_fd);
  g_test_add_func ("/errors/condition-of-a-number-that-epoll-refuses",
                   test_condition_of_a_number_that_epoll_refuses);
  g_test_add_func ("/errors/condition-of-a-removed-handler", test_condition_of_a_removed_handler);
  g_test_add_func ("/critical/null-callback", test_null_callback_is_a_critical);
  g_test_add_func ("/critical/bad-interval-notifies", test_bad_interval_notifies);
  g_test_add_func ("/critical/bad-timeout", test_bad_timeout_is_a_critical);
  g_test_add_func ("/critical/null-context", test_null_context_is_a_critical);
  g_test_add_func ("/critical/wrong-type", test_wrong_type_is_a_critical);
  g_test_add_func ("/critical/null-handler", test_null_handler_is_a_critical);
  g_test_add_func ("/critical/null-timer-or-bottom-half",
                   test_null_timer_or_bottom_half_is_a_critical);
  g_test_add_func ("/critical/null-ready-set", test_null_ready_set_is_a_critical);
  g_test_add_func ("/critical/unknown-condition", test_unknown_condition_is_a_critical);
  g_test_add_func ("/errors/every-condition-of-poll-is-taken",
                   test_every_condition_of_poll_is_taken);
  g_test_add_func ("/errors/clearing-nothing-is-quiet", test_clearing_nothing_is_quiet);
}

static void
add_limit_tests (void)
{
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
  g_test_add_func ("/fd-limit/add", test_add_at_the_fd_limit);
  g_test_add_func ("/fd-limit/attach", test_attach_at_the_fd_limit);
  g_test_add_func ("/fd-limit/timer-fires-all-the-same", test_timer_at_the_fd_limit);
}

/* Its name is what error messages of GLib and of bindings show. */
static void
test_domain_has_a_name (void)
{
  g_assert_cmpstr (g_quark_to_string (GAIO_ERROR), ==, "gaio-error-quark");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_input_tests ();
  add_limit_tests ();
  g_test_add_func ("/errors/domain-has-a-name", test_domain_has_a_name);
  return g_test_run ();
}
