/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* A table from small integers to slots, in pages that never move: a pointer to a slot stays valid
 * for the life of the table. A slot is what the user makes of it, always of the same size; at first
 * it is all zero. Where the size is a multiple of that of a cache line, it begins with one. */

typedef struct
{
  char **pages;
  guint n_pages;
} GaioSlots;

#define GAIO_SLOTS_PAGE_SHIFT 5
#define GAIO_SLOTS_PER_PAGE (1u << GAIO_SLOTS_PAGE_SHIFT)

/* Gives the slot of @index, or NULL if nobody has asked gaio_slots_get() near it. */
static inline gpointer
gaio_slots_lookup (const GaioSlots *slots, guint index, gsize slot_size)
{
  guint page = index >> GAIO_SLOTS_PAGE_SHIFT;

  if (page >= slots->n_pages || slots->pages[page] == NULL)
    return NULL;
  return slots->pages[page] + (index & (GAIO_SLOTS_PER_PAGE - 1)) * slot_size;
}

static inline guint
gaio_slots_size (const GaioSlots *slots)
{
  return slots->n_pages << GAIO_SLOTS_PAGE_SHIFT;
}

gpointer gaio_slots_get (GaioSlots *slots, guint index, gsize slot_size);
void gaio_slots_clear (GaioSlots *slots);
