/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-waiting.h>

#include <gaio/gaio-error.h>
#include <gaio/gaio-handler.h>
#include <gaio/gaio-timer.h>

#include "gaio-core-private.h"
#include "gaio-ready-set-private.h"

/**
 * SECTION:gaio-waiting
 * @title: Waiting
 * @short_description: timers, fds and ready sets for coroutines
 * @include: gaio.h
 *
 * Functions in the shape of GIO that wait for one thing: for languages in which such a function can
 * be awaited. As with all asynchronous functions of GIO, the callback is called in the
 * thread-default main context of the caller; somebody has to run that, and the #GaioContext too.
 * All of them may be called from any thread.
 *
 * They fail with %G_IO_ERROR_CANCELLED if they are cancelled, and with %GAIO_ERROR_CLOSED if the
 * context is closed. Nothing is lost then: what is ready still is. The #GaioContext has to run for
 * a cancellation, too, and a wait has a reference on it: to end without running it, close it.
 */

/* A GTask. Whatever it waits with, a timer or an fd, say, has a reference, which the destroy notify
 * drops: that is called once, whether something has happened, somebody has cancelled or the context
 * is closed. Who begins has another reference meanwhile. The task ends with the last one. */
typedef struct
{
  GTask *task;
  GaioCore *core;
  GaioTimer *timer;
  gulong cancelled_id;
  GError *error; /* why it could not begin */
  gboolean happened;
  gssize result;
} Wait;

static Wait *
wait_new (GTask *task, GaioCore *core)
{
  Wait *self = g_atomic_rc_box_new0 (Wait);

  self->task = task;
  self->core = core;
  return self;
}

/* Does not wait for a thread that is just cancelling it, as g_cancellable_disconnect() would: a
 * handler of that signal may be running this loop. */
static void
wait_end (gpointer data)
{
  Wait *self = data;
  g_autoptr (GTask) task = self->task;

  if (self->cancelled_id != 0)
    g_signal_handler_disconnect (g_task_get_cancellable (task), self->cancelled_id);
  g_clear_pointer (&self->timer, gaio_timer_unref);
  if (self->happened)
    g_task_return_int (task, self->result);
  else if (self->error != NULL || !gaio_core_check (self->core, &self->error))
    g_task_return_error (task, self->error);
  else if (!g_task_return_error_if_cancelled (task))
    g_task_return_new_error (task, GAIO_ERROR, GAIO_ERROR_REMOVED,
                             "Somebody else waits for the set");
}

static void
wait_release (gpointer self)
{
  g_atomic_rc_box_release_full (self, wait_end);
}

static void
wait_happened (Wait *self, gssize result)
{
  self->happened = TRUE;
  self->result = result;
}

/* Takes over @target. */
static void
watch_cancellable (Wait *self, GCallback on_cancelled, gpointer target, GDestroyNotify unref)
{
  GCancellable *cancellable = g_task_get_cancellable (self->task);

  if (cancellable != NULL)
    self->cancelled_id = g_cancellable_connect (cancellable, on_cancelled, target, unref);
  else
    unref (target);
}

/* --- Time --- */

static void
on_due (gpointer data)
{
  Wait *self = data;

  wait_happened (self, TRUE);
  gaio_timer_remove (self->timer);
}

static void
remove_timer (GCancellable *cancellable, gpointer timer)
{
  gaio_timer_remove (timer);
}

/**
 * gaio_context_sleep_async:
 * @self: a context
 * @delay_us: how long to wait, in microseconds, or -1 until @cancellable is cancelled
 * @cancellable: (nullable): ends the wait
 * @callback: (scope async): the function to call when it is over
 * @user_data: data for @callback
 *
 * Waits for some time, with the precision of gaio_timer_arm().
 *
 * Since: 1.0
 */
void
gaio_context_sleep_async (GaioContext *self,
                          gint64 delay_us,
                          GCancellable *cancellable,
                          GAsyncReadyCallback callback,
                          gpointer user_data)
{
  GTask *task;
  Wait *wait;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, gaio_context_sleep_async);
  wait = wait_new (task, self->core);
  wait->timer = gaio_context_add_timer (self, on_due, g_atomic_rc_box_acquire (wait), wait_release);
  watch_cancellable (wait, G_CALLBACK (remove_timer), gaio_timer_ref (wait->timer),
                     (GDestroyNotify) gaio_timer_unref);
  gaio_timer_arm (wait->timer, delay_us);
  wait_release (wait);
}

/**
 * gaio_context_sleep_finish:
 * @self: a context
 * @result: the result of gaio_context_sleep_async()
 * @error: return location for a #GError
 *
 * Returns whether the time is over.
 *
 * Returns: %TRUE, or %FALSE on error
 *
 * Since: 1.0
 */
gboolean
gaio_context_sleep_finish (GaioContext *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), FALSE);
  g_return_val_if_fail (g_async_result_is_tagged (result, gaio_context_sleep_async), FALSE);
  return g_task_propagate_int (G_TASK (result), error) != -1;
}

/* --- Fds --- */

static gboolean
on_fd_ready (gint fd, GIOCondition condition, gpointer data)
{
  wait_happened (data, condition);
  return G_SOURCE_REMOVE;
}

static void
remove_handler (GCancellable *cancellable, gpointer handler)
{
  gaio_handler_remove (handler);
}

/**
 * gaio_context_wait_fd_async:
 * @self: a context
 * @fd: a file descriptor, open until the wait is over
 * @condition: what to wait for
 * @cancellable: (nullable): ends the wait
 * @callback: (scope async): the function to call when it is over
 * @user_data: data for @callback
 *
 * Waits until @fd is ready, once, as gaio_context_add_fd() does.
 *
 * Since: 1.0
 */
void
gaio_context_wait_fd_async (GaioContext *self,
                            gint fd,
                            GIOCondition condition,
                            GCancellable *cancellable,
                            GAsyncReadyCallback callback,
                            gpointer user_data)
{
  GaioHandler *handler;
  GTask *task;
  Wait *wait;

  g_return_if_fail (GAIO_IS_CONTEXT (self));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, gaio_context_wait_fd_async);
  wait = wait_new (task, self->core);
  handler = gaio_context_add_fd (self, fd, condition, on_fd_ready, g_atomic_rc_box_acquire (wait),
                                 wait_release, &wait->error);
  if (handler != NULL)
    watch_cancellable (wait, G_CALLBACK (remove_handler), handler,
                       (GDestroyNotify) gaio_handler_unref);
  wait_release (wait);
}

/**
 * gaio_context_wait_fd_finish:
 * @self: a context
 * @result: the result of gaio_context_wait_fd_async()
 * @error: return location for a #GError
 *
 * Returns what the fd is ready for. Fails as gaio_context_add_fd() does, too.
 *
 * Returns: the conditions that are true, which may include %G_IO_HUP and %G_IO_ERR, or 0 on error
 *
 * Since: 1.0
 */
GIOCondition
gaio_context_wait_fd_finish (GaioContext *self, GAsyncResult *result, GError **error)
{
  gssize condition;

  g_return_val_if_fail (g_task_is_valid (result, self), 0);
  g_return_val_if_fail (g_async_result_is_tagged (result, gaio_context_wait_fd_async), 0);

  condition = g_task_propagate_int (G_TASK (result), error);
  return condition != -1 ? (GIOCondition) condition : 0;
}

/* --- Ready sets --- */

/* The data is the task: whoever cancels has a reference on it, so no other one looks the same. */
static void
on_set_ready (GaioReadySet *set, guint n_ready, gpointer task)
{
  wait_happened (g_task_get_task_data (task), n_ready);
  gaio_ready_set_drop_func (set, task);
}

static void
on_func_gone (gpointer task)
{
  wait_release (g_task_get_task_data (task));
}

static void
drop_func (GCancellable *cancellable, gpointer task)
{
  gaio_ready_set_drop_func (g_task_get_source_object (task), task);
}

/**
 * gaio_ready_set_wait_async:
 * @self: a set
 * @cancellable: (nullable): ends the wait
 * @callback: (scope async): the function to call when it is over
 * @user_data: data for @callback
 *
 * Waits until any fd of @self is ready. Meanwhile, the set has no other function: the one that
 * gaio_ready_set_set_func() has set is replaced, and if another is set, or somebody else waits,
 * this fails with %GAIO_ERROR_REMOVED.
 *
 * Since: 1.0
 */
void
gaio_ready_set_wait_async (GaioReadySet *self,
                           GCancellable *cancellable,
                           GAsyncReadyCallback callback,
                           gpointer user_data)
{
  GTask *task;
  Wait *wait;

  g_return_if_fail (GAIO_IS_READY_SET (self));
  g_return_if_fail (gaio_ready_set_get_core (self) != NULL);
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, gaio_ready_set_wait_async);
  wait = wait_new (task, gaio_ready_set_get_core (self));
  g_task_set_task_data (task, g_atomic_rc_box_acquire (wait), NULL);
  gaio_ready_set_set_func (self, on_set_ready, task, on_func_gone);
  watch_cancellable (wait, G_CALLBACK (drop_func), g_object_ref (task), g_object_unref);
  wait_release (wait);
}

/**
 * gaio_ready_set_wait_finish:
 * @self: a set
 * @result: the result of gaio_ready_set_wait_async()
 * @length: (out): the length of the records, in bytes
 * @error: return location for a #GError
 *
 * Takes the records, as gaio_ready_set_take() does.
 *
 * Returns: (transfer full) (nullable) (array length=length): the records, or %NULL on error, and if
 *   somebody else has taken them meanwhile
 *
 * Since: 1.0
 */
guint8 *
gaio_ready_set_wait_finish (GaioReadySet *self, GAsyncResult *result, gsize *length, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), NULL);
  g_return_val_if_fail (g_async_result_is_tagged (result, gaio_ready_set_wait_async), NULL);
  g_return_val_if_fail (length != NULL, NULL);

  *length = 0;
  if (g_task_propagate_int (G_TASK (result), error) == -1)
    return NULL;
  return gaio_ready_set_take (self, length);
}
