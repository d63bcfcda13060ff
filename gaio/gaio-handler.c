/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-handler-private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "gaio-error-private.h"

/**
 * SECTION:gaio-handler
 * @title: GaioHandler
 * @short_description: one watch on one fd
 *
 * A #GaioHandler calls a function when a file descriptor is ready, as g_unix_fd_add() does, at a
 * cost that does not depend on how many other handlers there are.
 *
 * A handler accepts whatever poll(2) accepts: sockets, pipes, devices, and regular files, which are
 * always ready. An fd can have several handlers. Handlers are level-triggered: what has not been
 * consumed is reported again. %G_IO_HUP and %G_IO_ERR are reported even if they were not requested,
 * except to a handler whose condition is 0, which is not called at all.
 *
 * A handler stays until it is removed: by gaio_handler_remove(), by its function returning
 * %G_SOURCE_REMOVE, or together with its context. Dropping the reference does not remove it. Gaio
 * never closes the fd. Remove the handler before you close its fd. A handler whose fd was closed
 * first is dormant: it is not called, even if the number is reused for another file, unless a copy
 * of the fd (dup(2), fork(2)) keeps the file open.
 *
 * Everything here may be called from any thread and from inside any callback.
 */

/**
 * GaioHandler:
 *
 * One watch on one file descriptor.
 *
 * Since: 1.0
 */
G_DEFINE_BOXED_TYPE (GaioHandler, gaio_handler, gaio_handler_ref, gaio_handler_unref)

/* The conditions that poll(2) knows, except POLLNVAL, which says that there is no fd to watch. */
#define CONDITIONS                                                                                 \
  (POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM |         \
   POLLWRBAND | POLLMSG | POLLRDHUP)

GaioSetCalls *
gaio_set_calls_ref (GaioSetCalls *calls)
{
  gaio_ref_count_inc (&calls->ref_count);
  return calls;
}

void
gaio_set_calls_unref (GaioSetCalls *calls)
{
  if (gaio_ref_count_dec (&calls->ref_count))
    g_free (calls);
}

static void
membership_free (GaioMembership *self)
{
  gaio_set_calls_unref (self->calls);
  g_free (self);
}

static void
handler_free (GaioEntry *entry)
{
  GaioHandler *self = (GaioHandler *) entry;

  if (self->entry.kind == GAIO_ENTRY_MEMBER)
    membership_free (self->membership);
  if (self->extra != NULL)
    g_free (self->extra->name);
  g_free (self->extra);
  if (self->in_slot)
    gaio_registration_give_room_back (self);
  else
    g_free (self);
}

/* epoll would notice too late: our own epoll set might get the number first, or a table might grow
 * as large as the number. With the lock held. */
static gboolean
is_open (GaioCore *core, gint fd)
{
  return fd >= 0 && (gaio_registration_lookup (core, fd) != NULL || fcntl (fd, F_GETFD) != -1);
}

static GaioMembership *
membership_new (const GaioHandlerParams *params)
{
  GaioMembership *self = g_new0 (GaioMembership, 1);

  self->records = params->records;
  self->calls = gaio_set_calls_ref (params->calls);
  self->token = params->token;
  return self;
}

static GaioEntryKind
kind_of (const GaioHandlerParams *params)
{
  if (params->records != NULL)
    return GAIO_ENTRY_MEMBER;
  if (params->is_file_ring)
    return GAIO_ENTRY_FILE_RING;
  return params->inner != NULL ? GAIO_ENTRY_INNER_FD : GAIO_ENTRY_HANDLER;
}

/* With the lock held. */
static GaioHandler *
handler_new (GaioCore *core, const GaioHandlerParams *params)
{
  GaioHandler *self = gaio_registration_take_room (core, params->fd);
  GaioEntryKind kind = kind_of (params);

  if (self == NULL)
    self = g_new0 (GaioHandler, 1);
  gaio_entry_init (&self->entry, kind, core, params->user_data, params->notify);
  gaio_entry_forget_gathering (&self->entry);
  self->entry.free = handler_free;
  self->fd = params->fd;
  atomic_init (&self->condition, params->condition);
  if (kind == GAIO_ENTRY_MEMBER)
    self->membership = membership_new (params);
  else if (kind == GAIO_ENTRY_INNER_FD)
    self->inner = params->inner;
  else
    self->func = params->func;
  return self;
}

/* Frees a handler that nobody else has seen. */
static void
discard (GaioHandler *self)
{
  GaioCore *core = self->entry.core;

  handler_free (&self->entry);
  gaio_core_unref (core);
}

/* gaio_handler_add() with the lock held, and without the notify. */
GaioHandler *
gaio_handler_try_add (GaioCore *core, const GaioHandlerParams *params, GError **error)
{
  GaioHandler *self;
  int errsv;

  if (!gaio_core_check (core, error))
    return NULL;
  if (!is_open (core, params->fd))
    {
      gaio_error_set_for_fd (error, EBADF, params->fd);
      return NULL;
    }
  if (!gaio_core_open_monitor (core, error))
    return NULL;
  self = handler_new (core, params);
  errsv = gaio_registration_add (self);
  if (errsv != 0)
    {
      gaio_error_set_for_fd (error, errsv, params->fd);
      discard (self);
      return NULL;
    }
  core->handlers.n_handlers++;
  core->handlers.n_members += self->entry.kind == GAIO_ENTRY_MEMBER;
  gaio_trace (add, core, self->fd);
  return self;
}

GaioHandler *
gaio_handler_add (GaioCore *core, const GaioHandlerParams *params, GError **error)
{
  GaioHandler *self = NULL;

  if (gaio_core_lock (core))
    {
      self = gaio_handler_try_add (core, params, error);
      gaio_core_unlock (core);
    }
  else
    gaio_core_check (core, error);
  if (self == NULL && params->notify != NULL)
    params->notify (params->user_data);
  return self;
}

/* Reports what is wrong with @condition, if anything. */
gboolean
gaio_handler_check_condition (gint fd, GIOCondition condition)
{
  if ((condition & ~CONDITIONS) == 0)
    return TRUE;
  g_critical ("fd %d: condition 0x%x is not one that poll(2) knows", fd, condition);
  return FALSE;
}

/**
 * gaio_context_add_fd:
 * @self: a context
 * @fd: an open file descriptor, which Gaio never closes
 * @condition: what to wait for; 0 for nothing yet
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, when the handler has been removed and
 *   its function has returned; on error, called before this function returns
 * @error: return location for a #GError
 *
 * Watches @fd. Takes O(1) time and one epoll_ctl(2) call. May be called from any thread.
 *
 * Fails with %GAIO_ERROR_BAD_FD if @fd is not open; with %GAIO_ERROR_WATCH_LIMIT,
 * %GAIO_ERROR_PROCESS_LIMIT, %GAIO_ERROR_SYSTEM_LIMIT or %GAIO_ERROR_NO_MEMORY if a limit has been
 * reached; with %GAIO_ERROR_NOT_SUPPORTED if @fd is an epoll fd that is nested too deeply; and with
 * %GAIO_ERROR_CLOSED or %GAIO_ERROR_FORKED. After an error, nothing has changed.
 *
 * Returns: (transfer full): a new handler, or %NULL on error
 *
 * Since: 1.0
 */
GaioHandler *
gaio_context_add_fd (GaioContext *self,
                     gint fd,
                     GIOCondition condition,
                     GaioFdFunc func,
                     gpointer user_data,
                     GDestroyNotify notify,
                     GError **error)
{
  GaioHandlerParams params = { .fd = fd,
                               .condition = condition & ~G_IO_NVAL,
                               .func = func,
                               .user_data = user_data,
                               .notify = notify };

  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, NULL);
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, NULL);
  gaio_return_val_if_fail_notify (gaio_handler_check_condition (fd, params.condition), user_data,
                                  notify, NULL);
  gaio_return_val_if_fail_notify (error == NULL || *error == NULL, user_data, notify, NULL);

  return gaio_handler_add (self->core, &params, error);
}

/**
 * gaio_handler_ref:
 * @self: a handler
 *
 * Takes a reference. May be called from any thread.
 *
 * Returns: (transfer full): @self
 *
 * Since: 1.0
 */
GaioHandler *
gaio_handler_ref (GaioHandler *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return gaio_entry_ref (&self->entry);
}

/**
 * gaio_handler_unref:
 * @self: (transfer full): a handler
 *
 * Drops a reference. This does not remove the handler. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_handler_unref (GaioHandler *self)
{
  g_return_if_fail (self != NULL);
  gaio_entry_unref (&self->entry);
}

/* A member that its set has silenced may no longer have the record for which it was silenced. With
 * the lock held. */
static void
unsilence (GaioHandler *self)
{
  if (self->entry.kind != GAIO_ENTRY_MEMBER || !gaio_link_is_linked (&self->entry.link))
    return;
  gaio_link_unlink (&self->entry.link);
  gaio_registration_set_masked (self, FALSE);
}

/* With the lock held. */
static gboolean
change_condition (GaioHandler *self, GIOCondition condition, GError **error)
{
  int errsv;

  if (!gaio_core_check (self->entry.core, error))
    return FALSE;
  if (gaio_entry_is_removed (&self->entry))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_REMOVED, "The handler of fd %d has been removed",
                   self->fd);
      return FALSE;
    }
  errsv = gaio_registration_set_condition (self, condition);
  if (errsv != 0)
    {
      gaio_error_set_for_fd (error, errsv, self->fd);
      return FALSE;
    }
  unsilence (self);
  return TRUE;
}

/**
 * gaio_handler_set_condition:
 * @self: a handler
 * @condition: what to wait for from now on; 0 for nothing
 * @error: return location for a #GError
 *
 * Changes what @self waits for. Events that the current round has gathered but that are not in
 * @condition are not reported. Takes O(1) time and at most one epoll_ctl(2) call. May be called
 * from any thread.
 *
 * Fails with %GAIO_ERROR_REMOVED if @self has been removed, with %GAIO_ERROR_BAD_FD if the fd is
 * not open or now refers to another file, and with %GAIO_ERROR_CLOSED or %GAIO_ERROR_FORKED.
 *
 * Returns: %TRUE on success
 *
 * Since: 1.0
 */
gboolean
gaio_handler_set_condition (GaioHandler *self, GIOCondition condition, GError **error)
{
  gboolean changed;

  g_return_val_if_fail (self != NULL, FALSE);
  condition &= ~G_IO_NVAL;
  g_return_val_if_fail (gaio_handler_check_condition (self->fd, condition), FALSE);
  g_return_val_if_fail (error == NULL || *error == NULL, FALSE);

  if (!gaio_core_lock (self->entry.core))
    return gaio_core_check (self->entry.core, error);
  changed = change_condition (self, condition, error);
  gaio_core_unlock (self->entry.core);
  return changed;
}

/**
 * gaio_handler_get_condition:
 * @self: a handler
 *
 * Returns what @self waits for. May be called from any thread.
 *
 * Returns: the condition that was set last
 *
 * Since: 1.0
 */
GIOCondition
gaio_handler_get_condition (GaioHandler *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return atomic_load_explicit (&self->condition, memory_order_relaxed);
}

/**
 * gaio_handler_get_fd:
 * @self: a handler
 *
 * Returns the fd that @self was added for. May be called from any thread.
 *
 * Returns: the number, which may refer to another file by now
 *
 * Since: 1.0
 */
gint
gaio_handler_get_fd (GaioHandler *self)
{
  g_return_val_if_fail (self != NULL, -1);
  return self->fd;
}

/**
 * gaio_handler_dup_context:
 * @self: a handler
 *
 * Returns the context that @self was added to. May be called from any thread.
 *
 * Returns: (transfer full) (nullable): the context, or %NULL if it no longer exists
 *
 * Since: 1.0
 */
GaioContext *
gaio_handler_dup_context (GaioHandler *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return gaio_core_dup_context (self->entry.core);
}

/* With the lock held. */
static void
stop_polling (GaioHandler *self)
{
  if (self->extra == NULL || !gaio_link_is_linked (&self->extra->pollers))
    return;
  gaio_link_unlink (&self->extra->pollers);
  self->entry.core->busy_poll.n_pollers--;
}

/* With the lock held. */
static const char *
name_of (GaioHandler *self)
{
  return self->extra != NULL ? self->extra->name : NULL;
}

/* Removes @self and leaves its destroy notify to the owner. Does nothing the second time. With the
 * lock held. */
void
gaio_handler_destroy (GaioHandler *self)
{
  GaioCore *core = self->entry.core;

  if (gaio_entry_is_removed (&self->entry))
    return;
  gaio_trace (remove, core, self->fd, name_of (self));
  atomic_store_explicit (&self->entry.removed, true, memory_order_release);
  gaio_registration_remove (self);
  if (self->entry.kind == GAIO_ENTRY_MEMBER)
    {
      /* This is not in the ready list, but in the list of members that its set has silenced, which
       * is (lock). */
      gaio_link_unlink (&self->entry.link);
      core->handlers.n_members--;
    }
  core->handlers.n_handlers--;
  stop_polling (self);
  gaio_entry_destroy (&self->entry);
}

/**
 * gaio_handler_remove:
 * @self: a handler
 *
 * Stops watching: @self is not called again, even if it was already ready. When called from a
 * thread other than the owner, this does not wait for a call that is in progress; the destroy
 * notify runs after that call. Does nothing if @self has already been removed, if its fd has
 * already been closed, if the context no longer exists, or in a forked child. Takes O(1) time. May
 * be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_handler_remove (GaioHandler *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_handler_destroy (self);
  gaio_core_unlock (self->entry.core);
}

static void
wait_until_not_running (GaioHandler *self)
{
  GaioCore *core = self->entry.core;

  core->removal.n_sync_waiters++;
  /* Pairs with gaio_entry_begin() and gaio_entry_end(): either the owner sees that the mask is 0,
   * or we see that the handler is running, and the owner sees that we wait. */
  gaio_entry_want_end (&self->entry);
  while (gaio_entry_is_running (&self->entry))
    pthread_cond_wait (&core->removal.callback_ended, &core->lock);
  core->removal.n_sync_waiters--;
}

/* Waits for the calls of the set's functions that may still know of the handler. Later calls
 * cannot. */
static void
wait_until_set_has_returned (GaioHandler *self)
{
  GaioCore *core = self->entry.core;
  GaioSetCalls *calls = self->membership->calls;
  guint64 n_times = calls->n_times;

  core->removal.n_sync_waiters++;
  while (calls->running > 0 && calls->n_times == n_times)
    pthread_cond_wait (&core->removal.callback_ended, &core->lock);
  core->removal.n_sync_waiters--;
}

/* By the owner: whether this thread is inside the callback of @self. */
static gboolean
is_below_its_callback (GaioHandler *self)
{
  if (self->entry.kind == GAIO_ENTRY_MEMBER)
    return self->membership->calls->running > 0;
  return gaio_entry_is_running (&self->entry);
}

/**
 * gaio_handler_remove_sync: (skip)
 * @self: a handler
 *
 * Like gaio_handler_remove(), but also waits until a callback of @self that is running in another
 * thread has returned. Afterwards, you can free what the callback uses. May be called from any
 * thread, but not from inside the handler's own callback, including a main loop nested in it, and
 * not with a lock held that the callback takes. If the handler belongs to a #GaioReadySet, its
 * callback is the function of the set; this does not wait for code that takes from the set
 * elsewhere.
 *
 * Since: 1.0
 */
void
gaio_handler_remove_sync (GaioHandler *self)
{
  gboolean own;

  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_handler_destroy (self);
  own = gaio_core_in_round (self->entry.core);
  if (!own && self->entry.kind == GAIO_ENTRY_MEMBER)
    wait_until_set_has_returned (self);
  else if (!own)
    wait_until_not_running (self);
  gaio_core_unlock (self->entry.core);
  if (own && is_below_its_callback (self))
    g_critical ("fd %d: gaio_handler_remove_sync() called inside the handler's own callback",
                self->fd);
}

/**
 * gaio_handler_is_removed:
 * @self: a handler
 *
 * Checks whether @self has been removed, in whatever way. May be called from any thread.
 *
 * Returns: %TRUE if it will not be called again
 *
 * Since: 1.0
 */
gboolean
gaio_handler_is_removed (GaioHandler *self)
{
  g_return_val_if_fail (self != NULL, TRUE);
  return gaio_entry_is_removed (&self->entry);
}

/**
 * gaio_handler_set_name:
 * @self: a handler
 * @name: (nullable): a name for debugging messages and tracers; copied
 *
 * Names @self. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_handler_set_name (GaioHandler *self, const char *name)
{
  GaioHandlerExtra *extra;

  g_return_if_fail (self != NULL);

  if (!gaio_core_lock (self->entry.core))
    return;
  extra = gaio_handler_get_extra (self);
  g_free (extra->name);
  extra->name = g_strdup (name);
  gaio_core_unlock (self->entry.core);
}

/* Returns a copy, or NULL. Without the lock. */
static char *
dup_name (GaioHandler *self)
{
  char *name;

  if (!gaio_core_lock (self->entry.core))
    return NULL;
  name = g_strdup (name_of (self));
  gaio_core_unlock (self->entry.core);
  return name;
}

/* Calls the function of @self. Out of line, because gaio_handler_serve() is in the hot loop. */
gboolean
gaio_handler_call_traced (GaioHandler *self, guint revents)
{
  gboolean keep;

  gaio_trace_call (&self->entry.core->profile, "handler", self->func, self->fd, dup_name (self),
                   keep = self->func (self->fd, revents, self->entry.user_data));
  return keep;
}

/**
 * gaio_handler_set_can_recurse:
 * @self: a handler
 * @can_recurse: whether its function may be called while it is already running
 *
 * Sets whether @self can be called recursively. By default, a handler whose function runs a nested
 * main loop is not called again until the function returns. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_handler_set_can_recurse (GaioHandler *self, gboolean can_recurse)
{
  g_return_if_fail (self != NULL);
  atomic_store_explicit (&self->can_recurse, can_recurse, memory_order_relaxed);
}

/* With the lock held. */
static void
start_polling (GaioHandler *self, const GaioPollFuncs *funcs)
{
  GaioCore *core = self->entry.core;
  GaioHandlerExtra *extra = gaio_handler_get_extra (self);

  extra->poll_funcs = *funcs;
  gaio_list_push (&core->busy_poll.pollers, &extra->pollers);
  core->busy_poll.n_pollers++;
  gaio_core_wake (core);
}

/**
 * gaio_handler_set_poll_funcs: (skip)
 * @self: a handler
 * @poll: (nullable): returns, without a system call and without changing anything, whether what
 *   @self waits for has arrived; or %NULL for none
 * @poll_begin: (nullable): called before @poll is called repeatedly
 * @poll_end: (nullable): called afterwards, as often as @poll_begin
 *
 * Sets the functions that busy polling calls in user space, see gaio_context_set_poll_params(). All
 * three receive the user data of @self, run on the owner, and must not run a nested main loop. When
 * @poll returns %TRUE, the function of @self is called with the condition that it waits for.
 * Between @poll_begin and @poll_end, the other side need not signal the fd; @poll is called once
 * more after @poll_end. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_handler_set_poll_funcs (GaioHandler *self,
                             GSourceFunc poll,
                             GSourceOnceFunc poll_begin,
                             GSourceOnceFunc poll_end)
{
  GaioPollFuncs funcs = { poll, poll_begin, poll_end };

  g_return_if_fail (self != NULL);
  g_return_if_fail (poll != NULL || (poll_begin == NULL && poll_end == NULL));

  if (!gaio_core_lock (self->entry.core))
    return;
  stop_polling (self);
  if (poll != NULL && !gaio_entry_is_removed (&self->entry))
    start_polling (self, &funcs);
  gaio_core_unlock (self->entry.core);
}

/**
 * gaio_clear_handler: (skip)
 * @handler_ptr: (inout): the location of a handler, or of %NULL
 *
 * Removes and unrefs the handler at @handler_ptr, if there is one, and sets the location to %NULL.
 * May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_clear_handler (GaioHandler **handler_ptr)
{
  GaioHandler *self = g_steal_pointer (handler_ptr);

  if (self == NULL)
    return;
  gaio_handler_remove (self);
  gaio_handler_unref (self);
}

void
gaio_handler_after_callback (GaioHandler *self)
{
  if (!gaio_core_lock (self->entry.core))
    return;
  gaio_entry_handle_end (&self->entry);
  if (self->masked && !gaio_entry_is_running (&self->entry))
    gaio_registration_set_masked (self, FALSE);
  gaio_core_unlock (self->entry.core);
}
