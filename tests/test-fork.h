/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"

/* What the parent has at the time of the fork. */
typedef struct
{
  Rig *rig;
  GaioContext *context;
  GMainContext *main_context;
  GaioContext *shared;
  GaioHandler *handler;
  GaioTimer *timer;
  GaioBottomHalf *bh;
  gint fd;
  guint calls;
  guint others;
  guint notified;
  pid_t child;
} Family;

/* An assertion that fails there aborts the child; alarm() ends one that hangs. */
static inline void
in_child_of (pid_t (*make_child) (void), void (*func) (Family *), Family *family)
{
  pid_t child = make_child ();

  g_assert_cmpint (child, >=, 0);
  if (child == 0)
    {
      alarm (30);
      func (family);
      leave_child ();
    }
  assert_exits_well (child);
}

static inline void
in_child (void (*func) (Family *), Family *family)
{
  in_child_of (fork, func, family);
}

static inline gboolean
take_and_count (gint fd, GIOCondition condition, gpointer data)
{
  Family *family = data;

  g_assert_true (eventfd_take (fd));
  family->calls++;
  return G_SOURCE_CONTINUE;
}

static inline void
count_other (gpointer data)
{
  Family *family = data;

  family->others++;
}

static inline void
family_init (Family *family, Rig *rig)
{
  *family = (Family){ .rig = rig, .context = rig->context, .main_context = rig->main_context };
  family->fd = eventfd_new (0);
  family->handler = add_fd (family->context, family->fd, G_IO_IN, take_and_count, family, NULL);
  family->timer = gaio_context_add_timer (family->context, count_other, family, NULL);
  family->bh = gaio_context_add_bottom_half (family->context, count_other, family, NULL);
  eventfd_add (family->fd);
  rig_until (rig, family->calls == 1);
  family->calls = 0;
}

static inline void
family_clear (Family *family)
{
  gaio_clear_handler (&family->handler);
  gaio_clear_timer (&family->timer);
  gaio_clear_bottom_half (&family->bh);
  rig_settle (family->rig);
  close (family->fd);
}

/* In the parent: everything is as it was before the fork. */
static inline void
assert_parent_works (Family *family)
{
  eventfd_add (family->fd);
  rig_until (family->rig, family->calls == 1);
  gaio_timer_arm (family->timer, 100);
  rig_until (family->rig, family->others == 1);
  gaio_bottom_half_schedule (family->bh);
  rig_until (family->rig, family->others == 2);
  rig_assert_sleeps (family->rig);
}

static inline void
fail_with_forked (Family *family)
{
  g_autoptr (GError) error = NULL;
  guint notified = 0;

  g_assert_null (gaio_context_add_fd (family->context, family->fd, G_IO_IN, never_fd, &notified,
                                      count_once, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_assert_cmpuint (notified, ==, 1);
  g_clear_error (&error);
  g_assert_false (gaio_handler_set_condition (family->handler, G_IO_OUT, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_clear_error (&error);
  g_assert_false (gaio_context_attach (family->context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
  g_clear_error (&error);
  g_assert_null (gaio_context_create_source (family->context, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FORKED);
}

static inline void
remove_everything (Family *family)
{
  GaioHandler *handler = gaio_handler_ref (family->handler);

  gaio_handler_remove_sync (handler);
  gaio_handler_unref (handler);
  gaio_clear_handler (&family->handler);
  gaio_timer_disarm (family->timer);
  gaio_clear_timer (&family->timer);
  gaio_bottom_half_cancel (family->bh);
  gaio_clear_bottom_half (&family->bh);
  gaio_context_detach (family->context);
  g_object_unref (family->context);
  close (family->fd);
}

static inline void
poke_everything (Family *family)
{
  gaio_context_wakeup (family->context);
  gaio_timer_arm (family->timer, 0);
  gaio_bottom_half_schedule (family->bh);
  gaio_bottom_half_schedule_idle (family->bh);
  gaio_context_defer (family->context, count_other, family, NULL);
  gaio_context_set_dispatch_limits (family->context, 1, 1);
  g_variant_unref (g_variant_take_ref (gaio_context_dup_stats (family->context)));
  gaio_handler_set_name (family->handler, "child");
}

/* The defaults of the forefathers. */
static GaioContext *inherited[2];
