/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two limits Gaio is measured against: an epoll loop without any library, and the smallest
 * GSource that nests one in GLib. Neither can remove a handler, so both do less than is useful. */
#include "bench.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct
{
  int fd;
  GUnixFDSourceFunc func;
  gpointer user_data;
} Watch;

typedef struct
{
  int epoll_fd;
  Watch *watches;
  gboolean quit;
} Set;

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
set_watch (Set *set, Watch *watch)
{
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

  if (epoll_ctl (set->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) != 0)
    g_error ("epoll_ctl: %s", g_strerror (errno));
}

static void
set_init (Set *set)
{
  *set = (Set){ .epoll_fd = epoll_create1 (EPOLL_CLOEXEC) };
}

static void
set_add (Set *set, const int *fds, guint n_fds, GUnixFDSourceFunc func, gpointer user_data)
{
  set->watches = g_new (Watch, n_fds);
  for (guint i = 0; i < n_fds; i++)
    {
      set->watches[i] = (Watch){ fds[i], func, user_data };
      set_watch (set, &set->watches[i]);
    }
}

static void
set_clear (Set *set)
{
  close (set->epoll_fd);
  g_free (set->watches);
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

static gpointer
raw_open (void)
{
  Set *set = g_new (Set, 1);

  set_init (set);
  return set;
}

static void
raw_watch (gpointer loop, const int *fds, guint n_fds, GUnixFDSourceFunc func, gpointer user_data)
{
  set_add (loop, fds, n_fds, func, user_data);
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
  Set *set = user_data;

  set_clear (set);
  g_free (set);
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
nested_watch (gpointer loop,
              const int *fds,
              guint n_fds,
              GUnixFDSourceFunc func,
              gpointer user_data)
{
  set_add (&((Nested *) loop)->set, fds, n_fds, func, user_data);
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
  set_clear (&nested->set);
  g_free (nested);
}

const BenchContender bench_raw_epoll = {
  .name = "raw-epoll",
  .open = raw_open,
  .turn = raw_turn,
  .close = raw_close,
  .run = raw_run,
  .quit = raw_quit,
  .watch = raw_watch,
};

const BenchContender bench_hand_written = {
  .name = "hand-written",
  .open = nested_open,
  .turn = nested_turn,
  .close = nested_close,
  .run = nested_run,
  .quit = nested_quit,
  .watch = nested_watch,
};
