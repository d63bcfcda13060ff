/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gaio itself: nested in a GMainContext, and stand-alone. */
#include "bench.h"

#include <gaio/gaio.h>

typedef struct
{
  GaioContext *context;
  GMainContext *main_context;
  GPtrArray *handlers;
} Loop;

static GaioHandler *
add_fd (GaioContext *context, int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_context_add_fd (context, fd, G_IO_IN, func, user_data, NULL, &error);

  if (handler == NULL)
    g_error ("%s", error->message);
  return handler;
}

static gpointer
alone_start (const int *fds, guint n_fds, GUnixFDSourceFunc func, gpointer user_data)
{
  Loop *loop = g_new0 (Loop, 1);

  loop->context = gaio_context_new ();
  loop->handlers = g_ptr_array_new_full (n_fds, (GDestroyNotify) gaio_handler_unref);
  for (guint i = 0; i < n_fds; i++)
    g_ptr_array_add (loop->handlers, add_fd (loop->context, fds[i], func, user_data));
  return loop;
}

static gpointer
nested_start (const int *fds, guint n_fds, GUnixFDSourceFunc func, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  Loop *loop = alone_start (fds, n_fds, func, user_data);

  loop->main_context = g_main_context_new ();
  if (!gaio_context_attach (loop->context, loop->main_context, &error))
    g_error ("%s", error->message);
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
stop (gpointer user_data)
{
  Loop *loop = user_data;

  gaio_context_close (loop->context);
  g_ptr_array_unref (loop->handlers);
  g_object_unref (loop->context);
  g_clear_pointer (&loop->main_context, g_main_context_unref);
  g_free (loop);
}

const BenchContender bench_gaio_nested = { "gaio-nested", FALSE, nested_start, nested_turn, stop };
const BenchContender bench_gaio_alone = { "gaio-alone", FALSE, alone_start, alone_turn, stop };
