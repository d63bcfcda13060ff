/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <glib.h>

/* How long the callbacks of a context run, while somebody wants to know. Its memory is bounded, and
 * everything is discarded when nobody wants to know any more. Any thread may use it. */

typedef struct
{
  unsigned int fork_generation; /* (const) */
  guint depth;                  /* (owner) of calls inside one another */
  pthread_mutex_t mutex;
  atomic_uint n_users; /* changed with the mutex */
  gint64 since;        /* (mutex) */
  gint64 total_us;     /* (mutex) */
  GHashTable *rows;    /* (mutex) a set of Row; NULL if nobody wants it */
} GaioProfile;

void gaio_profile_init (GaioProfile *self);
void gaio_profile_clear (GaioProfile *self);
void gaio_profile_start (GaioProfile *self);
void gaio_profile_stop (GaioProfile *self);
void gaio_profile_call_begin (GaioProfile *self);
void gaio_profile_call_end (GaioProfile *self,
                            const char *kind,
                            const char *name,
                            gint fd,
                            gint64 began,
                            gint64 us);
gint64 gaio_profile_get_total (GaioProfile *self);
GVariant *gaio_profile_get_slowest (GaioProfile *self, guint max);
