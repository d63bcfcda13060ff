/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What GLib programs do today: one g_unix_fd_add() for each fd. */
#include "bench.h"

typedef struct
{
  GMainContext *context;
  GPtrArray *sources;
} Loop;

/* g_unix_fd_add() on a main context of its own. */
static GSource *
add_fd (GMainContext *context, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  GSource *source = g_unix_fd_source_new (fd, G_IO_IN);

  g_source_set_callback (source, G_SOURCE_FUNC (func), user_data, NULL);
  g_source_attach (source, context);
  return source;
}

/* GLib searches its list of fds, sorted, from the front: downwards here and upwards in stop() spare
 * us the O(n). */
static gpointer
start (const int *fds, guint n_fds, GUnixFDSourceFunc func, gpointer user_data)
{
  Loop *loop = g_new (Loop, 1);

  loop->context = g_main_context_new ();
  loop->sources = g_ptr_array_new_full (n_fds, (GDestroyNotify) g_source_unref);
  for (guint i = n_fds; i-- > 0;)
    g_ptr_array_add (loop->sources, add_fd (loop->context, fds[i], func, user_data));
  return loop;
}

static void
turn (gpointer user_data)
{
  Loop *loop = user_data;

  g_main_context_iteration (loop->context, TRUE);
}

static void
stop (gpointer user_data)
{
  Loop *loop = user_data;

  for (guint i = loop->sources->len; i-- > 0;)
    g_source_destroy (loop->sources->pdata[i]);
  g_ptr_array_unref (loop->sources);
  g_main_context_unref (loop->context);
  g_free (loop);
}

const BenchContender bench_glib = { "glib", TRUE, start, turn, stop };
