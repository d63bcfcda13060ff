/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* Maps small integers to slots, in pages that never move: a pointer to a slot stays valid for the
 * life of the table. The user decides what a slot contains; all slots have the same size, and are
 * all zero at first. If that size is a multiple of a cache line, each slot begins with a cache
 * line. */

typedef struct
{
  char **pages;
  guint n_pages;
} GaioSlots;

#define GAIO_SLOTS_PAGE_SHIFT 5
#define GAIO_SLOTS_PER_PAGE (1u << GAIO_SLOTS_PAGE_SHIFT)

/* Returns the slot of @index, or NULL if gaio_slots_get() has never been called for an index near
 * it. */
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
