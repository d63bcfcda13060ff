/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gaio.h>

#include "test-epoll-fd.h"
#include "test-hostile.h"
#include "test-waits.h"

/* A guard against hanging, never a measure. */
#define TEST_PATIENCE_US (G_GINT64_CONSTANT (60) * G_USEC_PER_SEC)
#define TEST_MAX_STEPS 2000

/* --- A loop: the same story told over iterate(), under GLib, and with both --- */

typedef enum
{
  TEST_ITERATE, /* the context alone */
  TEST_GLIB,    /* attached to a GMainContext; what nests, nests GLib's loop */
  TEST_MIXED,   /* attached too; what nests, nests gaio_context_iterate() */
} TestMode;

typedef struct
{
  TestMode mode;
  GaioContext *context;
  GMainContext *main_context; /* NULL in TEST_ITERATE */
  GString *log;               /* the tags of the watches in the order of their calls */
  gboolean stopping;          /* no more acts */
} TestLoop;

static inline void
test_loop_set_up (TestLoop *self, gconstpointer mode)
{
  g_autoptr (GError) error = NULL;

  self->mode = GPOINTER_TO_INT (mode);
  self->context = gaio_context_new ();
  self->log = g_string_new (NULL);
  if (self->mode == TEST_ITERATE)
    return;
  self->main_context = g_main_context_new ();
  gaio_context_attach (self->context, self->main_context, &error);
  g_assert_no_error (error);
}

static inline void
test_loop_tear_down (TestLoop *self, gconstpointer mode)
{
  g_clear_object (&self->context);
  g_clear_pointer (&self->main_context, g_main_context_unref);
  g_string_free (self->log, TRUE);
}

static inline gboolean
test_loop_step_full (TestLoop *self, gboolean may_block)
{
  gboolean nested = gaio_context_get_current () != NULL;

  if (self->main_context != NULL && !(nested && self->mode == TEST_MIXED))
    return g_main_context_iteration (self->main_context, may_block);
  return self->context != NULL && gaio_context_iterate (self->context, may_block ? -1 : 0);
}

/* One round that does not wait; TRUE if it did anything. */
static inline gboolean
test_loop_step (TestLoop *self)
{
  return test_loop_step_full (self, FALSE);
}

/* Goes on until nothing is left to do. */
static inline void
test_loop_settle (TestLoop *self)
{
  for (guint n = 0; test_loop_step (self); n++)
    g_assert_cmpuint (n, <, TEST_MAX_STEPS);
}

#define test_run_until(loop, what)                                                                 \
  G_STMT_START                                                                                     \
  {                                                                                                \
    gint64 deadline_ = g_get_monotonic_time () + TEST_PATIENCE_US;                                 \
    while (!(what))                                                                                \
      {                                                                                            \
        g_assert_cmpint (g_get_monotonic_time (), <, deadline_);                                   \
        test_loop_step (loop);                                                                     \
        g_thread_yield ();                                                                         \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END

typedef struct
{
  gboolean fired;
  gboolean gone;
} TestAlarm;

static inline void
test_alarm_fired (gpointer alarm)
{
  ((TestAlarm *) alarm)->fired = TRUE;
}

static inline void
test_alarm_gone (gpointer alarm)
{
  ((TestAlarm *) alarm)->gone = TRUE;
}

/* Waits for a timer: a loop that sleeps gets there in a few steps, one that spins in thousands. */
static inline void
test_loop_assert_sleeps (TestLoop *self)
{
  TestAlarm alarm = { FALSE, FALSE };
  GaioTimer *timer =
      gaio_context_add_timer (self->context, test_alarm_fired, &alarm, test_alarm_gone);
  gint waits_before;
  guint interruptions = test_interruptions ();

  test_loop_settle (self);
  gaio_timer_arm (timer, 20 * 1000);
  waits_before = n_epoll_waits;
  for (guint n = 0; !alarm.fired; n++)
    {
      g_assert_cmpuint (n, <, 8 + test_interruptions () - interruptions);
      test_loop_step_full (self, TRUE);
    }
  /* One that is interrupted may look at the clock, and find that it has to wait no more. */
  g_assert_cmpint (n_epoll_waits - waits_before, <,
                   16 + 2 * (gint) (test_interruptions () - interruptions));
  gaio_clear_timer (&timer);
  test_run_until (self, alarm.gone);
}

/* --- Files --- */

static inline gint
test_eventfd (guint value)
{
  gint fd = eventfd (value, EFD_CLOEXEC | EFD_NONBLOCK);

  g_assert_cmpint (fd, >=, 0);
  return fd;
}

static inline void
test_signal (gint fd)
{
  g_assert_cmpint (eventfd_write (fd, 1), ==, 0);
}

static inline void
test_pipe (gint fds[2])
{
  g_assert_cmpint (pipe2 (fds, O_CLOEXEC | O_NONBLOCK), ==, 0);
}

static inline void
test_socketpair (gint fds[2])
{
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
}

/* A file of its own, which an eventfd is not: they all share one inode. Never readable. */
static inline gint
test_socket (void)
{
  gint fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  g_assert_cmpint (fd, >=, 0);
  return fd;
}

/* Another, which is readable for ever. */
static inline gint
test_readable_pipe (void)
{
  gint fds[2];

  test_pipe (fds);
  close (fds[1]);
  return fds[0];
}

static inline gint
test_open (const char *path)
{
  gint fd = open (path, O_RDONLY | O_CLOEXEC);

  g_assert_cmpint (fd, >=, 0);
  return fd;
}

/* Reads all there is. */
static inline void
test_drain (gint fd)
{
  char buffer[4096];

  while (read (fd, buffer, sizeof buffer) > 0)
    ;
}

static inline void
test_close (gint *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

/* Gives the file behind @from the number @to; what was there is closed. A number that has been
 * closed before may belong to somebody else by now. */
static inline void
test_move_fd (gint from, gint to)
{
  g_assert_cmpint (from, !=, to);
  g_assert_cmpint (dup2 (from, to), ==, to);
  close (from);
}

/* --- A watch: one fd that it owns, one handler, and what came of them --- */

typedef struct _TestWatch TestWatch;

struct _TestWatch
{
  TestLoop *loop;
  gint fd;
  GaioHandler *handler;
  gchar tag;                      /* for the log, 0 for none */
  gboolean drains;                /* reads the fd in the callback */
  gboolean removes;               /* returns G_SOURCE_REMOVE */
  void (*act) (TestWatch *watch); /* what the callback does beside */
  TestWatch *other;               /* to whom */
  guint calls;
  guint depth;   /* calls in flight */
  guint deepest; /* most calls in flight */
  gint called_fd;
  GIOCondition condition; /* of the last call */
  guint notifies;
};

static inline gboolean
test_watch_called (gint fd, GIOCondition condition, gpointer user_data)
{
  TestWatch *self = user_data;

  g_assert_cmpuint (self->notifies, ==, 0);
  self->calls++;
  self->depth++;
  self->deepest = MAX (self->deepest, self->depth);
  self->called_fd = fd;
  self->condition = condition;
  if (self->tag != 0)
    g_string_append_c (self->loop->log, self->tag);
  if (self->drains)
    test_drain (fd);
  if (self->act != NULL && !self->loop->stopping)
    self->act (self);
  self->depth--;
  return self->removes ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static inline void
test_watch_notified (gpointer user_data)
{
  TestWatch *self = user_data;

  g_assert_cmpuint (self->depth, ==, 0);
  self->notifies++;
}

/* Takes @fd over. */
static inline void
test_watch_start (TestWatch *self, TestLoop *loop, gint fd, GIOCondition condition)
{
  g_autoptr (GError) error = NULL;

  self->loop = loop;
  self->fd = fd;
  self->handler = gaio_context_add_fd (loop->context, fd, condition, test_watch_called, self,
                                       test_watch_notified, &error);
  g_assert_no_error (error);
  g_assert_nonnull (self->handler);
}

static inline void
test_watch_stop (TestWatch *self)
{
  if (self->loop == NULL)
    return;
  gaio_clear_handler (&self->handler);
  test_close (&self->fd);
  self->loop->stopping = TRUE;
  test_run_until (self->loop, self->notifies > 0);
  self->loop->stopping = FALSE;
  g_assert_cmpuint (self->notifies, ==, 1);
  self->loop = NULL;
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (TestWatch, test_watch_stop)

/* clang-format off */
#define TEST_WATCH_INIT { .fd = -1 }
/* clang-format on */

/* --- What their callbacks do beside --- */

static inline void
test_remove_other (TestWatch *self)
{
  gaio_handler_remove (self->other->handler);
}

static inline void
test_signal_other_and_wait (TestWatch *self)
{
  guint before = self->other->calls;

  test_signal (self->other->fd);
  test_run_until (self->loop, self->other->calls > before);
}

static inline void
test_assert_sleeps (TestWatch *self)
{
  test_loop_assert_sleeps (self->loop);
}

/* --- Running a test in its modes --- */

#define test_add_mode(path, func, mode)                                                            \
  g_test_add (path, TestLoop, GINT_TO_POINTER (mode), test_loop_set_up, func, test_loop_tear_down)

#define test_add(path, func)                                                                       \
  G_STMT_START                                                                                     \
  {                                                                                                \
    test_add_mode (path "/iterate", func, TEST_ITERATE);                                           \
    test_add_mode (path "/glib", func, TEST_GLIB);                                                 \
  }                                                                                                \
  G_STMT_END

/* For what nests loops. */
#define test_add_nested(path, func)                                                                \
  G_STMT_START                                                                                     \
  {                                                                                                \
    test_add (path, func);                                                                         \
    test_add_mode (path "/mixed", func, TEST_MIXED);                                               \
  }                                                                                                \
  G_STMT_END

#define test_expect_critical(pattern) g_test_expect_message ("Gaio", G_LOG_LEVEL_CRITICAL, pattern)
