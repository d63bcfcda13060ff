/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libuv programs do. uv_async_send() is a signal: several become one, and it carries no data.
 * For calls every program puts a queue with a mutex beside it, and so does this one. */
#include "bench.h"

#include <uv.h>

typedef struct _Call Call;

struct _Call
{
  Call *next;
  GSourceFunc func;
  gpointer user_data;
};

typedef struct
{
  uv_poll_t poll;
  int fd;
  GUnixFDSourceFunc func;
  gpointer user_data;
} Watch;

typedef struct
{
  uv_loop_t loop;   /* first, for uv_run() */
  uv_async_t async; /* something is in the queue */
  uv_mutex_t mutex;
  Call *first; /* (mutex) */
  Call **end;  /* (mutex) */
} Loop;

typedef struct
{
  union
  {
    uv_handle_t handle;
    uv_async_t async;
    uv_timer_t timer;
  };
  GSourceFunc func;
  gpointer user_data;
} Handle;

static void
check (int result)
{
  if (result < 0)
    g_error ("libuv: %s", uv_strerror (result));
}

static Call *
take_calls (Loop *loop)
{
  Call *first;

  uv_mutex_lock (&loop->mutex);
  first = loop->first;
  loop->first = NULL;
  loop->end = &loop->first;
  uv_mutex_unlock (&loop->mutex);
  return first;
}

static void
run_calls (uv_async_t *async)
{
  Call *call = take_calls (async->data);

  while (call != NULL)
    {
      Call *next = call->next;

      call->func (call->user_data);
      g_free (call);
      call = next;
    }
}

static gpointer
loop_open (void)
{
  Loop *loop = g_new0 (Loop, 1);

  check (uv_loop_init (&loop->loop));
  check (uv_async_init (&loop->loop, &loop->async, run_calls));
  check (uv_mutex_init (&loop->mutex));
  loop->async.data = loop;
  loop->end = &loop->first;
  return loop;
}

static void
loop_turn (gpointer user_data)
{
  Loop *loop = user_data;

  uv_run (&loop->loop, UV_RUN_ONCE);
}

static void
loop_run (gpointer loop)
{
  uv_run (loop, UV_RUN_DEFAULT);
}

static void
loop_quit (gpointer loop)
{
  uv_stop (loop);
}

static void
loop_close (gpointer user_data)
{
  Loop *loop = user_data;

  uv_close ((uv_handle_t *) &loop->async, NULL);
  while (uv_run (&loop->loop, UV_RUN_DEFAULT) != 0)
    ;
  check (uv_loop_close (&loop->loop));
  uv_mutex_destroy (&loop->mutex);
  g_free (loop);
}

static void
call (gpointer user_data, GSourceFunc func, gpointer func_data)
{
  Loop *loop = user_data;
  Call *self = g_new (Call, 1);

  *self = (Call){ .func = func, .user_data = func_data };
  uv_mutex_lock (&loop->mutex);
  *loop->end = self;
  loop->end = &self->next;
  uv_mutex_unlock (&loop->mutex);
  uv_async_send (&loop->async);
}

static Handle *
handle_new (GSourceFunc func, gpointer user_data)
{
  Handle *self = g_new0 (Handle, 1);

  self->func = func;
  self->user_data = user_data;
  return self;
}

static void
on_closed (uv_handle_t *handle)
{
  g_free (handle);
}

static void
handle_free (gpointer handle)
{
  uv_close (handle, on_closed);
}

/* libuv's UV_READABLE is that of EPOLLIN and so of GIOCondition, and UV_PRIORITIZED is not. */
static void
on_poll (uv_poll_t *poll, int status, int events)
{
  Watch *watch = (Watch *) poll;

  watch->func (watch->fd, (GIOCondition) events, watch->user_data);
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  watch->fd = fd;
  watch->func = func;
  watch->user_data = user_data;
  check (uv_poll_init (&((Loop *) loop)->loop, &watch->poll, fd));
  check (uv_poll_start (&watch->poll, UV_READABLE, on_poll));
  return watch;
}

static void
fd_modify (gpointer watch, GIOCondition condition)
{
  check (uv_poll_start (watch, UV_READABLE | (condition & G_IO_PRI ? UV_PRIORITIZED : 0), on_poll));
}

static void
on_async (uv_async_t *async)
{
  Handle *self = (Handle *) async;

  self->func (self->user_data);
}

static gpointer
signal_new (gpointer loop, GSourceFunc func, gpointer user_data)
{
  Handle *self = handle_new (func, user_data);

  check (uv_async_init (&((Loop *) loop)->loop, &self->async, on_async));
  return self;
}

static void
signal_send (gpointer signal)
{
  uv_async_send (signal);
}

static void
on_timer (uv_timer_t *timer)
{
  Handle *self = (Handle *) timer;

  /* The turn is over: uv_run() calls timers first, and would then wait for the next event. */
  uv_stop (timer->loop);
  self->func (self->user_data);
}

static void
timer_arm (gpointer timer, guint delay_ms)
{
  uv_timer_start (timer, on_timer, delay_ms, 0);
}

static gpointer
timer_new (gpointer loop, guint delay_ms, GSourceFunc func, gpointer user_data)
{
  Handle *self = handle_new (func, user_data);

  uv_timer_init (&((Loop *) loop)->loop, &self->timer);
  timer_arm (self, delay_ms);
  return self;
}

static void
timer_disarm (gpointer timer)
{
  uv_timer_stop (timer);
}

const BenchContender bench_uv = {
  .name = "libuv",
  .version = BENCH_UV_VERSION,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .run = loop_run,
  .quit = loop_quit,
  .fd_add = fd_add,
  .fd_modify = fd_modify,
  .fd_remove = handle_free,
  .call = call,
  .signal_new = signal_new,
  .signal_send = signal_send,
  .signal_free = handle_free,
  .timer_new = timer_new,
  .timer_arm = timer_arm,
  .timer_disarm = timer_disarm,
  .timer_free = handle_free,
};
