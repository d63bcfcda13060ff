/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two limits Gaio is measured against: an epoll loop without any library, and the smallest
 * GSource that nests one in GLib. Both do less than is useful: a callback cannot remove a watch
 * that is ready, and a nested loop serves an fd twice. */
#include "bench.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct
{
  int epoll_fd;
  gboolean quit;
} Set;

typedef struct
{
  int epoll_fd;
  int fd;
  GUnixFDSourceFunc func;
  gpointer user_data;
} Watch;

typedef struct
{
  Set set;
  GSource *source;
  GMainContext *context;
  GMainLoop *main_loop;
} Nested;

typedef struct
{
  GSource base;
  Set *set;
} NestedSource;

static void
set_init (Set *set)
{
  *set = (Set){ .epoll_fd = epoll_create1 (EPOLL_CLOEXEC) };
}

static void
set_serve (Set *set, int timeout_ms)
{
  struct epoll_event events[BENCH_MAX_EVENTS];
  int n = epoll_wait (set->epoll_fd, events, BENCH_MAX_EVENTS, timeout_ms);

  for (int i = 0; i < n; i++)
    {
      Watch *watch = events[i].data.ptr;

      /* The bits of EPOLLIN and its likes are those of GIOCondition. */
      watch->func (watch->fd, (GIOCondition) events[i].events, watch->user_data);
    }
}

static void
control (Watch *watch, int operation, GIOCondition condition)
{
  struct epoll_event event = { .events = condition, .data.ptr = watch };

  if (epoll_ctl (watch->epoll_fd, operation, watch->fd, &event) != 0)
    g_error ("epoll_ctl: %s", g_strerror (errno));
}

/* Each loop begins with a Set. */
static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  *watch = (Watch){ ((Set *) loop)->epoll_fd, fd, func, user_data };
  control (watch, EPOLL_CTL_ADD, G_IO_IN);
  return watch;
}

static void
fd_modify (gpointer watch, GIOCondition condition)
{
  control (watch, EPOLL_CTL_MOD, condition);
}

static void
fd_remove (gpointer watch)
{
  control (watch, EPOLL_CTL_DEL, 0);
  g_free (watch);
}

static gpointer
raw_open (void)
{
  Set *set = g_new (Set, 1);

  set_init (set);
  return set;
}

static void
raw_turn (gpointer user_data)
{
  set_serve (user_data, -1);
}

static void
raw_run (gpointer user_data)
{
  Set *set = user_data;

  set->quit = FALSE;
  while (!set->quit)
    set_serve (set, -1);
}

static void
raw_quit (gpointer user_data)
{
  ((Set *) user_data)->quit = TRUE;
}

static void
raw_close (gpointer user_data)
{
  close (((Set *) user_data)->epoll_fd);
  g_free (user_data);
}

static gboolean
nested_dispatch (GSource *source, GSourceFunc func, gpointer user_data)
{
  set_serve (((NestedSource *) source)->set, 0);
  return G_SOURCE_CONTINUE;
}

/* Without a check function GLib looks at the source's fds itself. */
static GSourceFuncs nested_funcs = { .dispatch = nested_dispatch };

static gpointer
nested_open (void)
{
  Nested *nested = g_new (Nested, 1);

  set_init (&nested->set);
  nested->context = g_main_context_new ();
  nested->main_loop = g_main_loop_new (nested->context, FALSE);
  g_main_context_acquire (nested->context);
  nested->source = g_source_new (&nested_funcs, sizeof (NestedSource));
  ((NestedSource *) nested->source)->set = &nested->set;
  g_source_add_unix_fd (nested->source, nested->set.epoll_fd, G_IO_IN);
  g_source_set_can_recurse (nested->source, TRUE);
  g_source_attach (nested->source, nested->context);
  return nested;
}

static void
nested_turn (gpointer user_data)
{
  Nested *nested = user_data;

  g_main_context_iteration (nested->context, TRUE);
}

static void
nested_run (gpointer user_data)
{
  g_main_loop_run (((Nested *) user_data)->main_loop);
}

static void
nested_quit (gpointer user_data)
{
  g_main_loop_quit (((Nested *) user_data)->main_loop);
}

static void
nested_close (gpointer user_data)
{
  Nested *nested = user_data;

  g_source_destroy (nested->source);
  g_source_unref (nested->source);
  g_main_loop_unref (nested->main_loop);
  g_main_context_release (nested->context);
  g_main_context_unref (nested->context);
  close (nested->set.epoll_fd);
  g_free (nested);
}

const BenchContender bench_raw_epoll = {
  .name = "raw-epoll",
  .open = raw_open,
  .turn = raw_turn,
  .close = raw_close,
  .run = raw_run,
  .quit = raw_quit,
  .fd_add = fd_add,
  .fd_modify = fd_modify,
  .fd_remove = fd_remove,
};

const BenchContender bench_hand_written = {
  .name = "hand-written",
  .open = nested_open,
  .turn = nested_turn,
  .close = nested_close,
  .run = nested_run,
  .quit = nested_quit,
  .fd_add = fd_add,
  .fd_modify = fd_modify,
  .fd_remove = fd_remove,
};
