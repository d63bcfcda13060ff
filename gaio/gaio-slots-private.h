/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-ready-list-private.h"

/* A table from small integers to slots, in pages that never move: a pointer to a slot stays valid
 * for the life of the table. */

typedef struct
{
  GaioList members;   /* what hangs on the slot */
  guint32 generation; /* moves when the slot starts to mean something else */
  guint16 mask;       /* what has been asked for, all together: a GIOCondition */
  guint8 state;       /* the user's own */
} GaioSlot;

typedef struct
{
  GaioSlot **pages;
  guint n_pages;
} GaioSlots;

#define GAIO_SLOTS_PAGE_SHIFT 6
#define GAIO_SLOTS_PER_PAGE (1u << GAIO_SLOTS_PAGE_SHIFT)

/* Gives the slot of @index, or NULL if nobody has asked gaio_slots_get() near it. */
static inline GaioSlot *
gaio_slots_lookup (const GaioSlots *slots, guint index)
{
  guint page = index >> GAIO_SLOTS_PAGE_SHIFT;

  if (page >= slots->n_pages || slots->pages[page] == NULL)
    return NULL;
  return &slots->pages[page][index & (GAIO_SLOTS_PER_PAGE - 1)];
}

static inline guint
gaio_slots_size (const GaioSlots *slots)
{
  return slots->n_pages << GAIO_SLOTS_PAGE_SHIFT;
}

GaioSlot *gaio_slots_get (GaioSlots *slots, guint index);
void gaio_slots_clear (GaioSlots *slots);
