/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* A context and one of each kind of thing in it, each with a notify that counts. */
typedef struct
{
  Rig *rig;
  GaioContext *context;
  GaioContext *other;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  gint fd;
  guint calls;
  guint depth;
  guint notified;
} Story;

static inline void
story_clear (Story *story)
{
  g_clear_pointer (&story->handler, gaio_handler_unref);
  g_clear_pointer (&story->timer, gaio_timer_unref);
  g_clear_pointer (&story->bh, gaio_bottom_half_unref);
  if (story->fd > 0)
    close (story->fd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Story, story_clear)
