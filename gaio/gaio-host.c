/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-host.h>

#include <errno.h>

#include <gaio/gaio-error.h>
#include <gaio/gaio-source.h>

#include "gaio-core-private.h"
#include "gaio-trace-private.h"

/**
 * SECTION:gaio-host
 * @title: Running the main loop
 * @short_description: a main loop with one system call fewer for each event
 *
 * gaio_context_run() does for a #GMainContext what g_main_loop_run() does. Where the sources of
 * GLib have no fds of their own to poll, it waits for them and for what the #GaioContext watches
 * with one epoll_wait(2), and the events are at hand when the #GaioContext is dispatched.
 */

/* Watches one fd for us, GLib's wake-up fd, whose number is GLib's secret: it is the only one that
 * it polls beside ours. */
typedef struct
{
  GaioCore *core;
  GMainContext *main_context;
  GPollFD *pollfds; /* what GLib would poll */
  gint n_pollfds;
  gint size;
  gint priority;
  gint timeout_ms;
  int glib_fd;       /* the one in the epoll set, or -1 */
  gboolean borrowed; /* a run() further out has put it there, and takes it away */
  guint64 rebuilds;  /* of the epoll set when it was put there */
} GaioHost;

static void
query (GaioHost *host)
{
  g_main_context_prepare (host->main_context, &host->priority);
  while ((host->n_pollfds = g_main_context_query (host->main_context, host->priority,
                                                  &host->timeout_ms, host->pollfds, host->size)) >
         host->size)
    {
      host->size = host->n_pollfds;
      host->pollfds = g_renew (GPollFD, host->pollfds, host->size);
    }
}

/* Puts GLib's wake-up fd into the epoll set, if it is not there. */
static gboolean
watch_glib (GaioHost *host, int fd)
{
  GaioCore *core = host->core;
  int errsv = 0;

  if (host->glib_fd == fd && host->rebuilds == core->counters.rebuilds)
    return TRUE;
  if (!gaio_core_lock (core))
    return FALSE;
  if (gaio_fdmon_is_epoll (&core->monitor))
    errsv = core->monitor.ops->add (&core->monitor, fd, G_IO_IN, GAIO_FDMON_KEY_HOST);
  host->rebuilds = core->counters.rebuilds;
  gaio_core_unlock (core);
  if (errsv != 0 && errsv != EEXIST)
    return FALSE;
  host->glib_fd = fd;
  host->borrowed = errsv == EEXIST;
  return TRUE;
}

static void
unwatch_glib (GaioHost *host)
{
  GaioCore *core = host->core;

  if (host->glib_fd < 0 || host->borrowed || !gaio_core_lock (core))
    return;
  if (gaio_fdmon_is_open (&core->monitor))
    core->monitor.ops->remove (&core->monitor, host->glib_fd);
  gaio_core_unlock (core);
}

/* Whether one wait is enough for all. Then @own is our pollfd and @glib the other. An fd of a
 * foreign GSource may be closed and its number come back between two rounds, which poll(2) notices
 * and epoll does not. */
static gboolean
can_wait_together (GaioHost *host, GPollFD **own, GPollFD **glib)
{
  int fd = host->core->monitor.fd;

  if (host->timeout_ms == 0 || host->n_pollfds != 2 || fd < 0 ||
      !gaio_fdmon_is_epoll (&host->core->monitor) ||
      g_main_context_get_poll_func (host->main_context) != g_poll)
    return FALSE;
  *own = host->pollfds[0].fd == fd ? &host->pollfds[0] : &host->pollfds[1];
  *glib = host->pollfds[0].fd == fd ? &host->pollfds[1] : &host->pollfds[0];
  return (*own)->fd == fd && watch_glib (host, (*glib)->fd);
}

/* Takes GLib's part out of the @n events. Returns how many are left. */
static int
sort_events (GaioCore *core, int n, gboolean *woken)
{
  struct epoll_event *events = core->monitor.events;
  int n_own = 0;

  for (int i = 0; i < n; i++)
    {
      if (events[i].data.u64 == GAIO_FDMON_KEY_HOST)
        *woken = TRUE;
      else
        events[n_own++] = events[i];
      if (events[i].data.u64 == GAIO_FDMON_KEY_TIMER)
        core->monitor.armed = -1;
    }
  return n_own;
}

/* Returns how many events are ours, or -1 if somebody has closed the epoll fd. */
static int
wait_for_both (GaioHost *host, gboolean *woken)
{
  GaioCore *core = host->core;
  guint max = atomic_load_explicit (&core->max_callbacks, memory_order_relaxed);
  gint64 timeout_us = host->timeout_ms < 0 ? -1 : host->timeout_ms * G_GINT64_CONSTANT (1000);
  int n;

  if (max == 0 || max > GAIO_FDMON_MAX_EVENTS)
    max = GAIO_FDMON_MAX_EVENTS;
  gaio_trace_poll (core, timeout_us, n, gaio_fdmon_wait (&core->monitor, max, timeout_us));
  *woken = FALSE;
  if (n < 0 && errno != EINTR)
    return -1;
  return sort_events (core, n, woken);
}

/* With one wait. What it has found is still true in the dispatch of our source if no other comes
 * before: so GLib is asked first whether there is any. If there is, ours waits for the next turn,
 * when the kernel says again what is ready. */
static gboolean
check_together (GaioHost *host, GPollFD *own, GPollFD *glib)
{
  gboolean woken;
  int n = wait_for_both (host, &woken);

  own->revents = 0;
  glib->revents = woken ? G_IO_IN : 0;
  if (g_main_context_check (host->main_context, host->priority, host->pollfds, 2))
    return TRUE;
  if (n == 0)
    return FALSE;
  own->revents = G_IO_IN;
  glib->revents = 0;
  /* If it is -1, the round finds out why. */
  host->core->n_fetched = n;
  return g_main_context_check (host->main_context, host->priority, host->pollfds, 2);
}

static gboolean
check_apart (GaioHost *host)
{
  GPollFunc poll_func = g_main_context_get_poll_func (host->main_context);

  poll_func (host->pollfds, host->n_pollfds, host->timeout_ms);
  return g_main_context_check (host->main_context, host->priority, host->pollfds, host->n_pollfds);
}

/* As g_main_context_iteration(). */
static void
turn (GaioHost *host)
{
  GPollFD *own, *glib;
  gboolean ready;

  query (host);
  ready =
      can_wait_together (host, &own, &glib) ? check_together (host, own, glib) : check_apart (host);
  if (ready)
    g_main_context_dispatch (host->main_context);
  if (!gaio_core_is_forked (host->core))
    host->core->n_fetched = -1;
}

static void
on_cancelled (GCancellable *cancellable, gpointer main_context)
{
  g_main_context_wakeup (main_context);
}

static void
run (GaioHost *host, GCancellable *cancellable)
{
  gulong id = 0;

  if (cancellable != NULL)
    id = g_cancellable_connect (cancellable, G_CALLBACK (on_cancelled),
                                g_main_context_ref (host->main_context),
                                (GDestroyNotify) g_main_context_unref);
  while (!g_cancellable_is_cancelled (cancellable) && !gaio_core_is_closed (host->core) &&
         !gaio_core_is_forked (host->core))
    turn (host);
  g_cancellable_disconnect (cancellable, id);
  unwatch_glib (host);
  g_free (host->pollfds);
}

/* Nests @self into @main_context, if it is not there. */
static gboolean
be_nested (GaioContext *self, GMainContext *main_context, gboolean *attached, GError **error)
{
  GaioCore *core = self->core;
  gboolean nested = FALSE, elsewhere = FALSE;

  if (gaio_core_lock (core))
    {
      nested = core->source != NULL && !g_source_is_destroyed (core->source);
      elsewhere = nested && g_source_get_context (core->source) != main_context;
      gaio_core_unlock (core);
    }
  if (elsewhere)
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED,
                 "The context is nested in another main context");
  *attached = !nested && gaio_context_attach (self, main_context, error);
  return *attached || (nested && !elsewhere);
}

/**
 * gaio_context_run:
 * @self: a context
 * @main_context: (nullable): the main context to run, %NULL for the global default
 * @cancellable: (nullable): ends the run
 * @error: return location for a #GError
 *
 * Runs @main_context, with @self nested in it, until @cancellable is cancelled or @self is closed.
 * If @self is not nested, it is attached for that time. All is as with g_main_loop_run():
 * priorities, nested main loops, g_main_current_source(). It only takes fewer system calls, with
 * the epoll monitor and as long as no source of @main_context polls an fd of its own. May be called
 * again inside a callback.
 *
 * The calling thread must own @main_context or be able to acquire it, else it fails with
 * %GAIO_ERROR_WRONG_THREAD. It fails with %GAIO_ERROR_FAILED if @self is nested in another main
 * context, with %GAIO_ERROR_CLOSED and %GAIO_ERROR_FORKED, and as gaio_context_attach() does.
 *
 * Returns: %TRUE when it was cancelled or closed, %FALSE on error
 *
 * Since: 1.0
 */
gboolean
gaio_context_run (GaioContext *self,
                  GMainContext *main_context,
                  GCancellable *cancellable,
                  GError **error)
{
  g_autoptr (GaioContext) context = NULL;
  GaioHost host = { .glib_fd = -1 };
  gboolean attached;

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), FALSE);
  g_return_val_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (!gaio_core_check (self->core, error))
    return FALSE;
  if (main_context == NULL)
    main_context = g_main_context_default ();
  if (!g_main_context_acquire (main_context))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_WRONG_THREAD,
                   "Another thread owns the main context");
      return FALSE;
    }
  /* The callbacks may drop all other references. */
  context = g_object_ref (self);
  host.core = self->core;
  host.main_context = main_context;
  if (be_nested (self, main_context, &attached, error))
    {
      run (&host, cancellable);
      if (attached)
        gaio_context_detach (self);
      g_main_context_release (main_context);
      return !gaio_core_is_forked (self->core) || gaio_core_check (self->core, error);
    }
  g_main_context_release (main_context);
  return FALSE;
}
