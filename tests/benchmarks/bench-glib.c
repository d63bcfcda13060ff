/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What GLib programs do today: g_unix_fd_add() for each fd, g_main_context_invoke_full() from other
 * threads, g_timeout_add(); and in place of what GLib does not have, the cheapest that it has. */
#include "bench.h"

static gpointer
loop_open (void)
{
  GMainContext *context = g_main_context_new ();

  /* Else g_main_context_invoke_full() calls the function at once, in the caller's thread, when it
   * comes between two turns. */
  g_main_context_acquire (context);
  return context;
}

static void
loop_turn (gpointer user_data)
{
  g_main_context_iteration (user_data, TRUE);
}

static void
loop_close (gpointer user_data)
{
  g_main_context_release (user_data);
  g_main_context_unref (user_data);
}

static GSource *
attach (gpointer loop, GSource *source, GSourceFunc func, gpointer user_data)
{
  g_source_set_callback (source, func, user_data, NULL);
  g_source_attach (source, loop);
  return source;
}

static gpointer
fd_add (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  return attach (loop, g_unix_fd_source_new (fd, G_IO_IN), G_SOURCE_FUNC (func), user_data);
}

static void
call (gpointer loop, GSourceFunc func, gpointer user_data)
{
  g_main_context_invoke_full (loop, G_PRIORITY_DEFAULT, func, user_data, NULL);
}

static void
source_free (gpointer source)
{
  g_source_destroy (source);
  g_source_unref (source);
}

static gboolean
signal_dispatch (GSource *source, GSourceFunc func, gpointer user_data)
{
  g_source_set_ready_time (source, -1);
  return func (user_data);
}

static GSourceFuncs signal_funcs = { .dispatch = signal_dispatch };

static gpointer
signal_new (gpointer loop, GSourceFunc func, gpointer user_data)
{
  return attach (loop, g_source_new (&signal_funcs, sizeof (GSource)), func, user_data);
}

static void
signal_send (gpointer signal)
{
  g_source_set_ready_time (signal, 0);
}

static gpointer
timer_new (gpointer loop, guint delay_ms, GSourceFunc func, gpointer user_data)
{
  return attach (loop, g_timeout_source_new (delay_ms), func, user_data);
}

/* Cheaper than a new source. */
static void
timer_arm (gpointer timer, guint delay_ms)
{
  g_source_set_ready_time (timer, g_get_monotonic_time () + delay_ms * (gint64) 1000);
}

static void
timer_disarm (gpointer timer)
{
  g_source_set_ready_time (timer, -1);
}

const BenchContender bench_glib = {
  .name = "glib",
  .version = BENCH_GLIB_VERSION,
  .linear = TRUE,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .fd_add = fd_add,
  .fd_remove = source_free,
  .call = call,
  .signal_new = signal_new,
  .signal_send = signal_send,
  .signal_free = source_free,
  .timer_new = timer_new,
  .timer_arm = timer_arm,
  .timer_disarm = timer_disarm,
  .timer_free = source_free,
};
