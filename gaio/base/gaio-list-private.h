/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* An intrusive, circular, doubly linked FIFO. A node that is on no list has null links, so a node
 * can be unlinked at any time, more than once, and without knowing which list it is on. */

typedef struct _GaioLink GaioLink;

struct _GaioLink
{
  GaioLink *prev;
  GaioLink *next;
};

typedef struct
{
  GaioLink head;
} GaioList;

#define gaio_link_entry(link, type, member)                                                        \
  ((type *) (void *) ((char *) (link) -G_STRUCT_OFFSET (type, member)))

static inline void
gaio_list_init (GaioList *list)
{
  list->head.prev = list->head.next = &list->head;
}

static inline gboolean
gaio_list_is_empty (const GaioList *list)
{
  return list->head.next == &list->head;
}

static inline gboolean
gaio_link_is_linked (const GaioLink *link)
{
  return link->next != NULL;
}

/* Puts @link before @position: before the head it is the last, before the first it is the first. */
static inline void
gaio_link_insert_before (GaioLink *link, GaioLink *position)
{
  link->prev = position->prev;
  link->next = position;
  position->prev->next = link;
  position->prev = link;
}

static inline void
gaio_list_push (GaioList *list, GaioLink *link)
{
  gaio_link_insert_before (link, &list->head);
}

static inline void
gaio_link_unlink (GaioLink *link)
{
  if (link->next == NULL)
    return;
  link->prev->next = link->next;
  link->next->prev = link->prev;
  link->prev = link->next = NULL;
}

static inline GaioLink *
gaio_list_first (const GaioList *list)
{
  return gaio_list_is_empty (list) ? NULL : list->head.next;
}

/* The body may unlink @link, but no other. */
#define gaio_list_foreach(list, link)                                                              \
  for (GaioLink *link = (list)->head.next, *link##_next = link->next; link != &(list)->head;       \
       link = link##_next, link##_next = link->next)

static inline GaioLink *
gaio_list_pop (GaioList *list)
{
  GaioLink *link = gaio_list_first (list);

  if (link != NULL)
    gaio_link_unlink (link);
  return link;
}
