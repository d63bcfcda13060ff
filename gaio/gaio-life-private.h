/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

#include <stdatomic.h>

#include "base/gaio-fork-private.h"

/* The life of a context. The marks are those of gaio-core-private.h. */

/* These come in this order. A forked child, where nothing is torn down, goes to RELEASED at
 * once. */
typedef enum
{
  GAIO_LIFE_OPEN,
  GAIO_LIFE_CLOSED,       /* nothing can be added, and nothing is called */
  GAIO_LIFE_TEARING_DOWN, /* a thread is removing everything */
  GAIO_LIFE_EMPTIED,      /* everything has been removed: the fds may be closed */
  GAIO_LIFE_RELEASED,     /* the reference of the shell has been dropped */
} GaioLifeStage;

/* Neither a fork generation nor the 0 of a child that has none yet. */
#define GAIO_LIFE_NO_GENERATION G_MAXUINT

typedef struct
{
  guint fork_generation; /* (const) of the process that may use it */
  GaioLifeStage stage;   /* (lock) */
  /* @fork_generation while @stage is OPEN, then GAIO_LIFE_NO_GENERATION. Set under the lock, and
   * read without it: before each callback, a round checks whether the context is closed or belongs
   * to another process, and this takes one comparison. */
  atomic_uint open_generation;
  GaioContext *shell; /* (lock) the GObject; NULL once it is being finalized */
  GWeakRef context;   /* the same, to take a reference from */
  int lost_fd;        /* (lock) the epoll fd that somebody has closed, or -1 */
} GaioLife;

static inline void
gaio_life_init (GaioLife *self, GaioContext *shell)
{
  self->fork_generation = gaio_fork_get_generation ();
  self->stage = GAIO_LIFE_OPEN;
  atomic_init (&self->open_generation, self->fork_generation);
  self->shell = shell;
  g_weak_ref_init (&self->context, shell);
  self->lost_fd = -1;
}

static inline gboolean
gaio_life_is_forked (const GaioLife *self)
{
  return G_UNLIKELY (self->fork_generation != gaio_fork_page.generation);
}

static inline gboolean
gaio_life_is_closed (const GaioLife *self)
{
  return atomic_load_explicit (&self->open_generation, memory_order_acquire) ==
         GAIO_LIFE_NO_GENERATION;
}

/* Checks for closed and forked at the cost of one check. */
static inline gboolean
gaio_life_is_over (const GaioLife *self)
{
  return G_UNLIKELY (atomic_load_explicit (&self->open_generation, memory_order_acquire) !=
                     gaio_fork_page.generation);
}

/* Does nothing the second time. With the lock held. */
static inline void
gaio_life_close (GaioLife *self)
{
  if (self->stage != GAIO_LIFE_OPEN)
    return;
  self->stage = GAIO_LIFE_CLOSED;
  atomic_store_explicit (&self->open_generation, GAIO_LIFE_NO_GENERATION, memory_order_release);
}
