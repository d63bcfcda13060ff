/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-ready-set-private.h"

/**
 * SECTION:gaio-ready-set
 * @title: GaioReadySet
 * @short_description: readiness as one batch
 *
 * A #GaioReadySet watches many fds and calls one function once a round, which takes everything that
 * is ready as one array of bytes. It is meant for language bindings, where each call costs more
 * than the event, and for servers that handle events in batches. The batch contains everything that
 * is ready, whatever the dispatch limits; the call counts as one callback.
 *
 * What has not been taken stays in the batch, with one record per fd. Removing a handler, or
 * changing its condition, takes out of the batch what no longer applies. A function that is running
 * in another thread may have taken it already: gaio_handler_remove_sync() waits for that.
 *
 * If the set has no function, an fd that becomes ready in a GLib main loop is recorded once. It is
 * then not watched until the batch is taken or a function is set, so that the loop does not spin.
 * You need no function if you use gaio_ready_set_wait(), which runs the main loop and takes the
 * batch, or gaio_context_iterate(): take the batch after each round.
 */

/**
 * GaioReadySet:
 *
 * A set of fds whose readiness is reported together.
 *
 * Since: 1.0
 */
struct _GaioReadySet
{
  GObject parent_instance;

  GaioCore *core;           /* (const) NULL if it was not made by gaio_ready_set_new() */
  GaioRecords records;      /* (lock) */
  GaioSetCalls *calls;      /* (const) with a reference */
  GaioReadySetWatch *watch; /* (lock) with the function, or NULL */
  GaioList silenced;        /* (lock) members that are ready, and not watched for now */
};

G_DEFINE_FINAL_TYPE (GaioReadySet, gaio_ready_set, G_TYPE_OBJECT)

static void
gaio_ready_set_dispose (GObject *object)
{
  GaioReadySet *self = GAIO_READY_SET (object);

  if (self->core != NULL)
    gaio_ready_set_set_func (self, NULL, NULL, NULL);
  G_OBJECT_CLASS (gaio_ready_set_parent_class)->dispose (object);
}

static void
gaio_ready_set_finalize (GObject *object)
{
  GaioReadySet *self = GAIO_READY_SET (object);

  gaio_records_clear (&self->records);
  gaio_set_calls_unref (self->calls);
  g_clear_pointer (&self->core, gaio_core_unref);
  G_OBJECT_CLASS (gaio_ready_set_parent_class)->finalize (object);
}

static void
gaio_ready_set_class_init (GaioReadySetClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->dispose = gaio_ready_set_dispose;
  object_class->finalize = gaio_ready_set_finalize;
}

static void
gaio_ready_set_init (GaioReadySet *self)
{
  gaio_records_init (&self->records);
  self->calls = g_new0 (GaioSetCalls, 1);
  gaio_ref_count_init (&self->calls->ref_count, 1);
  gaio_list_init (&self->silenced);
}

/**
 * gaio_ready_set_new:
 * @context: a context
 *
 * Creates an empty set. Its handlers hold a reference to it. May be called from any thread.
 *
 * Returns: (transfer full): a new set
 *
 * Since: 1.0
 */
GaioReadySet *
gaio_ready_set_new (GaioContext *context)
{
  GaioReadySet *self;

  g_return_val_if_fail (GAIO_IS_CONTEXT (context), NULL);

  self = g_object_new (GAIO_TYPE_READY_SET, NULL);
  self->core = gaio_core_ref (context->core);
  return self;
}

/**
 * gaio_ready_set_add_fd:
 * @self: a set
 * @fd: an open file descriptor, which Gaio never closes
 * @condition: what to wait for; 0 for nothing yet
 * @token: the token in the records of @fd; below 2^53, it is exact in JavaScript
 * @error: return location for a #GError
 *
 * Watches @fd in @self. Fails as gaio_context_add_fd() does. Takes O(1) time. May be called from
 * any thread.
 *
 * Returns: (transfer full): a new handler, with which to change the condition and to stop watching,
 *   or %NULL on error
 *
 * Since: 1.0
 */
GaioHandler *
gaio_ready_set_add_fd (GaioReadySet *self,
                       gint fd,
                       GIOCondition condition,
                       guint64 token,
                       GError **error)
{
  GaioHandlerParams params = { .fd = fd, .condition = condition & ~G_IO_NVAL, .token = token };

  g_return_val_if_fail (GAIO_IS_READY_SET (self), NULL);
  g_return_val_if_fail (self->core != NULL, NULL);
  g_return_val_if_fail (gaio_handler_check_condition (fd, params.condition), NULL);
  g_return_val_if_fail (error == NULL || *error == NULL, NULL);

  params.records = &self->records;
  params.calls = self->calls;
  params.user_data = g_object_ref (self);
  params.notify = g_object_unref;
  return gaio_handler_add (self->core, &params, error);
}

/* NULL if it was not made by gaio_ready_set_new(). */
GaioCore *
gaio_ready_set_get_core (GaioReadySet *self)
{
  return self->core;
}

/* Whether there is something to take. */
gboolean
gaio_ready_set_is_ready (GaioReadySet *self)
{
  gboolean ready = FALSE;

  if (gaio_core_lock (self->core))
    {
      ready = self->records.n_live > 0;
      gaio_core_unlock (self->core);
    }
  return ready;
}

/* With the lock held. */
static void
unsilence (GaioReadySet *self)
{
  GaioLink *link;

  while ((link = gaio_list_pop (&self->silenced)) != NULL)
    gaio_registration_set_masked (gaio_link_entry (link, GaioHandler, entry.link), FALSE);
}

/* The user is about to learn what has been recorded. With the lock held. */
static void
forget_reported (GaioReadySet *self)
{
  gaio_list_foreach (&self->core->handlers.always, link)
    {
      GaioHandler *handler = gaio_link_entry (link, GaioHandlerExtra, always)->handler;

      if (handler->reports_once && handler->entry.kind == GAIO_ENTRY_MEMBER &&
          handler->entry.user_data == self)
        gaio_registration_forget_reported (handler);
    }
}

/* With the lock held. */
static void
silence (GaioReadySet *self, GaioHandler *member)
{
  if (!gaio_link_is_linked (&member->entry.link))
    gaio_list_push (&self->silenced, &member->entry.link);
  gaio_registration_set_masked (member, TRUE);
}

/* With the lock held. */
void
gaio_ready_set_watch_destroy (GaioReadySetWatch *watch)
{
  if (watch->set != NULL)
    watch->set->watch = NULL;
  watch->set = NULL;
  gaio_entry_destroy (&watch->entry);
}

/* With the lock held. */
static void
replace_watch (GaioReadySet *self, GaioReadySetWatch *watch)
{
  if (self->watch != NULL)
    gaio_ready_set_watch_destroy (self->watch);
  self->watch = watch;
  /* What the old function left because it was running is for the new one, or for the next take. */
  unsilence (self);
  if (watch == NULL)
    return;
  watch->set = self;
  gaio_entry_forget_gathering (&watch->entry);
  gaio_list_push (&self->core->handlers.set_funcs, &watch->entry.siblings);
}

static GaioReadySetWatch *
watch_new (GaioCore *core, GaioReadySetFunc func, gpointer user_data, GDestroyNotify notify)
{
  GaioReadySetWatch *watch = g_new0 (GaioReadySetWatch, 1);

  gaio_entry_init (&watch->entry, GAIO_ENTRY_READY_SET_FUNC, core, user_data, notify);
  watch->func = func;
  return watch;
}

/**
 * gaio_ready_set_set_func:
 * @self: a set
 * @func: (nullable) (scope notified) (closure user_data) (destroy notify): the function to call, or
 *   %NULL for none
 * @user_data: data for @func
 * @notify: (nullable): called once, on the owner of the context, when @func has been replaced and
 * has returned
 *
 * Sets the function that is called, at most once a round, when fds of @self are ready. While it
 * runs a nested main loop, it is not called again. On a closed context, @notify runs before this
 * function returns. May be called from any thread.
 *
 * Since: 1.0
 */
void
gaio_ready_set_set_func (GaioReadySet *self,
                         GaioReadySetFunc func,
                         gpointer user_data,
                         GDestroyNotify notify)
{
  GaioReadySetWatch *watch = NULL;
  gboolean usable;

  gaio_return_val_if_fail_notify (GAIO_IS_READY_SET (self), user_data, notify, );
  gaio_return_val_if_fail_notify (self->core != NULL, user_data, notify, );

  if (func != NULL)
    watch = watch_new (self->core, func, user_data, notify);
  usable = gaio_core_lock (self->core);
  if (usable)
    {
      usable = gaio_core_check (self->core, NULL);
      if (usable || watch == NULL)
        replace_watch (self, watch);
      gaio_core_unlock (self->core);
    }
  if (watch != NULL && !usable)
    gaio_entry_reject (&watch->entry);
  if (watch != NULL)
    gaio_entry_unref (&watch->entry);
}

/* Unless it has been replaced: the set has no function afterwards. */
void
gaio_ready_set_drop_func (GaioReadySet *self, gconstpointer user_data)
{
  if (!gaio_core_lock (self->core))
    return;
  if (self->watch != NULL && self->watch->entry.user_data == user_data)
    replace_watch (self, NULL);
  gaio_core_unlock (self->core);
}

/**
 * gaio_ready_set_take:
 * @self: a set
 * @length: (out): the length of the records, in bytes
 *
 * Takes the batch of everything that is ready, and starts a new one. The bytes are an array of
 * #GaioReadyRecord, in the order in which the fds became ready. May be called from any thread.
 *
 * Returns: (transfer full) (nullable) (array length=length): the records, or %NULL if there are
 *   none
 *
 * Since: 1.0
 */
guint8 *
gaio_ready_set_take (GaioReadySet *self, gsize *length)
{
  GaioReadyRecord *items = NULL;
  guint n = 0;

  g_return_val_if_fail (GAIO_IS_READY_SET (self), NULL);
  g_return_val_if_fail (self->core != NULL, NULL);
  g_return_val_if_fail (length != NULL, NULL);

  if (gaio_core_lock (self->core))
    {
      items = gaio_records_take (&self->records, &n);
      if (self->watch == NULL)
        unsilence (self);
      forget_reported (self);
      gaio_core_unlock (self->core);
    }
  *length = n * sizeof (GaioReadyRecord);
  return (guint8 *) items;
}

/* A member is ready. TRUE if there is something to report, to the function or to the caller of
 * gaio_context_iterate(). By the owner, with the lock held. */
gboolean
gaio_ready_set_gather (GaioHandler *handler, guint ready)
{
  GaioReadySet *self = handler->entry.user_data;
  GaioMembership *membership = handler->membership;
  GaioCore *core = self->core;
  GaioReadySetWatch *watch = self->watch;

  if (watch != NULL && gaio_entry_is_running (&watch->entry))
    {
      silence (self, handler);
      gaio_entry_want_end (&watch->entry);
      return FALSE;
    }
  gaio_records_merge (&self->records, &membership->record, membership->token, handler->fd, ready);
  if (watch == NULL && core->nesting.source != NULL &&
      !gaio_host_state_is_target_set (&core->host, self))
    silence (self, handler);
  if (watch != NULL)
    {
      watch->entry.stamp = gaio_ready_list_get_stamp (&core->ready);
      if (!gaio_link_is_linked (&watch->entry.link))
        gaio_list_push (&core->ready.entries, &watch->entry.link);
    }
  return TRUE;
}

/* With the lock held: returns the set to call, with a reference, or NULL. The members that are
 * ready hold references too, so no toggle notify runs. */
static GaioReadySet *
ref_set_to_call (GaioReadySetWatch *watch, guint *n_ready)
{
  if (watch->set == NULL || watch->set->records.n_live == 0)
    return NULL;
  *n_ready = watch->set->records.n_live;
  forget_reported (watch->set);
  watch->set->calls->running++;
  return g_object_ref (watch->set);
}

/* With the lock held. */
static void
end_call (GaioCore *core, GaioSetCalls *calls)
{
  if (--calls->running > 0)
    return;
  calls->n_times++;
  if (core->removal.n_sync_waiters > 0)
    pthread_cond_broadcast (&core->removal.callback_ended);
}

/* With the lock held. */
static void
handle_end (GaioReadySetWatch *watch, GaioReadySet *set)
{
  gaio_entry_handle_end (&watch->entry);
  if (!gaio_entry_is_running (&watch->entry))
    unsilence (set);
}

static void
after_callback (GaioReadySetWatch *watch, GaioReadySet *set, gboolean end_wanted)
{
  if (!gaio_core_lock (watch->entry.core))
    return;
  end_call (watch->entry.core, set->calls);
  if (end_wanted)
    handle_end (watch, set);
  gaio_core_unlock (watch->entry.core);
}

/* Calls the function of a set if something is still ready. By the owner, without the lock. */
gboolean
gaio_ready_set_serve (GaioReadySetWatch *watch)
{
  GaioReadySet *set = NULL;
  guint n_ready = 0;

  if (gaio_core_lock (watch->entry.core))
    {
      set = ref_set_to_call (watch, &n_ready);
      gaio_core_unlock (watch->entry.core);
    }
  if (set == NULL)
    return FALSE;
  gaio_entry_begin (&watch->entry);
  gaio_trace_call (&watch->entry.core->profile, "ready set", watch->func, -1, NULL,
                   watch->func (set, n_ready, watch->entry.user_data));
  after_callback (watch, set, gaio_entry_end (&watch->entry));
  g_object_unref (set);
  return TRUE;
}
