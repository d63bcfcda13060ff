/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib-unix.h>

#include "test-support.h"

/* What stories about main contexts that a context serves have in common: a context alone or under
 * GLib, and one inner context. */

typedef struct
{
  GaioContext *context;
  GMainContext *outer; /* NULL if the context is alone */
  GMainContext *inner;
} Stage;

static inline void
stage_begin (Stage *stage, gconstpointer nested)
{
  g_autoptr (GError) error = NULL;

  *stage = (Stage){ .context = gaio_context_new () };
  if (nested != NULL)
    {
      stage->outer = g_main_context_new ();
      attach (stage->context, stage->outer);
    }
  stage->inner = gaio_context_create_main_context (stage->context, NULL, &error);
  g_assert_no_error (error);
  g_assert_nonnull (stage->inner);
}

static inline void
stage_end (Stage *stage)
{
  gaio_context_close (stage->context);
  g_object_unref (stage->context);
  g_clear_pointer (&stage->inner, g_main_context_unref);
  g_clear_pointer (&stage->outer, g_main_context_unref);
}

static inline gboolean
round_of (Stage *stage, gboolean may_block)
{
  if (stage->outer != NULL)
    return g_main_context_iteration (stage->outer, may_block);
  return gaio_context_iterate (stage->context, may_block ? -1 : 0);
}

static inline gboolean
expired (gpointer what)
{
  g_error ("waited too long for %s", (const char *) what);
  return G_SOURCE_REMOVE;
}

static inline void
expired_once (gpointer what)
{
  expired (what);
}

#define until(stage, condition)                                                                    \
  G_STMT_START                                                                                     \
  {                                                                                                \
    GaioTimer *guard_ =                                                                            \
        gaio_context_add_timer ((stage)->context, expired_once, (gpointer) #condition, NULL);      \
                                                                                                   \
    gaio_timer_arm (guard_, GUARD_US);                                                             \
    while (!(condition))                                                                           \
      round_of ((stage), TRUE);                                                                    \
    gaio_clear_timer (&guard_);                                                                    \
  }                                                                                                \
  G_STMT_END

static inline void
settle (Stage *stage)
{
  for (guint n = 0; round_of (stage, FALSE); n++)
    g_assert_cmpuint (n, <, 1000);
}

/* How many main contexts it serves. */
static inline guint
count_served (Stage *stage)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (stage->context);
  guint n = 0;

  g_assert_true (g_variant_lookup (stats, "main-contexts", "u", &n));
  return n;
}

typedef struct
{
  Stage *stage;
  guint calls;
  pthread_t thread;
} Story;

/* --- Sources --- */

static inline GSource *
attach_idle (GMainContext *main_context, gint priority, GSourceFunc func, gpointer data)
{
  GSource *source = g_idle_source_new ();

  g_source_set_priority (source, priority);
  g_source_set_callback (source, func, data, NULL);
  g_source_attach (source, main_context);
  g_source_unref (source);
  return source;
}

static inline GSource *
attach_fd (GMainContext *main_context, gint fd, GUnixFDSourceFunc func, gpointer data)
{
  GSource *source = g_unix_fd_source_new (fd, G_IO_IN);

  g_source_set_callback (source, G_SOURCE_FUNC (func), data, NULL);
  g_source_attach (source, main_context);
  g_source_unref (source);
  return source;
}

static inline gboolean
count_and_stop (gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_REMOVE;
}

static inline gboolean
take_fd (gint fd, GIOCondition condition, gpointer data)
{
  eventfd_take (fd);
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

/* --- Another thread that owns it for a while --- */

typedef struct
{
  GMainContext *inner;
  atomic_bool holds;
  atomic_bool lets_go;
} Holder;

static inline gpointer
hold (gpointer data)
{
  Holder *holder = data;

  while (!g_main_context_acquire (holder->inner))
    sched_yield ();
  atomic_store (&holder->holds, TRUE);
  while (!atomic_load (&holder->lets_go))
    g_usleep (100);
  g_main_context_release (holder->inner);
  return NULL;
}
