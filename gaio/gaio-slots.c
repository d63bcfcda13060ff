/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-slots-private.h"

#include <string.h>

static GaioSlot *
new_page (void)
{
  GaioSlot *page = g_new0 (GaioSlot, GAIO_SLOTS_PER_PAGE);

  for (guint i = 0; i < GAIO_SLOTS_PER_PAGE; i++)
    gaio_list_init (&page[i].members);
  return page;
}

/* Gives the slot of @index, making its page if need be. */
GaioSlot *
gaio_slots_get (GaioSlots *slots, guint index)
{
  guint page = index >> GAIO_SLOTS_PAGE_SHIFT;

  if (page >= slots->n_pages)
    {
      guint n_pages = MAX (page + 1, slots->n_pages * 2);

      slots->pages = g_renew (GaioSlot *, slots->pages, n_pages);
      memset (slots->pages + slots->n_pages, 0, (n_pages - slots->n_pages) * sizeof (GaioSlot *));
      slots->n_pages = n_pages;
    }
  if (slots->pages[page] == NULL)
    slots->pages[page] = new_page ();
  return &slots->pages[page][index & (GAIO_SLOTS_PER_PAGE - 1)];
}

void
gaio_slots_clear (GaioSlots *slots)
{
  for (guint i = 0; i < slots->n_pages; i++)
    g_free (slots->pages[i]);
  g_clear_pointer (&slots->pages, g_free);
  slots->n_pages = 0;
}
