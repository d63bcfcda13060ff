/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-notifier.h>

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gaio-error-private.h"
#include "gaio-handler-private.h"

/**
 * SECTION:gaio-notifier
 * @title: GaioNotifier
 * @short_description: a flag that wakes an event loop
 *
 * A #GaioNotifier is an eventfd(2) that any thread, and any signal handler, may set. If it is set
 * several times before it is cleared, it notifies once and costs one system call. Whoever finds it
 * set sees what was written before gaio_notifier_set().
 *
 * gaio_context_add_notifier() calls a function whenever the notifier has been set. You may also
 * give its fd to others that write to it, such as the kernel or another process.
 *
 * For calls from other threads of the same program, a #GaioBottomHalf is cheaper. The name and the
 * idea are those of QEMU's EventNotifier.
 *
 * A child process created by fork(2) has the same eventfd, so its parent would see what the child
 * writes there, and would miss what the child reads. Therefore gaio_notifier_set() and
 * gaio_notifier_test_and_clear() do nothing in a child that inherited the notifier: an inherited
 * signal handler may also run there before exec(3). To notify a parent on purpose, write(2) to the
 * fd.
 */

/**
 * GaioNotifier:
 *
 * An eventfd.
 *
 * Since: 1.0
 */
struct _GaioNotifier
{
  GaioRefCount ref_count;
  guint fork_generation; /* (const) */
  gint fd;               /* (const) */
  atomic_bool set;       /* it has been written to, or is about to be */
  pthread_mutex_t mutex;
  gboolean adding;      /* (mutex) is just being added to a context */
  GaioHandler *handler; /* (mutex) the last one that it was added with, or NULL */
};

G_DEFINE_BOXED_TYPE (GaioNotifier, gaio_notifier, gaio_notifier_ref, gaio_notifier_unref)

/* The user data of a handler. */
typedef struct
{
  GaioNotifier *notifier;
  GSourceOnceFunc func;
  gpointer user_data;
  GDestroyNotify notify;
} Watch;

static gboolean
is_forked (GaioNotifier *self)
{
  return self->fork_generation != gaio_fork_page.generation;
}

/**
 * gaio_notifier_new:
 * @error: return location for a #GError
 *
 * Creates a notifier that is not set. May be called from any thread.
 *
 * Fails with %GAIO_ERROR_PROCESS_LIMIT, %GAIO_ERROR_SYSTEM_LIMIT or %GAIO_ERROR_NO_MEMORY if a
 * limit has been reached.
 *
 * Returns: (transfer full): a new notifier, or %NULL on error
 *
 * Since: 1.0
 */
GaioNotifier *
gaio_notifier_new (GError **error)
{
  GaioNotifier *self;
  gint fd;

  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd == -1)
    {
      gaio_error_set_for_own (error, errno, "Cannot create an eventfd");
      return NULL;
    }
  self = g_new0 (GaioNotifier, 1);
  gaio_ref_count_init (&self->ref_count, 1);
  self->fork_generation = gaio_fork_get_generation ();
  self->fd = fd;
  pthread_mutex_init (&self->mutex, NULL);
  return self;
}

/**
 * gaio_notifier_ref:
 * @self: a notifier
 *
 * Takes a reference. May be called from any thread.
 *
 * Returns: (transfer full): @self
 *
 * Since: 1.0
 */
GaioNotifier *
gaio_notifier_ref (GaioNotifier *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  gaio_ref_count_inc (&self->ref_count);
  return self;
}

/**
 * gaio_notifier_unref:
 * @self: (transfer full): a notifier
 *
 * Drops a reference. Dropping the last one closes the fd. While a notifier is added to a context,
 * its handler holds a reference. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_notifier_unref (GaioNotifier *self)
{
  g_return_if_fail (self != NULL);

  if (!gaio_ref_count_dec (&self->ref_count))
    return;
  g_clear_pointer (&self->handler, gaio_handler_unref);
  close (self->fd);
  if (!is_forked (self))
    pthread_mutex_destroy (&self->mutex);
  g_free (self);
}

/**
 * gaio_notifier_set:
 * @self: a notifier
 *
 * Sets @self: its fd becomes readable, unless it already is. May be called from any thread, and is
 * async-signal-safe: it takes no lock, allocates no memory and preserves errno. Does nothing in a
 * forked child.
 *
 * Since: 1.0
 */
void
gaio_notifier_set (GaioNotifier *self)
{
  const guint64 one = 1;
  int errsv;

  g_return_if_fail (self != NULL);

  /* This is a read-modify-write even if it changes nothing, so that whoever clears it sees what the
   * caller wrote before. Pairs with the exchange in gaio_notifier_test_and_clear(). */
  if (is_forked (self) || atomic_exchange_explicit (&self->set, true, memory_order_acq_rel))
    return;
  errsv = errno;
  while (write (self->fd, &one, sizeof one) == -1 && errno == EINTR)
    ;
  errno = errsv;
}

/**
 * gaio_notifier_test_and_clear:
 * @self: a notifier
 *
 * Clears @self. What was written before it was set is visible afterwards. May be called from any
 * thread. Does nothing in a forked child.
 *
 * Returns: %TRUE if it was set
 *
 * Since: 1.0
 */
gboolean
gaio_notifier_test_and_clear (GaioNotifier *self)
{
  guint64 value;
  ssize_t length;

  g_return_val_if_fail (self != NULL, FALSE);

  if (is_forked (self))
    return FALSE;
  do
    length = read (self->fd, &value, sizeof value);
  while (length == -1 && errno == EINTR);
  /* Not set, or set by a thread that is about to write. */
  if (length == -1)
    return FALSE;
  /* Only after the read, which would otherwise consume what is written for the next time. Up to
   * here, a thread that finds it set need not write to the fd: we see what it wrote before. */
  atomic_exchange_explicit (&self->set, false, memory_order_acq_rel);
  return TRUE;
}

/**
 * gaio_notifier_get_fd:
 * @self: a notifier
 *
 * Returns the fd: an eventfd(2) that is readable while @self is set. Writing to it also sets @self.
 * It belongs to @self: do not read from it, and do not close it. May be called from any thread.
 *
 * Returns: the eventfd
 *
 * Since: 1.0
 */
gint
gaio_notifier_get_fd (GaioNotifier *self)
{
  g_return_val_if_fail (self != NULL, -1);
  return self->fd;
}

static gboolean
watch_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Watch *watch = user_data;

  if (gaio_notifier_test_and_clear (watch->notifier))
    watch->func (watch->user_data);
  return G_SOURCE_CONTINUE;
}

static void
watch_gone (gpointer user_data)
{
  Watch *watch = user_data;

  if (watch->notify != NULL)
    watch->notify (watch->user_data);
  gaio_notifier_unref (watch->notifier);
  g_free (watch);
}

/* FALSE if @self already belongs to a context, or is about to. */
static gboolean
begin_adding (GaioNotifier *self)
{
  gboolean mine;

  pthread_mutex_lock (&self->mutex);
  mine = !self->adding && (self->handler == NULL || gaio_handler_is_removed (self->handler));
  self->adding |= mine;
  pthread_mutex_unlock (&self->mutex);
  return mine;
}

/* With the new handler, or NULL. */
static void
end_adding (GaioNotifier *self, GaioHandler *handler)
{
  GaioHandler *last;

  pthread_mutex_lock (&self->mutex);
  last = self->handler;
  self->handler = handler != NULL ? gaio_handler_ref (handler) : NULL;
  self->adding = FALSE;
  pthread_mutex_unlock (&self->mutex);
  g_clear_pointer (&last, gaio_handler_unref);
}

/* Takes a reference on @notifier. */
static GaioHandler *
add_watch (GaioCore *core, const Watch *params, GError **error)
{
  GaioHandlerParams handler_params = { .fd = params->notifier->fd,
                                       .condition = G_IO_IN,
                                       .func = watch_ready,
                                       .user_data = g_memdup2 (params, sizeof *params),
                                       .notify = watch_gone };

  gaio_notifier_ref (params->notifier);
  return gaio_handler_add (core, &handler_params, error);
}

static gboolean
check_notifier (GaioNotifier *notifier, GError **error)
{
  if (is_forked (notifier))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_FORKED,
                   "fd %d: the notifier belongs to the process that this one was forked from",
                   notifier->fd);
      return FALSE;
    }
  if (!begin_adding (notifier))
    {
      g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED,
                   "fd %d: the notifier has already been added to a context", notifier->fd);
      return FALSE;
    }
  return TRUE;
}

/**
 * gaio_context_add_notifier:
 * @self: a context
 * @notifier: a notifier
 * @func: (scope notified) (closure user_data) (destroy notify): the function to call
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of @self, when the handler has been removed and
 *   its function has returned; on error, called before this function returns
 * @error: return location for a #GError
 *
 * Clears @notifier and calls @func whenever @notifier has been set. The handler holds a reference
 * to @notifier, and stays until it is removed, see gaio_handler_remove(). After that, @notifier may
 * be added again, to the same or another context. May be called from any thread.
 *
 * Fails with %GAIO_ERROR_FAILED if @notifier has already been added, with %GAIO_ERROR_FORKED also
 * if it was inherited from a parent process, and otherwise as gaio_context_add_fd() does.
 *
 * Returns: (transfer full): a new handler, or %NULL on error
 *
 * Since: 1.0
 */
GaioHandler *
gaio_context_add_notifier (GaioContext *self,
                           GaioNotifier *notifier,
                           GSourceOnceFunc func,
                           gpointer user_data,
                           GDestroyNotify notify,
                           GError **error)
{
  Watch watch = { notifier, func, user_data, notify };
  GaioHandler *handler;

  gaio_return_val_if_fail_notify (GAIO_IS_CONTEXT (self), user_data, notify, NULL);
  gaio_return_val_if_fail_notify (notifier != NULL, user_data, notify, NULL);
  gaio_return_val_if_fail_notify (func != NULL, user_data, notify, NULL);
  gaio_return_val_if_fail_notify (error == NULL || *error == NULL, user_data, notify, NULL);

  if (!check_notifier (notifier, error))
    {
      if (notify != NULL)
        notify (user_data);
      return NULL;
    }
  /* The destroy notify may drop the caller's reference. */
  gaio_notifier_ref (notifier);
  handler = add_watch (self->core, &watch, error);
  end_adding (notifier, handler);
  gaio_notifier_unref (notifier);
  return handler;
}
