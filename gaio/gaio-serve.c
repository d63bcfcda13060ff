/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-serve-private.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <gaio/gaio-serve.h>

#include "gaio-close-private.h"
#include "gaio-error-private.h"
#include "gaio-inner-life-private.h"
#include "gaio-inner-spare-private.h"
#include "gaio-inner-turn-private.h"
#include "gaio-round-private.h"
#include "gaio-sweep-private.h"

/* What /proc says of an eventfd. */
#define COUNT_LABEL "eventfd-count:"

/* How often to look again if others write to eventfds meanwhile. */
#define MAX_LOOKS 10

/**
 * SECTION:gaio-serve
 * @title: Serving main contexts
 * @short_description: many small main contexts in one loop, for GIO at scale
 *
 * For each event, GLib walks all the sources of a #GMainContext. A #GaioContext can serve any
 * number of small main contexts instead, one for each connection, say. It runs an iteration of such
 * an inner context only when one of its fds is ready, when its timeout has expired, or when
 * something has been attached to it. An inner context that waits costs nothing, whatever it waits
 * for: an asynchronous call of GIO, libsoup, TLS.
 *
 * An iteration of an inner context is a turn. It runs on the thread that runs the #GaioContext,
 * with the inner context as the thread-default main context, so that what GIO begins in a turn
 * completes in the same inner context. A turn counts as one callback for
 * gaio_context_set_dispatch_limits(). If the #GaioContext is closed, what is pending in its inner
 * contexts stays pending, as in any main context that nobody iterates: cancel it first. Between
 * turns, no thread owns the inner context. The sources of one inner context run by priority, as
 * ever; among inner contexts there is no order.
 *
 * Some changes wake nobody up: a callback of one connection closes the stream of another, say. In a
 * main context that is iterated all the time, GLib sees this in the next iteration. A #GaioContext
 * looks for such changes for a short time after anything has run in its thread, and finds them
 * within a second, or within four if an fd was closed without GIO. gaio_context_call_in() has them
 * found at once.
 */

/* --- GLib's wake-up fd --- */

/* The count of an eventfd, or -1 if it is none. */
static gint64
read_count (int fd)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fdinfo/%d", fd);
  g_autofree char *text = NULL;
  const char *label;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return -1;
  label = g_strstr_len (text, -1, COUNT_LABEL);
  return label != NULL ? (gint64) g_ascii_strtoull (label + sizeof COUNT_LABEL - 1, NULL, 16) : -1;
}

/* What @main_context polls. The caller owns it. */
static GArray *
query_pollfds (GMainContext *main_context)
{
  GArray *pollfds = g_array_new (FALSE, FALSE, sizeof (GPollFD));
  gint n, timeout_ms;

  while ((n = g_main_context_query (main_context, G_MAXINT, &timeout_ms,
                                    (GPollFD *) (void *) pollfds->data, (gint) pollfds->len)) !=
         (gint) pollfds->len)
    g_array_set_size (pollfds, n);
  return pollfds;
}

/* With G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING, and only then, GLib wakes @main_context up also for
 * what its owner attaches. */
static void
provoke_wakeup (GMainContext *main_context)
{
  g_autoptr (GSource) source = g_idle_source_new ();

  g_source_attach (source, main_context);
  g_source_destroy (source);
}

/* Returns how many counts were moved by that, and the last fd of these. */
static guint
find_moved (GMainContext *main_context, GArray *pollfds, int *moved)
{
  g_autofree gint64 *before = g_new (gint64, pollfds->len);
  guint n = 0;

  for (guint i = 0; i < pollfds->len; i++)
    before[i] = read_count (g_array_index (pollfds, GPollFD, i).fd);
  provoke_wakeup (main_context);
  for (guint i = 0; i < pollfds->len; i++)
    {
      int fd = g_array_index (pollfds, GPollFD, i).fd;

      if (before[i] == -1 || read_count (fd) == before[i])
        continue;
      *moved = fd;
      n++;
    }
  return n;
}

/* Returns GLib's wake-up fd, or -1. The caller owns @main_context. */
static int
find_wake_fd (GMainContext *main_context)
{
  g_autoptr (GArray) pollfds = query_pollfds (main_context);
  int fd = -1;

  for (guint i = 0; i < MAX_LOOKS; i++)
    {
      guint n = find_moved (main_context, pollfds, &fd);

      if (n < 2)
        return n == 1 ? fd : -1;
    }
  return -1;
}

/* --- The calls --- */

/* GLib would end the process if there is no fd for a main context: for the one that is to be
 * created, and for the default one, which the first turn would create. */
gboolean
gaio_serve_check_fds (GError **error)
{
  int fds[] = { eventfd (0, EFD_CLOEXEC), eventfd (0, EFD_CLOEXEC) };
  int errsv = errno;

  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    if (fds[i] != -1)
      close (fds[i]);
  if (fds[1] != -1)
    g_main_context_default ();
  else
    gaio_error_set_for_own (error, errsv, "Cannot create a main context");
  return fds[1] != -1;
}

/* One thread at a time, so that none takes the fd that another has seen. */
static pthread_mutex_t creating = PTHREAD_MUTEX_INITIALIZER;

static void
lock_creating (void)
{
  pthread_mutex_lock (&creating);
}

static void
unlock_creating (void)
{
  pthread_mutex_unlock (&creating);
}

/* A child must not inherit it locked. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (lock_creating, unlock_creating, unlock_creating);
}

static GMainContext *
try_main_context_new (GError **error)
{
  GMainContext *main_context = NULL;

  lock_creating ();
  if (gaio_serve_check_fds (error))
    main_context = g_main_context_new_with_flags (G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING);
  unlock_creating ();
  return main_context;
}

/* Serves @main_context, which polls nothing but its wake-up fd yet. Returns a reference, or NULL on
 * error. */
static GaioInner *
serve_new (GaioContext *self, GMainContext *main_context, GObject *owner, GError **error)
{
  GPollFD wake;
  gint timeout_ms;

  g_main_context_query (main_context, G_MAXINT, &timeout_ms, &wake, 1);
  gaio_sweep_init (self);
  return gaio_inner_new (self, main_context, wake.fd, owner, error);
}

/* As gaio_context_create_main_context() without an owner, which is set later. It may have served
 * another one, and may serve more. */
GMainContext *
gaio_serve_create_reusable (GaioContext *context, GError **error)
{
  g_autoptr (GMainContext) main_context = NULL;
  GaioInner *inner;

  if (!gaio_core_check (context->core, error))
    return NULL;
  main_context = gaio_inner_spare_take (context->core);
  if (main_context == NULL)
    main_context = try_main_context_new (error);
  inner = main_context != NULL ? serve_new (context, main_context, NULL, error) : NULL;
  if (inner == NULL)
    return NULL;
  gaio_inner_spare_mark (inner);
  gaio_entry_unref (&inner->entry);
  return g_steal_pointer (&main_context);
}

/**
 * gaio_context_create_main_context:
 * @self: a context
 * @owner: (nullable): the object that the main context is for, such as a connection, or %NULL
 * @error: return location for a #GError
 *
 * Creates a main context that @self serves until @owner is finalized or
 * gaio_context_stop_serving() is called; a turn that is running then comes to its end. When @owner
 * has been finalized, what is ready by then still has its turns, such as a read from a stream that
 * was closed; what would become ready later has none: before you drop @owner, cancel what is
 * pending and wait for its end. It costs one fd. May be called from any thread.
 *
 * Fails with %GAIO_ERROR_PROCESS_LIMIT or %GAIO_ERROR_SYSTEM_LIMIT if no fd is left, with
 * %GAIO_ERROR_CLOSED and %GAIO_ERROR_FORKED.
 *
 * Returns: (transfer full): a new main context, or %NULL on error
 *
 * Since: 1.0
 */
GMainContext *
gaio_context_create_main_context (GaioContext *self, GObject *owner, GError **error)
{
  g_autoptr (GMainContext) main_context = NULL;
  GaioInner *inner;

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), NULL);
  g_return_val_if_fail (owner == NULL || G_IS_OBJECT (owner), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  if (!gaio_core_check (self->core, error))
    return NULL;
  main_context = try_main_context_new (error);
  inner = main_context != NULL ? serve_new (self, main_context, owner, error) : NULL;
  if (inner == NULL)
    return NULL;
  gaio_entry_unref (&inner->entry);
  return g_steal_pointer (&main_context);
}

/* Before anything is asked of GLib: a query would disturb who serves @main_context. */
static gboolean
check_free (GaioContext *self, GMainContext *main_context, GError **error)
{
  GaioInner *inner = gaio_inner_lookup (main_context);
  gboolean own = FALSE;

  if (gaio_core_lock (self->core))
    {
      own = gaio_nesting_get_main_context (&self->core->nesting) == main_context;
      gaio_core_unlock (self->core);
    }
  if (own)
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED,
                 "The context is nested in this main context");
  else if (inner != NULL && gaio_core_is_forked (inner->entry.core))
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_FORKED,
                 "The main context is served by a context of the parent process");
  else if (inner != NULL)
    gaio_inner_set_served_error (error);
  if (inner != NULL)
    gaio_entry_unref (&inner->entry);
  return !own && inner == NULL;
}

/**
 * gaio_context_serve_main_context:
 * @self: a context
 * @main_context: a main context created with %G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING
 * @error: return location for a #GError
 *
 * Serves @main_context from now on, until gaio_context_stop_serving() is called. It should watch
 * few fds, as each turn costs as much as it watches. Nobody else should iterate it meanwhile; while
 * another thread owns it, @self tries again every 10 milliseconds. May be called from any thread.
 *
 * Fails with %GAIO_ERROR_NOT_SUPPORTED if @main_context was created without that flag, with
 * %GAIO_ERROR_FAILED if a context already serves it or if @self is nested in it, with
 * %GAIO_ERROR_WRONG_THREAD if another thread owns it, with %GAIO_ERROR_PROCESS_LIMIT or
 * %GAIO_ERROR_SYSTEM_LIMIT if no fd is left, with %GAIO_ERROR_CLOSED and %GAIO_ERROR_FORKED.
 *
 * Returns: %TRUE on success
 *
 * Since: 1.0
 */
gboolean
gaio_context_serve_main_context (GaioContext *self, GMainContext *main_context, GError **error)
{
  GaioInner *inner = NULL;
  int wake_fd;

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), FALSE);
  g_return_val_if_fail (main_context != NULL, FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (!gaio_core_check (self->core, error) || !check_free (self, main_context, error) ||
      !gaio_serve_check_fds (error))
    return FALSE;
  if (!g_main_context_acquire (main_context))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_WRONG_THREAD,
                   "Another thread owns the main context");
      return FALSE;
    }
  wake_fd = find_wake_fd (main_context);
  if (wake_fd == -1)
    g_set_error (error, GAIO_ERROR, GAIO_ERROR_NOT_SUPPORTED,
                 "The main context was made without G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING");
  else
    {
      gaio_sweep_init (self);
      inner = gaio_inner_new (self, main_context, wake_fd, NULL, error);
    }
  g_main_context_release (main_context);
  if (inner == NULL)
    return FALSE;
  gaio_entry_unref (&inner->entry);
  return TRUE;
}

/* What @self serves @main_context with, with a reference, or NULL. */
static GaioInner *
lookup (GaioContext *self, GMainContext *main_context)
{
  GaioInner *inner = gaio_inner_lookup (main_context);

  if (inner == NULL || inner->entry.core == self->core)
    return inner;
  gaio_entry_unref (&inner->entry);
  return NULL;
}

/**
 * gaio_context_stop_serving:
 * @self: a context
 * @main_context: a main context that @self serves
 *
 * Stops serving @main_context. Its sources stay attached, but are called only if somebody else
 * iterates it. From another thread than that of @self, this does not wait for a turn that is
 * running. Does nothing if @self does not serve @main_context. May be called from any thread, and
 * from callbacks of @main_context.
 *
 * Since: 1.0
 */
void
gaio_context_stop_serving (GaioContext *self, GMainContext *main_context)
{
  GaioInner *inner;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (main_context != NULL);

  inner = lookup (self, main_context);
  if (inner == NULL)
    return;
  if (gaio_core_lock (self->core))
    {
      inner->first_source_id = 0;
      gaio_inner_destroy (inner);
      gaio_core_unlock (self->core);
    }
  gaio_entry_unref (&inner->entry);
}

/* Where @self is nested, with a reference, or NULL. @elsewhere is set if another thread is inside a
 * round. */
static GMainContext *
ref_outer (GaioContext *self, gboolean *elsewhere)
{
  GMainContext *outer = NULL;
  const void *owner;

  if (!gaio_core_lock (self->core))
    return NULL;
  outer = gaio_nesting_get_main_context (&self->core->nesting);
  if (outer != NULL)
    g_main_context_ref (outer);
  owner = atomic_load_explicit (&self->core->round_thread, memory_order_relaxed);
  *elsewhere = owner != NULL && owner != gaio_this_thread ();
  gaio_core_unlock (self->core);
  return outer;
}

/* FALSE if another thread has a say. */
static gboolean
call_in (GaioContext *self, GaioInner *inner, GSourceOnceFunc func, gpointer user_data)
{
  gboolean elsewhere = FALSE, called;
  g_autoptr (GMainContext) outer = ref_outer (self, &elsewhere);

  if (elsewhere || (outer != NULL && !g_main_context_acquire (outer)))
    return FALSE;
  called = gaio_inner_call (inner, func, user_data);
  if (outer != NULL)
    g_main_context_release (outer);
  return called;
}

/* It was closed in a call, and may have no more rounds that would end it. */
static void
end_closed (GaioCore *core)
{
  if (!gaio_core_lock (core))
    return;
  gaio_close_finish (core);
  gaio_round_run_notifies (core);
}

/**
 * gaio_context_call_in:
 * @self: a context
 * @main_context: a main context that @self serves
 * @func: (scope call) (closure user_data): the function to call
 * @user_data: data for @func
 *
 * Calls @func with @main_context as the thread-default main context, so that what @func begins with
 * GIO completes there. Then looks for what has changed in @main_context, such as a stream that
 * @func has closed. May be called only from the thread that runs @self, also from callbacks.
 *
 * Since: 1.0
 */
void
gaio_context_call_in (GaioContext *self,
                      GMainContext *main_context,
                      GSourceOnceFunc func,
                      gpointer user_data)
{
  GaioInner *inner;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (main_context != NULL);
  g_return_if_fail (func != NULL);

  inner = lookup (self, main_context);
  g_return_if_fail (inner != NULL);
  if (!call_in (self, inner, func, user_data))
    g_critical ("Another thread runs the context, or owns the main context");
  if (gaio_core_is_closed (inner->entry.core))
    end_closed (inner->entry.core);
  gaio_entry_unref (&inner->entry);
}
