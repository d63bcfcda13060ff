/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-source-private.h"

#include <gaio/gaio-error.h>

#include "gaio-close-private.h"
#include "gaio-inner-queue-private.h"
#include "gaio-registry-private.h"
#include "gaio-round-private.h"

/**
 * SECTION:gaio-source
 * @title: Nesting in GLib
 * @short_description: one source with one pollfd for everything
 *
 * A #GaioContext is nested in a #GMainContext as one #GSource with one pollfd, however much it
 * watches. The source holds a reference to its context; the context holds none to its source. If
 * you destroy the source or free the #GMainContext, the context still works and can be attached
 * again.
 */

typedef struct
{
  GSource parent;
  GPollFD pollfd; /* fd is -1 until there is one */

  GaioCore *core;       /* until it is finalized */
  GaioContext *context; /* until it is destroyed */
  gboolean disposed;    /* the last reference has been dropped */
  gboolean settled;     /* (owner) the core knows where it is nested, and there is a pollfd */
  atomic_bool gone;     /* no longer the source of the context */
  gboolean detached;    /* (lock) its owner has yet to destroy it */
} GaioSource;

/* This is our own pollfd, and not from g_source_add_unix_fd(), so that we see when GLib has written
 * to it: see GaioGlibPolls. With the lock held. */
static void
add_pollfd (GaioSource *self)
{
  GaioMonitor *monitor = &self->core->monitor;

  if (self->pollfd.fd >= 0 || !gaio_monitor_is_open (monitor))
    return;
  self->pollfd.fd = gaio_monitor_get_glib_fd (monitor);
  g_source_add_poll (&self->parent, &self->pollfd);
  if (monitor->ops->before_glib_poll != NULL)
    monitor->ops->before_glib_poll (monitor, &self->parent);
}

/* When GLib first runs @self: finds out where it is nested, and gets a pollfd. */
static gboolean
settle (GaioSource *self)
{
  if (!gaio_core_lock (self->core))
    return FALSE;
  /* Unless another thread is destroying it just now. */
  if (self->core->nesting.source == &self->parent)
    {
      self->core->nesting.main_context = g_source_get_context (&self->parent);
      gaio_monitor_open (&self->core->monitor);
      add_pollfd (self);
    }
  self->settled = self->pollfd.fd >= 0;
  gaio_core_unlock (self->core);
  return self->settled;
}

/* Also TRUE in a forked child, to which the context is of no use. */
static gboolean
is_gone (GaioSource *self)
{
  return atomic_load_explicit (&self->gone, memory_order_acquire) ||
         gaio_core_is_forked (self->core);
}

static gboolean
gaio_source_prepare (GSource *source, gint *timeout_ms)
{
  GaioSource *self = (GaioSource *) source;

  *timeout_ms = -1;
  if (G_UNLIKELY (is_gone (self)))
    return TRUE;
  if (G_UNLIKELY (!self->settled) && !settle (self))
    *timeout_ms = GAIO_MONITOR_RETRY_US / 1000;
  return gaio_round_prepare (self->core, source, timeout_ms);
}

static gboolean
gaio_source_check (GSource *source)
{
  GaioSource *self = (GaioSource *) source;

  return is_gone (self) || gaio_round_check (self->core, source);
}

static gboolean
gaio_source_dispatch (GSource *source, GSourceFunc callback, gpointer user_data)
{
  GaioSource *self = (GaioSource *) source;

  if (!is_gone (self))
    gaio_round_dispatch (self->core, source);
  return !is_gone (self) && !gaio_core_is_closed (self->core);
}

static void
gaio_source_dispose (GSource *source)
{
  ((GaioSource *) source)->disposed = TRUE;
}

static void
gaio_source_finalize (GSource *source)
{
  gaio_core_unref (((GaioSource *) source)->core);
}

static GSourceFuncs source_funcs = {
  .prepare = gaio_source_prepare,
  .check = gaio_source_check,
  .dispatch = gaio_source_dispatch,
  .finalize = gaio_source_finalize,
};

static gboolean
no_callback (gpointer user_data)
{
  return G_SOURCE_CONTINUE;
}

/* The context may have another source from now on. With the lock held. */
static void
forget_source (GaioCore *core, GaioSource *self)
{
  atomic_store_explicit (&self->gone, true, memory_order_relaxed);
  if (core->nesting.source != &self->parent)
    return;
  gaio_host_state_unwatch_glib (&core->host, &core->monitor);
  gaio_host_state_drop_events (&core->host);
  core->nesting.source = NULL;
  core->nesting.main_context = NULL;
  core->monitor.glib_source = NULL;
  core->nesting.pollfd = NULL;
  core->nesting.glib_polls = (GaioGlibPolls){ 0 };
  gaio_inner_unpark (core);
}

/* With the lock held. The epoll fd stays open as long as GLib may look at it. */
static void
drop_detached (GaioCore *core, GaioSource *self)
{
  if (!self->detached)
    return;
  self->detached = FALSE;
  if (--core->nesting.n_detached_sources == 0 && core->life.stage >= GAIO_LIFE_EMPTIED)
    gaio_core_close_fds (core);
}

/* The source has been destroyed, and is not being dispatched. */
static void
source_gone (GaioSource *self)
{
  GaioContext *context = g_steal_pointer (&self->context);
  GaioCore *core = context->core;

  if (core->nesting.shared_with != NULL)
    gaio_registry_forget (core->nesting.shared_with, context);
  if (gaio_core_lock (core))
    {
      forget_source (core, self);
      drop_detached (core, self);
      if (gaio_core_is_closed (core))
        gaio_close_finish (core);
      else
        gaio_core_unlock (core);
    }
  g_object_unref (context);
}

/* The destroy notify of the callback data. Nothing else is called when a GMainContext is freed
 * while somebody holds a reference to the source. If somebody replaces the callback, this reports
 * the error and sets it again. */
static void
callback_gone (gpointer user_data)
{
  GaioSource *self = user_data;

  if (self->disposed || g_source_is_destroyed (&self->parent))
    {
      source_gone (self);
      return;
    }
  g_critical ("The source of a GaioContext takes no callback");
  g_source_set_callback (&self->parent, no_callback, self, callback_gone);
}

/* Takes over the caller's reference to @context: taking one here could run a toggle notify. With
 * the lock held. */
static GSource *
source_new (GaioContext *context)
{
  GSource *source = g_source_new (&source_funcs, sizeof (GaioSource));
  GaioSource *self = (GaioSource *) source;

  self->core = gaio_core_ref (context->core);
  self->context = context;
  self->pollfd = (GPollFD){ .fd = -1, .events = G_IO_IN };
  g_source_set_static_name (source, "GaioContext");
  /* Otherwise GLib removes the pollfd before each dispatch, and adds it again afterwards. */
  g_source_set_can_recurse (source, TRUE);
  g_source_set_callback (source, no_callback, self, callback_gone);
  g_source_set_dispose_function (source, gaio_source_dispose);
  add_pollfd (self);
  /* The thread that attaches the source may not be the one that runs it. GLib's lock is between
   * them, but ThreadSanitizer cannot see that. Pairs with is_gone(). */
  atomic_store_explicit (&self->gone, false, memory_order_release);
  context->core->nesting.source = source;
  context->core->nesting.pollfd = &self->pollfd;
  return source;
}

/* With the lock held. */
static GSource *
try_source_new (GaioContext *context, GError **error)
{
  GaioCore *core = context->core;

  if (!gaio_core_check (core, error))
    return NULL;
  if (core->nesting.source != NULL && g_source_is_destroyed (core->nesting.source))
    forget_source (core, (GaioSource *) core->nesting.source);
  if (core->nesting.source != NULL)
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "The context already has a source");
      return NULL;
    }
  if (!gaio_core_open_monitor (core, error))
    return NULL;
  return source_new (context);
}

/* Returns a new source, or NULL on error. If @attach is TRUE, it is attached, and the reference
 * belongs to @main_context. This is done under the lock, so that nobody can come in between. */
static GSource *
make_source (GaioContext *context, gboolean attach, GMainContext *main_context, GError **error)
{
  GSource *source = NULL;

  g_object_ref (context);
  if (gaio_core_lock (context->core))
    {
      source = try_source_new (context, error);
      if (source != NULL && attach)
        {
          g_source_attach (source, main_context);
          g_source_unref (source);
        }
      gaio_core_unlock (context->core);
    }
  else
    gaio_core_check (context->core, error);
  if (source == NULL)
    g_object_unref (context);
  return source;
}

/**
 * gaio_context_create_source:
 * @self: a context
 * @error: return location for a #GError
 *
 * Creates the source that nests @self in a #GMainContext, so that you can give it a priority or a
 * name; otherwise, gaio_context_attach() does everything. A context has at most one source that is
 * not destroyed. May be called from any thread.
 *
 * The source takes no callback: calling g_source_set_callback() on it is a programming error, and
 * changes nothing.
 *
 * Fails with %GAIO_ERROR_FAILED if the context already has a source; with
 * %GAIO_ERROR_PROCESS_LIMIT, %GAIO_ERROR_SYSTEM_LIMIT or %GAIO_ERROR_NO_MEMORY if a limit has been
 * reached; and with %GAIO_ERROR_CLOSED or %GAIO_ERROR_FORKED.
 *
 * Returns: (transfer full): a new source, or %NULL on error
 *
 * Since: 1.0
 */
GSource *
gaio_context_create_source (GaioContext *self, GError **error)
{
  g_return_val_if_fail (GAIO_IS_CONTEXT (self), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  return make_source (self, FALSE, NULL, error);
}

/**
 * gaio_context_attach:
 * @self: a context
 * @main_context: (nullable): the main context to nest it in, or %NULL for the global default
 * @error: return location for a #GError
 *
 * Nests @self in @main_context with the default priority, as one source with one pollfd. Fails as
 * gaio_context_create_source() does. May be called from any thread.
 *
 * Returns: %TRUE on success
 *
 * Since: 1.0
 */
gboolean
gaio_context_attach (GaioContext *self, GMainContext *main_context, GError **error)
{
  g_return_val_if_fail (GAIO_IS_CONTEXT (self), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (main_context != NULL && gaio_inner_is_served_by (main_context, self->core))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED, "The context serves this main context");
      return FALSE;
    }
  return make_source (self, TRUE, main_context, error) != NULL;
}

/* For a new context that nobody else knows. If the kernel refuses an fd now, each GLib iteration
 * tries again. */
void
gaio_source_attach_shared (GaioContext *context, GMainContext *main_context)
{
  GSource *source;

  context->core->nesting.shared_with = main_context;
  g_object_ref (context);
  gaio_core_lock (context->core);
  gaio_monitor_open (&context->core->monitor);
  source = source_new (context);
  gaio_core_unlock (context->core);
  g_source_attach (source, main_context);
  g_source_unref (source);
}

/* Returns the source, with a reference, if this thread may destroy it; then @main_context is
 * acquired, if there is one. Otherwise detaches the source, which its owner destroys later. With
 * the lock held. */
static GSource *
claim_source (GaioCore *core, GMainContext **main_context)
{
  GSource *source = core->nesting.source;

  if (source == NULL)
    return NULL;
  *main_context = gaio_nesting_get_main_context (&core->nesting);
  if (*main_context == NULL || g_main_context_acquire (*main_context))
    return g_source_ref (source);
  forget_source (core, (GaioSource *) source);
  ((GaioSource *) source)->detached = TRUE;
  core->nesting.n_detached_sources++;
  g_main_context_wakeup (*main_context);
  return NULL;
}

/**
 * gaio_context_detach:
 * @self: a context
 *
 * Detaches @self from the #GMainContext that it is nested in, if there is one. @self keeps
 * everything that it watches, and can be attached again. When called from a thread other than the
 * one that owns the #GMainContext, this does not wait for a round that is running. May be called
 * from any thread.
 *
 * If another thread may drop the last reference to the #GMainContext meanwhile, hold a reference
 * yourself: this function accesses the #GMainContext until it returns, as g_source_destroy() does,
 * and cannot itself take a reference to something that may already be being freed. The same applies
 * to gaio_context_close(), and to dropping the last reference to @self.
 *
 * It is a programming error to detach a shared context, see gaio_context_ref_for_main_context().
 *
 * Since: 1.0
 */
void
gaio_context_detach (GaioContext *self)
{
  GMainContext *main_context = NULL;
  GSource *source;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (self->core->nesting.shared_with == NULL);

  if (!gaio_core_lock (self->core))
    return;
  source = claim_source (self->core, &main_context);
  gaio_core_unlock (self->core);
  if (source == NULL)
    return;
  g_source_destroy (source);
  g_source_unref (source);
  if (main_context != NULL)
    g_main_context_release (main_context);
}
