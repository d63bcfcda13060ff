/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-loop.h"

typedef struct
{
  Loop *loop;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  gint entered;
  gint go;
  gint notified_fd;
  guint calls;
  atomic_bool running;
  atomic_uint notified;
  atomic_uint returned; /* who has waited for it */
  gboolean on_owner;
} Blocker;

static inline void
block (gpointer data)
{
  Blocker *blocker = data;

  blocker->calls++;
  atomic_store (&blocker->running, TRUE);
  eventfd_add (blocker->entered);
  eventfd_wait (blocker->go);
  atomic_store (&blocker->running, FALSE);
}

static inline gboolean
block_fd (gint fd, GIOCondition condition, gpointer data)
{
  block (data);
  return G_SOURCE_CONTINUE;
}

static inline void
note_blocker (gpointer data)
{
  Blocker *blocker = data;

  g_assert_false (atomic_load (&blocker->running));
  blocker->on_owner = pthread_equal (pthread_self (), blocker->loop->self);
  atomic_fetch_add (&blocker->notified, 1);
  eventfd_add (blocker->notified_fd);
}

static inline void
blocker_init (Blocker *blocker, Loop *loop)
{
  *blocker = (Blocker){
    .loop = loop, .entered = eventfd_new (0), .go = eventfd_new (0), .notified_fd = eventfd_new (0)
  };
}

static inline void
blocker_clear (Blocker *blocker)
{
  g_clear_pointer (&blocker->handler, gaio_handler_unref);
  g_clear_pointer (&blocker->timer, gaio_timer_unref);
  g_clear_pointer (&blocker->bh, gaio_bottom_half_unref);
  close (blocker->entered);
  close (blocker->go);
  close (blocker->notified_fd);
}

static inline GaioHandler *
set_add (GaioReadySet *set, gint fd)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 0, &error);

  g_assert_no_error (error);
  return handler;
}
