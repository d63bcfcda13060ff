/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gaio itself: nested in a GMainContext, stand-alone, and running the GMainContext itself. */
#include "bench.h"

#include <gaio/gaio.h>

typedef struct
{
  GaioContext *context;
  GMainContext *main_context;
  GMainLoop *main_loop;
  GCancellable *cancellable;
} Loop;

static gpointer
alone_open (void)
{
  Loop *loop = g_new0 (Loop, 1);

  loop->context = gaio_context_new ();
  return loop;
}

/* poll(2) costs less when the fd that is ready comes before those that are not, and GLib sorts them
 * by number: as in bench-epoll.c the epoll fd is there before that of the GMainContext. */
static gpointer
nested_open (void)
{
  g_autoptr (GError) error = NULL;
  Loop *loop = alone_open ();
  g_autoptr (GSource) source = gaio_context_create_source (loop->context, &error);

  if (source == NULL)
    g_error ("%s", error->message);
  loop->main_context = g_main_context_new ();
  loop->main_loop = g_main_loop_new (loop->main_context, FALSE);
  g_main_context_acquire (loop->main_context);
  g_source_attach (source, loop->main_context);
  return loop;
}

static void
alone_turn (gpointer user_data)
{
  Loop *loop = user_data;

  gaio_context_iterate (loop->context, -1);
}

static void
nested_turn (gpointer user_data)
{
  Loop *loop = user_data;

  g_main_context_iteration (loop->main_context, TRUE);
}

static void
nested_run (gpointer user_data)
{
  g_main_loop_run (((Loop *) user_data)->main_loop);
}

static void
nested_quit (gpointer user_data)
{
  g_main_loop_quit (((Loop *) user_data)->main_loop);
}

static void
host_run (gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  Loop *loop = user_data;

  loop->cancellable = cancellable;
  if (!gaio_context_run (loop->context, loop->main_context, cancellable, &error))
    g_error ("%s", error->message);
}

static void
host_quit (gpointer user_data)
{
  g_cancellable_cancel (((Loop *) user_data)->cancellable);
}

static void
alone_close (gpointer user_data)
{
  Loop *loop = user_data;

  gaio_context_close (loop->context);
  g_object_unref (loop->context);
  g_free (loop);
}

static void
nested_close (gpointer user_data)
{
  g_autoptr (GMainContext) main_context = ((Loop *) user_data)->main_context;
  g_autoptr (GMainLoop) main_loop = ((Loop *) user_data)->main_loop;

  alone_close (user_data);
  g_main_context_release (main_context);
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler =
      gaio_context_add_fd (((Loop *) loop)->context, fd, G_IO_IN, func, user_data, NULL, &error);

  if (handler == NULL)
    g_error ("%s", error->message);
  return handler;
}

static void
fd_modify (gpointer watch, GIOCondition condition)
{
  g_autoptr (GError) error = NULL;

  if (!gaio_handler_set_condition (watch, condition, &error))
    g_error ("%s", error->message);
}

static void
fd_remove (gpointer watch)
{
  GaioHandler *handler = watch;

  gaio_clear_handler (&handler);
}

/* That the functions below return something does not disturb. */

static void
call (gpointer loop, GSourceFunc func, gpointer user_data)
{
  gaio_context_defer (((Loop *) loop)->context, (GSourceOnceFunc) func, user_data, NULL);
}

static gpointer
signal_new (gpointer loop, GSourceFunc func, gpointer user_data)
{
  return gaio_context_add_bottom_half (((Loop *) loop)->context, (GSourceOnceFunc) func, user_data,
                                       NULL);
}

static void
signal_send (gpointer signal)
{
  gaio_bottom_half_schedule (signal);
}

static void
signal_free (gpointer signal)
{
  GaioBottomHalf *bottom_half = signal;

  gaio_clear_bottom_half (&bottom_half);
}

static void
timer_arm (gpointer timer, guint delay_ms)
{
  gaio_timer_arm (timer, delay_ms * (gint64) 1000);
}

static gpointer
timer_new (gpointer loop, guint delay_ms, GSourceFunc func, gpointer user_data)
{
  GaioTimer *timer =
      gaio_context_add_timer (((Loop *) loop)->context, (GSourceOnceFunc) func, user_data, NULL);

  timer_arm (timer, delay_ms);
  return timer;
}

static void
timer_disarm (gpointer timer)
{
  gaio_timer_disarm (timer);
}

static void
timer_free (gpointer user_data)
{
  GaioTimer *timer = user_data;

  gaio_clear_timer (&timer);
}

#define COMMON                                                                                     \
  .fd_add = fd_add, .fd_modify = fd_modify, .fd_remove = fd_remove, .call = call,                  \
  .signal_new = signal_new, .signal_send = signal_send, .signal_free = signal_free,                \
  .timer_new = timer_new, .timer_arm = timer_arm, .timer_disarm = timer_disarm,                    \
  .timer_free = timer_free

const BenchContender bench_gaio_nested = {
  .name = "gaio-nested",
  .open = nested_open,
  .turn = nested_turn,
  .close = nested_close,
  .run = nested_run,
  .quit = nested_quit,
  COMMON,
};

const BenchContender bench_gaio_alone = {
  .name = "gaio-alone",
  .open = alone_open,
  .turn = alone_turn,
  .close = alone_close,
  COMMON,
};

const BenchContender bench_gaio_host = {
  .name = "gaio-host",
  .open = nested_open,
  .turn = nested_turn,
  .close = nested_close,
  .run = host_run,
  .quit = host_quit,
  COMMON,
};
