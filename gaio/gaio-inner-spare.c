/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-spare-private.h"

/* GLib before 2.85 walks through all main contexts of the process to create one and to free one. So
 * a few whose connection has gone are kept for the next ones, if they are like new. Only those of
 * GaioSocketService are, which hands out no reference of its own. */

#define MAX_SPARE 16
/* Of so many sources, looking for those that are left costs more than it saves. */
#define MAX_SOURCES 1000

/* The number that the next source gets. */
static guint
next_source_id (GMainContext *main_context)
{
  g_autoptr (GSource) probe = g_idle_source_new ();
  guint id = g_source_attach (probe, main_context);

  g_source_destroy (probe);
  return id + 1;
}

static gboolean
has_sources (GaioInner *self)
{
  guint end = next_source_id (self->main_context);

  if (end - self->first_source_id > MAX_SOURCES)
    return TRUE;
  for (guint id = self->first_source_id; id != end; id++)
    if (g_main_context_find_source_by_id (self->main_context, id) != NULL)
      return TRUE;
  return FALSE;
}

/* Whether only its wake-up fd is polled, with GLib's own function. */
static gboolean
polls_nothing (GMainContext *main_context)
{
  gint n, timeout_ms;

  if (!g_main_context_acquire (main_context))
    return FALSE;
  n = g_main_context_query (main_context, G_MAXINT, &timeout_ms, NULL, 0);
  g_main_context_release (main_context);
  return n == 1 && g_main_context_get_poll_func (main_context) == g_poll;
}

/* With the lock held. */
static gboolean
keep (GaioCore *core, GMainContext *main_context)
{
  if (gaio_core_is_closed (core))
    return FALSE;
  if (core->inners.spare == NULL)
    core->inners.spare = g_ptr_array_new_with_free_func ((GDestroyNotify) g_main_context_unref);
  if (core->inners.spare->len == MAX_SPARE)
    return FALSE;
  g_ptr_array_add (core->inners.spare, g_main_context_ref (main_context));
  return TRUE;
}

/* @self has ended. Without the lock. */
void
gaio_inner_spare_offer (GaioInner *self)
{
  if (self->first_source_id == 0 || has_sources (self) || !polls_nothing (self->main_context) ||
      !gaio_core_lock (self->entry.core))
    return;
  keep (self->entry.core, self->main_context);
  gaio_core_unlock (self->entry.core);
}

/* Returns one that is like new, with a reference, or NULL. */
GMainContext *
gaio_inner_spare_take (GaioCore *core)
{
  GMainContext *main_context = NULL;

  if (!gaio_core_lock (core))
    return NULL;
  if (core->inners.spare != NULL && core->inners.spare->len > 0)
    main_context = g_ptr_array_steal_index_fast (core->inners.spare, core->inners.spare->len - 1);
  gaio_core_unlock (core);
  return main_context;
}

/* It may be used again when its owner has gone. */
void
gaio_inner_spare_mark (GaioInner *self)
{
  self->first_source_id = next_source_id (self->main_context);
}

/* With the lock held. */
void
gaio_inner_spare_clear (GaioCore *core)
{
  g_clear_pointer (&core->inners.spare, g_ptr_array_unref);
}
