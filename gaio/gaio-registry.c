/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-registry-private.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *contexts; /* GMainContext -> GaioContext */

void
gaio_registry_lock (void)
{
  pthread_mutex_lock (&mutex);
}

void
gaio_registry_unlock (void)
{
  pthread_mutex_unlock (&mutex);
}

/* A child must not inherit it locked, because it makes contexts of its own. */
__attribute__ ((constructor)) static void
watch_forks (void)
{
  pthread_atfork (gaio_registry_lock, gaio_registry_unlock, gaio_registry_unlock);
}

GaioContext *
gaio_registry_lookup (GMainContext *main_context)
{
  return contexts != NULL ? g_hash_table_lookup (contexts, main_context) : NULL;
}

void
gaio_registry_insert (GMainContext *main_context, GaioContext *context)
{
  if (contexts == NULL)
    contexts = g_hash_table_new (NULL, NULL);
  g_hash_table_insert (contexts, main_context, context);
}

void
gaio_registry_forget (GMainContext *main_context, GaioContext *context)
{
  gaio_registry_lock ();
  if (gaio_registry_lookup (main_context) == context)
    g_hash_table_remove (contexts, main_context);
  gaio_registry_unlock ();
}
