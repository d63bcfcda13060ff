/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-list-private.h"

/* A list without a head, for owners with room for only one pointer. An empty ring is all zero. */

typedef struct
{
  GaioLink *first; /* or NULL */
} GaioRing;

static inline void
gaio_ring_push (GaioRing *ring, GaioLink *link)
{
  if (ring->first != NULL)
    gaio_link_insert_before (link, ring->first);
  else
    ring->first = link->prev = link->next = link;
}

/* @link is in @ring. */
static inline void
gaio_ring_remove (GaioRing *ring, GaioLink *link)
{
  if (ring->first == link)
    ring->first = link->next != link ? link->next : NULL;
  gaio_link_unlink (link);
}

/* Whether it has more than one link. Looks only at the first. */
static inline gboolean
gaio_ring_is_shared (const GaioRing *ring)
{
  return ring->first != NULL && ring->first->next != ring->first;
}

static inline GaioLink *
gaio_ring_after (const GaioRing *ring, const GaioLink *link)
{
  return link->next != ring->first ? link->next : NULL;
}

/* The body may change the ring only if it ends the loop. */
#define gaio_ring_foreach(ring, link)                                                              \
  for (GaioLink *link = (ring)->first; link != NULL; link = gaio_ring_after (ring, link))
