/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libevent programs do: persistent events. Without locks, without asking for the time in each
 * turn, and with its list of changes, which it has for programs that never duplicate an fd. */
#include "bench.h"

#include <event2/event.h>

typedef struct
{
  struct event *event;
  GUnixFDSourceFunc func;
  GSourceFunc timer_func;
  gpointer user_data;
} Watch;

static gpointer
loop_open (void)
{
  struct event_config *config = event_config_new ();
  struct event_base *base;

  event_config_set_flag (config, EVENT_BASE_FLAG_NOLOCK);
  event_config_set_flag (config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
  event_config_set_flag (config, EVENT_BASE_FLAG_NO_CACHE_TIME);
  event_config_avoid_method (config, "poll");
  event_config_avoid_method (config, "select");
  base = event_base_new_with_config (config);
  event_config_free (config);
  if (base == NULL)
    g_error ("libevent has no epoll");
  return base;
}

static void
loop_turn (gpointer loop)
{
  event_base_loop (loop, EVLOOP_ONCE);
}

static void
loop_run (gpointer loop)
{
  event_base_loop (loop, 0);
}

static void
loop_quit (gpointer loop)
{
  event_base_loopbreak (loop);
}

static void
loop_close (gpointer loop)
{
  event_base_free (loop);
}

static void
on_event (evutil_socket_t fd, short events, void *user_data)
{
  Watch *watch = user_data;

  watch->func (fd, events & EV_READ ? G_IO_IN : 0, watch->user_data);
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  watch->func = func;
  watch->user_data = user_data;
  watch->event = event_new (loop, fd, EV_READ | EV_PERSIST, on_event, watch);
  event_add (watch->event, NULL);
  return watch;
}

static void
watch_free (gpointer user_data)
{
  Watch *watch = user_data;

  event_free (watch->event);
  g_free (watch);
}

static void
on_timer (evutil_socket_t fd, short events, void *user_data)
{
  Watch *watch = user_data;

  watch->timer_func (watch->user_data);
}

static void
timer_arm (gpointer timer, guint delay_ms)
{
  struct timeval delay = { delay_ms / 1000, delay_ms % 1000 * 1000 };

  event_add (((Watch *) timer)->event, &delay);
}

static gpointer
timer_new (gpointer loop, guint delay_ms, GSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  watch->timer_func = func;
  watch->user_data = user_data;
  watch->event = evtimer_new (loop, on_timer, watch);
  timer_arm (watch, delay_ms);
  return watch;
}

static void
timer_disarm (gpointer timer)
{
  event_del (((Watch *) timer)->event);
}

const BenchContender bench_libevent = {
  .name = "libevent",
  .version = BENCH_LIBEVENT_VERSION,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .run = loop_run,
  .quit = loop_quit,
  .fd_add = fd_add,
  .fd_remove = watch_free,
  .timer_new = timer_new,
  .timer_arm = timer_arm,
  .timer_disarm = timer_disarm,
  .timer_free = watch_free,
};
