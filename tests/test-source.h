/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

typedef struct
{
  GaioContext *context;
  GMainContext *main_context;
  GSource *source;
  gint fd;
  guint calls;
  guint depth;
} Story;

static inline GSource *
create_source (GaioContext *context)
{
  g_autoptr (GError) error = NULL;
  GSource *source = gaio_context_create_source (context, &error);

  g_assert_no_error (error);
  g_assert_nonnull (source);
  return source;
}

static inline void
assert_works_alone (GaioContext *context)
{
  guint calls = 0;

  gaio_context_defer (context, count_once, &calls, NULL);
  g_assert_true (gaio_context_iterate (context, -1));
  g_assert_cmpuint (calls, ==, 1);
}

static inline gboolean
end_wait (gpointer data)
{
  *(gboolean *) data = TRUE;
  return G_SOURCE_REMOVE;
}
