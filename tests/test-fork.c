/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "test-support.h"

/* What the parent has at the time of the fork. */
typedef struct
{
  Rig *rig;
  GaioContext *context;
  GMainContext *main_context;
  GaioContext *shared;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  gint fd;
  guint calls;
  guint others;
  guint notified;
  pid_t child;
} Family;

/* An assertion that fails there aborts the child; alarm() ends one that hangs. */
static void
in_child_of (pid_t (*make_child) (void), void (*func) (Family *), Family *family)
{
  pid_t child = make_child ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      func (family);
      leave_child ();
    }
  assert_exits_well (child);
}

static void
in_child (void (*func) (Family *), Family *family)
{
  in_child_of (fork, func, family);
}

static gboolean
take_and_count (gint fd, GIOCondition condition, gpointer data)
{
  Family *family = data;

  g_assert_true (eventfd_take (fd));
  family->calls++;
  return G_SOURCE_CONTINUE;
}

static void
count_other (gpointer data)
{
  Family *family = data;

  family->others++;
}

static void
family_init (Family *family, Rig *rig)
{
  *family = (Family){ .rig = rig, .context = rig->context, .main_context = rig->main_context };
  family->fd = eventfd_new (0);
  family->handler = add_fd (family->context, family->fd, G_IO_IN, take_and_count, family, NULL);
  family->timer = gaio_context_add_timer (family->context, count_other, family, NULL);
  family->bh = gaio_context_add_bottom_half (family->context, count_other, family, NULL);
  eventfd_add (family->fd);
  rig_until (rig, family->calls == 1);
  family->calls = 0;
}

static void
family_clear (Family *family)
{
  gaio_clear_handler (&family->handler);
  gaio_clear_timer (&family->timer);
  gaio_clear_bottom_half (&family->bh);
  rig_settle (family->rig);
  close (family->fd);
}

/* In the parent: everything is as it was before the fork. */
static void
assert_parent_works (Family *family)
{
  eventfd_add (family->fd);
  rig_until (family->rig, family->calls == 1);
  gaio_timer_arm (family->timer, 100);
  rig_until (family->rig, family->others == 1);
  gaio_bottom_half_schedule (family->bh);
  rig_until (family->rig, family->others == 2);
  rig_assert_sleeps (family->rig);
}

/* --- What fails --- */

static void
fail_with_forked (Family *family)
{
  g_autoptr (GError) error = NULL;
  guint notified = 0;

  g_assert_null (gaio_context_add_fd (family->context, family->fd, G_IO_IN, never_fd, &notified,
                                      count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_assert_cmpuint (notified, ==, 1);
  g_clear_error (&error);
  g_assert_false (gaio_handler_set_condition (family->handler, G_IO_OUT, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_clear_error (&error);
  g_assert_false (gaio_context_attach (family->context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_clear_error (&error);
  g_assert_null (gaio_context_create_source (family->context, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
}

static void
fail_to_add (Family *family)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (
      gaio_context_add_fd (family->context, family->fd, G_IO_IN, never_fd, NULL, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
}

static void
test_operations_fail_with_forked (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  family_init (&family, &rig);
  in_child (fail_with_forked, &family);
  assert_parent_works (&family);
  family_clear (&family);
}

static void
use_ready_set (Family *family)
{
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (family->context);
  g_autoptr (GError) error = NULL;

  g_assert_null (gaio_ready_set_add_fd (set, family->fd, G_IO_IN, 1, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
}

static void
test_ready_set_fails_with_forked (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  family_init (&family, &rig);
  in_child (use_ready_set, &family);
  assert_parent_works (&family);
  family_clear (&family);
}

static void
add_without_error (Family *family)
{
  guint notified = 0;
  g_autoptr (GaioTimer) timer =
      gaio_context_add_timer (family->context, never_once, &notified, count_once);
  g_autoptr (GaioTimer) timeout =
      gaio_context_add_timeout (family->context, 1, count_again, &notified, count_once);
  g_autoptr (GaioBottomHalf) bh =
      gaio_context_add_bottom_half (family->context, never_once, &notified, count_once);

  gaio_context_defer (family->context, never_once, &notified, count_once);
  g_assert_nonnull (timer);
  g_assert_nonnull (timeout);
  g_assert_nonnull (bh);
  g_assert_cmpuint (notified, ==, 4);
  gaio_timer_arm (timer, 0);
  gaio_bottom_half_schedule (bh);
  g_assert_cmpint (gaio_timer_get_deadline (timer), ==, -1);
}

static void
test_calls_without_error_give_removed_objects (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  family_init (&family, &rig);
  in_child (add_without_error, &family);
  assert_parent_works (&family);
  family_clear (&family);
}

static void
iterate_inherited (Family *family)
{
  g_assert_false (gaio_context_iterate (family->context, 0));
  g_assert_false (gaio_context_iterate (family->context, -1));
  g_assert_cmpuint (family->calls, ==, 0);
  g_assert_cmpuint (family->others, ==, 0);
}

/* All is ready at the fork; it is the parent's to serve. */
static void
test_child_serves_nothing_of_the_parent (void)
{
  g_auto (Rig) rig = rig_new (NULL);
  Family family;

  family_init (&family, &rig);
  eventfd_add (family.fd);
  gaio_timer_arm (family.timer, 0);
  gaio_bottom_half_schedule (family.bh);
  in_child (iterate_inherited, &family);
  rig_until (&rig, family.calls == 1 && family.others == 2);
  family_clear (&family);
}

/* --- What is quiet --- */

static void
remove_everything (Family *family)
{
  GaioHandler *handler = gaio_handler_ref (family->handler);

  gaio_handler_remove_sync (handler);
  gaio_handler_unref (handler);
  gaio_clear_handler (&family->handler);
  gaio_timer_disarm (family->timer);
  gaio_clear_timer (&family->timer);
  gaio_bottom_half_cancel (family->bh);
  gaio_clear_bottom_half (&family->bh);
  gaio_context_detach (family->context);
  g_object_unref (family->context);
  close (family->fd);
}

static void
test_remove_and_unref_are_quiet (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  family_init (&family, &rig);
  in_child (remove_everything, &family);
  assert_parent_works (&family);
  family_clear (&family);
}

static void
close_inherited (Family *family)
{
  gaio_context_close (family->context);
  gaio_context_close (family->context);
  gaio_clear_handler (&family->handler);
}

static void
test_close_does_not_reach_the_parent (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  family_init (&family, &rig);
  in_child (close_inherited, &family);
  g_assert_false (gaio_context_is_closed (rig.context));
  assert_parent_works (&family);
  family_clear (&family);
}

static void
poke_everything (Family *family)
{
  gaio_context_wakeup (family->context);
  gaio_timer_arm (family->timer, 0);
  gaio_bottom_half_schedule (family->bh);
  gaio_bottom_half_schedule_idle (family->bh);
  gaio_context_defer (family->context, count_other, family, NULL);
  gaio_context_set_dispatch_limits (family->context, 1, 1);
  g_variant_unref (g_variant_take_ref (gaio_context_dup_stats (family->context)));
  gaio_handler_set_name (family->handler, "child");
}

static void
test_child_wakes_nobody (void)
{
  g_auto (Rig) rig = rig_new (NULL);
  Family family;
  gint64 before;

  family_init (&family, &rig);
  in_child (poke_everything, &family);
  before = g_get_monotonic_time ();
  g_assert_false (gaio_context_iterate (rig.context, 5000));
  g_assert_cmpint (g_get_monotonic_time (), >=, before + 5000);
  assert_parent_works (&family);
  family_clear (&family);
}

/* --- The parent's set and its wake-ups --- */

static void
test_child_takes_no_wakeup (void)
{
  g_auto (Rig) rig = rig_new (NULL);
  Family family;

  family_init (&family, &rig);
  gaio_context_wakeup (rig.context);
  in_child (iterate_inherited, &family);
  g_assert_false (gaio_context_iterate (rig.context, -1));
  family_clear (&family);
}

static void
run_inherited_main_context (Family *family)
{
  guint rounds = 0;

  while (g_main_context_iteration (family->main_context, FALSE))
    g_assert_cmpuint (rounds++, <, 10);
  g_main_context_iteration (family->main_context, FALSE);
  g_assert_cmpint (main_context_n_fds (family->main_context), ==, 1);
  g_assert_cmpuint (family->calls, ==, 0);
  g_assert_cmpuint (family->others, ==, 0);
}

/* Left in, the readable epoll fd would keep the child's loop spinning. */
static void
test_source_removes_itself_in_the_child (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Family family;

  family_init (&family, &rig);
  eventfd_add (family.fd);
  gaio_timer_arm (family.timer, 0);
  gaio_bottom_half_schedule (family.bh);
  in_child (run_inherited_main_context, &family);
  rig_until (&rig, family.calls == 1 && family.others == 2);
  family_clear (&family);
}

static void
run_main_context_woken_later (Family *family)
{
  eventfd_add (family->fd);
  run_inherited_main_context (family);
}

static void
test_source_removes_itself_when_woken_later (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Family family;

  family_init (&family, &rig);
  rig_settle (&rig);
  in_child (run_main_context_woken_later, &family);
  rig_until (&rig, family.calls == 1);
  family_clear (&family);
}

static void
test_timer_of_the_parent_still_fires (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Family family;

  family_init (&family, &rig);
  gaio_timer_arm (family.timer, 20 * 1000);
  rig_settle (&rig);
  in_child (remove_everything, &family);
  rig_until (&rig, family.others == 1);
  family_clear (&family);
}

/* --- The shared contexts --- */

/* The defaults of the forefathers. */
static GaioContext *inherited[2];

static void
use_fresh_default (Family *family)
{
  GaioContext *fresh = gaio_context_get_default ();

  g_assert_true (fresh != inherited[0] && fresh != inherited[1]);
  g_assert_true (gaio_context_get_default () == fresh);
  assert_serves (fresh, NULL);
}

static void
test_default_is_fresh_in_the_child (void)
{
  Family family = { 0 };

  inherited[0] = gaio_context_get_default ();
  assert_serves (inherited[0], NULL);
  in_child (use_fresh_default, &family);
  g_assert_true (gaio_context_get_default () == inherited[0]);
  assert_serves (inherited[0], NULL);
}

static void
use_fresh_shared (Family *family)
{
  GaioContext *fresh = gaio_context_ref_for_main_context (family->main_context);
  GaioContext *again = gaio_context_ref_for_main_context (family->main_context);

  g_assert_true (fresh != family->shared);
  g_assert_true (again == fresh);
  assert_serves (fresh, family->main_context);
  g_object_unref (fresh);
  g_object_unref (again);
}

static void
test_shared_is_fresh_in_the_child (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) shared = gaio_context_ref_for_main_context (main_context);
  Family family = { .main_context = main_context, .shared = shared };

  assert_serves (shared, main_context);
  in_child (use_fresh_shared, &family);
  assert_serves (shared, main_context);
}

static void
have_a_grandchild (Family *family)
{
  inherited[1] = gaio_context_get_default ();
  g_assert_true (inherited[1] != inherited[0]);
  assert_serves (inherited[1], NULL);
  in_child (use_fresh_default, family);
  assert_serves (inherited[1], NULL);
}

static void
test_grandchild_has_its_own_too (void)
{
  Family family = { 0 };

  inherited[0] = gaio_context_get_default ();
  in_child (have_a_grandchild, &family);
  assert_serves (inherited[0], NULL);
}

static void
make_new_context (Family *family)
{
  Rig rig = rig_new (GINT_TO_POINTER (TRUE));

  assert_serves (rig.context, rig.main_context);
  rig_clear (&rig);
}

static void
test_new_context_works_in_the_child (void)
{
  g_auto (Rig) rig = rig_new (GINT_TO_POINTER (TRUE));
  Family family;

  family_init (&family, &rig);
  in_child (make_new_context, &family);
  assert_parent_works (&family);
  family_clear (&family);
}

/* --- Children of which the C library tells nobody --- */

static pid_t
clone_raw (void)
{
  return syscall (SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* As the library does. */
static gboolean
can_be_noticed (void)
{
  gsize size = sysconf (_SC_PAGESIZE);
  void *page = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int result = madvise (page, size, MADV_WIPEONFORK);

  munmap (page, size);
  if (size == 4096 && result == 0)
    return TRUE;
  g_test_skip ("the kernel cannot wipe a page of 4096 bytes in a child");
  return FALSE;
}

static void
be_a_stranger (Family *family)
{
  fail_with_forked (family);
  iterate_inherited (family);
  make_new_context (family);
  /* It is closed by whoever made it, which is not this process. */
  g_assert_false (gaio_context_is_closed (family->context));
  remove_everything (family);
}

static void
have_children_of_both_kinds (Family *family)
{
  g_autoptr (GaioContext) own = gaio_context_new ();
  Family again = *family;

  again.context = own;
  in_child (fail_to_add, &again);
  in_child_of (clone_raw, fail_to_add, &again);
  g_assert_false (gaio_context_iterate (own, 0));
  be_a_stranger (family);
}

static void
test_noticed_without_the_c_library (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  if (!can_be_noticed ())
    return;
  family_init (&family, &rig);
  in_child_of (clone_raw, be_a_stranger, &family);
#if __GLIBC_PREREQ(2, 34)
  in_child_of (_Fork, be_a_stranger, &family);
#endif
  in_child_of (clone_raw, have_children_of_both_kinds, &family);
  in_child (have_children_of_both_kinds, &family);
  assert_parent_works (&family);
  family_clear (&family);
}

static void
stay_closed (Family *family)
{
  g_assert_true (gaio_context_is_closed (family->context));
  iterate_inherited (family);
}

static void
test_closed_before_stays_closed (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Family family = { .context = context };

  gaio_context_close (context);
  in_child (stay_closed, &family);
  in_child_of (clone_raw, stay_closed, &family);
}

/* --- fork() inside a callback --- */

static void
fork_here (gpointer data)
{
  Family *family = data;

  family->child = fork ();
  g_assert_cmpint (family->child, >=, 0);
  if (family->child == 0)
    alarm (30);
}

static gboolean
fork_here_fd (gint fd, GIOCondition condition, gpointer data)
{
  fork_here (data);
  return G_SOURCE_REMOVE;
}

/* The child comes back from the callback, into the middle of a round of its parent's context. */
static void
test_fork_in_a_handler (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;
  gint fd = eventfd_new (1);

  family_init (&family, &rig);
  family.child = -1;
  gaio_handler_unref (add_fd (rig.context, fd, G_IO_IN, fork_here_fd, &family, NULL));
  gaio_timer_arm (family.timer, 0);
  rig_round (&rig, TRUE);
  if (family.child == 0)
    {
      remove_everything (&family);
      leave_child ();
    }
  g_assert_cmpint (family.child, >, 0);
  assert_exits_well (family.child);
  rig_until (&rig, family.others == 1);
  family.others = 0;
  assert_parent_works (&family);
  family_clear (&family);
  close (fd);
}

static void
test_fork_in_a_bottom_half (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;

  family_init (&family, &rig);
  family.child = -1;
  gaio_context_defer (rig.context, fork_here, &family, NULL);
  rig_round (&rig, TRUE);
  if (family.child == 0)
    {
      fail_with_forked (&family);
      remove_everything (&family);
      leave_child ();
    }
  assert_exits_well (family.child);
  assert_parent_works (&family);
  family_clear (&family);
}

/* --- fork() inside a callback, and the child drops the last reference --- */

/* It returns, too, to where the context is still in use. */
typedef struct
{
  GaioContext *context;
  GMainContext *main_context; /* or NULL */
  gint fd;                    /* ready */
  guint notified;
  pid_t child;
} Leaver;

static void
fork_and_drop (gpointer data)
{
  Leaver *self = data;

  if (self->child != -1)
    return;
  self->child = fork ();
  g_assert_cmpint (self->child, >=, 0);
  if (self->child > 0)
    return;
  alarm (30);
  g_clear_object (&self->context);
}

static gboolean
fork_and_drop_again (gpointer data)
{
  fork_and_drop (data);
  return G_SOURCE_REMOVE;
}

static gboolean
fork_and_drop_fd (gint fd, GIOCondition condition, gpointer data)
{
  return fork_and_drop_again (data);
}

static void
fork_and_drop_set (GaioReadySet *set, guint n_ready, gpointer data)
{
  fork_and_drop (data);
  gaio_ready_set_set_func (set, NULL, NULL, NULL);
}

/* Only one of the two may be told of the end of each. */
static void
note_notified (gpointer data)
{
  Leaver *self = data;

  g_assert_cmpint (self->child, !=, 0);
  self->notified++;
}

static void
ignore (gpointer data)
{
}

static gboolean
ignore_fd (gint fd, GIOCondition condition, gpointer data)
{
  return G_SOURCE_CONTINUE;
}

static void
in_a_deferred_call (Leaver *self)
{
  gaio_context_defer (self->context, fork_and_drop, self, note_notified);
  gaio_context_defer (self->context, ignore, self, note_notified);
}

static void
in_the_notify_of_a_call (Leaver *self)
{
  gaio_context_defer (self->context, ignore, self, fork_and_drop);
  gaio_context_defer (self->context, ignore, self, note_notified);
}

static void
in_a_bottom_half (Leaver *self)
{
  g_autoptr (GaioBottomHalf) bh =
      gaio_context_add_bottom_half (self->context, fork_and_drop, self, NULL);

  gaio_bottom_half_schedule (bh);
}

static void
in_a_handler (Leaver *self)
{
  gaio_handler_unref (add_fd (self->context, self->fd, G_IO_IN, fork_and_drop_fd, self, NULL));
}

static void
in_a_timer (Leaver *self)
{
  gaio_timer_unref (gaio_context_add_timeout (self->context, 1, fork_and_drop_again, self, NULL));
}

static void
in_a_ready_set (Leaver *self)
{
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (self->context);
  g_autoptr (GaioHandler) handler = gaio_ready_set_add_fd (set, self->fd, G_IO_IN, 1, NULL);

  g_assert_nonnull (handler);
  gaio_ready_set_set_func (set, fork_and_drop_set, self, NULL);
}

static void
in_the_notify_of_a_handler (Leaver *self)
{
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, ignore_fd, self, fork_and_drop);
  GaioTimer *timer = gaio_context_add_timer (self->context, ignore, self, note_notified);

  gaio_clear_handler (&handler);
  gaio_clear_timer (&timer);
}

static void
close_and_drop (gpointer data)
{
  Leaver *self = data;

  gaio_context_close (self->context);
}

/* Other notifies are due after it. */
static void
in_a_notify_of_the_end (Leaver *self)
{
  gaio_timer_unref (gaio_context_add_timer (self->context, ignore, self, fork_and_drop));
  gaio_timer_unref (gaio_context_add_timer (self->context, ignore, self, note_notified));
  gaio_context_defer (self->context, close_and_drop, self, NULL);
  gaio_context_defer (self->context, ignore, self, note_notified);
}

static void
in_the_notify_of_a_call_at_the_end (Leaver *self)
{
  gaio_context_defer (self->context, close_and_drop, self, NULL);
  gaio_context_defer (self->context, ignore, self, fork_and_drop);
  gaio_context_defer (self->context, ignore, self, note_notified);
}

/* Where a wait would be the parent's. */
static gboolean
fork_and_drop_when_polled (gpointer data)
{
  Leaver *self = data;

  fork_and_drop (self);
  return self->child > 0;
}

static void
in_a_poll_function (Leaver *self)
{
  g_autoptr (GaioHandler) handler =
      add_fd (self->context, self->fd, G_IO_IN, ignore_fd, self, NULL);

  gaio_handler_set_poll_funcs (handler, fork_and_drop_when_polled, NULL, NULL);
  gaio_context_set_poll_params (self->context, 1000, 2, 2);
}

static void
run_nested_round (gpointer data)
{
  Leaver *self = data;
  GaioContext *context = self->context;

  gaio_context_defer (context, fork_and_drop, self, NULL);
  while (self->child == -1)
    gaio_context_iterate (context, 0);
}

static void
in_a_nested_round (Leaver *self)
{
  gaio_context_defer (self->context, run_nested_round, self, note_notified);
}

static void (*const places_to_leave[]) (Leaver *self) = {
  in_a_deferred_call,
  in_the_notify_of_a_call,
  in_a_bottom_half,
  in_a_handler,
  in_a_timer,
  in_a_ready_set,
  in_the_notify_of_a_handler,
  in_a_notify_of_the_end,
  in_the_notify_of_a_call_at_the_end,
  in_a_poll_function,
  in_a_nested_round,
};

static void
leaver_round (Leaver *self)
{
  if (self->main_context != NULL)
    g_main_context_iteration (self->main_context, TRUE);
  else
    gaio_context_iterate (self->context, GUARD_US);
}

static void
leave_from (void (*plan) (Leaver *self), gboolean nested)
{
  Leaver self = { .context = gaio_context_new (), .fd = eventfd_new (1), .child = -1 };
  pid_t child;

  if (nested)
    {
      self.main_context = main_context_new ();
      attach (self.context, self.main_context);
    }
  plan (&self);
  while (self.child == -1)
    leaver_round (&self);
  child = self.child;
  /* The reference of its source has been the last. */
  g_clear_pointer (&self.main_context, g_main_context_unref);
  if (child == 0)
    leave_child ();
  assert_exits_well (child);
  g_clear_object (&self.context);
  close (self.fd);
}

static void
test_child_drops_the_last_reference (gconstpointer nested)
{
  for (guint i = 0; i < G_N_ELEMENTS (places_to_leave); i++)
    leave_from (places_to_leave[i], nested != NULL);
}

static void
test_child_drops_the_last_reference_while_it_goes (void)
{
  Leaver self = { .context = gaio_context_new (), .child = -1 };

  gaio_timer_unref (gaio_context_add_timer (self.context, ignore, &self, fork_and_drop));
  gaio_timer_unref (gaio_context_add_timer (self.context, ignore, &self, note_notified));
  gaio_context_defer (self.context, ignore, &self, note_notified);
  g_object_unref (g_steal_pointer (&self.context));
  if (self.child == 0)
    leave_child ();
  assert_exits_well (self.child);
  g_assert_cmpuint (self.notified, ==, 2);
}

/* --- fork() while other threads are in the library --- */

typedef struct
{
  Family *family;
  atomic_bool stop;
} Hammer;

static void *
hammer (gpointer data)
{
  Hammer *self = data;

  while (!atomic_load (&self->stop))
    {
      gint fd = eventfd_new (1);
      GaioHandler *handler =
          add_fd (self->family->context, fd, G_IO_IN, count_fd, &self->family->notified, NULL);

      gaio_bottom_half_schedule (self->family->bh);
      gaio_timer_arm (self->family->timer, 50);
      gaio_context_wakeup (self->family->context);
      gaio_handler_remove_sync (handler);
      gaio_clear_handler (&handler);
      close (fd);
      sched_yield ();
    }
  return NULL;
}

/* A lock of the context may be held by a thread that does not exist here. */
static void
use_context_with_stale_locks (Family *family)
{
  poke_everything (family);
  g_assert_false (gaio_context_iterate (family->context, 0));
  remove_everything (family);
}

static void
test_locks_held_at_the_fork (gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Family family;
  Hammer self = { .family = &family };
  pthread_t threads[N_THREADS];

  family_init (&family, &rig);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = spawn (hammer, &self);
  for (guint i = 0; i < 15; i++)
    {
      in_child (use_context_with_stale_locks, &family);
      rig_round (&rig, FALSE);
    }
  atomic_store (&self.stop, TRUE);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    join (threads[i]);
  gaio_timer_disarm (family.timer);
  rig_settle (&rig);
  family.calls = family.others = 0;
  assert_parent_works (&family);
  family_clear (&family);
}

typedef struct
{
  GMainContext *main_context;
  atomic_bool stop;
} Asker;

static void *
ask_for_shared (gpointer data)
{
  Asker *asker = data;

  while (!atomic_load (&asker->stop))
    {
      g_object_unref (gaio_context_ref_for_main_context (asker->main_context));
      sched_yield ();
    }
  return NULL;
}

static void
ask_for_default (Family *family)
{
  g_assert_true (gaio_context_get_default () != inherited[0]);
}

/* The table of the shared contexts has a lock too. */
static void
test_shared_lock_held_at_the_fork (void)
{
  g_autoptr (GMainContext) main_context = main_context_new ();
  g_autoptr (GaioContext) shared = gaio_context_ref_for_main_context (main_context);
  Asker asker = { .main_context = main_context };
  Family family = { 0 };
  pthread_t thread = spawn (ask_for_shared, &asker);

  g_assert_nonnull (shared);
  inherited[0] = gaio_context_get_default ();
  for (guint i = 0; i < 15; i++)
    in_child (ask_for_default, &family);
  atomic_store (&asker.stop, TRUE);
  join (thread);
}

static void
add_failure_tests (void)
{
  add_both ("/fork/operations-fail-with-forked", test_operations_fail_with_forked);
  add_both ("/fork/ready-set-fails-with-forked", test_ready_set_fails_with_forked);
  add_both ("/fork/calls-without-error-give-removed-objects",
            test_calls_without_error_give_removed_objects);
  g_test_add_func ("/fork/child-serves-nothing-of-the-parent",
                   test_child_serves_nothing_of_the_parent);
  add_both ("/fork/remove-and-unref-are-quiet", test_remove_and_unref_are_quiet);
  add_both ("/fork/close-does-not-reach-the-parent", test_close_does_not_reach_the_parent);
  g_test_add_func ("/fork/child-wakes-nobody", test_child_wakes_nobody);
  g_test_add_func ("/fork/child-takes-no-wakeup", test_child_takes_no_wakeup);
}

static void
add_source_and_shared_tests (void)
{
  g_test_add_func ("/fork/source-removes-itself", test_source_removes_itself_in_the_child);
  g_test_add_func ("/fork/source-removes-itself-when-woken-later",
                   test_source_removes_itself_when_woken_later);
  g_test_add_func ("/fork/timer-of-the-parent-still-fires", test_timer_of_the_parent_still_fires);
  g_test_add_func ("/fork/default-is-fresh", test_default_is_fresh_in_the_child);
  g_test_add_func ("/fork/shared-is-fresh", test_shared_is_fresh_in_the_child);
  g_test_add_func ("/fork/grandchild-has-its-own-too", test_grandchild_has_its_own_too);
  g_test_add_func ("/fork/new-context-works", test_new_context_works_in_the_child);
}

/* --- In a callback, from which both return --- */

typedef enum
{
  IN_HANDLER,
  IN_TIMER,
  IN_BOTTOM_HALF,
  N_PLACES,
} Place;

typedef struct
{
  Rig *rig;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  GaioTimer *other;
  Place place;
  guint calls;
  guint others; /* notifies */
  pid_t child;
} Traveller;

/* It is due again, which it will be told when it has returned, and something has been removed. */
static void
split (Traveller *self)
{
  if (++self->calls > 1)
    return;
  if (self->place == IN_TIMER)
    gaio_timer_arm (self->timer, 0);
  if (self->place == IN_BOTTOM_HALF)
    gaio_bottom_half_schedule (self->bh);
  rig_round (self->rig, FALSE);
  gaio_clear_timer (&self->other);
  self->child = fork ();
  g_assert_cmpint (self->child, >=, 0);
}

static void
split_once (gpointer data)
{
  split (data);
}

static gboolean
split_in_handler (gint fd, GIOCondition condition, gpointer data)
{
  Traveller *self = data;

  split (self);
  if (self->calls > 1)
    eventfd_take (fd);
  return G_SOURCE_CONTINUE;
}

static gboolean
never_ready (gpointer data)
{
  return FALSE;
}

/* The round has ended quietly; nothing of the parent's is run here. */
static void G_GNUC_NORETURN
arrive_in_child (Traveller *self)
{
  alarm (30);
  g_assert_cmpuint (self->calls, ==, 1);
  g_assert_cmpuint (self->others, ==, 0);
  gaio_context_wakeup (self->rig->context);
  gaio_handler_set_poll_funcs (self->handler, never_ready, NULL, NULL);
  g_assert_false (gaio_context_iterate (self->rig->context, 0));
  g_assert_cmpuint (self->calls, ==, 1);
  leave_child ();
}

static void
travel (Place place, gconstpointer nested)
{
  g_auto (Rig) rig = rig_new (nested);
  Traveller self = { .rig = &rig, .place = place, .child = -1 };
  gint fd = eventfd_new (place == IN_HANDLER);

  self.handler = add_fd (rig.context, fd, G_IO_IN, split_in_handler, &self, NULL);
  self.timer = gaio_context_add_timer (rig.context, split_once, &self, NULL);
  self.bh = gaio_context_add_bottom_half (rig.context, split_once, &self, NULL);
  self.other = gaio_context_add_timer (rig.context, never_once, &self.others, count_once);
  if (place == IN_TIMER)
    gaio_timer_arm (self.timer, 0);
  else if (place == IN_BOTTOM_HALF)
    gaio_bottom_half_schedule (self.bh);
  rig_until (&rig, self.child != -1);
  if (self.child == 0)
    arrive_in_child (&self);
  assert_exits_well (self.child);
  rig_until (&rig, self.calls == 2 && self.others == 1);
  gaio_clear_handler (&self.handler);
  gaio_clear_timer (&self.timer);
  gaio_clear_bottom_half (&self.bh);
  close (fd);
}

static void
test_both_return_from_the_callback (gconstpointer nested)
{
  for (Place place = 0; place < N_PLACES; place++)
    travel (place, nested);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_failure_tests ();
  add_source_and_shared_tests ();
  add_both ("/fork/noticed-without-the-c-library", test_noticed_without_the_c_library);
  g_test_add_func ("/fork/closed-before-stays-closed", test_closed_before_stays_closed);
  add_both ("/fork/in-a-handler", test_fork_in_a_handler);
  add_both ("/fork/in-a-bottom-half", test_fork_in_a_bottom_half);
  add_both ("/fork/child-drops-the-last-reference", test_child_drops_the_last_reference);
  g_test_add_func ("/fork/child-drops-the-last-reference-while-it-goes",
                   test_child_drops_the_last_reference_while_it_goes);
  add_both ("/fork/locks-held", test_locks_held_at_the_fork);
  g_test_add_func ("/fork/lock-of-the-shared-held", test_shared_lock_held_at_the_fork);
  add_both ("/fork/both-return-from-the-callback", test_both_return_from_the_callback);
  return g_test_run ();
}
