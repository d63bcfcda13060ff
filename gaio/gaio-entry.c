/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-entry-private.h"

void
gaio_entry_init (GaioEntry *entry,
                 GaioEntryKind kind,
                 GaioCore *core,
                 gpointer user_data,
                 GDestroyNotify notify)
{
  entry->kind = kind;
  gaio_ref_count_init (&entry->ref_count, 2);
  entry->core = gaio_core_ref (core);
  entry->user_data = user_data;
  entry->notify = notify;
}

gpointer
gaio_entry_ref (GaioEntry *entry)
{
  gaio_ref_count_inc (&entry->ref_count);
  return entry;
}

void
gaio_entry_unref (GaioEntry *entry)
{
  GaioCore *core = entry->core;

  if (!gaio_ref_count_dec (&entry->ref_count))
    return;
  if (entry->free != NULL)
    entry->free (entry);
  else
    g_free (entry);
  gaio_core_unref (core);
}

/* Marks @entry removed, if its kind has not done so, and leaves its destroy notify to the owner.
 * Call this only once, with the lock held. */
void
gaio_entry_destroy (GaioEntry *entry)
{
  GaioCore *core = entry->core;

  atomic_store_explicit (&entry->removed, true, memory_order_release);
  gaio_link_unlink (&entry->siblings);
  gaio_removal_add_pending (&core->removal, &entry->siblings);
  gaio_core_wake (core);
}

static void
release (GaioEntry *entry)
{
  GDestroyNotify notify = g_steal_pointer (&entry->notify);

  if (notify != NULL)
    notify (entry->user_data);
  gaio_entry_unref (entry);
}

/* For an entry that could not be added: it is removed from the start, and its notify runs now.
 * Without the lock. */
void
gaio_entry_reject (GaioEntry *entry)
{
  atomic_store_explicit (&entry->removed, true, memory_order_release);
  release (entry);
}

/* Takes the removed entries whose callback is not on the stack. gaio_entry_handle_end() adds the
 * others again. */
static void
take_pending_notifies (GaioCore *core, GaioList *batch)
{
  GaioLink *link;

  gaio_list_init (batch);
  if (!gaio_core_lock (core))
    return;
  while ((link = gaio_list_pop (&core->removal.pending_notifies)) != NULL)
    {
      GaioEntry *entry = gaio_link_entry (link, GaioEntry, siblings);

      if (gaio_entry_is_running (entry))
        {
          gaio_entry_want_end (entry);
          continue;
        }
      gaio_link_unlink (&entry->link);
      gaio_list_push (batch, link);
    }
  atomic_store_explicit (&core->removal.has_pending_notifies, false, memory_order_relaxed);
  gaio_core_unlock (core);
}

/* Runs the destroy notifies of removed entries. Entries that these remove in turn wait for the next
 * time. If a destroy notify forks, the child leaves the rest to its parent. By the owner, without
 * the lock. */
void
gaio_entry_run_notifies (GaioCore *core)
{
  GaioList batch;
  GaioLink *link;

  take_pending_notifies (core, &batch);
  while (!gaio_core_is_forked (core) && (link = gaio_list_pop (&batch)) != NULL)
    release (gaio_link_entry (link, GaioEntry, siblings));
}

/* After gaio_entry_end() has returned TRUE. With the lock held. */
void
gaio_entry_handle_end (GaioEntry *entry)
{
  GaioCore *core = entry->core;

  if (gaio_entry_is_running (entry))
    return;
  atomic_fetch_and_explicit (&entry->state, ~(guint) GAIO_ENTRY_END_WANTED, memory_order_relaxed);
  if (gaio_entry_is_removed (entry) && !gaio_link_is_linked (&entry->siblings))
    gaio_removal_add_pending (&core->removal, &entry->siblings);
  if (core->removal.n_sync_waiters > 0)
    pthread_cond_broadcast (&core->removal.callback_ended);
}
