/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-context.h>

#include <stdlib.h>

#include <gaio/gaio-enum-types.h>

#include "gaio-close-private.h"
#include "gaio-file-engine-private.h"
#include "gaio-round-private.h"

/**
 * SECTION:gaio-context
 * @title: GaioContext
 * @short_description: an event loop whose cost does not depend on how many fds it watches
 *
 * A #GaioContext watches file descriptors (#GaioHandler, #GaioReadySet) and timers (#GaioTimer),
 * and accepts calls from other threads (#GaioBottomHalf). It is nested in a #GMainContext with
 * gaio_context_attach(), as one #GSource with one pollfd, or runs by itself with
 * gaio_context_iterate().
 *
 * One round serves bottom halves first, then ready fds in the order in which they became ready,
 * then timers. What is scheduled during a round runs in the next one.
 *
 * Any thread may add, change and remove handlers, timers and bottom halves. Callbacks and destroy
 * notifies run on the owner: the thread that is inside a round or, if there is none, the thread
 * that owns the #GMainContext. They may do anything: remove themselves and others, run a nested
 * main loop, close the context, or drop the last reference to it.
 *
 * But they have to return. If a C++ exception, longjmp(3), pthread_exit(3) or thread cancellation
 * (pthread_cancel(3)) leaves a callback, a destroy notify, or a function that waits, the context
 * stays inside its round forever: the callback that was running is not called again, destroy
 * notifies do not run, and no other thread can run the context. Catch exceptions inside the
 * callback, and do not cancel a thread that runs a context. In Python and JavaScript, an exception
 * ends where the callback does.
 *
 * After fork(2), an inherited context is of no use to the child: every operation on it fails with
 * %GAIO_ERROR_FORKED and does not disturb the parent.
 *
 * The idea is that of QEMU's AioContext.
 */

/**
 * GaioContext:
 *
 * An event loop.
 *
 * Since: 1.0
 */
G_DEFINE_FINAL_TYPE (GaioContext, gaio_context, G_TYPE_OBJECT)

enum
{
  PROP_0,
  PROP_MONITOR,
  N_PROPS
};

static GParamSpec *properties[N_PROPS];

/* The user who starts a setuid program may not choose its monitor. */
static GaioMonitorType
monitor_from_environment (void)
{
  static const char *const names[] = { "auto", "epoll", "poll" };
  const char *value = secure_getenv ("GAIO_MONITOR");

  for (guint i = 0; value != NULL && i < G_N_ELEMENTS (names); i++)
    if (g_str_equal (value, names[i]))
      return i;
  if (value != NULL)
    g_warning ("GAIO_MONITOR=%s is neither epoll nor poll", value);
  return GAIO_MONITOR_TYPE_AUTO;
}

static void
gaio_context_constructed (GObject *object)
{
  GaioContext *self = GAIO_CONTEXT (object);
  GaioMonitorType monitor = self->monitor;

  if (monitor == GAIO_MONITOR_TYPE_AUTO)
    monitor = monitor_from_environment ();
  self->core = gaio_core_new (self, monitor);
  G_OBJECT_CLASS (gaio_context_parent_class)->constructed (object);
}

static void
gaio_context_finalize (GObject *object)
{
  GaioContext *self = GAIO_CONTEXT (object);

  gaio_close_drop_shell (self->core);
  G_OBJECT_CLASS (gaio_context_parent_class)->finalize (object);
}

static void
gaio_context_get_property (GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
  GaioContext *self = GAIO_CONTEXT (object);

  if (id == PROP_MONITOR)
    g_value_set_enum (value, self->monitor);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
gaio_context_set_property (GObject *object, guint id, const GValue *value, GParamSpec *pspec)
{
  GaioContext *self = GAIO_CONTEXT (object);

  if (id == PROP_MONITOR)
    self->monitor = g_value_get_enum (value);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
gaio_context_class_init (GaioContextClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->constructed = gaio_context_constructed;
  object_class->finalize = gaio_context_finalize;
  object_class->get_property = gaio_context_get_property;
  object_class->set_property = gaio_context_set_property;

  /**
   * GaioContext:monitor:
   *
   * The monitor that the context was asked to use; gaio_context_dup_stats() reports the one that it
   * does use.
   *
   * Since: 1.0
   */
  properties[PROP_MONITOR] =
      g_param_spec_enum ("monitor", "Monitor", "How to poll the kernel", GAIO_TYPE_MONITOR_TYPE,
                         GAIO_MONITOR_TYPE_AUTO,
                         G_PARAM_READWRITE | G_PARAM_CONSTRUCT_ONLY | G_PARAM_STATIC_STRINGS);
  g_object_class_install_properties (object_class, N_PROPS, properties);
}

static void
gaio_context_init (GaioContext *self)
{
}

/**
 * gaio_context_new:
 *
 * Creates a context, which does not allocate kernel resources until it needs them. May be called
 * from any thread.
 *
 * Returns: (transfer full): a new context
 *
 * Since: 1.0
 */
GaioContext *
gaio_context_new (void)
{
  return gaio_context_new_with_monitor (GAIO_MONITOR_TYPE_AUTO);
}

/**
 * gaio_context_new_with_monitor:
 * @monitor: how to poll the kernel
 *
 * Creates a context that uses @monitor. May be called from any thread.
 *
 * Returns: (transfer full): a new context
 *
 * Since: 1.0
 */
GaioContext *
gaio_context_new_with_monitor (GaioMonitorType monitor)
{
  return g_object_new (GAIO_TYPE_CONTEXT, "monitor", monitor, NULL);
}

/**
 * gaio_context_iterate:
 * @self: a context
 * @timeout_us: how long to wait at most, in microseconds; 0 to return at once, -1 to wait until
 *   something happens
 *
 * Runs one round without GLib, in the calling thread. A signal does not end the wait. It is a
 * programming error to call this while another thread is inside a round or owns the #GMainContext
 * that @self is nested in, or with a @timeout_us below -1.
 *
 * Returns: %TRUE if any callback was called; %FALSE if none was, or if the context is closed
 *
 * Since: 1.0
 */
gboolean
gaio_context_iterate (GaioContext *self, gint64 timeout_us)
{
  g_return_val_if_fail (GAIO_IS_CONTEXT (self), FALSE);
  g_return_val_if_fail (timeout_us >= -1, FALSE);
  return gaio_round_iterate (self->core, timeout_us);
}

/**
 * gaio_context_wakeup:
 * @self: a context
 *
 * Makes the round that is waiting return; if none is, the next round does not wait. May be called
 * from any thread.
 *
 * Since: 1.0
 */
void
gaio_context_wakeup (GaioContext *self)
{
  g_return_if_fail (GAIO_IS_CONTEXT (self));

  if (!gaio_core_lock (self->core))
    return;
  atomic_store_explicit (&self->core->sleep.wake_requested, true, memory_order_relaxed);
  gaio_core_wake (self->core);
  gaio_core_unlock (self->core);
}

/**
 * gaio_context_close:
 * @self: a context
 *
 * Closes @self: from now on, nothing can be added to it, and it calls no functions. Everything in
 * it is removed. The destroy notifies run on the owner once its callbacks have returned; if the
 * context has no owner, they run before this function returns. Closing a context again does
 * nothing. May be called from any thread; see gaio_context_detach() if another thread may be
 * dropping the last reference to the #GMainContext.
 *
 * It is a programming error to close a shared context, see gaio_context_ref_for_main_context().
 *
 * Since: 1.0
 */
void
gaio_context_close (GaioContext *self)
{
  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (self->core->nesting.shared_with == NULL);
  gaio_close (self->core);
}

/**
 * gaio_context_is_closed:
 * @self: a context
 *
 * Checks whether gaio_context_close() has been called. May be called from any thread.
 *
 * Returns: %TRUE if @self has been closed
 *
 * Since: 1.0
 */
gboolean
gaio_context_is_closed (GaioContext *self)
{
  g_return_val_if_fail (GAIO_IS_CONTEXT (self), TRUE);
  return gaio_core_is_closed (self->core);
}

/**
 * gaio_context_set_dispatch_limits:
 * @self: a context
 * @max_callbacks: how many callbacks of all kinds a round may call, 128 by default; 0 for no limit
 * @max_time_us: after how many microseconds a round stops calling callbacks; 0, the default, for no
 *   limit
 *
 * Limits how long a round may keep the other sources of the main loop waiting. What is left over is
 * called in the next round. Destroy notifies do not count. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_context_set_dispatch_limits (GaioContext *self, guint max_callbacks, gint64 max_time_us)
{
  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (max_time_us >= 0);

  atomic_store_explicit (&self->core->max_callbacks, max_callbacks, memory_order_relaxed);
  atomic_store_explicit (&self->core->max_time_us, max_time_us, memory_order_relaxed);
}

/**
 * gaio_context_set_poll_params:
 * @self: a context
 * @max_us: how long to busy-poll at most before the loop sleeps, in microseconds, up to a second;
 *   0, the default, to disable busy polling
 * @grow: the factor by which to multiply a window that was too short; 0 for the default, 2
 * @shrink: the divisor for a window in which nothing arrived; 0 to close it at once
 *
 * Sets up adaptive busy polling, which trades processor time for latency. Before the loop sleeps,
 * it repeatedly calls the functions set with gaio_handler_set_poll_funcs(), for a window whose
 * length each handler learns from how long the loop has had to wait for it. A handler without such
 * functions turns busy polling off. In a GLib main loop, the other sources wait for @max_us at
 * most. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_context_set_poll_params (GaioContext *self, gint64 max_us, guint grow, guint shrink)
{
  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (max_us >= 0 && max_us <= G_USEC_PER_SEC);

  if (!gaio_core_lock (self->core))
    return;
  self->core->busy_poll.max_us = max_us;
  self->core->busy_poll.grow = grow > 0 ? grow : 2;
  self->core->busy_poll.shrink = shrink;
  gaio_core_wake (self->core);
  gaio_core_unlock (self->core);
}

static void
add_monitor (GVariantDict *dict, const GaioMonitor *monitor)
{
  g_variant_dict_insert (dict, "monitor", "s", gaio_monitor_get_name (monitor));
  if (monitor->note != NULL)
    g_variant_dict_insert (dict, "monitor-note", "s", monitor->note);
}

static void
add_counters (GVariantDict *dict, GaioCore *core)
{
  const GaioCounters *counters = &core->counters;
  /* That of the sweep is ours, and so is the handler of the ring. */
  guint n_timers = core->inners.sweep.timer != NULL;
  guint n_handlers = gaio_file_engine_watches_ring (core);

  g_variant_dict_insert (dict, "handlers", "u", core->handlers.n_handlers - n_handlers);
  g_variant_dict_insert (dict, "dormant-handlers", "u", core->handlers.n_dormant);
  g_variant_dict_insert (dict, "main-contexts", "u", gaio_inner_table_count (&core->inners));
  g_variant_dict_insert (dict, "timers", "u", core->timers.heap.reserved - n_timers);
  g_variant_dict_insert (dict, "armed-timers", "u", core->timers.heap.length);
  g_variant_dict_insert (dict, "rounds", "t", counters->rounds);
  g_variant_dict_insert (dict, "callbacks", "t",
                         atomic_load_explicit (&counters->callbacks, memory_order_relaxed));
  g_variant_dict_insert (dict, "wakeups", "t", counters->wakeups);
  g_variant_dict_insert (dict, "rebuilds", "t", counters->rebuilds);
  g_variant_dict_insert (dict, "file-operations", "t", core->files.n_started);
  g_variant_dict_insert (dict, "pending-file-operations", "u", core->files.n_pending);
}

/**
 * gaio_context_dup_stats:
 * @self: a context
 *
 * Returns statistics of what @self has done so far. Later versions may add keys; these exist now:
 *
 * - `monitor` (s): the monitor that polls the kernel, `epoll` or `poll`; until a monitor is first
 *   needed, the one that will be tried
 * - `monitor-note` (s): why it is not the one that was requested; present only in that case
 * - `handlers`, `dormant-handlers` (u): how many handlers there are; how many of these had their fd
 *   closed without being removed, as far as this has been noticed
 * - `main-contexts` (u): how many main contexts it serves; their fds count as handlers
 * - `timers`, `armed-timers` (u): how many timers there are; how many of these are waiting for
 *   their deadline
 * - `rounds`, `callbacks` (t): how many rounds it has run, and how many callbacks it has called
 * - `wakeups` (t): how often a thread had to wake the loop
 * - `rebuilds` (t): how often the epoll set had to be rebuilt because a file was still in it that
 *   had been closed without removing its handler
 * - `file-operations` (t), `pending-file-operations` (u): how many file operations have been
 *   submitted; how many of these have not ended
 *
 * May be called from any thread.
 *
 * Returns: (transfer full): a dictionary of type `a{sv}`, not floating
 *
 * Since: 1.0
 */
GVariant *
gaio_context_dup_stats (GaioContext *self)
{
  g_auto (GVariantDict) dict = G_VARIANT_DICT_INIT (NULL);

  g_return_val_if_fail (GAIO_IS_CONTEXT (self), NULL);

  if (gaio_core_lock (self->core))
    {
      add_monitor (&dict, &self->core->monitor);
      add_counters (&dict, self->core);
      gaio_core_unlock (self->core);
    }
  return g_variant_ref_sink (g_variant_dict_end (&dict));
}

/**
 * gaio_context_get_current:
 *
 * Returns the context whose callback the calling thread is in; if callbacks are nested, that of the
 * innermost one.
 *
 * Returns: (transfer none) (nullable): a context, or %NULL
 *
 * Since: 1.0
 */
GaioContext *
gaio_context_get_current (void)
{
  GaioCore *core = gaio_core_current;
  GaioContext *shell = NULL;

  if (core != NULL && gaio_core_lock (core))
    {
      shell = core->life.shell;
      gaio_core_unlock (core);
    }
  return shell;
}
