/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "test-support.h"
#include "test-clock.h"

/* A handler that can be asked in user space. */
typedef struct
{
  Rig rig;
  GaioHandler *handler;
  gint fd;
  gboolean ready; /* what poll says */
  guint polls;
  guint begun;
  guint ended;
  guint calls;
  GIOCondition condition;
  void (*act) (gpointer); /* what poll does beside */
  guint notified;
} Story;

static Story *watched; /* must not be in poll mode when the loop sleeps */

static inline void
assert_not_in_poll_mode (int n_events, int timeout, const void *caller)
{
  if (watched != NULL)
    g_assert_cmpuint (watched->begun, ==, watched->ended);
}

static inline gboolean
poll_story (gpointer data)
{
  Story *story = data;

  story->polls++;
  if (story->act != NULL)
    story->act (story);
  return story->ready;
}

static inline void
begin_story (gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->begun, ==, story->ended);
  g_assert_cmpuint (story->notified, ==, 0);
  story->begun++;
  /* The process may not be run for a while: only its leaps count. */
  clock_stands = clock_leap_us != 0;
}

static inline void
end_story (gpointer data)
{
  Story *story = data;

  story->ended++;
  clock_stands = FALSE;
  g_assert_cmpuint (story->begun, ==, story->ended);
  g_assert_cmpuint (story->notified, ==, 0);
}

static inline gboolean
call_story (gint fd, GIOCondition condition, gpointer data)
{
  Story *story = data;

  g_assert_cmpuint (story->begun, ==, story->ended);
  story->calls++;
  story->condition = condition;
  story->ready = FALSE;
  eventfd_take (fd);
  return G_SOURCE_CONTINUE;
}

static inline void
note_story (gpointer data)
{
  ((Story *) data)->notified++;
}

static inline void
story_init (Story *story, gconstpointer nested)
{
  *story = (Story){ .rig = rig_new (nested), .fd = eventfd_new (0) };
  story->handler = add_fd (story->rig.context, story->fd, G_IO_IN, call_story, story, note_story);
  gaio_handler_set_poll_funcs (story->handler, poll_story, begin_story, end_story);
  watched = story;
}

static inline void
story_clear (Story *story)
{
  watched = NULL;
  clock_leap (0);
  gaio_clear_handler (&story->handler);
  if (!gaio_context_is_closed (story->rig.context))
    rig_settle (&story->rig);
  rig_clear (&story->rig);
  g_assert_cmpuint (story->begun, ==, story->ended);
  g_assert_cmpuint (story->notified, ==, 1);
  close (story->fd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Story, story_clear)

/* Lets the window become as long as it may: events come soon, but too late for it. */
static inline void
open_window (Story *story, gint64 max_us)
{
  gaio_context_set_poll_params (story->rig.context, max_us, 1000000, 1);
  clock_leap (20);
  for (guint i = 0; i < 2; i++)
    {
      guint before = story->calls;

      eventfd_add (story->fd);
      rig_until (&story->rig, story->calls > before);
    }
  clock_leap (0);
  story->polls = 0;
}

typedef struct
{
  Story *story;
  atomic_bool polling;
  atomic_uint deferred;
} Stranger;

static Stranger stranger;

static inline void
tell_stranger (gpointer data)
{
  atomic_store (&stranger.polling, true);
}
