/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "test-clock.h"
#include "test-support.h"

/* As in a setuid program; stands in for the C library's. */
static gboolean environment_is_untrusted;

char *
secure_getenv (const char *name)
{
  return environment_is_untrusted ? NULL : getenv (name);
}

/* The limit is read once in a process: each test that sets one runs itself again in another. TRUE
 * in that one. */
static gboolean
in_subprocess_with_limit (const char *limit)
{
  if (g_test_subprocess ())
    return TRUE;
  g_setenv ("GAIO_SLOW_MS", limit, TRUE);
  g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
  g_unsetenv ("GAIO_SLOW_MS");
  g_test_trap_assert_passed ();
  return FALSE;
}

/* Until the clock has moved by more than the limit of 1 ms. */
static void
dawdle (gpointer data)
{
  gint64 end = g_get_monotonic_time () + 2000;

  while (g_get_monotonic_time () < end)
    ;
  ++*(guint *) data;
}

static gboolean
dawdle_fd (gint fd, GIOCondition condition, gpointer data)
{
  dawdle (data);
  return G_SOURCE_REMOVE;
}

static void
dawdle_set (GaioReadySet *set, guint n_ready, gpointer data)
{
  g_autofree guint8 *bytes = NULL;
  gsize length;

  dawdle (data);
  bytes = gaio_ready_set_take (set, &length);
  gaio_ready_set_set_func (set, NULL, NULL, NULL);
}

static void
expect_warning (const char *pattern)
{
  g_test_expect_message ("Gaio", G_LOG_LEVEL_WARNING, pattern);
}

static void
dawdle_once_named (const char *name)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (1);
  guint calls = 0;
  g_autoptr (GaioHandler) handler = add_fd (context, fd, G_IO_IN, dawdle_fd, &calls, NULL);
  g_autofree char *pattern =
      g_strdup_printf ("handler%s%s (fd %d) ran for * ms", name ? " " : "", name ? name : "", fd);

  gaio_handler_set_name (handler, name);
  expect_warning (pattern);
  iterate_until (context, calls == 1);
  g_test_assert_expected_messages ();
  close (fd);
}

static void
test_named (void)
{
  if (in_subprocess_with_limit ("1"))
    dawdle_once_named ("sloth");
}

static void
test_unnamed (void)
{
  if (in_subprocess_with_limit ("1"))
    dawdle_once_named (NULL);
}

static void
test_kinds (void)
{
  g_autoptr (GaioContext) context = NULL;
  g_autoptr (GaioReadySet) set = NULL;
  g_autoptr (GaioHandler) member = NULL;
  g_autoptr (GaioTimer) timer = NULL;
  gint fd;
  guint calls = 0;

  if (!in_subprocess_with_limit ("1"))
    return;
  context = gaio_context_new ();
  set = gaio_ready_set_new (context);
  fd = eventfd_new (1);
  gaio_ready_set_set_func (set, dawdle_set, &calls, NULL);
  member = gaio_ready_set_add_fd (set, fd, G_IO_IN, 0, NULL);
  timer = gaio_context_add_timer (context, dawdle, &calls, NULL);
  gaio_timer_arm (timer, 0);
  gaio_context_defer (context, dawdle, &calls, NULL);
  expect_warning ("bottom half (function 0x*) ran for * ms");
  expect_warning ("ready set (function 0x*) ran for * ms");
  expect_warning ("timer (function 0x*) ran for * ms");
  iterate_until (context, calls == 3);
  g_test_assert_expected_messages ();
  gaio_clear_handler (&member);
  close (fd);
}

static void
dawdle_after_sync (gssize result, const GError *error, gpointer data)
{
  dawdle (data);
}

static void
test_file_operation (void)
{
  g_autoptr (GaioContext) context = NULL;
  g_autoptr (GaioIOOp) op = NULL;
  g_autofree char *pattern = NULL;
  gint fd;
  guint calls = 0;

  if (!in_subprocess_with_limit ("1"))
    return;
  context = gaio_context_new ();
  fd = eventfd_new (0);
  pattern = g_strdup_printf ("file operation (fd %d) ran for * ms", fd);
  op = gaio_context_submit_fsync (context, fd, dawdle_after_sync, &calls, NULL);
  expect_warning (pattern);
  iterate_until (context, calls == 1);
  g_test_assert_expected_messages ();
  close (fd);
}

/* Turns before and after this one are not slow, on however slow a machine. */
static gboolean
take_an_hour (gpointer data)
{
  atomic_fetch_add (&clock_ahead_us, G_TIME_SPAN_HOUR);
  ++*(guint *) data;
  return G_SOURCE_REMOVE;
}

static void
be_slow_in_turn_of (GObject *owner, const char *described)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GMainContext) main_context = gaio_context_create_main_context (context, owner, NULL);
  g_autoptr (GSource) source = g_idle_source_new ();
  g_autofree char *pattern =
      g_strdup_printf ("main context %p of a %s ran for * ms", (void *) main_context, described);
  guint calls = 0;

  g_source_set_callback (source, take_an_hour, &calls, NULL);
  g_source_attach (source, main_context);
  expect_warning (pattern);
  while (calls == 0)
    gaio_context_iterate (context, GUARD_US);
  g_test_assert_expected_messages ();
}

static void
test_main_context (void)
{
  g_autoptr (GCancellable) owner = NULL;

  if (!in_subprocess_with_limit ("1800000"))
    return;
  owner = g_cancellable_new ();
  be_slow_in_turn_of (G_OBJECT (owner), "GCancellable");
  be_slow_in_turn_of (NULL, "program");
}

typedef struct
{
  GaioContext *context;
  GaioHandler *handler;
} Doomed;

static gboolean
end_it_all (gint fd, GIOCondition condition, gpointer data)
{
  Doomed *doomed = data;
  guint calls = 0;

  gaio_handler_set_name (doomed->handler, "someone else");
  gaio_clear_handler (&doomed->handler);
  gaio_context_close (doomed->context);
  g_clear_object (&doomed->context);
  dawdle (&calls);
  return G_SOURCE_REMOVE;
}

static void
test_gone (void)
{
  Doomed doomed;
  gint fd;

  if (!in_subprocess_with_limit ("1"))
    return;
  fd = eventfd_new (1);
  doomed.context = gaio_context_new ();
  doomed.handler = add_fd (doomed.context, fd, G_IO_IN, end_it_all, &doomed, NULL);
  gaio_handler_set_name (doomed.handler, "mayfly");
  expect_warning ("handler mayfly (fd *) ran for * ms");
  gaio_context_iterate (doomed.context, GUARD_US);
  g_assert_null (doomed.context);
  g_test_assert_expected_messages ();
  close (fd);
}

/* A warning that nobody expects ends the test. */
static void
dawdle_unnoticed (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint calls = 0;

  gaio_context_defer (context, dawdle, &calls, NULL);
  iterate_until (context, calls == 1);
}

static void
test_quick (void)
{
  if (in_subprocess_with_limit ("2147483647"))
    dawdle_unnoticed ();
}

static void
test_zero (void)
{
  if (in_subprocess_with_limit ("0"))
    dawdle_unnoticed ();
}

static void
test_off (void)
{
  dawdle_unnoticed ();
}

static void
test_setuid (void)
{
  if (!in_subprocess_with_limit ("1"))
    return;
  environment_is_untrusted = TRUE;
  dawdle_unnoticed ();
}

static void
test_nonsense (void)
{
  if (!in_subprocess_with_limit ("1.5"))
    return;
  expect_warning ("GAIO_SLOW_MS=1.5 *");
  dawdle_unnoticed ();
  g_test_assert_expected_messages ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (!g_test_subprocess ())
    g_unsetenv ("GAIO_SLOW_MS");
  g_test_add_func ("/trace/slow-handler-is-told-by-name-and-fd", test_named);
  g_test_add_func ("/trace/slow-handler-without-a-name-is-told-by-fd", test_unnamed);
  g_test_add_func ("/trace/all-kinds-of-callbacks-are-watched", test_kinds);
  g_test_add_func ("/trace/slow-file-operation-is-told-by-fd", test_file_operation);
  g_test_add_func ("/trace/slow-main-context-is-told-by-address-and-owner", test_main_context);
  g_test_add_func ("/trace/slow-callback-may-end-its-context", test_gone);
  g_test_add_func ("/trace/within-the-limit-is-silent", test_quick);
  g_test_add_func ("/trace/limit-of-zero-is-none", test_zero);
  g_test_add_func ("/trace/off-without-a-limit", test_off);
  g_test_add_func ("/trace/off-in-a-setuid-program", test_setuid);
  g_test_add_func ("/trace/nonsense-is-told", test_nonsense);
  return g_test_run ();
}
