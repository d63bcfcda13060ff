/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-faults.h"
#include "test-support.h"

#include <elf.h>
#include <link.h>
#include <signal.h>

/* How long a story goes on under a fault that does not go by itself. */
#define LASTING_US 4000
/* What calls a story may take beyond those that it takes when all is well: far below what a loop
 * that spins takes meanwhile. */
#define MORE_CALLS 400
/* And for each signal of a storm. */
#define CALLS_PER_SIGNAL 4

/* --- A story --- */

typedef struct
{
  GaioContext *context;
  GMainContext *main_context; /* NULL when it stands alone, or has yet to be attached */
  guint calls;
  guint notified;
  guint adds;    /* that are to be notified of, sooner or later */
  gboolean open; /* it has the fds of its own */
  gint64 lift_at;
  gboolean drains;   /* the fds are read */
  GCancellable *run; /* ends with the second call, or NULL */
} Tale;

typedef struct
{
  const char *path;
  void (*tell) (Tale *tale);
  gboolean races; /* which calls there are depends on who comes first */
  gboolean spins; /* the kernel has it spin as long as a fault lasts */
} Story;

/* Where a run has got to, for who wants to know why it failed. */
static char where[200];

static void
say_where (int number)
{
  ssize_t length G_GNUC_UNUSED = write (STDERR_FILENO, where, strlen (where));

  signal (number, SIG_DFL);
  raise (number);
}

static gboolean
nothing_to_do (gpointer data)
{
  return G_SOURCE_CONTINUE;
}

/* One turn. Nobody but the library itself ends its sleep, unless the fault is one that lasts. */
static void
turn (Tale *tale)
{
  gboolean lasts = fault_lasts ();
  GSource *tick = NULL;

  if (tale->main_context == NULL)
    {
      gaio_context_iterate (tale->context, lasts ? 1000 : GUARD_US);
      return;
    }
  tick = g_timeout_source_new (lasts ? 1 : GUARD_US / 1000);
  g_source_set_callback (tick, nothing_to_do, NULL, NULL);
  g_source_attach (tick, tale->main_context);
  g_main_context_iteration (tale->main_context, TRUE);
  guard_free (tick);
}

static void
turn_until (Tale *tale, gint64 until)
{
  g_assert_cmpint (g_get_monotonic_time (), <, until);
  if (fault_lasts () && g_get_monotonic_time () > tale->lift_at)
    fault_lift ();
  turn (tale);
}

#define tale_until(tale, condition)                                                                \
  G_STMT_START                                                                                     \
  {                                                                                                \
    gint64 until_ = g_get_monotonic_time () + GUARD_US;                                            \
                                                                                                   \
    (tale)->lift_at = g_get_monotonic_time () + LASTING_US;                                        \
    while (!(condition))                                                                           \
      turn_until (tale, until_);                                                                   \
  }                                                                                                \
  G_STMT_END

/* --- Errors --- */

static gint
expected_code (gint errsv)
{
  switch (errsv)
    {
    case EMFILE:
      return GAIO_ERROR_PROCESS_LIMIT;
    case ENFILE:
      return GAIO_ERROR_SYSTEM_LIMIT;
    case ENOSPC:
      return GAIO_ERROR_WATCH_LIMIT;
    case ENOMEM:
      return GAIO_ERROR_NO_MEMORY;
    case EBADF:
      return GAIO_ERROR_BAD_FD;
    case EPERM:
    case ENOSYS:
      return GAIO_ERROR_NOT_SUPPORTED;
    default:
      return GAIO_ERROR_FAILED;
    }
}

/* The call has failed as it should, and is made again now that the fault has gone. */
static void
forgive (GError **error, const char *subject)
{
  g_assert_cmpuint (atomic_load (&fault.struck), >, 0);
  g_assert_error (*error, GAIO_ERROR, expected_code (atomic_load (&fault.errsv)));
  if (strstr ((*error)->message, subject) == NULL)
    g_assert_true (g_str_has_prefix ((*error)->message, "Cannot create a"));
  g_assert_cmpuint (strlen ((*error)->message), >, strlen (subject) + 2);
  g_clear_error (error);
  fault_lift ();
}

typedef struct
{
  guint n_fds;
  guint64 n_handlers;
  guint notified;
} State;

static State
state_of (Tale *tale)
{
  return (State){ count_open_fds (), stat_of (tale->context, "handlers"), tale->notified };
}

static void
assert_unchanged (Tale *tale, const State *before, guint notified)
{
  State now = state_of (tale);

  /* What it takes when it first needs it, it keeps: all or nothing. */
  if (now.n_fds != before->n_fds && !tale->open)
    {
      g_assert_cmpuint (now.n_fds - before->n_fds, >=, 1);
      g_assert_cmpuint (now.n_fds - before->n_fds, <=, 3);
      tale->open = TRUE;
    }
  else
    g_assert_cmpuint (now.n_fds, ==, before->n_fds);
  g_assert_cmpuint (now.n_handlers, ==, before->n_handlers);
  g_assert_cmpuint (now.notified, ==, before->notified + notified);
}

/* --- Calls that are made again if a fault has come between --- */

static void
tale_notified (gpointer data)
{
  ((Tale *) data)->notified++;
}

static void
tale_called (gpointer data)
{
  Tale *tale = data;

  tale->calls++;
  if (tale->run != NULL && tale->calls == 2)
    g_cancellable_cancel (tale->run);
}

static gboolean
tale_called_fd (gint fd, GIOCondition condition, gpointer data)
{
  tale_called (data);
  if (((Tale *) data)->drains)
    eventfd_take (fd);
  return G_SOURCE_CONTINUE;
}

static GaioHandler *
tale_add (Tale *tale, gint fd)
{
  State before = state_of (tale);
  g_autofree char *subject = g_strdup_printf ("fd %d", fd);
  g_autoptr (GError) error = NULL;
  GaioHandler *handler;

  tale->adds++;
  handler =
      gaio_context_add_fd (tale->context, fd, G_IO_IN, tale_called_fd, tale, tale_notified, &error);
  if (handler != NULL)
    return handler;
  forgive (&error, subject);
  assert_unchanged (tale, &before, 1);
  return tale_add (tale, fd);
}

static void
tale_set_condition (Tale *tale, GaioHandler *handler, GIOCondition condition)
{
  State before = state_of (tale);
  GIOCondition last = gaio_handler_get_condition (handler);
  g_autofree char *subject = g_strdup_printf ("fd %d", gaio_handler_get_fd (handler));
  g_autoptr (GError) error = NULL;

  if (!gaio_handler_set_condition (handler, condition, &error))
    {
      forgive (&error, subject);
      assert_unchanged (tale, &before, 0);
      g_assert_cmpint (gaio_handler_get_condition (handler), ==, last);
      gaio_handler_set_condition (handler, condition, &error);
      g_assert_no_error (error);
    }
  g_assert_cmpint (gaio_handler_get_condition (handler), ==, condition);
}

static void
tale_attach (Tale *tale)
{
  State before = state_of (tale);
  g_autoptr (GError) error = NULL;

  tale->main_context = main_context_new ();
  if (gaio_context_attach (tale->context, tale->main_context, &error))
    return;
  forgive (&error, "Cannot create a set of fds to watch");
  g_clear_pointer (&tale->main_context, g_main_context_unref);
  assert_unchanged (tale, &before, 0);
  tale_attach (tale);
}

/* --- What must be so once the fault has gone --- */

static void *
defer_from_thread (gpointer data)
{
  Tale *tale = data;

  gaio_context_defer (tale->context, tale_called, tale, tale_notified);
  return NULL;
}

/* Whether it lasted or not: an fd, a timer, a bottom half and another thread are served. */
static void
assert_recovered (Tale *tale)
{
  Tale after = { .context = tale->context, .main_context = tale->main_context };
  gint fd = eventfd_new (1);
  guint fired = 0;
  GaioTimer *timer = gaio_context_add_timer (tale->context, count_once, &fired, NULL);
  GaioHandler *handler;
  pthread_t thread;

  handler = tale_add (&after, fd);
  tale_until (&after, after.calls > 0);
  gaio_clear_handler (&handler);
  tale_until (&after, after.notified == 1);
  after.calls = after.notified = 0;
  gaio_timer_arm (timer, 100);
  tale_until (&after, fired == 1);
  gaio_context_defer (tale->context, tale_called, &after, tale_notified);
  tale_until (&after, after.notified == 1);
  thread = spawn (defer_from_thread, &after);
  tale_until (&after, after.notified == 2);
  join (thread);
  g_assert_cmpuint (after.calls, ==, 2);
  gaio_clear_timer (&timer);
  close (fd);
}

/* --- The stories --- */

static void
tell_first_use (Tale *tale)
{
  gint fd = eventfd_new (1);
  GaioHandler *handler = tale_add (tale, fd);

  tale_until (tale, tale->calls > 0);
  gaio_clear_handler (&handler);
  tale_until (tale, tale->notified == tale->adds);
  close (fd);
}

static void
tell_attached (Tale *tale)
{
  tale_attach (tale);
  tell_first_use (tale);
}

static void
tell_changes (Tale *tale)
{
  gint fd = eventfd_new (1);
  GaioHandler *handler = tale_add (tale, fd);
  GaioHandler *other = tale_add (tale, fd);
  guint calls;

  tale_set_condition (tale, handler, G_IO_PRI);
  tale_set_condition (tale, other, G_IO_IN | G_IO_PRI);
  calls = tale->calls;
  tale_until (tale, tale->calls > calls);
  tale_set_condition (tale, other, 0);
  tale_set_condition (tale, handler, G_IO_IN);
  gaio_clear_handler (&other);
  calls = tale->calls;
  tale_until (tale, tale->calls > calls);
  gaio_clear_handler (&handler);
  tale_until (tale, tale->notified == tale->adds);
  close (fd);
}

static void
tell_changes_attached (Tale *tale)
{
  tale_attach (tale);
  tell_changes (tale);
}

static void
tell_always_ready (Tale *tale)
{
  gint fd = open ("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  GaioHandler *handler = tale_add (tale, fd);
  guint calls = tale->calls;

  tale_until (tale, tale->calls > calls);
  gaio_clear_handler (&handler);
  tale_until (tale, tale->notified == tale->adds);
  close (fd);
}

static void
tell_timer (Tale *tale)
{
  GaioTimer *timer = gaio_context_add_timer (tale->context, tale_called, tale, tale_notified);

  tale->adds++;
  for (guint i = 1; i <= 3; i++)
    {
      gint64 deadline = g_get_monotonic_time () + 1500;

      gaio_timer_arm_at (timer, deadline);
      tale_until (tale, tale->calls == i);
      g_assert_cmpint (g_get_monotonic_time (), >=, deadline);
    }
  gaio_clear_timer (&timer);
  tale_until (tale, tale->notified == tale->adds);
}

static void
tell_timer_attached (Tale *tale)
{
  tale_attach (tale);
  tell_timer (tale);
}

static void
tell_defer (Tale *tale)
{
  for (guint i = 1; i <= 3; i++)
    {
      pthread_t thread = spawn (defer_from_thread, tale);

      tale->adds++;
      tale_until (tale, tale->notified == i);
      g_assert_cmpuint (tale->calls, ==, i);
      join (thread);
    }
}

static void
tell_defer_attached (Tale *tale)
{
  tale_attach (tale);
  tell_defer (tale);
}

static void
count_ready (GaioReadySet *set, guint n_ready, gpointer data)
{
  gsize length;
  g_autofree guint8 *records G_GNUC_UNUSED = gaio_ready_set_take (set, &length);

  g_assert_cmpuint (length, ==, 16 * n_ready);
  tale_called (data);
}

static GaioHandler *
tale_add_member (Tale *tale, GaioReadySet *set, gint fd)
{
  State before = state_of (tale);
  g_autofree char *subject = g_strdup_printf ("fd %d", fd);
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 1, &error);

  if (handler != NULL)
    return handler;
  forgive (&error, subject);
  assert_unchanged (tale, &before, 0);
  return tale_add_member (tale, set, fd);
}

static void
tell_ready_set (Tale *tale)
{
  GaioReadySet *set = gaio_ready_set_new (tale->context);
  gint fd = eventfd_new (1);
  GaioHandler *handler;

  tale_attach (tale);
  gaio_ready_set_set_func (set, count_ready, tale, tale_notified);
  tale->adds++;
  handler = tale_add_member (tale, set, fd);
  tale_until (tale, tale->calls > 0);
  tale_set_condition (tale, handler, G_IO_PRI);
  tale_set_condition (tale, handler, G_IO_IN);
  tale->calls = 0;
  tale_until (tale, tale->calls > 0);
  gaio_clear_handler (&handler);
  g_object_unref (set);
  tale_until (tale, tale->notified == tale->adds);
  close (fd);
}

static GaioNotifier *
tale_notifier_new (Tale *tale)
{
  State before = state_of (tale);
  g_autoptr (GError) error = NULL;
  GaioNotifier *notifier = gaio_notifier_new (&error);

  if (notifier != NULL)
    return notifier;
  forgive (&error, "Cannot create an eventfd");
  assert_unchanged (tale, &before, 0);
  return tale_notifier_new (tale);
}

static GaioHandler *
tale_add_notifier (Tale *tale, GaioNotifier *notifier)
{
  State before = state_of (tale);
  g_autofree char *subject = g_strdup_printf ("fd %d", gaio_notifier_get_fd (notifier));
  g_autoptr (GError) error = NULL;
  GaioHandler *handler =
      gaio_context_add_notifier (tale->context, notifier, tale_called, tale, tale_notified, &error);

  tale->adds++;
  if (handler != NULL)
    return handler;
  forgive (&error, subject);
  assert_unchanged (tale, &before, 1);
  return tale_add_notifier (tale, notifier);
}

static void *
set_notifier (gpointer notifier)
{
  gaio_notifier_set (notifier);
  return NULL;
}

static void
tell_notifier (Tale *tale)
{
  GaioNotifier *notifier = tale_notifier_new (tale);
  GaioHandler *handler = tale_add_notifier (tale, notifier);

  for (guint i = 1; i <= 2; i++)
    {
      pthread_t thread = spawn (set_notifier, notifier);

      tale_until (tale, tale->calls == i);
      join (thread);
    }
  gaio_clear_handler (&handler);
  tale_until (tale, tale->notified == tale->adds);
  gaio_notifier_unref (notifier);
}

static void
note_status (GPid pid, gint status, gpointer data)
{
  if (status == -1)
    g_assert_cmpint (atomic_load (&fault.errsv), ==, ECHILD);
  else
    g_assert_cmpint (WEXITSTATUS (status), ==, 3);
  tale_called (data);
}

static GaioHandler *
tale_add_child (Tale *tale, GPid pid)
{
  State before = state_of (tale);
  g_autofree char *subject = g_strdup_printf ("Process %d", pid);
  g_autoptr (GError) error = NULL;
  GaioHandler *handler =
      gaio_context_add_child (tale->context, pid, note_status, tale, tale_notified, &error);

  tale->adds++;
  if (handler != NULL)
    return handler;
  /* It names the pidfd if it was that which could not be added. */
  if (strstr (error->message, "fd ") == error->message)
    memcpy (subject, "fd ", sizeof "fd ");
  forgive (&error, subject);
  assert_unchanged (tale, &before, 1);
  return tale_add_child (tale, pid);
}

static void
tell_child (Tale *tale)
{
  GPid pid = fork ();
  GaioHandler *handler;

  g_assert_cmpint (pid, >=, 0);
  if (pid == 0)
    _exit (3);
  handler = tale_add_child (tale, pid);
  tale_until (tale, tale->notified == tale->adds);
  g_assert_cmpuint (tale->calls, ==, 1);
  gaio_handler_unref (handler);
  waitpid (pid, NULL, WNOHANG);
}

static GaioThread *
tale_thread_new (Tale *tale)
{
  State before = state_of (tale);
  g_autoptr (GError) error = NULL;
  GaioThread *thread = gaio_thread_new ("faults", &error);

  if (thread != NULL)
    return thread;
  forgive (&error, "Thread \"faults\"");
  assert_unchanged (tale, &before, 0);
  return tale_thread_new (tale);
}

static void
tell_thread (Tale *tale)
{
  GaioThread *thread = tale_thread_new (tale);
  atomic_uint calls = 0;

  for (guint i = 1; i <= 2; i++)
    gaio_context_defer (gaio_thread_get_context (thread), count_atomic, &calls, NULL);
  gaio_thread_stop (thread);
  g_assert_cmpuint (atomic_load (&calls), ==, 2);
  g_object_unref (thread);
}

/* A closed fd whose copy lives on stays in the epoll set, which has to be made anew. */
static void
tell_ghost (Tale *tale)
{
  gint fd = eventfd_new (1), copy;
  gint kept = eventfd_new (1);
  GaioHandler *handler = tale_add (tale, fd);
  GaioHandler *other = tale_add (tale, kept);
  GaioTimer *timer = gaio_context_add_timer (tale->context, tale_called, tale, NULL);

  copy = dup (fd);
  close (fd);
  gaio_clear_handler (&handler);
  tale->calls = 0;
  tale_until (tale, tale->calls > 1);
  tale_set_condition (tale, other, 0);
  tale->calls = 0;
  gaio_timer_arm (timer, 2000);
  tale_until (tale, tale->calls == 1);
  tale_set_condition (tale, other, G_IO_IN);
  tale_until (tale, tale->calls > 1);
  gaio_clear_handler (&other);
  gaio_clear_timer (&timer);
  tale_until (tale, tale->notified == tale->adds);
  close (copy);
  close (kept);
}

static void
tell_ghost_attached (Tale *tale)
{
  tale_attach (tale);
  tell_ghost (tale);
}

static gboolean
lift_and_go_on (gpointer data)
{
  fault_lift ();
  return G_SOURCE_CONTINUE;
}

/* Whoever hosts the loop has no turns of ours: GLib lifts a fault that lasts. */
static void
tell_run (Tale *tale)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  GaioTimer *timer = gaio_context_add_timer (tale->context, tale_called, tale, NULL);
  gint fd = eventfd_new (1);
  GaioHandler *handler;
  GSource *lift = g_timeout_source_new (LASTING_US / 1000);
  GSource *guard;

  tale_attach (tale);
  tale->drains = TRUE;
  handler = tale_add (tale, fd);
  tale->run = cancellable;
  guard = guard_new (tale->main_context, "the fd and the timer");
  g_source_set_callback (lift, lift_and_go_on, NULL, NULL);
  if (fault_lasts ())
    g_source_attach (lift, tale->main_context);
  gaio_timer_arm (timer, 1500);
  g_assert_true (gaio_context_run (tale->context, tale->main_context, cancellable, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (tale->calls, ==, 2);
  guard_free (guard);
  guard_free (lift);
  tale->run = NULL;
  gaio_clear_handler (&handler);
  gaio_clear_timer (&timer);
  tale_until (tale, tale->notified == tale->adds);
  close (fd);
}

static void
tell_close (Tale *tale)
{
  gint fd = eventfd_new (1);
  GaioHandler *handler;

  tale_attach (tale);
  handler = tale_add (tale, fd);
  gaio_context_defer (tale->context, tale_called, tale, tale_notified);
  tale->adds++;
  gaio_context_close (tale->context);
  g_assert_cmpuint (tale->notified, ==, tale->adds);
  gaio_handler_unref (handler);
  close (fd);
}

/* --- Telling them --- */

static void
tale_end (Tale *tale)
{
  if (!gaio_context_is_closed (tale->context))
    {
      assert_recovered (tale);
      gaio_context_detach (tale->context);
    }
  g_clear_pointer (&tale->main_context, g_main_context_unref);
  g_assert_finalize_object (tale->context);
  g_assert_cmpuint (tale->notified, ==, tale->adds);
}

/* Returns how many calls it took. */
static guint
tell (const Story *story, Function function, guint nth, gint errsv, gboolean lasting, guint most)
{
  guint before = count_open_fds ();
  Tale tale = { .context = gaio_context_new () };
  guint interruptions = test_interruptions ();
  guint n;

  g_snprintf (where, sizeof where, "# %s: call %u of %s, %s%s\n", story->path, nth + 1,
              function < N_FUNCTIONS ? fault_table[function].symbol : "nothing", g_strerror (errsv),
              lasting ? ", lasting" : "");
  atomic_store (&glib_polls, 0);
  fault_begin (function, nth, errsv, lasting);
  story->tell (&tale);
  fault_end ();
  n = fault_total ();
  interruptions = test_interruptions () - interruptions;
  if (most != G_MAXUINT && (!lasting || !story->spins))
    g_assert_cmpuint (n + atomic_load (&glib_polls), <=, most + CALLS_PER_SIGNAL * interruptions);
  tale_end (&tale);
  g_assert_cmpuint (count_open_fds (), ==, before);
  return n;
}

/* How often clocks make it ask varies, and now and then, when a timer is due before it is waited
 * for, whether. */
static void
tell_until_struck (const Story *story, Function function, gint errsv, guint most)
{
  guint n = 0;

  do
    {
      tell (story, function, 0, errsv, FALSE, most);
      g_assert_cmpuint (n++, <, 10);
    }
  while (atomic_load (&fault.struck) == 0);
}

/* Returns how many calls have failed. */
static guint
tell_with_fault (const Story *story, Function function, guint n_calls, guint most)
{
  guint struck = 0;

  for (guint i = 0; i < MAX_ERRNOS && fault_table[function].errnos[i] != 0; i++)
    for (guint nth = 0; nth < n_calls; nth++)
      {
        gint errsv = fault_table[function].errnos[i];

        if (nth == 0 && !story->races)
          tell_until_struck (story, function, errsv, most);
        else
          tell (story, function, nth, errsv, FALSE, most);
        struck += atomic_load (&fault.struck);
        if (!fault_table[function].passes)
          tell (story, function, nth, errsv, TRUE, most);
      }
  return struck;
}

static void
test_story (gconstpointer data)
{
  const Story *story = data;
  guint counts[N_FUNCTIONS];
  guint n = 0, struck = 0;

  if (story->tell == tell_child && !test_has ("pidfd_open", syscall (SYS_pidfd_open, getpid (), 0)))
    return;
  /* Twice: what this kernel does not have is found out once, and what is asked by chance is not. */
  for (guint k = 0; k < 2; k++)
    {
      n = tell (story, N_FUNCTIONS, 0, 0, FALSE, G_MAXUINT);
      for (guint i = 0; i < N_FUNCTIONS; i++)
        {
          guint calls = atomic_load (&fault.counts[i]);

          counts[i] = k == 0 || story->races ? calls : MIN (counts[i], calls);
        }
    }
  for (guint i = 0; i < N_FUNCTIONS; i++)
    if (counts[i] > 0)
      struck += tell_with_fault (story, i, counts[i], n + MORE_CALLS);
  g_assert_cmpuint (struck, >, 0);
}

static const Story stories[] = {
  { "/faults/first-use", tell_first_use },
  { "/faults/first-use/attached", tell_attached },
  { "/faults/changes", tell_changes },
  { "/faults/changes/attached", tell_changes_attached },
  { "/faults/always-ready", tell_always_ready },
  { "/faults/timer", tell_timer },
  { "/faults/timer/attached", tell_timer_attached },
  { "/faults/defer", tell_defer, .races = TRUE },
  { "/faults/defer/attached", tell_defer_attached, .races = TRUE },
  { "/faults/ready-set", tell_ready_set },
  { "/faults/notifier", tell_notifier, .races = TRUE },
  { "/faults/child", tell_child, .races = TRUE },
  { "/faults/thread", tell_thread, .races = TRUE },
  { "/faults/ghost", tell_ghost, .spins = TRUE },
  { "/faults/ghost/attached", tell_ghost_attached, .spins = TRUE },
  { "/faults/run", tell_run },
  { "/faults/close", tell_close },
};

/* --- At the limit of fds --- */

/* Sets the limit of open fds to what is open. */
static void
leave_no_room (struct rlimit *before)
{
  struct rlimit none;
  gint fd = eventfd_new (0);

  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, before), ==, 0);
  none = *before;
  none.rlim_cur = fd;
  close (fd);
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &none), ==, 0);
}

static void
fire (Tale *tale)
{
  GaioTimer *timer = gaio_context_add_timer (tale->context, tale_called, tale, NULL);

  tale->calls = 0;
  gaio_timer_arm (timer, 1500);
  tale_until (tale, tale->calls == 1);
  gaio_clear_timer (&timer);
}

/* The timerfd, which makes room for a new set, may not get into that. */
static void
test_timer_survives_a_rebuild (void)
{
  for (guint nth = 0; nth < 4; nth++)
    {
      Tale tale = { .context = gaio_context_new () };
      struct rlimit before;
      GaioHandler *handler;
      gint fd, copy;

      tale_attach (&tale);
      fd = eventfd_new (1);
      copy = dup (fd);
      handler = tale_add (&tale, fd);
      close (fd);
      gaio_clear_handler (&handler);
      leave_no_room (&before);
      fault_begin (EPOLL_ADD, nth, ENOSPC, FALSE);
      fire (&tale);
      fault_end ();
      fire (&tale);
      g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
      tale_end (&tale);
      close (copy);
    }
}

/* --- Nothing has been forgotten --- */

#ifdef GAIO_COVERAGE
#  define HAS_COUNTERS TRUE
#else
#  define HAS_COUNTERS FALSE
#endif

/* Of the C library, but either without the kernel or without a way to fail that anybody can see. */
static const char *const harmless[] = {
  "close",   /* it closes, whatever it says */
  "fstatfs", /* on failure a file is taken for one that anybody may ask */
  "fstatfs64",
  "getpid",
  "getrlimit", /* for a message */
  "ioctl",     /* as fstatfs */
  "memcmp",
  "memcpy",
  "memmove",
  "memset",
  "madvise", /* before main(); `without` has it fail */
  "pthread_atfork",
  "pthread_cond_broadcast",
  "pthread_cond_destroy",
  "pthread_cond_init",
  "pthread_cond_signal",
  "pthread_cond_wait",
  "pthread_join",
  "pthread_mutex_destroy",
  "pthread_mutex_init",
  "pthread_mutex_lock",
  "pthread_mutex_unlock",
  "pthread_once",
  "pthread_sigmask",
  "qsort",
  "secure_getenv",
  "sem_destroy",
  "sem_init",
  "sem_post",
  "sigfillset",
  "strcmp",
  "strlen",
  "sysconf",
};

/* Those of file I/O, which have their own program of tests: test-file-faults. */
static const char *const tested_elsewhere[] = {
  "__io_uring_get_cqe",
  "fsync",
  "io_uring_enter",
  "io_uring_queue_exit",
  "io_uring_queue_init_params",
  "io_uring_submit",
  "pread",
  "pwrite",
  "statx",
};

static gboolean
is_in (const char *const *names, guint n_names, const char *name, gsize length)
{
  for (guint i = 0; i < n_names; i++)
    if (strlen (names[i]) == length && strncmp (names[i], name, length) == 0)
      return TRUE;
  return FALSE;
}

static gboolean
is_known (const char *name)
{
  gsize length = strlen (name);

  /* fstat64 is fstat with a large off_t. */
  if (g_str_has_suffix (name, "64"))
    length -= 2;
  for (guint i = 0; i < N_FUNCTIONS; i++)
    if (strlen (fault_table[i].symbol) == length &&
        strncmp (fault_table[i].symbol, name, length) == 0)
      return TRUE;
  if (is_in (harmless, G_N_ELEMENTS (harmless), name, length) ||
      is_in (tested_elsewhere, G_N_ELEMENTS (tested_elsewhere), name, length))
    return TRUE;
  /* GLib's, the compiler's, a sanitizer's. */
  return g_str_has_prefix (name, "g_") || g_str_has_prefix (name, "_");
}

static gsize
dynamic_value (const struct link_map *map, gint64 tag)
{
  for (const ElfW (Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++)
    if (entry->d_tag == tag)
      return entry->d_un.d_val;
  return 0;
}

static void
assert_relocations_known (const struct link_map *map, gint64 table_tag, gint64 size_tag)
{
  const ElfW (Sym) *symbols = (gconstpointer) dynamic_value (map, DT_SYMTAB);
  const char *names = (gconstpointer) dynamic_value (map, DT_STRTAB);
  const ElfW (Rela) *relocations = (gconstpointer) dynamic_value (map, table_tag);
  gsize n = dynamic_value (map, size_tag) / sizeof *relocations;

  for (gsize i = 0; i < n; i++)
    {
      const ElfW (Sym) *symbol = &symbols[ELF64_R_SYM (relocations[i].r_info)];

      if (symbol->st_name != 0 && symbol->st_shndx == SHN_UNDEF &&
          !is_known (names + symbol->st_name))
        g_error ("%s is called by the library, and is not among those that fail here",
                 names + symbol->st_name);
    }
}

static void
test_every_call_is_known (void)
{
#if GLIB_SIZEOF_VOID_P == 8 && (defined __x86_64__ || defined __aarch64__)
  const void *address = dlsym (RTLD_DEFAULT, "gaio_context_new");
  struct link_map *map = NULL;
  Dl_info info;

  if (HAS_COUNTERS)
    {
      g_test_skip ("what counts coverage is in the library, too");
      return;
    }
  g_assert_true (dladdr1 (address, &info, (void **) &map, RTLD_DL_LINKMAP) != 0);
  g_assert_cmpuint (dynamic_value (map, DT_PLTRELSZ) + dynamic_value (map, DT_RELASZ), >, 0);
  assert_relocations_known (map, DT_JMPREL, DT_PLTRELSZ);
  assert_relocations_known (map, DT_RELA, DT_RELASZ);
#else
  g_test_skip ("how this machine's relocations look is not known here");
#endif
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  /* Its fd stays open, whoever needs it first. */
  g_main_context_default ();
  signal (SIGABRT, say_where);
  signal (SIGTRAP, say_where);
  for (guint i = 0; i < G_N_ELEMENTS (stories); i++)
    g_test_add_data_func (stories[i].path, &stories[i], test_story);
  g_test_add_func ("/faults/timer-survives-a-rebuild", test_timer_survives_a_rebuild);
  g_test_add_func ("/faults/every-call-is-known", test_every_call_is_known);
  return g_test_run ();
}
