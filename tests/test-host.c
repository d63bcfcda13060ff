/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib-unix.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "test-support.h"
#include "test-waits.h"

/* gaio_context_run(): all that holds for a main loop of GLib holds for it. */

/* --- How often poll() waits: stands in for the C library's --- */

static atomic_uint n_polls;

int
poll (struct pollfd *fds, nfds_t n_fds, int timeout)
{
  n_polls++;
  return NEXT (poll) (fds, n_fds, timeout);
}

/* --- Who still uses a main context that has gone: stands in for GLib's --- */

static gboolean main_context_gone;

void
g_main_context_release (GMainContext *main_context)
{
  g_assert_false (main_context_gone);
  NEXT (g_main_context_release) (main_context);
}

typedef struct _Fixture Fixture;

struct _Fixture
{
  GMainContext *main_context;
  GaioContext *context;
  GCancellable *cancellable;
  GSource *source;
  GaioTimer *timer;
  void (*take_away) (Fixture *self);
  gint fd;
  gint copy;
  guint calls;
  guint wanted;
  guint others;
};

static void
set_up (Fixture *self, gconstpointer data)
{
  self->main_context = g_main_context_new ();
  self->context = gaio_context_new ();
  self->cancellable = g_cancellable_new ();
  self->fd = eventfd_new (0);
  attach (self->context, self->main_context);
  n_polls = n_epoll_waits = 0;
}

static void
tear_down (Fixture *self, gconstpointer data)
{
  g_clear_object (&self->context);
  g_clear_object (&self->cancellable);
  g_clear_pointer (&self->main_context, g_main_context_unref);
  close (self->fd);
}

static void
assert_runs (Fixture *self)
{
  g_autoptr (GError) error = NULL;
  gboolean ran = gaio_context_run (self->context, self->main_context, self->cancellable, &error);

  g_assert_no_error (error);
  g_assert_true (ran);
}

static void
cancel (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
}

static gboolean
cancel_from_glib (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
  return G_SOURCE_REMOVE;
}

/* Goes on by itself until it has been called often enough. */
static gboolean
go_round (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  g_assert_true (eventfd_take (fd));
  if (++self->calls == self->wanted)
    g_cancellable_cancel (self->cancellable);
  else
    eventfd_add (fd);
  return G_SOURCE_CONTINUE;
}

/* --- It ends --- */

static void
test_cancelled_before_it_begins (Fixture *self, gconstpointer data)
{
  g_cancellable_cancel (self->cancellable);
  assert_runs (self);
}

/* Which this test runs nothing else in. */
static void
test_null_is_the_default_main_context (Fixture *self, gconstpointer data)
{
  g_clear_pointer (&self->main_context, g_main_context_unref);
  gaio_context_defer (self->context, cancel, self->cancellable, NULL);
  assert_runs (self);
}

/* There is room for so many events at a time, however many callbacks there may be. */
static void
test_no_limit_is_a_limit_for_events (Fixture *self, gconstpointer data)
{
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, go_round, self, NULL);
  guint interruptions = test_interruptions ();

  gaio_context_set_dispatch_limits (self->context, 0, 0);
  self->wanted = 100;
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->calls, ==, 100);
  g_assert_cmpuint (n_epoll_waits, <, 110 + test_interruptions () - interruptions);
  gaio_clear_handler (&handler);
}

static void
test_cancelled_in_a_callback (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, cancel, self->cancellable, NULL);
  assert_runs (self);
}

static void *
cancel_from_thread (void *data)
{
  Fixture *self = data;

  eventfd_wait (self->fd);
  while (!loop_sleeps ())
    sched_yield ();
  g_cancellable_cancel (self->cancellable);
  return NULL;
}

static void
tell_thread (gpointer data)
{
  eventfd_add (((Fixture *) data)->fd);
}

static void
test_cancelled_by_another_thread (Fixture *self, gconstpointer data)
{
  pthread_t thread = spawn (cancel_from_thread, self);

  gaio_context_defer (self->context, tell_thread, self, NULL);
  assert_runs (self);
  join (thread);
}

static void
detach_context (Fixture *self)
{
  gaio_context_detach (self->context);
}

static void
destroy_source (Fixture *self)
{
  g_source_destroy (self->source);
}

static void *
take_away_and_cancel (void *data)
{
  Fixture *self = data;

  eventfd_wait (self->fd);
  while (!loop_sleeps ())
    sched_yield ();
  self->take_away (self);
  g_cancellable_cancel (self->cancellable);
  return NULL;
}

/* What wakes GLib goes on to end the wait, which has not noticed yet. */
static void
test_taken_away_by_another_thread (Fixture *self, gconstpointer take_away)
{
  pthread_t thread;

  gaio_context_detach (self->context);
  self->take_away = (void (*) (Fixture *)) take_away;
  self->source = gaio_context_create_source (self->context, NULL);
  g_source_attach (self->source, self->main_context);
  thread = spawn (take_away_and_cancel, self);
  gaio_context_defer (self->context, tell_thread, self, NULL);
  assert_runs (self);
  join (thread);
  g_clear_pointer (&self->source, g_source_unref);
}

static void
close_context (gpointer context)
{
  gaio_context_close (context);
}

static void
test_closed_in_a_callback (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, close_context, self->context, NULL);
  assert_runs (self);
  g_assert_true (gaio_context_is_closed (self->context));
}

static void
drop_context (gpointer data)
{
  Fixture *self = data;

  gaio_context_close (self->context);
  g_clear_object (&self->context);
}

static void
test_last_reference_dropped_in_a_callback (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, drop_context, self, NULL);
  assert_runs (self);
}

/* --- It does what GLib does --- */

static gboolean
is_epoll (GaioContext *context)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (context);
  const char *name = NULL;

  return g_variant_lookup (stats, "monitor", "&s", &name) && g_str_equal (name, "epoll");
}

static void
note_main_context_gone (gpointer data)
{
  main_context_gone = TRUE;
}

static void
drop_main_context_and_cancel (gpointer data)
{
  Fixture *self = data;

  g_clear_pointer (&self->main_context, g_main_context_unref);
  g_assert_false (main_context_gone);
  g_cancellable_cancel (self->cancellable);
}

static void
test_last_reference_on_the_main_context_dropped_in_a_callback (Fixture *self, gconstpointer data)
{
  GSource *source = g_timeout_source_new (G_MAXINT);

  g_source_set_callback (source, count_again, NULL, note_main_context_gone);
  g_source_attach (source, self->main_context);
  g_source_unref (source);
  gaio_context_defer (self->context, drop_main_context_and_cancel, self, NULL);
  g_assert_true (gaio_context_run (self->context, self->main_context, self->cancellable, NULL));
  g_assert_true (main_context_gone);
  main_context_gone = FALSE;
}

static void
test_events_take_one_wait_each (Fixture *self, gconstpointer data)
{
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, go_round, self, NULL);

  self->wanted = 1000;
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->calls, ==, 1000);
  if (is_epoll (self->context))
    {
      g_assert_cmpuint (n_epoll_waits, <=, 1000 + 10);
      g_assert_cmpuint (n_polls, <=, 10);
    }
  gaio_clear_handler (&handler);
}

/* A source with an fd of its own is polled as ever. */
static gboolean
count_other_fd (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  g_assert_true (eventfd_take (fd));
  if (++self->others == 10)
    g_cancellable_cancel (self->cancellable);
  else
    eventfd_add (fd);
  return G_SOURCE_CONTINUE;
}

static void
test_foreign_fds_are_served (Fixture *self, gconstpointer data)
{
  gint fd = eventfd_new (1);
  GSource *source = g_unix_fd_source_new (fd, G_IO_IN);
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, go_round, self, NULL);

  g_source_set_callback (source, (GSourceFunc) (void (*) (void)) count_other_fd, self, NULL);
  g_source_attach (source, self->main_context);
  eventfd_add (self->fd);
  assert_runs (self);
  g_assert_cmpuint (self->others, ==, 10);
  g_assert_cmpuint (self->calls, >=, 9);
  g_source_destroy (source);
  g_source_unref (source);
  gaio_clear_handler (&handler);
  close (fd);
}

static void
test_timeouts_of_glib_fire (Fixture *self, gconstpointer data)
{
  GSource *source = g_timeout_source_new (5);

  g_source_set_callback (source, cancel_from_glib, self->cancellable, NULL);
  g_source_attach (source, self->main_context);
  assert_runs (self);
  g_source_unref (source);
}

static void
test_timers_of_ours_fire (Fixture *self, gconstpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (self->context, cancel, self->cancellable, NULL);

  gaio_timer_arm (timer, 3000);
  assert_runs (self);
  gaio_clear_timer (&timer);
}

static gboolean
must_not_be_old_news (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  self->calls++;
  g_assert_true (eventfd_take (fd));
  return G_SOURCE_CONTINUE;
}

/* Turns ready in check, without an fd, once @fd is readable; consumes it in its dispatch. */
static gint checked_fd;

static gboolean
checked_check (GSource *source)
{
  struct pollfd pollfd = { .fd = checked_fd, .events = POLLIN };

  return NEXT (poll) (&pollfd, 1, 0) == 1;
}

static gboolean
checked_dispatch (GSource *source, GSourceFunc callback, gpointer user_data)
{
  g_assert_true (eventfd_take (checked_fd));
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs checked_funcs = { .check = checked_check, .dispatch = checked_dispatch };

static void *
fill_often (void *data)
{
  Fixture *self = data;

  for (guint i = 0; i < 50; i++)
    eventfd_add (self->fd);
  gaio_context_defer (self->context, cancel, self->cancellable, NULL);
  return NULL;
}

/* What was found ready is not reported once another source has consumed it: one that is dispatched
 * before, because it comes first in the list or has a higher priority. */
static void
test_consumed_by_another_source_is_not_reported (Fixture *self, gconstpointer priority)
{
  GSource *source = g_source_new (&checked_funcs, sizeof (GSource));
  GaioHandler *handler;
  pthread_t thread;

  gaio_context_detach (self->context);
  checked_fd = self->fd;
  g_source_set_priority (source, GPOINTER_TO_INT (priority));
  g_source_attach (source, self->main_context);
  attach (self->context, self->main_context);
  handler = add_fd (self->context, self->fd, G_IO_IN, must_not_be_old_news, self, NULL);
  thread = spawn (fill_often, self);
  assert_runs (self);
  join (thread);
  g_source_destroy (source);
  g_source_unref (source);
  gaio_clear_handler (&handler);
}

static void
note_source (gpointer data)
{
  Fixture *self = data;
  GSource *source = g_main_current_source ();

  g_assert_nonnull (source);
  g_assert_true (g_source_get_context (source) == self->main_context);
  g_assert_cmpint (g_main_depth (), ==, 1);
  g_assert_true (gaio_context_get_current () == self->context);
  g_assert_true (g_main_context_is_owner (self->main_context));
  g_cancellable_cancel (self->cancellable);
}

static void
test_current_source_and_depth (Fixture *self, gconstpointer data)
{
  gaio_context_defer (self->context, note_source, self, NULL);
  assert_runs (self);
}

static gboolean
never_again (gpointer data)
{
  g_assert_not_reached ();
}

static gboolean
cancel_first (gpointer data)
{
  Fixture *self = data;

  g_cancellable_cancel (self->cancellable);
  return G_SOURCE_REMOVE;
}

static void
test_priorities (Fixture *self, gconstpointer data)
{
  GSource *low = g_idle_source_new ();
  GSource *high = g_idle_source_new ();

  g_source_set_callback (low, never_again, NULL, NULL);
  g_source_attach (low, self->main_context);
  g_source_set_priority (high, G_PRIORITY_HIGH);
  g_source_set_callback (high, cancel_first, self, NULL);
  g_source_attach (high, self->main_context);
  assert_runs (self);
  g_source_destroy (low);
  g_source_unref (low);
  g_source_unref (high);
}

#define N_ARMINGS 500

typedef struct
{
  Fixture *fixture;
  gint fired;
} Arming;

static gpointer
arm_often (gpointer data)
{
  Arming *self = data;
  GaioTimer *timer =
      gaio_context_add_timer (self->fixture->context, count_atomic, &self->fired, NULL);

  for (gint i = 0; i < N_ARMINGS; i++)
    {
      gaio_timer_arm (timer, i % 3 * 50);
      while (g_atomic_int_get (&self->fired) <= i)
        g_thread_yield ();
    }
  gaio_clear_timer (&timer);
  g_cancellable_cancel (self->fixture->cancellable);
  return NULL;
}

static void
test_armed_by_another_thread_while_it_waits (Fixture *self, gconstpointer data)
{
  Arming arming = { .fixture = self };
  GThread *thread = g_thread_new ("arm", arm_often, &arming);

  assert_runs (self);
  g_thread_join (thread);
  g_assert_cmpint (arming.fired, ==, N_ARMINGS);
}

/* --- Priorities of everybody that turns ready in the same wait, as in a main loop of GLib --- */

#define N_WAVES 100

typedef struct
{
  gint timer_fd;   /* its expiry makes all of them ready at once */
  gint64 at;       /* when */
  guint n_waiting; /* of those that have not been called in this wave */
  guint n_waves;
  gint last_priority;
  guint n_inversions; /* how often one of a higher priority came later */
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

static void
member_called (Member *member)
{
  Waves *self = member->waves;

  self->n_inversions += member->priority < self->last_priority;
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

  if (self->n_waves++ == N_WAVES)
    {
      self->end (self->end_data);
      return;
    }
  self->last_priority = G_MININT;
  self->at = g_get_monotonic_time () + 500;
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
  Waves waves = { .end = as_glib ? quit_loop : cancel, .end_data = self->cancellable };

  if (as_glib)
    waves.end_data = loop;
  waves_init (&waves, self, foreign_fds, priority);
  next_wave (&waves);
  if (as_glib)
    g_main_loop_run (loop);
  else
    assert_runs (self);
  g_assert_cmpuint (waves.n_waves, ==, N_WAVES + 1);
  /* GLib reads the clock after its poll: if the thread stalls in between, a time that is over then
   * comes before an fd that was not ready yet, and so it does after a signal. */
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
      /* In the first ours is before most. */
      gint priority = i == 0 ? -100 : g_test_rand_int_range (-2, 3) * 50;

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

/* Waits, does @what, waits, and is cancelled by another thread. */
static void
cancelled_after (Fixture *self, GSourceOnceFunc what)
{
  GaioTimer *first = gaio_context_add_timer (self->context, what, self, NULL);
  GaioTimer *then = gaio_context_add_timer (self->context, tell_thread, self, NULL);
  pthread_t thread = spawn (cancel_from_thread, self);

  gaio_timer_arm (first, 1000);
  gaio_timer_arm (then, 3000);
  assert_runs (self);
  join (thread);
  gaio_clear_timer (&first);
  gaio_clear_timer (&then);
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

/* --- Idle --- */

static void
test_idle_costs_nothing (Fixture *self, gconstpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (self->context, cancel, self->cancellable, NULL);
  guint interruptions = test_interruptions ();

  gaio_timer_arm (timer, 30 * 1000);
  assert_runs (self);
  g_assert_cmpuint (n_epoll_waits + n_polls, <=, 6 + test_interruptions () - interruptions);
  gaio_clear_timer (&timer);
}

/* --- The set is made anew under it --- */

static void
haunt (gpointer data)
{
  Fixture *self = data;
  gint fd = eventfd_new (1);
  GaioHandler *handler = add_fd (self->context, fd, G_IO_IN, never_fd, NULL, NULL);

  self->copy = dup (fd);
  close (fd);
  gaio_clear_handler (&handler);
}

static void
test_ghost_does_not_cut_it_off (Fixture *self, gconstpointer data)
{
  cancelled_after (self, haunt);
  close (self->copy);
}

static void
close_epoll_fd (gpointer data)
{
  for (gint fd = 3; fd < 64; fd++)
    {
      g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
      g_autofree char *file = g_file_read_link (path, NULL);

      if (g_strcmp0 (file, "anon_inode:[eventpoll]") == 0)
        close (fd);
    }
}

static void
test_closed_epoll_fd_ends_it (Fixture *self, gconstpointer data)
{
  GaioTimer *timer;

  if (!is_epoll (self->context))
    {
      g_test_skip ("only epoll has such a set");
      return;
    }
  timer = gaio_context_add_timer (self->context, close_epoll_fd, NULL, NULL);
  gaio_timer_arm (timer, 1000);
  g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "Somebody has closed fd *");
  assert_runs (self);
  g_test_assert_expected_messages ();
  g_assert_true (gaio_context_is_closed (self->context));
  gaio_clear_timer (&timer);
}

static void
do_nothing (gpointer data)
{
}

/* Afterwards GLib's waking up is no business of ours. */
static void
test_leaves_no_trace (Fixture *self, gconstpointer data)
{
  guint64 rounds;

  cancelled_after (self, do_nothing);
  main_context_settle (self->main_context);
  rounds = stat_of (self->context, "rounds");
  for (guint i = 0; i < 10; i++)
    {
      g_main_context_wakeup (self->main_context);
      g_main_context_iteration (self->main_context, FALSE);
    }
  g_assert_cmpuint (stat_of (self->context, "rounds"), ==, rounds);
}

/* --- A source that turns ready after the wait, and comes first --- */

typedef struct
{
  GSource parent;
  Fixture *fixture;
  void (*look) (Fixture *fixture);
  guint n_checks; /* in this turn */
} LateSource;

static gboolean
late_prepare (GSource *source, gint *timeout)
{
  ((LateSource *) source)->n_checks = 0;
  *timeout = -1;
  return FALSE;
}

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

static gboolean
take_fd (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  g_assert_true (eventfd_take (fd));
  return G_SOURCE_CONTINUE;
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

/* --- Taken away between the wait and the dispatch --- */

/* Told of by nothing that would order the memory of the two threads. */
static atomic_bool may_take, has_taken;

static void *
take_between (gpointer data)
{
  Fixture *self = data;

  while (!atomic_load_explicit (&may_take, memory_order_relaxed))
    sched_yield ();
  gaio_context_detach (self->context);
  atomic_store_explicit (&has_taken, true, memory_order_relaxed);
  return NULL;
}

/* GLib asks it after the wait, and before it asks ours. */
static gboolean
let_take (GSource *source)
{
  atomic_store_explicit (&may_take, true, memory_order_relaxed);
  while (!atomic_load_explicit (&has_taken, memory_order_relaxed))
    sched_yield ();
  return TRUE;
}

static gboolean
end_run (GSource *source, GSourceFunc callback, gpointer user_data)
{
  g_cancellable_cancel (((LateSource *) source)->fixture->cancellable);
  return G_SOURCE_REMOVE;
}

static GSourceFuncs let_take_funcs = { late_prepare, let_take, end_run };

/* What the wait has fetched is nothing to the next owner, who sees that it was written: this is for
 * ThreadSanitizer. */
static void
test_taken_away_after_the_wait (Fixture *self, gconstpointer data)
{
  GSource *source = g_source_new (&let_take_funcs, sizeof (LateSource));
  GaioHandler *handler = add_fd (self->context, self->fd, G_IO_IN, take_fd, &self->calls, NULL);
  pthread_t thread;

  atomic_store (&may_take, false);
  atomic_store (&has_taken, false);
  ((LateSource *) source)->fixture = self;
  g_source_set_priority (source, G_PRIORITY_HIGH);
  g_source_attach (source, self->main_context);
  thread = spawn (take_between, self);
  eventfd_add (self->fd);
  assert_runs (self);
  join (thread);
  g_assert_cmpuint (self->calls, ==, 0);
  g_assert_true (gaio_context_iterate (self->context, -1));
  g_assert_cmpuint (self->calls, ==, 1);
  attach (self->context, self->main_context);
  g_source_unref (source);
  gaio_clear_handler (&handler);
}

/* --- Where it nests, and where it does not --- */

static void
test_attaches_and_detaches (Fixture *self, gconstpointer data)
{
  gint before;

  gaio_context_detach (self->context);
  before = main_context_n_fds (self->main_context);
  gaio_context_defer (self->context, note_source, self, NULL);
  assert_runs (self);
  g_assert_cmpint (main_context_n_fds (self->main_context), ==, before);
  attach (self->context, self->main_context);
}

static void
test_nested_elsewhere_fails (Fixture *self, gconstpointer data)
{
  g_autoptr (GMainContext) other = g_main_context_new ();
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_run (self->context, other, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_assert_true (g_main_context_acquire (other));
  g_main_context_release (other);
}

static void *
run_elsewhere (void *data)
{
  Fixture *self = data;
  g_autoptr (GError) error = NULL;

  g_assert_false (gaio_context_run (self->context, self->main_context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_WRONG_THREAD);
  return NULL;
}

static void
test_owned_by_another_thread_fails (Fixture *self, gconstpointer data)
{
  g_assert_true (g_main_context_acquire (self->main_context));
  join (spawn (run_elsewhere, self));
  g_main_context_release (self->main_context);
}

static void
test_closed_fails (Fixture *self, gconstpointer data)
{
  g_autoptr (GError) error = NULL;

  gaio_context_close (self->context);
  g_assert_false (gaio_context_run (self->context, self->main_context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
}

static void
test_forked_child_fails (Fixture *self, gconstpointer data)
{
  gint status;
  pid_t pid = fork ();

  if (pid == 0)
    {
      g_autoptr (GError) error = NULL;
      gboolean ran = gaio_context_run (self->context, self->main_context, NULL, &error);

      _exit (!ran && g_error_matches (error, GAIO_ERROR, GAIO_ERROR_FORKED) ? 0 : 1);
    }
  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (pid, &status, 0)), ==, pid);
  g_assert_cmpint (status, ==, 0);
}

#define add(path, func) g_test_add (path, Fixture, NULL, set_up, func, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add ("/host/null-is-the-default-main-context", test_null_is_the_default_main_context);
  add ("/host/no-limit-is-a-limit-for-events", test_no_limit_is_a_limit_for_events);
  add ("/host/cancelled-before-it-begins", test_cancelled_before_it_begins);
  add ("/host/cancelled-in-a-callback", test_cancelled_in_a_callback);
  add ("/host/cancelled-by-another-thread", test_cancelled_by_another_thread);
  g_test_add ("/host/taken-away-by-another-thread/detached", Fixture, detach_context, set_up,
              test_taken_away_by_another_thread, tear_down);
  g_test_add ("/host/taken-away-by-another-thread/destroyed", Fixture, destroy_source, set_up,
              test_taken_away_by_another_thread, tear_down);
  add ("/host/closed-in-a-callback", test_closed_in_a_callback);
  add ("/host/last-reference-dropped-in-a-callback", test_last_reference_dropped_in_a_callback);
  add ("/host/last-reference-on-the-main-context-dropped-in-a-callback",
       test_last_reference_on_the_main_context_dropped_in_a_callback);
  add ("/host/events-take-one-wait-each", test_events_take_one_wait_each);
  add ("/host/foreign-fds-are-served", test_foreign_fds_are_served);
  add ("/host/timeouts-of-glib-fire", test_timeouts_of_glib_fire);
  add ("/host/timers-of-ours-fire", test_timers_of_ours_fire);
  g_test_add ("/host/consumed-by-another-source-is-not-reported/first", Fixture,
              GINT_TO_POINTER (G_PRIORITY_DEFAULT), set_up,
              test_consumed_by_another_source_is_not_reported, tear_down);
  g_test_add ("/host/consumed-by-another-source-is-not-reported/urgent", Fixture,
              GINT_TO_POINTER (G_PRIORITY_HIGH), set_up,
              test_consumed_by_another_source_is_not_reported, tear_down);
  add ("/host/current-source-and-depth", test_current_source_and_depth);
  add ("/host/priorities", test_priorities);
  add ("/host/armed-by-another-thread-while-it-waits", test_armed_by_another_thread_while_it_waits);
  g_test_add ("/host/lower-priority-never-comes-first/run", Fixture, NULL, set_up,
              test_lower_priority_never_comes_first, tear_down);
  g_test_add ("/host/lower-priority-never-comes-first/main-loop", Fixture, "glib", set_up,
              test_lower_priority_never_comes_first, tear_down);
  add ("/host/nested-main-loop", test_nested_main_loop);
  add ("/host/runs-inside-itself", test_runs_inside_itself);
  add ("/host/poll-func-is-respected", test_poll_func_is_respected);
  add ("/host/idle-costs-nothing", test_idle_costs_nothing);
  add ("/host/ghost-does-not-cut-it-off", test_ghost_does_not_cut_it_off);
  add ("/host/closed-epoll-fd-ends-it", test_closed_epoll_fd_ends_it);
  add ("/host/leaves-no-trace", test_leaves_no_trace);
  g_test_add ("/host/loop-inside-asks-afresh/iterate", Fixture, look_in_iterate, set_up,
              test_loop_inside_asks_afresh, tear_down);
  g_test_add ("/host/loop-inside-asks-afresh/main-loop", Fixture, look_in_main_loop, set_up,
              test_loop_inside_asks_afresh, tear_down);
  g_test_add ("/host/loop-inside-asks-afresh/waiting", Fixture, wait_in_iterate, set_up,
              test_loop_inside_asks_afresh, tear_down);
  add ("/host/taken-away-after-the-wait", test_taken_away_after_the_wait);
  add ("/host/attaches-and-detaches", test_attaches_and_detaches);
  add ("/host/nested-elsewhere-fails", test_nested_elsewhere_fails);
  add ("/host/owned-by-another-thread-fails", test_owned_by_another_thread_fails);
  add ("/host/closed-fails", test_closed_fails);
  add ("/host/forked-child-fails", test_forked_child_fails);
  return g_test_run ();
}
