/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What GLib programs do today: g_unix_fd_add() for each fd, g_main_context_invoke_full() from other
 * threads, g_timeout_add(); and in place of what GLib does not have, the cheapest that it has. */
#include "bench.h"

typedef struct
{
  GMainContext *context;
  GPtrArray *sources;
} Loop;

static gpointer
loop_open (void)
{
  Loop *loop = g_new (Loop, 1);

  loop->context = g_main_context_new ();
  /* Else g_main_context_invoke_full() calls the function at once, in the caller's thread, when it
   * comes between two turns. */
  g_main_context_acquire (loop->context);
  loop->sources = g_ptr_array_new_with_free_func ((GDestroyNotify) g_source_unref);
  return loop;
}

static void
loop_turn (gpointer user_data)
{
  Loop *loop = user_data;

  g_main_context_iteration (loop->context, TRUE);
}

static void
loop_close (gpointer user_data)
{
  Loop *loop = user_data;

  for (guint i = loop->sources->len; i-- > 0;)
    g_source_destroy (loop->sources->pdata[i]);
  g_ptr_array_unref (loop->sources);
  g_main_context_release (loop->context);
  g_main_context_unref (loop->context);
  g_free (loop);
}

static GSource *
attach (gpointer loop, GSource *source, GSourceFunc func, gpointer user_data)
{
  g_source_set_callback (source, func, user_data, NULL);
  g_source_attach (source, ((Loop *) loop)->context);
  return source;
}

/* GLib searches its list of fds, sorted, from the front: downwards here and upwards in loop_close()
 * spare us the O(n). */
static void
watch (gpointer loop, const int *fds, guint n_fds, GUnixFDSourceFunc func, gpointer user_data)
{
  for (guint i = n_fds; i-- > 0;)
    g_ptr_array_add (((Loop *) loop)->sources, attach (loop, g_unix_fd_source_new (fds[i], G_IO_IN),
                                                       G_SOURCE_FUNC (func), user_data));
}

static void
call (gpointer loop, GSourceFunc func, gpointer user_data)
{
  g_main_context_invoke_full (((Loop *) loop)->context, G_PRIORITY_DEFAULT, func, user_data, NULL);
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
  .linear = TRUE,
  .open = loop_open,
  .turn = loop_turn,
  .close = loop_close,
  .watch = watch,
  .call = call,
  .signal_new = signal_new,
  .signal_send = signal_send,
  .signal_free = source_free,
  .timer_new = timer_new,
  .timer_arm = timer_arm,
  .timer_disarm = timer_disarm,
  .timer_free = source_free,
};
