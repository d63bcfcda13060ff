/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <glib-unix.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "test-stand-in.h"
#include "test-support.h"

/* Files that report only once that they are ready: whoever polls them takes it from who polls
 * next. */

#define N_EVENTS 5

/* --- The files --- */

typedef struct
{
  const char *name;
  gint (*open) (void); /* -1 where it cannot be had */
  void (*happen) (void);
  GIOCondition condition;
} Kind;

static char *mount_point;

static gint
open_mounts (void)
{
  if (mount_point == NULL)
    {
      if (unshare (CLONE_NEWNS) != 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return -1;
      mount_point = g_dir_make_tmp ("gaio-XXXXXX", NULL);
    }
  return open ("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
}

static void
change_mounts (void)
{
  g_assert_no_errno (mount ("gaio", mount_point, "tmpfs", 0, NULL));
  g_assert_no_errno (umount (mount_point));
}

static gint
open_hostname (void)
{
  static gboolean unshared;

  if (!unshared && unshare (CLONE_NEWUTS) != 0)
    return -1;
  unshared = TRUE;
  return open ("/proc/sys/kernel/hostname", O_RDONLY | O_CLOEXEC);
}

static void
change_hostname (void)
{
  static guint n;
  g_autofree char *name = g_strdup_printf ("host-%u", n++);

  g_assert_no_errno (sethostname (name, strlen (name)));
}

/* Each page that is touched is an event. */
static gint
open_perf (void)
{
  struct perf_event_attr attributes = {
    .type = PERF_TYPE_SOFTWARE,
    .size = sizeof attributes,
    .config = PERF_COUNT_SW_PAGE_FAULTS,
    .sample_period = 1,
    .wakeup_events = 1,
    .exclude_kernel = 1,
  };
  gint fd = syscall (SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
  gsize size = 17 * sysconf (_SC_PAGESIZE);

  if (fd >= 0 && mmap (NULL, size, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
    {
      close (fd);
      return -1;
    }
  return fd;
}

static void
fault_page (void)
{
  gsize size = sysconf (_SC_PAGESIZE);
  char *page = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  g_assert_true (page != MAP_FAILED);
  *(volatile char *) page = 1;
  munmap (page, size);
}

/* Where there is a trigger for pressure; that comes by itself, see below. */
static gint
open_trigger (const char *path)
{
  /* Only with privileges may the window be shorter than two seconds. */
  static const char *const triggers[] = { "some 1000 500000", "some 1000 2000000" };
  gint fd = open (path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

  for (guint i = 0; fd >= 0 && i < G_N_ELEMENTS (triggers); i++)
    if (write (fd, triggers[i], strlen (triggers[i]) + 1) > 0)
      return fd;
  if (fd >= 0)
    close (fd);
  return -1;
}

static gint
open_pressure (void)
{
  return open_trigger ("/proc/pressure/cpu");
}

static gint
open_pressure_of_cgroup (void)
{
  gint fd = open_trigger ("/sys/fs/cgroup/cpu.pressure");

  return fd >= 0 ? fd : open_trigger ("/sys/fs/cgroup/unified/cpu.pressure");
}

static const Kind kinds[] = {
  { "mounts", open_mounts, change_mounts, G_IO_PRI },
  { "hostname", open_hostname, change_hostname, G_IO_PRI },
  { "perf", open_perf, fault_page, G_IO_IN },
};

/* --- The loops --- */

typedef enum
{
  ITERATE,
  GLIB,
  RUN,
  RUN_WITH_FOREIGN_FD,
  NESTED_ITERATE, /* inside a callback of GLib's loop */
  N_WAYS
} Way;

static const char *const way_names[] = { "iterate", "glib", "run", "run-with-foreign-fd",
                                         "nested-iterate" };

typedef struct _Fixture Fixture;

struct _Fixture
{
  const Kind *kind;
  Way way;
  GMainContext *main_context;
  GaioContext *context;
  GCancellable *cancellable;
  GSource *foreign;
  gint foreign_fd;
  gint fd;
  GaioHandler *handler;
  guint calls;
  void (*act) (Fixture *self); /* in its callback */
};

static gboolean
count_event (gint fd, GIOCondition condition, gpointer data)
{
  Fixture *self = data;

  g_assert_cmpuint (condition & self->kind->condition, !=, 0);
  self->calls++;
  if (self->act != NULL)
    self->act (self);
  if (self->cancellable != NULL)
    g_cancellable_cancel (self->cancellable);
  return G_SOURCE_CONTINUE;
}

static gboolean
set_up (Fixture *self, const Kind *kind, Way way)
{
  *self = (Fixture){ .kind = kind, .way = way, .foreign_fd = -1 };
  self->fd = self->kind->open ();
  if (self->fd < 0)
    {
      g_test_skip ("cannot be had here");
      return FALSE;
    }
  self->context = gaio_context_new ();
  self->handler = add_fd (self->context, self->fd, kind->condition, count_event, self, NULL);
  if (self->way == ITERATE)
    return TRUE;
  self->main_context = main_context_new ();
  attach (self->context, self->main_context);
  if (self->way != RUN_WITH_FOREIGN_FD)
    return TRUE;
  self->foreign_fd = eventfd_new (0);
  self->foreign = g_unix_fd_source_new (self->foreign_fd, G_IO_IN);
  g_source_attach (self->foreign, self->main_context);
  return TRUE;
}

static void
tear_down (Fixture *self)
{
  gaio_clear_handler (&self->handler);
  if (self->foreign != NULL)
    g_source_destroy (self->foreign);
  g_clear_pointer (&self->foreign, g_source_unref);
  g_clear_object (&self->context);
  g_clear_pointer (&self->main_context, g_main_context_unref);
  if (self->foreign_fd >= 0)
    close (self->foreign_fd);
  if (self->fd >= 0)
    close (self->fd);
}

static void
iterate_inside (gpointer data)
{
  Fixture *self = data;

  gaio_context_iterate (self->context, GUARD_US);
}

static void
run_once (Fixture *self)
{
  GSource *guard = guard_new (self->main_context, "a call in a run");

  self->cancellable = g_cancellable_new ();
  gaio_context_run (self->context, self->main_context, self->cancellable, NULL);
  g_clear_object (&self->cancellable);
  guard_free (guard);
}

/* Until the handler is called. */
static void
wait_for_call (Fixture *self)
{
  guint before = self->calls;

  while (self->calls == before)
    switch (self->way)
      {
      case ITERATE:
        iterate_until (self->context, self->calls > before);
        break;
      case NESTED_ITERATE:
        gaio_context_defer (self->context, iterate_inside, self, NULL);
        main_context_until (self->main_context, self->calls > before);
        break;
      case GLIB:
        main_context_until (self->main_context, self->calls > before);
        break;
      default:
        run_once (self);
        break;
      }
}

static gboolean
step (Fixture *self)
{
  return self->main_context != NULL ? g_main_context_iteration (self->main_context, FALSE)
                                    : gaio_context_iterate (self->context, 0);
}

static void
settle (Fixture *self)
{
  for (guint n = 0; step (self); n++)
    g_assert_cmpuint (n, <, 1000);
}

/* It has been opened, and is quiet. */
static void
happen (Fixture *self)
{
  settle (self);
  self->calls = 0;
  self->kind->happen ();
}

/* A page may be touched at any time, and the name of any host on this machine be changed. */
static void
assert_once (Fixture *self, guint calls)
{
  if (self->kind->open == open_mounts)
    g_assert_cmpuint (calls, ==, 1);
  else
    g_assert_cmpuint (calls, >=, 1);
}

/* Without a wait that another event could end. */
static void
wait_until_called (Fixture *self)
{
  for (guint n = 0; self->calls == 0; n++)
    {
      step (self);
      g_assert_cmpuint (n, <, 1000);
    }
}

/* --- A signal --- */

static gboolean interrupts_look;

int
ppoll (struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
  gboolean is_look = timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec == 0;

  if (!interrupts_look || !is_look)
    return NEXT (ppoll) (fds, n, timeout, mask);
  interrupts_look = FALSE;
  errno = EINTR;
  return -1;
}

/* --- Stories: nothing in between loses an event --- */

static void
each_event_is_reported (Fixture *self)
{
  for (guint i = 0; i < N_EVENTS; i++)
    {
      happen (self);
      wait_for_call (self);
    }
}

/* It comes after GLib has polled, when the context looks. */
static void
signal_does_not_lose_it (Fixture *self)
{
  happen (self);
  interrupts_look = TRUE;
  wait_for_call (self);
  interrupts_look = FALSE;
}

static void
each_handler_is_called (Fixture *self)
{
  guint calls = 0;
  GaioHandler *second =
      add_fd (self->context, self->fd, self->kind->condition, count_fd, &calls, NULL);

  settle (self);
  calls = 0;
  happen (self);
  wait_for_call (self);
  settle (self);
  assert_once (self, calls);
  gaio_clear_handler (&second);
}

static void
limit_does_not_lose_it (Fixture *self)
{
  GaioHandler *others[4];
  guint calls = 0;
  gint fd = eventfd_new (1);

  gaio_context_set_dispatch_limits (self->context, 1, 0);
  for (guint i = 0; i < G_N_ELEMENTS (others); i++)
    others[i] = add_fd (self->context, fd, G_IO_IN, count_fd, &calls, NULL);
  self->calls = 0;
  self->kind->happen ();
  for (guint n = 0; self->calls == 0; n++)
    {
      step (self);
      g_assert_cmpuint (n, <, 1000);
    }
  for (guint i = 0; i < G_N_ELEMENTS (others); i++)
    gaio_clear_handler (&others[i]);
  close (fd);
}

static void
silent_one_hears_of_it_later (Fixture *self)
{
  gaio_handler_set_condition (self->handler, 0, NULL);
  happen (self);
  settle (self);
  g_assert_cmpuint (self->calls, ==, 0);
  gaio_handler_set_condition (self->handler, self->kind->condition, NULL);
  wait_for_call (self);
}

static void
step_in_callback (Fixture *self)
{
  if (self->calls > 1)
    return;
  self->kind->happen ();
  for (guint i = 0; i < 3; i++)
    step (self);
  g_assert_cmpuint (self->calls, ==, 1);
}

static void
one_in_its_callback_hears_of_it_later (Fixture *self)
{
  self->act = step_in_callback;
  happen (self);
  wait_for_call (self);
  if (self->calls == 1)
    wait_for_call (self);
}

static void
note_ready (GaioReadySet *set, guint n_ready, gpointer data)
{
  gsize length;

  g_free (gaio_ready_set_take (set, &length));
  ++*(guint *) data;
}

static void
ready_set_is_reported_once (Fixture *self)
{
  g_autoptr (GaioReadySet) set = gaio_ready_set_new (self->context);
  GaioHandler *member = gaio_ready_set_add_fd (set, self->fd, self->kind->condition, 7, NULL);
  guint calls = 0;

  gaio_ready_set_set_func (set, note_ready, &calls, NULL);
  settle (self);
  calls = 0;
  happen (self);
  wait_for_call (self);
  settle (self);
  assert_once (self, calls);
  gaio_clear_handler (&member);
}

static gboolean
spin_a_while (gpointer data)
{
  return --*(guint *) data > 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* Then GLib polls, and does not call check() of our source. */
static void
higher_priority_does_not_lose_it (Fixture *self)
{
  g_autoptr (GSource) busy = g_idle_source_new ();
  guint n = 5;

  happen (self);
  if (self->main_context != NULL)
    {
      g_source_set_priority (busy, G_PRIORITY_HIGH);
      g_source_set_callback (busy, spin_a_while, &n, NULL);
      g_source_attach (busy, self->main_context);
    }
  wait_for_call (self);
}

static void
pending_does_not_lose_it (Fixture *self)
{
  happen (self);
  for (guint i = 0; i < 3 && self->main_context != NULL; i++)
    g_main_context_pending (self->main_context);
  wait_for_call (self);
}

static gboolean take_fd (gint fd, GIOCondition condition, gpointer data);

/* GLib knows that the source is ready, so it polls once more and does not call check() of the
 * source. */
static void
one_of_a_source_that_is_ready_is_reported (Fixture *self)
{
  gint fd = eventfd_new (0);
  guint calls = 0;
  GaioHandler *handler = add_fd (self->context, fd, G_IO_IN, take_fd, &calls, NULL);

  settle (self);
  eventfd_add (fd);
  if (self->main_context != NULL)
    g_assert_true (g_main_context_pending (self->main_context));
  self->calls = 0;
  self->kind->happen ();
  step (self);
  wait_until_called (self);
  gaio_clear_handler (&handler);
  close (fd);
}

/* The file has reported to GLib, and the handler is silent when that would be passed on. */
static void
silenced_one_hears_of_it_later (Fixture *self)
{
  happen (self);
  if (self->main_context != NULL)
    g_main_context_pending (self->main_context);
  gaio_handler_set_condition (self->handler, 0, NULL);
  settle (self);
  g_assert_cmpuint (self->calls, ==, 0);
  gaio_handler_set_condition (self->handler, self->kind->condition, NULL);
  wait_until_called (self);
}

/* The file has reported in the one, and the other knows nothing of it. */
static void
moved_to_another_main_context_it_is_reported (Fixture *self)
{
  happen (self);
  if (self->main_context == NULL)
    return;
  g_main_context_pending (self->main_context);
  gaio_context_detach (self->context);
  g_main_context_unref (self->main_context);
  self->main_context = main_context_new ();
  attach (self->context, self->main_context);
  wait_until_called (self);
}

/* What there is no room for is kept, also while the wake-up of the last time is not seen yet. */
static void
limit_of_one_does_not_lose_it (Fixture *self)
{
  guint calls = 0;
  gint fd = self->kind->open ();
  GaioHandler *second = add_fd (self->context, fd, self->kind->condition, count_fd, &calls, NULL);

  gaio_context_set_dispatch_limits (self->context, 1, 0);
  for (guint n_between = 0; n_between < 8; n_between++)
    {
      happen (self);
      for (guint i = 0; i < n_between; i++)
        step (self);
      self->calls = calls = 0;
      self->kind->happen ();
      wait_until_called (self);
      for (guint i = 0; i < 8; i++)
        step (self);
      g_assert_cmpuint (calls, >, 0);
    }
  gaio_clear_handler (&second);
  close (fd);
}

static void
closed_one_is_dormant (Fixture *self)
{
  happen (self);
  close (self->fd);
  settle (self);
  g_assert_cmpuint (self->calls, ==, 0);
  self->fd = self->kind->open ();
  g_assert_cmpint (self->fd, >=, 0);
  self->kind->happen ();
  gaio_clear_handler (&self->handler);
  self->handler = add_fd (self->context, self->fd, self->kind->condition, count_event, self, NULL);
  happen (self);
  wait_for_call (self);
}

static gboolean
take_fd (gint fd, GIOCondition condition, gpointer data)
{
  eventfd_take (fd);
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static void
others_go_on (Fixture *self)
{
  gint fd = eventfd_new (0);
  guint calls = 0;
  GaioHandler *handler = add_fd (self->context, fd, G_IO_IN, take_fd, &calls, NULL);

  for (guint i = 0; i < N_EVENTS; i++)
    {
      eventfd_add (fd);
      settle (self);
      happen (self);
      wait_for_call (self);
    }
  g_assert_cmpuint (calls, ==, N_EVENTS);
  gaio_clear_handler (&handler);
  gaio_clear_handler (&self->handler);
  eventfd_add (fd);
  settle (self);
  close (fd);
}

static gpointer
add_and_happen (gpointer data)
{
  Fixture *self = data;

  self->handler = add_fd (self->context, self->fd, self->kind->condition, count_event, self, NULL);
  self->kind->happen ();
  return NULL;
}

/* The loop may be asleep, with a monitor that knows of no such file. */
static void
added_by_another_thread (Fixture *self)
{
  GThread *thread;

  /* What another thread does is no event of this one. */
  if (self->kind->open == open_perf)
    return;
  gaio_clear_handler (&self->handler);
  g_clear_object (&self->context);
  self->context = gaio_context_new ();
  if (self->main_context != NULL)
    attach (self->context, self->main_context);
  settle (self);
  thread = g_thread_new ("add", add_and_happen, self);
  wait_for_call (self);
  g_thread_join (thread);
}

static atomic_bool presses;

static gpointer
press (gpointer unused)
{
  while (atomic_load (&presses))
    ;
  return NULL;
}

/* More threads want to run than there are processors. The trigger tells of it once in its window.
 */
static void
pressure_is_reported (Fixture *self)
{
  guint n = g_get_num_processors () + 1;
  g_autofree GThread **threads = g_new (GThread *, n);

  atomic_store (&presses, TRUE);
  for (guint i = 0; i < n; i++)
    threads[i] = g_thread_new ("press", press, NULL);
  wait_for_call (self);
  atomic_store (&presses, FALSE);
  for (guint i = 0; i < n; i++)
    g_thread_join (threads[i]);
}

static const struct
{
  const char *name;
  void (*run) (Fixture *self);
} stories[] = {
  { "added-by-another-thread", added_by_another_thread },
  { "each-event-is-reported", each_event_is_reported },
  { "signal-does-not-lose-it", signal_does_not_lose_it },
  { "each-handler-is-called", each_handler_is_called },
  { "limit-does-not-lose-it", limit_does_not_lose_it },
  { "silent-one-hears-of-it-later", silent_one_hears_of_it_later },
  { "one-in-its-callback-hears-of-it-later", one_in_its_callback_hears_of_it_later },
  { "ready-set-is-reported-once", ready_set_is_reported_once },
  { "higher-priority-does-not-lose-it", higher_priority_does_not_lose_it },
  { "pending-does-not-lose-it", pending_does_not_lose_it },
  { "closed-one-is-dormant", closed_one_is_dormant },
  { "one-of-a-source-that-is-ready-is-reported", one_of_a_source_that_is_ready_is_reported },
  { "silenced-one-hears-of-it-later", silenced_one_hears_of_it_later },
  { "moved-to-another-main-context-it-is-reported", moved_to_another_main_context_it_is_reported },
  { "limit-of-one-does-not-lose-it", limit_of_one_does_not_lose_it },
  { "others-go-on", others_go_on },
};

typedef struct
{
  const Kind *kind;
  Way way;
  void (*run) (Fixture *self);
} Case;

static void
test_case (gconstpointer data)
{
  const Case *test = data;
  Fixture self;

  if (set_up (&self, test->kind, test->way))
    test->run (&self);
  tear_down (&self);
}

/* It takes half a second, or two. */
static const Kind pressures[] = {
  { "machine", open_pressure, NULL, G_IO_PRI },
  { "cgroup", open_pressure_of_cgroup, NULL, G_IO_PRI },
};

static const Way pressure_ways[] = { GLIB, RUN_WITH_FOREIGN_FD };

static void
add_pressures (void)
{
  static Case cases[G_N_ELEMENTS (pressures)][G_N_ELEMENTS (pressure_ways)];

  for (guint k = 0; k < G_N_ELEMENTS (pressures); k++)
    for (guint i = 0; i < G_N_ELEMENTS (pressure_ways); i++)
      {
        g_autofree char *path = g_strdup_printf ("/reports-once/pressure-is-reported/%s/%s",
                                                 pressures[k].name, way_names[pressure_ways[i]]);

        cases[k][i] = (Case){ &pressures[k], pressure_ways[i], pressure_is_reported };
        g_test_add_data_func (path, &cases[k][i], test_case);
      }
}

int
main (int argc, char **argv)
{
  static Case cases[G_N_ELEMENTS (kinds)][N_WAYS][G_N_ELEMENTS (stories)];

  g_test_init (&argc, &argv, NULL);
  for (guint k = 0; k < G_N_ELEMENTS (kinds); k++)
    for (guint way = 0; way < N_WAYS; way++)
      for (guint i = 0; i < G_N_ELEMENTS (stories); i++)
        {
          g_autofree char *path = g_strdup_printf ("/reports-once/%s/%s/%s", stories[i].name,
                                                   kinds[k].name, way_names[way]);

          cases[k][way][i] = (Case){ &kinds[k], way, stories[i].run };
          g_test_add_data_func (path, &cases[k][way][i], test_case);
        }
  add_pressures ();
  return g_test_run ();
}
