/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-fork.h"

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
