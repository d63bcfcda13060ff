/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "test-fork.h"

/* --- What fails --- */

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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
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
  g_test_add_func ("/fork/source-removes-itself", test_source_removes_itself_in_the_child);
  g_test_add_func ("/fork/source-removes-itself-when-woken-later",
                   test_source_removes_itself_when_woken_later);
  g_test_add_func ("/fork/timer-of-the-parent-still-fires", test_timer_of_the_parent_still_fires);
  g_test_add_func ("/fork/default-is-fresh", test_default_is_fresh_in_the_child);
  g_test_add_func ("/fork/shared-is-fresh", test_shared_is_fresh_in_the_child);
  g_test_add_func ("/fork/grandchild-has-its-own-too", test_grandchild_has_its_own_too);
  g_test_add_func ("/fork/new-context-works", test_new_context_works_in_the_child);
  add_both ("/fork/noticed-without-the-c-library", test_noticed_without_the_c_library);
  g_test_add_func ("/fork/closed-before-stays-closed", test_closed_before_stays_closed);
  return g_test_run ();
}
