/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib-unix.h>

#include "test-util.h"

/* Wake-ups while somebody looks at the loop between two of its steps: between the query and the
 * poll of GLib, in prepare() and in check() of another source, and during busy polling. What comes
 * after that look has to end the poll. */

typedef struct
{
  GMainContext *main_context;
  GaioContext *context;
  GaioBottomHalf *bottom_half;
  GaioTimer *timer;
  GaioHandler *handler;
  GaioHandler *watch; /* of event_fd: nothing but who looks makes it ready */
  gint event_fd;
  gint null_fd;
  guint n_calls;
} Loop;

static Loop *loop;

static void
count_call (gpointer user_data)
{
  g_atomic_int_inc ((gint *) &loop->n_calls);
}

static gboolean
count_fd (gint fd, GIOCondition condition, gpointer user_data)
{
  g_atomic_int_inc ((gint *) &loop->n_calls);
  return G_SOURCE_REMOVE;
}

static gboolean
read_event (gint fd, GIOCondition condition, gpointer user_data)
{
  guint64 value;

  g_assert_cmpint (read (fd, &value, sizeof value), ==, sizeof value);
  g_atomic_int_inc ((gint *) &loop->n_calls);
  return G_SOURCE_CONTINUE;
}

static void
set_up (Loop *self, gconstpointer data)
{
  g_autoptr (GError) error = NULL;

  loop = self;
  self->main_context = g_main_context_new ();
  self->context = gaio_context_new ();
  gaio_context_attach (self->context, self->main_context, &error);
  g_assert_no_error (error);
  self->bottom_half = gaio_context_add_bottom_half (self->context, count_call, NULL, NULL);
  self->timer = gaio_context_add_timer (self->context, count_call, NULL, NULL);
  self->null_fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  g_assert_cmpint (self->null_fd, >=, 0);
  self->event_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  g_assert_cmpint (self->event_fd, >=, 0);
  self->watch =
      gaio_context_add_fd (self->context, self->event_fd, G_IO_IN, read_event, NULL, NULL, &error);
  g_assert_no_error (error);
  while (g_main_context_iteration (self->main_context, FALSE))
    ;
}

static void
tear_down (Loop *self, gconstpointer data)
{
  gaio_clear_handler (&self->handler);
  gaio_clear_handler (&self->watch);
  gaio_clear_timer (&self->timer);
  gaio_clear_bottom_half (&self->bottom_half);
  g_clear_object (&self->context);
  g_clear_pointer (&self->main_context, g_main_context_unref);
  close (self->event_fd);
  close (self->null_fd);
}

static guint64
count_wakeups (Loop *self)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (self->context);
  guint64 n = 0;

  g_assert_true (g_variant_lookup (stats, "wakeups", "t", &n));
  return n;
}

/* --- Who looks --- */

static void
look_pending (void)
{
  g_main_context_pending (loop->main_context);
}

static void
look_pending_often (void)
{
  for (guint i = 0; i < 3; i++)
    g_main_context_pending (loop->main_context);
}

static void
look_iteration (void)
{
  g_main_context_iteration (loop->main_context, FALSE);
}

static void
look_iterate (void)
{
  gaio_context_iterate (loop->context, 0);
}

/* One that has something to call. */
static void
look_iterate_for_one (void)
{
  gaio_context_defer (loop->context, count_call, NULL, NULL);
  g_assert_true (gaio_context_iterate (loop->context, 0));
  loop->n_calls = 0;
}

static void
look_iteration_for_one (void)
{
  gaio_context_defer (loop->context, count_call, NULL, NULL);
  while (loop->n_calls == 0)
    g_main_context_iteration (loop->main_context, FALSE);
  loop->n_calls = 0;
}

/* It has a wait of its own, which takes what the timerfd and the eventfd say. */
static void
look_run (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();

  gaio_context_defer (loop->context, (GSourceOnceFunc) (GCallback) g_cancellable_cancel,
                      cancellable, NULL);
  gaio_context_run (loop->context, loop->main_context, cancellable, NULL);
}

static void
make_event (void)
{
  guint64 one = 1;

  g_assert_cmpint (write (loop->event_fd, &one, sizeof one), ==, sizeof one);
}

static void
expect_event_called (void)
{
  g_assert_cmpuint (loop->n_calls, ==, 1);
  loop->n_calls = 0;
}

/* GLib asks the source once, and then remembers that it is ready. */
static void
look_while_pending (void)
{
  make_event ();
  while (g_main_context_pending (loop->main_context))
    g_main_context_iteration (loop->main_context, FALSE);
  expect_event_called ();
}

static gboolean
is_ready (gpointer user_data)
{
  return TRUE;
}

/* Then prepare() finds what there is, before it says that it sleeps. */
static void
look_busy_polling (void)
{
  make_event ();
  gaio_handler_set_poll_funcs (loop->watch, is_ready, NULL, NULL);
  gaio_context_set_poll_params (loop->context, 1000, 0, 0);
  g_main_context_iteration (loop->main_context, FALSE);
  gaio_context_set_poll_params (loop->context, 0, 0, 0);
  expect_event_called ();
}

/* Where one wait is enough, that asks GLib twice about what it has found. */
static void
look_wait (void)
{
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (loop->context);
  gint fd = eventfd (1, EFD_CLOEXEC | EFD_NONBLOCK);
  GaioHandler *handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 1, NULL);
  gsize length;

  g_free (gaio_ready_set_wait (set, -1, NULL, &length, NULL));
  g_assert_cmpuint (length, >, 0);
  gaio_handler_remove (handler);
  gaio_handler_unref (handler);
  close (fd);
}

/* --- What comes then --- */

static void
make_bottom_half (void)
{
  gaio_bottom_half_schedule (loop->bottom_half);
}

static void
make_idle_bottom_half (void)
{
  gaio_bottom_half_schedule_idle (loop->bottom_half);
}

static void
make_deferred_call (void)
{
  gaio_context_defer (loop->context, count_call, NULL, NULL);
}

static void
make_timer (void)
{
  gaio_timer_arm (loop->timer, 1000);
}

static void
make_always_ready_handler (void)
{
  gaio_clear_handler (&loop->handler);
  loop->handler =
      gaio_context_add_fd (loop->context, loop->null_fd, G_IO_IN, count_fd, NULL, NULL, NULL);
}

static void
make_removal (void)
{
  gaio_timer_unref (gaio_context_add_timer (loop->context, count_call, NULL, NULL));
  gaio_clear_handler (&loop->handler);
  loop->handler =
      gaio_context_add_fd (loop->context, loop->null_fd, 0, count_fd, NULL, count_call, NULL);
  gaio_handler_remove (loop->handler);
}

/* --- When --- */

typedef struct
{
  void (*look) (void);
  void (*make) (void);
} Story;

static const Story *story;
static gboolean may_look;

static gint
poll_after_look (GPollFD *fds, guint n_fds, gint timeout)
{
  if (timeout == 0 || !may_look)
    return g_poll (fds, n_fds, timeout);
  may_look = FALSE;
  story->look ();
  story->make ();
  /* A timer that is armed says so in time; nothing else may be needed to end the wait. */
  return g_poll (fds, n_fds, timeout > 0 ? timeout : TEST_PATIENCE_US / 1000);
}

static void
run_until_called (Loop *self)
{
  gint64 end = g_get_monotonic_time () + TEST_PATIENCE_US / 2;

  may_look = TRUE;
  self->n_calls = 0;
  while (self->n_calls == 0)
    {
      g_main_context_iteration (self->main_context, TRUE);
      g_assert_cmpint (g_get_monotonic_time (), <, end);
    }
}

static void
test_looked_at_before_the_poll (Loop *self, gconstpointer data)
{
  story = data;
  g_main_context_set_poll_func (self->main_context, poll_after_look);
  run_until_called (self);
  g_assert_false (may_look);
}

/* A source whose prepare(), or check(), looks. */
static gboolean
look_and_make (GSource *source)
{
  if (may_look)
    {
      may_look = FALSE;
      story->look ();
      story->make ();
    }
  return FALSE;
}

static gboolean
look_in_prepare (GSource *source, gint *timeout_ms)
{
  *timeout_ms = -1;
  return look_and_make (source);
}

static gboolean
never_dispatched (GSource *source, GSourceFunc callback, gpointer user_data)
{
  g_assert_not_reached ();
}

static GSourceFuncs prepare_funcs = { .prepare = look_in_prepare, .dispatch = never_dispatched };
static GSourceFuncs check_funcs = { .check = look_and_make, .dispatch = never_dispatched };

static void
run_beside (Loop *self, GSourceFuncs *funcs, const Story *told, gint priority)
{
  GSource *source = g_source_new (funcs, sizeof (GSource));

  story = told;
  may_look = FALSE;
  g_source_set_priority (source, priority);
  g_source_attach (source, self->main_context);
  if (funcs == &check_funcs)
    gaio_context_wakeup (self->context);
  run_until_called (self);
  g_source_destroy (source);
  g_source_unref (source);
}

static void
test_iterated_in_prepare (Loop *self, gconstpointer data)
{
  run_beside (self, &prepare_funcs, data, G_PRIORITY_LOW);
  self->n_calls = 0;
  run_beside (self, &prepare_funcs, data, G_PRIORITY_HIGH);
}

static void
test_iterated_in_check (Loop *self, gconstpointer data)
{
  run_beside (self, &check_funcs, data, G_PRIORITY_DEFAULT);
}

/* --- A foreign loop that embeds GLib --- */

typedef struct
{
  GPollFD fds[8];
  gint n_fds;
  gint priority;
  gint timeout_ms;
} Embedding;

/* Further down the stack than what the foreign loop does next. */
static G_NO_INLINE void
begin_embedded (Embedding *self)
{
  volatile char far_down[4096];

  far_down[0] = 0;
  g_main_context_prepare (loop->main_context, &self->priority);
  self->n_fds = g_main_context_query (loop->main_context, self->priority, &self->timeout_ms,
                                      self->fds, G_N_ELEMENTS (self->fds));
  g_assert_cmpint (self->n_fds, <=, G_N_ELEMENTS (self->fds));
  far_down[1] = far_down[0];
}

static void
embedded_turn (gboolean look)
{
  Embedding self;

  begin_embedded (&self);
  if (look)
    {
      story->look ();
      story->make ();
    }
  g_poll (self.fds, self.n_fds, self.timeout_ms >= 0 ? self.timeout_ms : TEST_PATIENCE_US / 1000);
  if (g_main_context_check (loop->main_context, self.priority, self.fds, self.n_fds))
    g_main_context_dispatch (loop->main_context);
}

static void
test_looked_at_by_who_embeds (Loop *self, gconstpointer data)
{
  gint64 end = g_get_monotonic_time () + TEST_PATIENCE_US / 2;

  story = data;
  g_assert_true (g_main_context_acquire (self->main_context));
  for (gboolean look = TRUE; self->n_calls == 0; look = FALSE)
    {
      embedded_turn (look);
      g_assert_cmpint (g_get_monotonic_time (), <, end);
    }
  g_main_context_release (self->main_context);
}

/* --- What was armed before the look, and is not looked at again --- */

static void
make_nothing (void)
{
}

static void
test_armed_before_the_look (Loop *self, gconstpointer data)
{
  const Story armed = { .look = ((const Story *) data)->look, .make = make_nothing };

  story = &armed;
  g_main_context_set_poll_func (self->main_context, poll_after_look);
  /* On a machine that stalls it may be due before the poll. */
  do
    {
      gaio_timer_arm (self->timer, 2000);
      run_until_called (self);
    }
  while (may_look);
}

/* --- What a round inside of the poll leaves --- */

static void
defer_another (gpointer user_data)
{
  gaio_context_defer (loop->context, count_call, NULL, NULL);
}

static void
look_iterate_and_leave_one (void)
{
  gaio_context_defer (loop->context, defer_another, NULL, NULL);
  g_assert_true (gaio_context_iterate (loop->context, 0));
  g_assert_cmpuint (loop->n_calls, ==, 0);
}

static void
test_left_by_a_round_inside (Loop *self, gconstpointer data)
{
  static const Story leaves_one = { .look = look_iterate_and_leave_one, .make = make_nothing };

  story = &leaves_one;
  g_main_context_set_poll_func (self->main_context, poll_after_look);
  run_until_called (self);
  g_assert_false (may_look);
}

/* --- Afterwards awake is awake again --- */

static void
chain (gpointer user_data)
{
  if (++loop->n_calls < 20)
    gaio_context_defer (loop->context, chain, NULL, NULL);
}

static void
expect_no_wakeup_in_a_chain (Loop *self)
{
  guint64 before;

  while (g_main_context_iteration (self->main_context, FALSE))
    ;
  gaio_context_defer (self->context, chain, NULL, NULL);
  self->n_calls = 0;
  before = count_wakeups (self);
  while (self->n_calls < 20)
    g_main_context_iteration (self->main_context, TRUE);
  g_assert_cmpuint (count_wakeups (self) - before, ==, 0);
}

static void
test_chain_needs_no_wakeup_after_a_look (Loop *self, gconstpointer data)
{
  story = data;
  g_main_context_set_poll_func (self->main_context, poll_after_look);
  run_until_called (self);
  expect_no_wakeup_in_a_chain (self);
}

static gboolean
on_idle (gpointer user_data)
{
  gboolean *called = user_data;

  *called = TRUE;
  return G_SOURCE_REMOVE;
}

/* Then GLib does not call check() of our source. */
static void
test_chain_needs_no_wakeup_after_a_higher_priority (Loop *self, gconstpointer data)
{
  for (guint i = 0; i < 5; i++)
    {
      g_autoptr (GSource) source = g_idle_source_new ();
      gboolean called = FALSE;

      g_source_set_priority (source, G_PRIORITY_HIGH);
      g_source_set_callback (source, on_idle, &called, NULL);
      g_source_attach (source, self->main_context);
      while (!called)
        g_main_context_iteration (self->main_context, TRUE);
    }
  expect_no_wakeup_in_a_chain (self);
}

static gint
poll_and_add_fd (GPollFD *fds, guint n_fds, gint timeout)
{
  if (may_look)
    {
      g_autoptr (GSource) source = g_unix_fd_source_new (loop->null_fd, 0);

      may_look = FALSE;
      g_source_attach (source, loop->main_context);
      g_source_destroy (source);
      gaio_context_defer (loop->context, count_call, NULL, NULL);
    }
  return g_poll (fds, n_fds, timeout);
}

/* Then GLib looks at nothing that the poll has said. */
static void
test_chain_needs_no_wakeup_after_pollfds_have_changed (Loop *self, gconstpointer data)
{
  g_main_context_set_poll_func (self->main_context, poll_and_add_fd);
  may_look = TRUE;
  expect_no_wakeup_in_a_chain (self);
  g_assert_false (may_look);
}

/* --- Priorities among what is looked at inside --- */

static guint n_polls;

static gint
poll_twice_inside (GPollFD *fds, guint n_fds, gint timeout)
{
  if (timeout != 0 && n_polls < 3)
    {
      n_polls++;
      /* Each of these may itself sleep in here. */
      g_main_context_iteration (loop->main_context, n_polls < 3);
    }
  return g_poll (fds, n_fds, timeout);
}

/* The last call may come in an iteration inside of a poll, which then waits for nothing: so GLib is
 * woken up until all have ended. */
static gpointer
defer_one_by_one (gpointer is_over)
{
  for (gint i = 0; i < 4; i++)
    {
      gaio_context_defer (loop->context, count_call, NULL, NULL);
      while (g_atomic_int_get ((gint *) &loop->n_calls) <= i)
        g_thread_yield ();
    }
  while (!g_atomic_int_get ((gint *) is_over))
    {
      g_main_context_wakeup (loop->main_context);
      g_thread_yield ();
    }
  return NULL;
}

static void
test_nested_sleepers_are_all_woken (Loop *self, gconstpointer data)
{
  GThread *thread;
  gint is_over = FALSE;

  n_polls = 0;
  g_main_context_set_poll_func (self->main_context, poll_twice_inside);
  thread = g_thread_new ("defer", defer_one_by_one, &is_over);
  while (g_atomic_int_get ((gint *) &self->n_calls) < 4)
    g_main_context_iteration (self->main_context, TRUE);
  g_atomic_int_set (&is_over, TRUE);
  g_thread_join (thread);
}

/* --- A list of stories --- */

static const struct
{
  const char *name;
  void (*look) (void);
} looks[] = {
  { "pending", look_pending },
  { "pending-often", look_pending_often },
  { "iteration", look_iteration },
  { "iteration-for-one", look_iteration_for_one },
  { "iterate", look_iterate },
  { "iterate-for-one", look_iterate_for_one },
  { "while-pending", look_while_pending },
  { "busy-polling", look_busy_polling },
  { "run", look_run },
  { "wait", look_wait },
};

static const struct
{
  const char *name;
  void (*make) (void);
} makes[] = {
  { "bottom-half", make_bottom_half },
  { "idle-bottom-half", make_idle_bottom_half },
  { "deferred-call", make_deferred_call },
  { "timer", make_timer },
  { "always-ready-handler", make_always_ready_handler },
  { "removal", make_removal },
};

static void
add (const char *group,
     const char *look,
     const char *make,
     const Story *told,
     void (*test) (Loop *, gconstpointer))
{
  g_autofree char *path = make != NULL ? g_strdup_printf ("/sleep/%s/%s/%s", group, look, make)
                                       : g_strdup_printf ("/sleep/%s/%s", group, look);

  g_test_add (path, Loop, told, set_up, test, tear_down);
}

static void
add_stories (guint look, guint make)
{
  static Story stories[G_N_ELEMENTS (looks)][G_N_ELEMENTS (makes)];
  Story *told = &stories[look][make];
  gboolean is_own = g_str_has_prefix (looks[look].name, "iterate");

  *told = (Story){ .look = looks[look].look, .make = makes[make].make };
  add ("looked-at-before-the-poll", looks[look].name, makes[make].name, told,
       test_looked_at_before_the_poll);
  add ("looked-at-by-who-embeds", looks[look].name, makes[make].name, told,
       test_looked_at_by_who_embeds);
  /* GLib's own look inside prepare() is an error of GLib's. */
  if (!is_own)
    return;
  add ("iterated-in-prepare", looks[look].name, makes[make].name, told, test_iterated_in_prepare);
  add ("iterated-in-check", looks[look].name, makes[make].name, told, test_iterated_in_check);
}

static void
add_all (void)
{
  for (guint look = 0; look < G_N_ELEMENTS (looks); look++)
    {
      static Story stories[G_N_ELEMENTS (looks)];

      for (guint make = 0; make < G_N_ELEMENTS (makes); make++)
        add_stories (look, make);
      stories[look] = (Story){ .look = looks[look].look, .make = make_deferred_call };
      add ("armed-before-the-look", looks[look].name, NULL, &stories[look],
           test_armed_before_the_look);
      add ("chain-needs-no-wakeup-after-a-look", looks[look].name, NULL, &stories[look],
           test_chain_needs_no_wakeup_after_a_look);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_all ();
  add ("chain-needs-no-wakeup-after", "a-higher-priority", NULL, NULL,
       test_chain_needs_no_wakeup_after_a_higher_priority);
  add ("chain-needs-no-wakeup-after", "pollfds-have-changed", NULL, NULL,
       test_chain_needs_no_wakeup_after_pollfds_have_changed);
  add ("left-by-a-round-inside", "wakes-the-poll", NULL, NULL, test_left_by_a_round_inside);
  add ("nested-sleepers", "are-all-woken", NULL, NULL, test_nested_sleepers_are_all_woken);
  return g_test_run ();
}
