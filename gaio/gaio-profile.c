/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-profile-private.h"

#include <stdlib.h>
#include <string.h>

#include "base/gaio-fork-private.h"

/* Besides the row of all others. */
#define MAX_ROWS 256

/* One for each name, or else for each fd. */
typedef struct
{
  const char *kind; /* static */
  char *name;       /* or NULL */
  gint fd;          /* of the longest call; or -1 */
  guint64 calls;
  gint64 total_us;
  gint64 longest_us;
} Row;

static guint
row_hash (gconstpointer key)
{
  const Row *row = key;

  return g_str_hash (row->kind) ^ (row->name != NULL ? g_str_hash (row->name) : (guint) row->fd);
}

static gboolean
row_equal (gconstpointer a, gconstpointer b)
{
  const Row *first = a, *second = b;

  return strcmp (first->kind, second->kind) == 0 && g_strcmp0 (first->name, second->name) == 0 &&
         (first->name != NULL || first->fd == second->fd);
}

static void
row_free (gpointer data)
{
  Row *row = data;

  g_free (row->name);
  g_free (row);
}

void
gaio_profile_init (GaioProfile *self)
{
  self->fork_generation = gaio_fork_get_generation ();
  pthread_mutex_init (&self->mutex, NULL);
}

/* In a forked child the mutex may be held by a thread that does not exist. */
static gboolean
is_forked (GaioProfile *self)
{
  return self->fork_generation != gaio_fork_page.generation;
}

void
gaio_profile_clear (GaioProfile *self)
{
  g_clear_pointer (&self->rows, g_hash_table_unref);
  if (!is_forked (self))
    pthread_mutex_destroy (&self->mutex);
}

/* Each call needs a call of gaio_profile_stop(). */
void
gaio_profile_start (GaioProfile *self)
{
  pthread_mutex_lock (&self->mutex);
  if (atomic_fetch_add_explicit (&self->n_users, 1, memory_order_relaxed) == 0)
    {
      self->since = g_get_monotonic_time ();
      self->total_us = 0;
      self->rows = g_hash_table_new_full (row_hash, row_equal, row_free, NULL);
    }
  pthread_mutex_unlock (&self->mutex);
}

void
gaio_profile_stop (GaioProfile *self)
{
  pthread_mutex_lock (&self->mutex);
  if (atomic_fetch_sub_explicit (&self->n_users, 1, memory_order_relaxed) == 1)
    g_clear_pointer (&self->rows, g_hash_table_unref);
  pthread_mutex_unlock (&self->mutex);
}

/* With the mutex held. */
static Row *
ensure_row (GaioProfile *self, const char *kind, const char *name, gint fd)
{
  Row key = { .kind = kind, .name = (char *) name, .fd = fd };
  Row *row = g_hash_table_lookup (self->rows, &key);

  if (row == NULL && g_hash_table_size (self->rows) >= MAX_ROWS)
    {
      key = (Row){ .kind = "others", .fd = -1 };
      row = g_hash_table_lookup (self->rows, &key);
    }
  if (row != NULL)
    return row;
  row = g_memdup2 (&key, sizeof key);
  row->name = g_strdup (key.name);
  g_hash_table_add (self->rows, row);
  return row;
}

/* With the mutex held. */
static void
count (Row *row, gint fd, gint64 us)
{
  row->calls++;
  row->total_us += us;
  if (us < row->longest_us)
    return;
  row->longest_us = us;
  if (row->name != NULL)
    row->fd = fd;
}

/* By the owner. */
void
gaio_profile_call_begin (GaioProfile *self)
{
  self->depth++;
}

/* By the owner. The time of a nested call is part of the outer call's time. */
void
gaio_profile_call_end (GaioProfile *self,
                       const char *kind,
                       const char *name,
                       gint fd,
                       gint64 began,
                       gint64 us)
{
  gboolean outermost = --self->depth == 0;

  if (atomic_load_explicit (&self->n_users, memory_order_relaxed) == 0 || is_forked (self))
    return;
  pthread_mutex_lock (&self->mutex);
  if (self->rows != NULL && began >= self->since)
    {
      count (ensure_row (self, kind, name, fd), fd, us);
      self->total_us += outermost ? us : 0;
    }
  pthread_mutex_unlock (&self->mutex);
}

/* Returns how long all calls took, in microseconds, or -1 if nobody wants to know. */
gint64
gaio_profile_get_total (GaioProfile *self)
{
  gint64 total_us;

  pthread_mutex_lock (&self->mutex);
  total_us = self->rows != NULL ? self->total_us : -1;
  pthread_mutex_unlock (&self->mutex);
  return total_us;
}

static int
compare_rows (gconstpointer a, gconstpointer b)
{
  const Row *first = *(Row *const *) a, *second = *(Row *const *) b;

  return (first->longest_us < second->longest_us) - (first->longest_us > second->longest_us);
}

static GVariant *
row_to_variant (const Row *row)
{
  g_autofree char *name = g_utf8_make_valid (row->name != NULL ? row->name : "", -1);

  return g_variant_new ("(ssittt)", row->kind, name, row->fd, row->calls, (guint64) row->total_us,
                        (guint64) row->longest_us);
}

/* Returns what took longest, as a floating array of (kind, name, fd, calls, their time, the time of
 * the longest). */
GVariant *
gaio_profile_get_slowest (GaioProfile *self, guint max)
{
  g_autofree Row **rows = NULL;
  GVariantBuilder builder;
  guint n = 0;

  g_variant_builder_init (&builder, G_VARIANT_TYPE ("a(ssittt)"));
  pthread_mutex_lock (&self->mutex);
  if (self->rows != NULL)
    rows = (Row **) g_hash_table_get_keys_as_array (self->rows, &n);
  if (n > 0)
    qsort (rows, n, sizeof rows[0], compare_rows);
  for (guint i = 0; i < MIN (n, max); i++)
    g_variant_builder_add_value (&builder, row_to_variant (rows[i]));
  pthread_mutex_unlock (&self->mutex);
  return g_variant_builder_end (&builder);
}
