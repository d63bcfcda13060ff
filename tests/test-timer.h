/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* The test arms it in the past: due in the next round, whatever the clock does. */
#define PAST 1

typedef struct
{
  Rig *rig;
  GaioTimer *timer;
  GaioTimer *other;
  guint calls;
  guint depth;
  guint notified;
  gint64 deadline;
} Story;

static inline GaioTimer *
add_timer (Rig *rig, GSourceOnceFunc func, gpointer data)
{
  GaioTimer *timer = gaio_context_add_timer (rig->context, func, data, NULL);

  g_assert_nonnull (timer);
  return timer;
}

static inline void
note_after_callback (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->depth, ==, 0);
  story->notified++;
}
