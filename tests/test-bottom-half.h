/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

typedef struct
{
  Rig *rig;
  GaioBottomHalf *bh;
  GaioBottomHalf *other;
  guint calls;
  guint other_calls;
  guint depth;
  guint notified;
} Story;

static inline GaioBottomHalf *
add_bh (Rig *rig, GSourceOnceFunc func, gpointer data)
{
  GaioBottomHalf *bh = gaio_context_add_bottom_half (rig->context, func, data, NULL);

  g_assert_nonnull (bh);
  return bh;
}

static inline void
count_other (gpointer data)
{
  Story *story = data;

  story->other_calls++;
}

static inline void
note_after_callback (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->depth, ==, 0);
  story->notified++;
}
