/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gaio.h>

#include "test-epoll-fd.h"
#include "test-hostile.h"

/* Only a guard against hanging for ever: nothing is expected to take long. */
#define GUARD_US (30 * (gint64) G_USEC_PER_SEC)

/* --- What callbacks do --- */

/* A callback that leaves its name in a log, so that a test can tell who ran, and in which order. */
typedef struct
{
  GString *log;
  char name;
} Mark;

static inline void
mark_once (gpointer data)
{
  Mark *mark = data;

  g_string_append_c (mark->log, mark->name);
}

static inline gboolean
mark_fd (gint fd, GIOCondition condition, gpointer data)
{
  mark_once (data);
  return G_SOURCE_CONTINUE;
}

static inline void
count_once (gpointer data)
{
  ++*(guint *) data;
}

static inline gboolean
count_again (gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static inline gboolean
count_fd (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static inline void
count_atomic (gpointer data)
{
  atomic_fetch_add ((atomic_uint *) data, 1);
}

static inline void
never_once (gpointer data)
{
  g_assert_not_reached ();
}

static inline gboolean
never_fd (gint fd, GIOCondition condition, gpointer data)
{
  g_assert_not_reached ();
}

#define expect_critical(call)                                                                      \
  G_STMT_START                                                                                     \
  {                                                                                                \
    g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, "*");                                     \
    call;                                                                                          \
    g_test_assert_expected_messages ();                                                            \
  }                                                                                                \
  G_STMT_END

/* --- Files --- */

static inline gint
eventfd_new (guint count)
{
  gint fd = eventfd (count, EFD_CLOEXEC | EFD_NONBLOCK);

  g_assert_cmpint (fd, >=, 0);
  return fd;
}

static inline void
eventfd_add (gint fd)
{
  guint64 one = 1;

  g_assert_cmpint (write (fd, &one, sizeof one), ==, sizeof one);
}

static inline gboolean
eventfd_take (gint fd)
{
  guint64 value;

  return read (fd, &value, sizeof value) == sizeof value;
}

static inline void
eventfd_wait (gint fd)
{
  GPollFD poll_fd = { fd, G_IO_IN, 0 };

  while (!eventfd_take (fd))
    if (g_poll (&poll_fd, 1, GUARD_US / 1000) == -1)
      g_assert_cmpint (errno, ==, EINTR);
    else
      g_assert_cmpint (poll_fd.revents, !=, 0);
}

static inline guint
count_open_fds (void)
{
  guint n = 0;
  GDir *dir = g_dir_open ("/proc/self/fd", 0, NULL);

  if (dir == NULL)
    return 0;
  while (g_dir_read_name (dir) != NULL)
    n++;
  g_dir_close (dir);
  return n;
}

/* --- Contexts of GLib --- */

static atomic_uint glib_polls;
static atomic_int glib_poll_timeout;

static inline gint
count_poll (GPollFD *fds, guint n_fds, gint timeout)
{
  atomic_fetch_add (&glib_polls, 1);
  atomic_store (&glib_poll_timeout, timeout);
  return g_poll (fds, n_fds, timeout);
}

/* A GMainContext that counts its polls in glib_polls. */
static inline GMainContext *
main_context_new (void)
{
  GMainContext *main_context = g_main_context_new ();

  g_main_context_set_poll_func (main_context, count_poll);
  atomic_store (&glib_polls, 0);
  return main_context;
}

/* How many fds GLib would poll, its own for wake-ups among them. */
static inline gint
main_context_n_fds (GMainContext *main_context)
{
  gint priority, timeout, n_fds;

  g_assert_true (g_main_context_acquire (main_context));
  g_main_context_prepare (main_context, &priority);
  n_fds = g_main_context_query (main_context, G_MAXINT, &timeout, NULL, 0);
  g_main_context_release (main_context);
  return n_fds;
}

/* Goes on until nothing is left to do, which must come soon: what spins does not get there. */
static inline void
main_context_settle (GMainContext *main_context)
{
  for (guint n = 0; g_main_context_iteration (main_context, FALSE); n++)
    g_assert_cmpuint (n, <, 1000);
}

/* Whether the thread is blocked in the kernel. */
static inline gboolean
thread_sleeps (gint tid)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%d/stat", tid);
  g_autofree char *stat = NULL;
  const char *end;

  g_assert_true (g_file_get_contents (path, &stat, NULL, NULL));
  end = strrchr (stat, ')');
  return end != NULL && end[2] == 'S';
}

/* Whether the main thread is. */
static inline gboolean
loop_sleeps (void)
{
  return thread_sleeps (getpid ());
}

static inline gboolean
guard_expired (gpointer what)
{
  g_error ("waited too long for %s", (const char *) what);
  return G_SOURCE_REMOVE;
}

static inline GSource *
guard_new (GMainContext *main_context, const char *what)
{
  GSource *guard = g_timeout_source_new (GUARD_US / 1000);

  g_source_set_callback (guard, guard_expired, (gpointer) what, NULL);
  g_source_attach (guard, main_context);
  return guard;
}

static inline void
guard_free (GSource *guard)
{
  g_source_destroy (guard);
  g_source_unref (guard);
}

#define main_context_until(main_context, condition)                                                \
  G_STMT_START                                                                                     \
  {                                                                                                \
    GSource *guard_ = guard_new (main_context, #condition);                                        \
    while (!(condition))                                                                           \
      g_main_context_iteration (main_context, TRUE);                                               \
    guard_free (guard_);                                                                           \
  }                                                                                                \
  G_STMT_END

#define iterate_until(context, condition)                                                          \
  G_STMT_START                                                                                     \
  {                                                                                                \
    gint64 guard_ = g_get_monotonic_time () + GUARD_US;                                            \
    while (!(condition))                                                                           \
      {                                                                                            \
        gaio_context_iterate (context, GUARD_US);                                                  \
        g_assert_cmpint (g_get_monotonic_time (), <, guard_);                                      \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END

static inline void
attach (GaioContext *context, GMainContext *main_context)
{
  g_autoptr (GError) error = NULL;
  gboolean attached = gaio_context_attach (context, main_context, &error);

  g_assert_no_error (error);
  g_assert_true (attached);
}

static inline GaioHandler *
add_fd (GaioContext *context,
        gint fd,
        GIOCondition condition,
        GaioFdFunc func,
        gpointer data,
        GDestroyNotify notify)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_context_add_fd (context, fd, condition, func, data, notify, &error);

  g_assert_no_error (error);
  g_assert_nonnull (handler);
  return handler;
}

/* Adds, and drops the handle: the watch stays until its context goes. */
static inline void
watch_fd (GaioContext *context, gint fd, GaioFdFunc func, gpointer data)
{
  gaio_handler_unref (add_fd (context, fd, G_IO_IN, func, data, NULL));
}

static inline guint64
stat_of (GaioContext *context, const char *key)
{
  g_autoptr (GVariant) stats = g_variant_take_ref (gaio_context_dup_stats (context));
  g_autoptr (GVariant) value = g_variant_lookup_value (stats, key, NULL);

  g_assert_nonnull (value);
  if (g_variant_is_of_type (value, G_VARIANT_TYPE_UINT32))
    return g_variant_get_uint32 (value);
  return g_variant_get_uint64 (value);
}

/* Under this GMainContext the context serves an fd, a timer and a bottom half. */
static inline void
assert_serves (GaioContext *context, GMainContext *main_context)
{
  guint calls = 0;
  guint fd_calls = 0;
  gint fd = eventfd_new (1);
  GaioTimer *timer = gaio_context_add_timer (context, count_once, &calls, NULL);
  GaioHandler *handler = add_fd (context, fd, G_IO_IN, count_fd, &fd_calls, NULL);

  gaio_timer_arm (timer, 100);
  gaio_context_defer (context, count_once, &calls, NULL);
  main_context_until (main_context, calls == 2 && fd_calls > 0);
  gaio_clear_timer (&timer);
  gaio_clear_handler (&handler);
  close (fd);
}

/* --- A rig: the same test runs stand-alone, with iterate(), and nested in a GMainContext --- */

typedef struct
{
  GaioContext *context;
  GMainContext *main_context; /* NULL when it stands alone */
  guint rounds;
} Rig;

static inline Rig
rig_new (gconstpointer nested)
{
  Rig rig = { gaio_context_new (), NULL, 0 };

  if (nested == NULL)
    return rig;
  rig.main_context = main_context_new ();
  attach (rig.context, rig.main_context);
  return rig;
}

static inline void
rig_clear (Rig *rig)
{
  gaio_context_detach (rig->context);
  g_clear_pointer (&rig->main_context, g_main_context_unref);
  g_assert_finalize_object (g_steal_pointer (&rig->context));
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Rig, rig_clear)

static inline gboolean
rig_round (Rig *rig, gboolean may_block)
{
  rig->rounds++;
  if (rig->main_context != NULL)
    return g_main_context_iteration (rig->main_context, may_block);
  return gaio_context_iterate (rig->context, may_block ? GUARD_US : 0);
}

#define rig_until(rig, condition)                                                                  \
  G_STMT_START                                                                                     \
  {                                                                                                \
    gint64 until_ = g_get_monotonic_time () + GUARD_US;                                            \
    GSource *source_ =                                                                             \
        (rig)->main_context != NULL ? guard_new ((rig)->main_context, #condition) : NULL;          \
    while (!(condition))                                                                           \
      {                                                                                            \
        rig_round (rig, TRUE);                                                                     \
        g_assert_cmpint (g_get_monotonic_time (), <, until_);                                      \
      }                                                                                            \
    g_clear_pointer (&source_, guard_free);                                                        \
  }                                                                                                \
  G_STMT_END

/* Lets timers and bottom halves that are due pass, until a round finds nothing to do. */
static inline void
rig_settle (Rig *rig)
{
  for (guint n = 0; rig_round (rig, FALSE); n++)
    g_assert_cmpuint (n, <, 1000);
}

/* Waits for a timer in the far future of this machine: a loop that spins meanwhile is found out. */
static inline void
rig_assert_sleeps (Rig *rig)
{
  guint fired = 0;
  GaioTimer *timer = gaio_context_add_timer (rig->context, count_once, &fired, NULL);
  guint rounds = rig->rounds;
  guint interruptions = test_interruptions ();

  gaio_timer_arm (timer, 20 * 1000);
  rig_until (rig, fired == 1);
  g_assert_cmpuint (rig->rounds - rounds, <=, 8 + test_interruptions () - interruptions);
  gaio_clear_timer (&timer);
}

/* Registers the test twice: path/alone and path/nested. */
static inline void
add_both (const char *path, GTestDataFunc func)
{
  g_autofree char *alone = g_strconcat (path, "/alone", NULL);
  g_autofree char *nested = g_strconcat (path, "/nested", NULL);

  g_test_add_data_func (alone, NULL, func);
  g_test_add_data_func (nested, GINT_TO_POINTER (TRUE), func);
}

/* --- Threads: pthreads, which ThreadSanitizer sees --- */

/* More than there are processors, so that each is stopped anywhere. */
#define N_THREADS 8

static inline pthread_t
spawn (void *(*func) (void *), gpointer data)
{
  pthread_t thread;

  g_assert_cmpint (pthread_create (&thread, NULL, func, data), ==, 0);
  return thread;
}

static inline void
join (pthread_t thread)
{
  g_assert_cmpint (pthread_join (thread, NULL), ==, 0);
}

/* --- Children of fork(2) --- */

static inline void
assert_exits_well (pid_t child)
{
  int status = 0;

  g_assert_cmpint (TEMP_FAILURE_RETRY (waitpid (child, &status, 0)), ==, child);
  g_assert_false (WIFSIGNALED (status));
  g_assert_true (WIFEXITED (status));
  g_assert_cmpint (WEXITSTATUS (status), ==, 0);
}

/* The end of a child in which all is well, by exec: a leak checker does not look at what the other
 * threads of the parent have left behind here. */
static inline void G_GNUC_NORETURN
leave_child (void)
{
#ifdef GAIO_COVERAGE
  exit (0); /* which writes down what this process has reached */
#endif
  execlp ("true", "true", NULL);
  _exit (127);
}
