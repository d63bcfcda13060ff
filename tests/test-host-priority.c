/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-host.h"

/* --- Priorities of everybody that turns ready in the same wait, as in a main loop of GLib --- */

#define N_WAVES 100

typedef struct
{
  gint timer_fd;   /* its expiry makes all of them ready at once */
  gint64 delay_us; /* how long that takes */
  gint64 at;       /* when */
  gboolean slept;  /* the thread has gone to sleep for it */
  guint n_waiting; /* of those that have not been called in this wave */
  guint n_waves;   /* in which it has slept */
  gint last_priority;
  guint n_inversions; /* how often one of a higher priority came later in these */
  GPtrArray *members;
  void (*end) (gpointer);
  gpointer end_data;
} Waves;

typedef struct
{
  Waves *waves;
  gint priority;
  GSource *source;      /* of GLib, or */
  GaioHandler *handler; /* of ours */
  gpointer tag;
} Member;

static void next_wave (Waves *self);

static Waves *current_waves;

/* All of them are ready when the wait begins, however slow the machine is. */
static void
await_wave (void)
{
  struct pollfd pollfd = { .fd = current_waves->timer_fd, .events = POLLIN };

  if (current_waves->n_waiting < current_waves->members->len)
    return;
  while (g_get_monotonic_time () < current_waves->at ||
         NEXT (poll) (&pollfd, 1, GUARD_US / 1000) < 0)
    ;
  current_waves->slept = TRUE;
}

static void
member_called (Member *member)
{
  Waves *self = member->waves;

  self->n_inversions += self->slept && member->priority < self->last_priority;
  self->last_priority = member->priority;
  if (--self->n_waiting == 0)
    next_wave (self);
}

static gboolean
handler_called (gint fd, GIOCondition condition, gpointer data)
{
  Member *member = data;

  gaio_handler_set_condition (member->handler, 0, NULL);
  member_called (member);
  return G_SOURCE_CONTINUE;
}

static gboolean
source_called (gpointer data)
{
  Member *member = data;

  if (member->tag != NULL)
    g_source_modify_unix_fd (member->source, member->tag, 0);
  g_source_set_ready_time (member->source, -1);
  member_called (member);
  return G_SOURCE_CONTINUE;
}

static gboolean
dispatch_member (GSource *source, GSourceFunc callback, gpointer data)
{
  return callback (data);
}

static GSourceFuncs member_funcs = { .dispatch = dispatch_member };

static void
member_wait (Member *member)
{
  Waves *self = member->waves;

  if (member->handler != NULL)
    gaio_handler_set_condition (member->handler, G_IO_IN, NULL);
  else if (member->tag != NULL)
    g_source_modify_unix_fd (member->source, member->tag, G_IO_IN);
  else
    g_source_set_ready_time (member->source, self->at);
}

static void
next_wave (Waves *self)
{
  struct itimerspec spec = { 0 };

  if (self->slept && ++self->n_waves == N_WAVES)
    {
      self->end (self->end_data);
      return;
    }
  /* It was ready before the thread could sleep. */
  if (!self->slept)
    self->delay_us *= 2;
  self->slept = FALSE;
  self->last_priority = G_MININT;
  self->at = g_get_monotonic_time () + self->delay_us;
  spec.it_value.tv_sec = self->at / G_USEC_PER_SEC;
  spec.it_value.tv_nsec = self->at % G_USEC_PER_SEC * 1000;
  g_assert_no_errno (timerfd_settime (self->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL));
  for (guint i = 0; i < self->members->len; i++)
    member_wait (self->members->pdata[i]);
  self->n_waiting = self->members->len;
}

static Member *
member_new (Waves *self, gint priority)
{
  Member *member = g_new0 (Member, 1);

  member->waves = self;
  member->priority = priority;
  g_ptr_array_add (self->members, member);
  return member;
}

static void
add_source (Waves *self, GMainContext *main_context, gboolean has_fd)
{
  Member *member = member_new (self, g_test_rand_int_range (-2, 3) * 50);

  member->source = g_source_new (&member_funcs, sizeof (GSource));
  if (has_fd)
    member->tag = g_source_add_unix_fd (member->source, self->timer_fd, 0);
  g_source_set_priority (member->source, member->priority);
  g_source_set_callback (member->source, source_called, member, NULL);
  g_source_attach (member->source, main_context);
}

static void
waves_init (Waves *self, Fixture *fixture, gboolean foreign_fds, gint priority)
{
  g_autoptr (GSource) own = NULL;

  gaio_context_detach (fixture->context);
  own = gaio_context_create_source (fixture->context, NULL);
  g_source_set_priority (own, priority);
  g_source_attach (own, fixture->main_context);
  self->timer_fd = timerfd_create (CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  self->members = g_ptr_array_new ();
  for (guint i = 0; i < 3; i++)
    {
      Member *member = member_new (self, priority);

      member->handler = add_fd (fixture->context, self->timer_fd, 0, handler_called, member, NULL);
    }
  for (guint i = 0; i < 4; i++)
    add_source (self, fixture->main_context, foreign_fds && i % 2 == 0);
}

static void
waves_clear (Waves *self)
{
  for (guint i = 0; i < self->members->len; i++)
    {
      Member *member = self->members->pdata[i];

      gaio_clear_handler (&member->handler);
      if (member->source != NULL)
        g_source_destroy (member->source);
      g_clear_pointer (&member->source, g_source_unref);
      g_free (member);
    }
  g_ptr_array_unref (self->members);
  close (self->timer_fd);
}

static void
quit_loop (gpointer loop)
{
  g_main_loop_quit (loop);
}

static void
run_waves (Fixture *self, gboolean as_glib, gboolean foreign_fds, gint priority)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (self->main_context, FALSE);
  Waves waves = { .end = as_glib ? quit_loop : cancel,
                  .end_data = self->cancellable,
                  .delay_us = 250 };

  if (as_glib)
    waves.end_data = loop;
  waves_init (&waves, self, foreign_fds, priority);
  current_waves = &waves;
  next_wave (&waves);
  about_to_sleep = await_wave;
  if (as_glib)
    g_main_loop_run (loop);
  else
    assert_runs (self);
  about_to_sleep = NULL;
  g_assert_cmpuint (waves.n_waves, ==, N_WAVES);
  /* GLib has not looked at the fds when a signal ends its poll: then a time comes first. */
  g_assert_cmpuint (waves.n_inversions, <, N_WAVES / 4);
  waves_clear (&waves);
}

static void
test_lower_priority_never_comes_first (Fixture *self, gconstpointer as_glib)
{
  if (!test_has_timerfd ())
    return;
  for (guint i = 0; i < 10; i++)
    {
      gint priority = g_test_rand_int_range (-2, 3) * 50;

      /* Ours once before all others, and once behind them. */
      if (i < 4)
        priority = i < 2 ? -150 : 150;

      run_waves (self, as_glib != NULL, i % 2 == 1, priority);
      g_set_object (&self->cancellable, NULL);
      self->cancellable = g_cancellable_new ();
    }
}

static void
nest_glib_loop (gpointer data)
{
  Fixture *self = data;
  guint calls = 0;
  GaioTimer *timer = gaio_context_add_timer (self->context, count_once, &calls, NULL);

  gaio_timer_arm (timer, 1000);
  main_context_until (self->main_context, calls == 1);
  gaio_clear_timer (&timer);
  g_cancellable_cancel (self->cancellable);
}

static void
test_nested_main_loop (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, nest_glib_loop, self, NULL);
  assert_runs (self);
}

static void
run_again (gpointer data)
{
  Fixture *self = data;
  g_autoptr (GCancellable) inner = g_cancellable_new ();
  GaioTimer *timer = gaio_context_add_timer (self->context, cancel, inner, NULL);

  gaio_timer_arm (timer, 1000);
  g_assert_true (gaio_context_run (self->context, self->main_context, inner, NULL));
  gaio_clear_timer (&timer);
}

/* The inner one must not take the outer's means of being woken along. */
static void
test_runs_inside_itself (Fixture *self, gconstpointer data)
{
  cancelled_after (self, run_again);
}

static gboolean waited;

static gint
own_poll (GPollFD *fds, guint n_fds, gint timeout)
{
  waited |= timeout != 0;
  return count_poll (fds, n_fds, timeout);
}

/* On a slow machine it may be due before the first wait. */
static void
cancel_after_a_wait (gpointer data)
{
  Fixture *self = data;

  g_assert_cmpuint (self->calls++, <, 100);
  if (waited)
    g_cancellable_cancel (self->cancellable);
  else
    gaio_timer_arm (self->timer, 1000);
}

static void
test_poll_func_is_respected (Fixture *self, gconstpointer data)
{
  self->timer = gaio_context_add_timer (self->context, cancel_after_a_wait, self, NULL);
  g_main_context_set_poll_func (self->main_context, own_poll);
  atomic_store (&glib_polls, 0);
  gaio_timer_arm (self->timer, 1000);
  assert_runs (self);
  g_assert_cmpuint (atomic_load (&glib_polls), >, 0);
  gaio_clear_timer (&self->timer);
}

/* --- A source that turns ready after the wait, and comes first --- */

static gboolean
late_check (GSource *source)
{
  return ++((LateSource *) source)->n_checks == 2;
}

static gboolean
consume_and_look (GSource *source, GSourceFunc callback, gpointer user_data)
{
  LateSource *self = (LateSource *) source;

  g_assert_true (eventfd_take (self->fixture->fd));
  eventfd_add (self->fixture->copy);
  self->look (self->fixture);
  g_cancellable_cancel (self->fixture->cancellable);
  return G_SOURCE_REMOVE;
}

static GSourceFuncs late_funcs = { late_prepare, late_check, consume_and_look };

static void
look_in_iterate (Fixture *self)
{
  gaio_context_iterate (self->context, 0);
}

static void
look_in_main_loop (Fixture *self)
{
  g_main_context_iteration (self->main_context, FALSE);
}

static void
wait_in_iterate (Fixture *self)
{
  gaio_context_iterate (self->context, -1);
}

/* Loops inside ask the kernel afresh, and what they have served is not served again. */
static void
test_loop_inside_asks_afresh (Fixture *self, gconstpointer look)
{
  GSource *late;
  GaioHandler *handler, *other;

  if (!is_epoll (self->context))
    {
      g_test_skip ("only with epoll GLib is asked twice");
      return;
    }
  late = g_source_new (&late_funcs, sizeof (LateSource));
  handler = add_fd (self->context, self->fd, G_IO_IN, take_fd, &self->calls, NULL);
  self->copy = eventfd_new (0);
  other = add_fd (self->context, self->copy, G_IO_IN, take_fd, &self->others, NULL);
  ((LateSource *) late)->fixture = self;
  ((LateSource *) late)->look = (void (*) (Fixture *)) look;
  gaio_context_detach (self->context);
  g_source_attach (late, self->main_context);
  attach (self->context, self->main_context);
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->calls, ==, 0);
  g_assert_cmpuint (self->others, ==, 1);
  g_source_unref (late);
  gaio_clear_handler (&handler);
  gaio_clear_handler (&other);
  close (self->copy);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/host/lower-priority-never-comes-first/run", Fixture, NULL, set_up,
              test_lower_priority_never_comes_first, tear_down);
  g_test_add ("/host/lower-priority-never-comes-first/main-loop", Fixture, "glib", set_up,
              test_lower_priority_never_comes_first, tear_down);
  add ("/host/nested-main-loop", test_nested_main_loop);
  add ("/host/runs-inside-itself", test_runs_inside_itself);
  add ("/host/poll-func-is-respected", test_poll_func_is_respected);
  g_test_add ("/host/loop-inside-asks-afresh/iterate", Fixture, look_in_iterate, set_up,
              test_loop_inside_asks_afresh, tear_down);
  g_test_add ("/host/loop-inside-asks-afresh/main-loop", Fixture, look_in_main_loop, set_up,
              test_loop_inside_asks_afresh, tear_down);
  g_test_add ("/host/loop-inside-asks-afresh/waiting", Fixture, wait_in_iterate, set_up,
              test_loop_inside_asks_afresh, tear_down);
  return g_test_run ();
}
