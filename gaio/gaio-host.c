/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-host.h>

#include <errno.h>

#include <gaio/gaio-error.h>
#include <gaio/gaio-source.h>

#include "gaio-core-private.h"
#include "gaio-ready-set-private.h"
#include "gaio-registration-private.h"
#include "gaio-round-private.h"
#include "gaio-trace-private.h"

/**
 * SECTION:gaio-host
 * @title: Running the main loop
 * @short_description: a main loop with one system call fewer for each event
 *
 * gaio_context_run() does for a #GMainContext what g_main_loop_run() does. If no GLib source has an
 * fd of its own to poll, one epoll_wait(2) waits both for the GLib sources and for what the
 * #GaioContext watches, and the events are already there when the #GaioContext is dispatched.
 */

/* What gaio_context_run() keeps from one iteration to the next. */
typedef struct
{
  GaioCore *core;
  GMainContext *main_context;
  GPollFD *pollfds; /* what GLib wants to poll */
  gint n_pollfds;
  gint size;
  GPollFD first_pollfds[4];
  gint priority;
  gint timeout_ms;
  gint64 timeout_us;    /* how long the caller wants to wait at most in this iteration, or -1 */
  gboolean interrupted; /* by a signal, in this iteration */
} GaioHost;

static void
init (GaioHost *host, GaioCore *core, GMainContext *main_context)
{
  host->core = core;
  host->main_context = main_context;
  host->pollfds = host->first_pollfds;
  host->size = G_N_ELEMENTS (host->first_pollfds);
  host->timeout_us = -1;
}

static void
clear (GaioHost *host)
{
  if (host->pollfds != host->first_pollfds)
    g_free (host->pollfds);
}

static void
grow (GaioHost *host, gint size)
{
  clear (host);
  host->pollfds = g_new (GPollFD, size);
  host->size = size;
}

static void
query (GaioHost *host)
{
  g_main_context_prepare (host->main_context, &host->priority);
  while ((host->n_pollfds = g_main_context_query (host->main_context, host->priority,
                                                  &host->timeout_ms, host->pollfds, host->size)) >
         host->size)
    grow (host, host->n_pollfds);
}

/* Before a wait: puts GLib's wake-up fd into the epoll set, if it is not there. It stays as long as
 * our source does. GLib does not publish its number, but it is the only one that GLib polls beside
 * ours. Handlers of that number belong to a file that was closed before. With the lock held. */
static gboolean
watch_glib (GaioCore *core, int fd)
{
  if (gaio_host_state_get_glib_fd (&core->host) != fd)
    gaio_registration_file_gone (core, fd);
  return gaio_host_state_watch_glib (&core->host, &core->monitor, fd);
}

/* Whether one wait is enough for both pollfds. If so, @own is ours, and @glib is the other one.
 * With the lock held. */
static gboolean
watch_together (GaioHost *host, GPollFD **own, GPollFD **glib)
{
  GaioCore *core = host->core;
  int fd = core->monitor.fd;

  if (core->nesting.source == NULL || fd < 0 || !gaio_monitor_is_epoll (&core->monitor))
    return FALSE;
  *own = host->pollfds[0].fd == fd ? &host->pollfds[0] : &host->pollfds[1];
  *glib = host->pollfds[0].fd == fd ? &host->pollfds[1] : &host->pollfds[0];
  return (*own)->fd == fd && watch_glib (core, (*glib)->fd);
}

/* Whether one wait is enough for everything. If another GSource had an fd, it could be closed and
 * its number used again between two iterations, which poll(2) notices and epoll does not. */
static gboolean
can_wait_together (GaioHost *host, GPollFD **own, GPollFD **glib)
{
  gboolean together;

  if (host->timeout_ms == 0 || host->n_pollfds != 2 ||
      g_main_context_get_poll_func (host->main_context) != g_poll || !gaio_core_lock (host->core))
    return FALSE;
  together = watch_together (host, own, glib);
  if (together)
    gaio_host_state_begin_wait (&host->core->host);
  gaio_core_unlock (host->core);
  return together;
}

/* Removes GLib's events from the @n events. Returns how many are left. */
static int
sort_events (GaioCore *core, int n)
{
  struct epoll_event *events = core->monitor.events;
  int n_own = 0;

  for (int i = 0; i < n; i++)
    {
      if (events[i].data.u64 == GAIO_MONITOR_KEY_HOST)
        gaio_host_state_set_glib_woken (&core->host);
      else
        events[n_own++] = events[i];
      if (events[i].data.u64 == GAIO_MONITOR_KEY_TIMER)
        gaio_host_state_set_timer_expired (&core->host);
    }
  return n_own;
}

/* Returns the shorter timeout: that of GLib or that of the caller. */
static gint64
get_timeout (const GaioHost *host)
{
  gint64 glib_us = host->timeout_ms * G_GINT64_CONSTANT (1000);

  if (host->timeout_ms < 0 || (host->timeout_us >= 0 && host->timeout_us < glib_us))
    return host->timeout_us;
  return glib_us;
}

/* Returns how many events are ours, or -1 if somebody has closed the epoll fd. */
static int
wait_for_events (GaioHost *host)
{
  GaioCore *core = host->core;
  guint max = atomic_load_explicit (&core->max_callbacks, memory_order_relaxed);
  gint64 timeout_us = gaio_host_state_is_glib_woken (&core->host) ? 0 : get_timeout (host);
  int n;

  if (max == 0 || max > GAIO_MONITOR_MAX_EVENTS)
    max = GAIO_MONITOR_MAX_EVENTS;
  gaio_trace_poll (core, timeout_us, n,
                   gaio_monitor_wait (&core->monitor, &gaio_monitor_epoll_ops, max, timeout_us));
  host->interrupted = n < 0 && errno == EINTR;
  if (n < 0 && errno != EINTR)
    return -1;
  return sort_events (core, n);
}

/* Once the wait has ended, another thread may detach the context. TRUE if there is anything for the
 * context. */
static gboolean
wait_for_both (GaioHost *host, GPollFD *glib)
{
  GaioCore *core = host->core;
  int n = wait_for_events (host);

  glib->revents = gaio_host_state_take_glib_woken (&core->host) ? G_IO_IN : 0;
  /* If the wait has failed, the round finds out why. */
  gaio_host_state_end_wait (&core->host, n, g_main_depth () + 1);
  return n != 0;
}

static gboolean
check_apart (GaioHost *host)
{
  GPollFunc poll_func = g_main_context_get_poll_func (host->main_context);
  /* Rounded up: a wait may end late, but not early. */
  gint64 timeout_us = get_timeout (host), timeout_ms = (timeout_us + 999) / 1000;
  gint n = poll_func (host->pollfds, host->n_pollfds,
                      timeout_us < 0 ? -1 : (gint) MIN (timeout_ms, G_MAXINT));

  host->interrupted = n < 0 && errno == EINTR;
  return g_main_context_check (host->main_context, host->priority, host->pollfds, host->n_pollfds);
}

/* Uses one wait. What it finds is still true when our source is dispatched, unless another source
 * comes first, so GLib first checks whether there is one. If there is, @both becomes TRUE, and GLib
 * has not been told of our source yet. */
static gboolean
check_together (GaioHost *host, GPollFD *own, GPollFD *glib, gboolean *both)
{
  gboolean news = wait_for_both (host, glib);
  gboolean others;

  own->revents = 0;
  others = g_main_context_check (host->main_context, host->priority, host->pollfds, 2);
  *both = news && others;
  if (others || !news)
    return others;
  own->revents = GAIO_GLIB_POLLS_UNWRITTEN;
  glib->revents = 0;
  return g_main_context_check (host->main_context, host->priority, host->pollfds, 2);
}

/* TRUE, with the lock taken, unless another thread has detached the context. */
static gboolean
lock_if_nested (GaioHost *host)
{
  if (!gaio_core_lock (host->core))
    return FALSE;
  if (gaio_nesting_get_main_context (&host->core->nesting) == host->main_context)
    return TRUE;
  gaio_core_unlock (host->core);
  return FALSE;
}

/* For the round that comes next, which polls the kernel. */
static void
set_target_set (GaioHost *host, GaioReadySet *target_set)
{
  if (!lock_if_nested (host))
    return;
  gaio_host_state_set_target_set (&host->core->host, target_set);
  gaio_host_state_drop_events (&host->core->host);
  gaio_core_unlock (host->core);
}

static void
end_iteration (GaioHost *host)
{
  GaioCore *core = host->core;

  if (!lock_if_nested (host))
    return;
  gaio_host_state_set_target_set (&core->host, NULL);
  gaio_host_state_drop_events (&core->host);
  if (core->nesting.source != NULL &&
      gaio_round_after_glib_poll (core, core->nesting.glib_polls.open))
    gaio_monitor_wake (core->monitor.wake_fd);
  gaio_round_update_outer_polls (core);
  gaio_core_unlock (core);
}

/* Checks everything again without waiting, so that GLib decides by priority what comes first. */
static gboolean
check_again (GaioHost *host, GaioReadySet *target_set)
{
  query (host);
  set_target_set (host, target_set);
  host->timeout_ms = 0;
  return check_apart (host);
}

/* Like g_main_context_iteration(). @target_set is the set whose records the caller takes
 * afterwards, or NULL. TRUE if anything was dispatched. */
static gboolean
iterate (GaioHost *host, GaioReadySet *target_set)
{
  GPollFD *own, *glib;
  gboolean both = FALSE, ready;

  query (host);
  if (target_set != NULL)
    set_target_set (host, target_set);
  ready = can_wait_together (host, &own, &glib) ? check_together (host, own, glib, &both)
                                                : check_apart (host);
  if (both)
    ready = check_again (host, target_set);
  if (ready)
    g_main_context_dispatch (host->main_context);
  end_iteration (host);
  return ready;
}

static void
on_cancelled (GCancellable *cancellable, gpointer main_context)
{
  g_main_context_wakeup (main_context);
}

/* Stops watching GLib's wake-up fd, unless an outer run still waits for both. */
static void
leave_glib (GaioCore *core, gboolean watched_before)
{
  if (watched_before || !gaio_core_lock (core))
    return;
  gaio_host_state_unwatch_glib (&core->host, &core->monitor);
  gaio_core_unlock (core);
}

static gboolean
watches_glib (GaioCore *core)
{
  gboolean watched;

  if (!gaio_core_lock (core))
    return FALSE;
  watched = gaio_host_state_get_glib_fd (&core->host) >= 0;
  gaio_core_unlock (core);
  return watched;
}

static GMainContext *
set_running (GaioCore *core, GMainContext *main_context)
{
  GMainContext *before;

  if (!gaio_core_lock (core))
    return NULL;
  before = gaio_host_state_set_running (&core->host, main_context);
  gaio_core_unlock (core);
  return before;
}

static void
run (GaioHost *host, GCancellable *cancellable)
{
  gboolean watched_before = watches_glib (host->core);
  GMainContext *running_before = set_running (host->core, host->main_context);
  gulong id = 0;

  if (cancellable != NULL)
    id = g_cancellable_connect (cancellable, G_CALLBACK (on_cancelled),
                                g_main_context_ref (host->main_context),
                                (GDestroyNotify) g_main_context_unref);
  while (!g_cancellable_is_cancelled (cancellable) && !gaio_core_is_closed (host->core) &&
         !gaio_core_is_forked (host->core))
    iterate (host, NULL);
  g_cancellable_disconnect (cancellable, id);
  set_running (host->core, running_before);
  leave_glib (host->core, watched_before);
}

/* Nests @self into @main_context, if it is not there. */
static gboolean
be_nested (GaioContext *self, GMainContext *main_context, gboolean *attached, GError **error)
{
  GaioCore *core = self->core;
  gboolean nested = FALSE, elsewhere = FALSE;

  if (gaio_core_lock (core))
    {
      nested = core->nesting.source != NULL && !g_source_is_destroyed (core->nesting.source);
      elsewhere = nested && g_source_get_context (core->nesting.source) != main_context;
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
 * @main_context: (nullable): the main context to run, or %NULL for the global default
 * @cancellable: (nullable): ends the run
 * @error: return location for a #GError
 *
 * Runs @main_context, with @self nested in it, until @cancellable is cancelled or @self is closed.
 * If @self is not nested, it is attached for the duration of the run. Everything works as with
 * g_main_loop_run(): priorities, nested main loops, g_main_current_source(). It only takes fewer
 * system calls, with the epoll monitor and as long as no source of @main_context polls an fd of its
 * own. May be called again inside a callback.
 *
 * The calling thread must own @main_context or be able to acquire it; otherwise, this fails with
 * %GAIO_ERROR_WRONG_THREAD. It fails with %GAIO_ERROR_FAILED if @self is nested in another main
 * context, with %GAIO_ERROR_CLOSED or %GAIO_ERROR_FORKED, and as gaio_context_attach() does.
 *
 * Returns: %TRUE if @cancellable was cancelled or @self was closed, %FALSE on error
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
  g_autoptr (GMainContext) kept = NULL;
  GaioHost host;
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
  kept = g_main_context_ref (main_context);
  init (&host, self->core, main_context);
  if (be_nested (self, main_context, &attached, error))
    {
      run (&host, cancellable);
      clear (&host);
      if (attached)
        gaio_context_detach (self);
      g_main_context_release (main_context);
      return !gaio_core_is_forked (self->core) || gaio_core_check (self->core, error);
    }
  g_main_context_release (main_context);
  return FALSE;
}

/* The main context that @core is nested in, acquired and with a reference, or NULL. */
static GMainContext *
acquire_main_context (GaioCore *core, GError **error)
{
  GMainContext *main_context = NULL;

  if (!gaio_core_check (core, error))
    return NULL;
  if (gaio_core_lock (core))
    {
      main_context = gaio_nesting_get_main_context (&core->nesting);
      if (main_context != NULL)
        g_main_context_ref (main_context);
      gaio_core_unlock (core);
    }
  if (main_context == NULL)
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED,
                 "The context is not nested in a main context");
  else if (!g_main_context_acquire (main_context))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_WRONG_THREAD,
                   "Another thread owns the main context");
      g_clear_pointer (&main_context, g_main_context_unref);
    }
  return main_context;
}

static gboolean
is_nested_in (GaioCore *core, GMainContext *main_context)
{
  gboolean nested;

  if (!gaio_core_lock (core))
    return FALSE;
  nested = gaio_nesting_get_main_context (&core->nesting) == main_context;
  gaio_core_unlock (core);
  return nested;
}

/* Before a wait. FALSE if a destroy notify has closed or detached @core: then nothing would end the
 * wait. */
static gboolean
run_notifies (GaioCore *core, GMainContext *main_context)
{
  return !gaio_round_run_notifies (core) || is_nested_in (core, main_context);
}

/* Iterates until something has been dispatched (our source is dispatched when an fd is ready), the
 * time is up, or our source has gone. FALSE if a signal arrived first. */
static gboolean
iterate_until_dispatched (GaioReadySet *set, GMainContext *main_context, gint64 timeout_us)
{
  GaioHost host;
  gint64 end = 0;
  gboolean done;

  /* Far from an overflow in any unit. */
  timeout_us = gaio_ready_set_is_ready (set) ? 0 : MIN (timeout_us, G_MAXINT64 / 2);
  if (timeout_us > 0)
    end = g_get_monotonic_time () + timeout_us;
  init (&host, gaio_ready_set_get_core (set), main_context);
  host.timeout_us = timeout_us;
  do
    {
      done = iterate (&host, set);
      if (timeout_us > 0 && !done)
        host.timeout_us = gaio_round_time_until (end);
    }
  while (!done && !host.interrupted && host.timeout_us != 0 &&
         is_nested_in (host.core, main_context));
  clear (&host);
  return done || !host.interrupted;
}

/**
 * gaio_ready_set_wait:
 * @self: a set, whose context is nested in a main context
 * @timeout_us: how long to wait at most, in microseconds; 0 to return at once, -1 to wait until
 *   something happens
 * @interrupted: (out) (optional): whether a signal ended the wait, so that the caller can handle it
 *   and wait again
 * @length: (out): the length of the records, in bytes
 * @error: return location for a #GError
 *
 * Runs one iteration of the main context that the context of @self is nested in, and takes what is
 * ready in @self, as gaio_ready_set_take() does. This is for another kind of event loop, such as
 * that of a programming language, that shares a thread with GLib. The set needs no function.
 *
 * The function waits until an fd of @self is ready, until anything else, such as a GLib source, has
 * been dispatched, until a signal arrives, or until the time is up. The batch may therefore be
 * empty before the time is up. The timeout never ends early. It is accurate to the microsecond if
 * no GLib source polls an fd of its own; then the function also takes only one system call, see
 * gaio_context_run(). May be called again inside a callback.
 *
 * It fails with %GAIO_ERROR_WRONG_THREAD if another thread owns the main context, with
 * %GAIO_ERROR_FAILED if there is no main context, and with %GAIO_ERROR_CLOSED or
 * %GAIO_ERROR_FORKED.
 *
 * Returns: (transfer full) (nullable) (array length=length): the records, an array of
 *   #GaioReadyRecord, or %NULL if there are none
 *
 * Since: 1.0
 */
guint8 *
gaio_ready_set_wait (GaioReadySet *self,
                     gint64 timeout_us,
                     gboolean *interrupted,
                     gsize *length,
                     GError **error)
{
  GMainContext *main_context;
  guint8 *records;
  gboolean done;

  g_return_val_if_fail (length != NULL, NULL);
  *length = 0;
  if (interrupted != NULL)
    *interrupted = FALSE;
  g_return_val_if_fail (GAIO_IS_READY_SET (self), NULL);
  g_return_val_if_fail (gaio_ready_set_get_core (self) != NULL, NULL);
  g_return_val_if_fail (timeout_us >= -1, NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  main_context = acquire_main_context (gaio_ready_set_get_core (self), error);
  if (main_context == NULL)
    return NULL;
  /* The callbacks may drop all other references. */
  g_object_ref (self);
  done = !run_notifies (gaio_ready_set_get_core (self), main_context) ||
         iterate_until_dispatched (self, main_context, timeout_us);
  g_main_context_release (main_context);
  g_main_context_unref (main_context);
  records = gaio_ready_set_take (self, length);
  if (interrupted != NULL)
    *interrupted = !done;
  g_object_unref (self);
  return records;
}
