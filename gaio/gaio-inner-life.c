/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-life-private.h"

#include <gaio/gaio-context.h>
#include <gaio/gaio-error.h>

#include "gaio-inner-queue-private.h"
#include "gaio-inner-spare-private.h"

/* --- Iterations by somebody else --- */

/* The first source of an inner context, which is prepared in each iteration of it. */
typedef struct
{
  GSource parent;
  GaioInner *inner; /* with a reference */
} Guard;

/* Unless it is ours: what we have prepared is prepared no longer, and may have changed. */
static gboolean
guard_prepare (GSource *source, gint *timeout_ms)
{
  GaioInner *self = ((Guard *) source)->inner;

  *timeout_ms = -1;
  if (self->preparing)
    return FALSE;
  self->prepared = false;
  self->foreign = true;
  if (gaio_core_lock (self->entry.core))
    {
      gaio_inner_schedule_turn (self);
      gaio_core_unlock (self->entry.core);
    }
  return FALSE;
}

static void
guard_finalize (GSource *source)
{
  gaio_entry_unref (&((Guard *) source)->inner->entry);
}

static GSourceFuncs guard_funcs = { .prepare = guard_prepare, .finalize = guard_finalize };

static void
attach_guard (GaioInner *self)
{
  self->guard = g_source_new (&guard_funcs, sizeof (Guard));
  ((Guard *) self->guard)->inner = gaio_entry_ref (&self->entry);
  g_source_set_priority (self->guard, G_MININT);
  g_source_set_static_name (self->guard, "GaioContext");
  g_source_attach (self->guard, self->main_context);
}

/* --- Its life --- */

/* The kernel knows, and no round may have asked it since. */
static gboolean
is_woken (GaioInner *self)
{
  GPollFD pollfd = { self->wake_fd, G_IO_IN, 0 };

  return g_poll (&pollfd, 1, 0) > 0;
}

/* Whether it waits for nothing but to be woken up, and has not been. With the lock held. */
static gboolean
is_idle (GaioInner *self)
{
  return self->n_watches == 1 && self->node.position == 0 && !gaio_link_is_linked (&self->turns) &&
         !atomic_load_explicit (&self->wants_turn, memory_order_relaxed) &&
         self->entry.stamp != gaio_ready_list_get_stamp (&self->entry.core->ready) &&
         !gaio_entry_is_running (&self->entry) && !is_woken (self);
}

/* With the lock held. */
static void
lose_owner (GaioInner *self)
{
  if (is_idle (self))
    gaio_inner_destroy (self);
  atomic_store_explicit (&self->ownerless, true, memory_order_release);
  gaio_inner_schedule_turn (self);
}

/* In whichever thread their owner is finalized. */
static void
owner_gone (gpointer data)
{
  GaioInner *next;

  for (GaioInner *self = data; self != NULL; self = next)
    {
      next = self->next_of_owner;
      if (gaio_core_lock (self->entry.core))
        {
          lose_owner (self);
          gaio_core_unlock (self->entry.core);
        }
      gaio_entry_unref (&self->entry);
    }
}

/* It has been destroyed, and its last turn is over. */
static void
inner_ended (gpointer data)
{
  GaioInner *self = data;

  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL)
      gaio_handler_unref (self->watches[i].handler);
  gaio_inner_spare_offer (self);
  g_main_context_unref (self->main_context);
}

static void
inner_free (GaioEntry *entry)
{
  GaioInner *self = (GaioInner *) entry;

  if (self->watches != self->few)
    g_free (self->watches);
  g_free (self);
}

/* It goes with @owner, if it is there for so long. At most once, before anybody else knows of it or
 * by the owner of the context. A qdata takes half the memory of a weak reference. */
void
gaio_inner_set_owner (GaioInner *self, GObject *owner)
{
  static GQuark quark;

  gaio_entry_ref (&self->entry);
  self->owner_type = G_OBJECT_TYPE (owner);
  gaio_inner_lock_table ();
  if (quark == 0)
    quark = g_quark_from_static_string ("gaio-main-contexts");
  self->next_of_owner = g_object_steal_qdata (owner, quark);
  g_object_set_qdata_full (owner, quark, self, owner_gone);
  gaio_inner_unlock_table ();
}

static GaioInner *
inner_alloc (GaioContext *context, GMainContext *main_context, int wake_fd)
{
  GaioInner *self = g_new0 (GaioInner, 1);

  gaio_entry_init (&self->entry, GAIO_ENTRY_INNER, context->core, self, inner_ended);
  self->entry.free = inner_free;
  self->main_context = g_main_context_ref (main_context);
  self->watches = self->few;
  self->wake_fd = wake_fd;
  self->deadline = -1;
  return self;
}

void
gaio_inner_set_served_error (GError **error)
{
  g_set_error (error, GAIO_ERROR, GAIO_ERROR_FAILED,
               "The main context is served by a context already");
}

/* With the lock held. */
static gboolean
join (GaioInner *self, GError **error)
{
  GaioCore *core = self->entry.core;

  if (!gaio_core_check (core, error))
    return FALSE;
  if (!gaio_inner_insert (self))
    {
      gaio_inner_set_served_error (error);
      return FALSE;
    }
  attach_guard (self);
  gaio_entry_forget_gathering (&self->entry);
  gaio_list_push (&core->inners.all, &self->entry.siblings);
  gaio_inner_schedule_turn (self);
  atomic_fetch_add_explicit (&core->inners.n, 1, memory_order_relaxed);
  return TRUE;
}

/* Serves @main_context, whose wake-up fd is @wake_fd, until @owner goes, if there is one. Returns a
 * reference, or NULL on error. */
GaioInner *
gaio_inner_new (GaioContext *context,
                GMainContext *main_context,
                int wake_fd,
                GObject *owner,
                GError **error)
{
  GaioInner *self = inner_alloc (context, main_context, wake_fd);
  gboolean joined = FALSE;

  if (owner != NULL)
    gaio_inner_set_owner (self, owner);
  if (gaio_core_lock (context->core))
    {
      joined = join (self, error);
      gaio_core_unlock (context->core);
    }
  else
    gaio_core_check (context->core, error);
  if (!joined)
    {
      gaio_entry_reject (&self->entry);
      gaio_entry_unref (&self->entry);
      return NULL;
    }
  return self;
}

/* What is attached to it stays attached, and is no longer iterated. With the lock held; once more
 * does nothing. */
void
gaio_inner_destroy (GaioInner *self)
{
  if (gaio_entry_is_removed (&self->entry))
    return;
  gaio_inner_forget (self);
  g_source_destroy (self->guard);
  g_clear_pointer (&self->guard, g_source_unref);
  atomic_fetch_sub_explicit (&self->entry.core->inners.n, 1, memory_order_relaxed);
  gaio_link_unlink (&self->turns);
  gaio_inner_set_deadline (self, -1);
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL)
      gaio_handler_destroy (self->watches[i].handler);
  gaio_entry_destroy (&self->entry);
}
