/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What programs do with the event loop of systemd: an io source for each fd. */
#include "bench.h"

#include <sys/epoll.h>
#include <systemd/sd-event.h>

typedef struct
{
  sd_event_source *source;
  GUnixFDSourceFunc func;
  gpointer user_data;
} Watch;

static void
check (int result)
{
  if (result < 0)
    g_error ("sd-event: %s", g_strerror (-result));
}

static gpointer
loop_open (void)
{
  sd_event *loop;

  check (sd_event_new (&loop));
  return loop;
}

static void
loop_turn (gpointer loop)
{
  check (sd_event_run (loop, UINT64_MAX));
}

static void
loop_close (gpointer loop)
{
  sd_event_unref (loop);
}

/* The bits of EPOLLIN and its likes are those of GIOCondition. */
static int
on_io (sd_event_source *source, int fd, uint32_t events, void *user_data)
{
  Watch *watch = user_data;

  watch->func (fd, (GIOCondition) events, watch->user_data);
  return 0;
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new (Watch, 1);

  watch->func = func;
  watch->user_data = user_data;
  check (sd_event_add_io (loop, &watch->source, fd, EPOLLIN, on_io, watch));
  return watch;
}

static void
fd_modify (gpointer watch, GIOCondition condition)
{
  check (sd_event_source_set_io_events (((Watch *) watch)->source, condition));
}

static void
fd_remove (gpointer user_data)
{
  Watch *watch = user_data;

  sd_event_source_disable_unref (watch->source);
  g_free (watch);
}

const BenchContender bench_sd_event = {
  .name = "sd-event",
  .version = BENCH_SD_EVENT_VERSION,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .fd_add = fd_add,
  .fd_modify = fd_modify,
  .fd_remove = fd_remove,
};
