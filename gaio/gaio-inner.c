/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-private.h"

/* Who is served: one GMainContext by one context. */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *inners; /* GMainContext -> GaioInner */

void
gaio_inner_lock_table (void)
{
  pthread_mutex_lock (&mutex);
}

void
gaio_inner_unlock_table (void)
{
  pthread_mutex_unlock (&mutex);
}

/* A child must not inherit it locked. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (gaio_inner_lock_table, gaio_inner_unlock_table, gaio_inner_unlock_table);
}

/* Returns a reference, or NULL if nobody serves @main_context. */
GaioInner *
gaio_inner_lookup (GMainContext *main_context)
{
  GaioInner *self = NULL;

  gaio_inner_lock_table ();
  if (inners != NULL)
    self = g_hash_table_lookup (inners, main_context);
  if (self != NULL)
    gaio_entry_ref (&self->entry);
  gaio_inner_unlock_table ();
  return self;
}

gboolean
gaio_inner_is_served_by (GMainContext *main_context, GaioCore *core)
{
  GaioInner *self = gaio_inner_lookup (main_context);
  gboolean served = self != NULL && self->entry.core == core;

  if (self != NULL)
    gaio_entry_unref (&self->entry);
  return served;
}

/* FALSE if somebody serves it already. */
gboolean
gaio_inner_insert (GaioInner *self)
{
  gboolean inserted;

  gaio_inner_lock_table ();
  if (inners == NULL)
    inners = g_hash_table_new (NULL, NULL);
  inserted = !g_hash_table_contains (inners, self->main_context);
  if (inserted)
    g_hash_table_insert (inners, self->main_context, self);
  gaio_inner_unlock_table ();
  return inserted;
}

void
gaio_inner_forget (GaioInner *self)
{
  gaio_inner_lock_table ();
  g_hash_table_remove (inners, self->main_context);
  gaio_inner_unlock_table ();
}
