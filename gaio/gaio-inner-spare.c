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

/* Whether only its wake-up fd is polled, with GLib's own function, and no other thread owns it. */
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

/* Somebody may have a reference and use it meanwhile. */
typedef struct
{
  GMainContext *main_context;
  guint next_source_id;
} Spare;

static void
spare_clear (gpointer spare)
{
  g_main_context_unref (((Spare *) spare)->main_context);
}

static gboolean
is_untouched (const Spare *spare)
{
  return next_source_id (spare->main_context) == spare->next_source_id + 1 &&
         polls_nothing (spare->main_context);
}

/* With the lock held. */
static gboolean
keep (GaioCore *core, const Spare *spare)
{
  if (gaio_core_is_closed (core))
    return FALSE;
  if (core->inners.spare == NULL)
    {
      core->inners.spare = g_array_new (FALSE, FALSE, sizeof (Spare));
      g_array_set_clear_func (core->inners.spare, spare_clear);
    }
  if (core->inners.spare->len == MAX_SPARE)
    return FALSE;
  g_array_append_vals (core->inners.spare, spare, 1);
  return TRUE;
}

/* @self has ended. Without the lock. */
void
gaio_inner_spare_offer (GaioInner *self)
{
  Spare spare = { .main_context = self->main_context };

  if (self->first_source_id == 0 || has_sources (self) || !polls_nothing (self->main_context) ||
      !gaio_core_lock (self->entry.core))
    return;
  spare.next_source_id = next_source_id (self->main_context);
  if (keep (self->entry.core, &spare))
    g_main_context_ref (spare.main_context);
  gaio_core_unlock (self->entry.core);
}

/* FALSE if there is none. */
static gboolean
steal_last (GaioCore *core, Spare *spare)
{
  GArray *spares;

  if (!gaio_core_lock (core))
    return FALSE;
  spares = core->inners.spare;
  *spare = (Spare){ NULL };
  if (spares != NULL && spares->len > 0)
    {
      *spare = g_array_index (spares, Spare, spares->len - 1);
      g_main_context_ref (spare->main_context);
      g_array_set_size (spares, spares->len - 1);
    }
  gaio_core_unlock (core);
  return spare->main_context != NULL;
}

/* Returns one that is like new, with a reference, or NULL. */
GMainContext *
gaio_inner_spare_take (GaioCore *core)
{
  Spare spare;

  while (steal_last (core, &spare))
    {
      if (is_untouched (&spare))
        return spare.main_context;
      g_main_context_unref (spare.main_context);
    }
  return NULL;
}

/* It may be used again when its owner has gone, if nobody stops serving it. Nobody else knows of it
 * yet. */
void
gaio_inner_spare_mark (GaioInner *self)
{
  self->first_source_id = next_source_id (self->main_context);
}

/* Without the lock, as this may destroy what somebody has attached meanwhile. */
void
gaio_inner_spare_clear (GaioCore *core)
{
  g_autoptr (GArray) spares = NULL;

  if (!gaio_core_lock (core))
    return;
  spares = g_steal_pointer (&core->inners.spare);
  gaio_core_unlock (core);
}
