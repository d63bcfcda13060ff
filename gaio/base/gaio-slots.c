/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-slots-private.h"

#include <string.h>

#define CACHE_LINE 64

/* Returns the slot of @index, creating its page if necessary. */
gpointer
gaio_slots_get (GaioSlots *slots, guint index, gsize slot_size)
{
  guint page = index >> GAIO_SLOTS_PAGE_SHIFT;

  if (page >= slots->n_pages)
    {
      guint n_pages = MAX (page + 1, slots->n_pages * 2);

      slots->pages = g_renew (char *, slots->pages, n_pages);
      memset (slots->pages + slots->n_pages, 0, (n_pages - slots->n_pages) * sizeof (char *));
      slots->n_pages = n_pages;
    }
  if (slots->pages[page] == NULL)
    slots->pages[page] = g_aligned_alloc0 (GAIO_SLOTS_PER_PAGE, slot_size, CACHE_LINE);
  return slots->pages[page] + (index & (GAIO_SLOTS_PER_PAGE - 1)) * slot_size;
}

void
gaio_slots_clear (GaioSlots *slots)
{
  for (guint i = 0; i < slots->n_pages; i++)
    g_aligned_free (slots->pages[i]);
  g_clear_pointer (&slots->pages, g_free);
  slots->n_pages = 0;
}
