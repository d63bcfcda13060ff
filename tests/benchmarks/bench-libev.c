/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libev programs do: an ev_io for each fd, on epoll. It has no other condition than input and
 * output, and forgets what it was told of an fd that was closed: its users tell it. */
#include "bench.h"

#include <ev.h>

typedef struct
{
  ev_io io;
  struct ev_loop *loop;
  GUnixFDSourceFunc func;
  gpointer user_data;
} Watch;

typedef struct
{
  ev_timer timer;
  struct ev_loop *loop;
  GSourceFunc func;
  gpointer user_data;
} Timer;

static gpointer
loop_open (void)
{
  struct ev_loop *loop = ev_loop_new (EVBACKEND_EPOLL | EVFLAG_NOENV);

  if (loop == NULL)
    g_error ("libev has no epoll");
  return loop;
}

static void
loop_turn (gpointer loop)
{
  ev_run (loop, EVRUN_ONCE);
}

static void
loop_run (gpointer loop)
{
  ev_run (loop, 0);
}

static void
loop_quit (gpointer loop)
{
  ev_break (loop, EVBREAK_ONE);
}

static void
loop_close (gpointer loop)
{
  ev_loop_destroy (loop);
}

static void
on_io (struct ev_loop *loop, ev_io *io, int events)
{
  Watch *watch = (Watch *) io;

  watch->func (io->fd, events & EV_READ ? G_IO_IN : 0, watch->user_data);
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  ev_io_init (&watch->io, on_io, fd, EV_READ);
  watch->loop = loop;
  watch->func = func;
  watch->user_data = user_data;
  ev_io_start (loop, &watch->io);
  return watch;
}

static void
fd_remove (gpointer user_data)
{
  Watch *watch = user_data;

  ev_io_stop (watch->loop, &watch->io);
  g_free (watch);
}

static void
on_timer (struct ev_loop *loop, ev_timer *timer, int events)
{
  Timer *self = (Timer *) timer;

  self->func (self->user_data);
}

static void
timer_arm (gpointer timer, guint delay_ms)
{
  Timer *self = timer;

  ev_timer_stop (self->loop, &self->timer);
  ev_timer_set (&self->timer, delay_ms / 1000., 0);
  ev_timer_start (self->loop, &self->timer);
}

static gpointer
timer_new (gpointer loop, guint delay_ms, GSourceFunc func, gpointer user_data)
{
  Timer *self = g_new (Timer, 1);

  ev_init (&self->timer, on_timer);
  self->loop = loop;
  self->func = func;
  self->user_data = user_data;
  timer_arm (self, delay_ms);
  return self;
}

static void
timer_disarm (gpointer timer)
{
  Timer *self = timer;

  ev_timer_stop (self->loop, &self->timer);
}

static void
timer_free (gpointer timer)
{
  timer_disarm (timer);
  g_free (timer);
}

const BenchContender bench_libev = {
  .name = "libev",
  .version = BENCH_LIBEV_VERSION,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .run = loop_run,
  .quit = loop_quit,
  .fd_add = fd_add,
  .fd_remove = fd_remove,
  .timer_new = timer_new,
  .timer_arm = timer_arm,
  .timer_disarm = timer_disarm,
  .timer_free = timer_free,
};
