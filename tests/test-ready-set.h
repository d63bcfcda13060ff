/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-util.h"

typedef struct _Batch Batch;

struct _Batch
{
  TestLoop *loop;
  GaioReadySet *set;
  gboolean takes;             /* in the function */
  void (*act) (Batch *batch); /* what the function does beside */
  guint calls;
  guint depth;
  guint deepest;
  guint n_ready; /* of the last call */
  guint notifies;
  GaioReadyRecord *records; /* of the last take */
  guint n_records;
};

static inline void
batch_take (Batch *self)
{
  gsize length = 99;

  g_free (self->records);
  self->records = (gpointer) gaio_ready_set_take (self->set, &length);
  g_assert_cmpuint (length % sizeof (GaioReadyRecord), ==, 0);
  g_assert_true ((self->records == NULL) == (length == 0));
  self->n_records = length / sizeof (GaioReadyRecord);
}

static inline void
batch_called (GaioReadySet *set, guint n_ready, gpointer user_data)
{
  Batch *self = user_data;

  g_assert_cmpuint (self->notifies, ==, 0);
  g_assert_true (set == self->set);
  g_assert_cmpuint (n_ready, >, 0);
  self->calls++;
  self->depth++;
  self->deepest = MAX (self->deepest, self->depth);
  self->n_ready = n_ready;
  if (self->takes)
    {
      batch_take (self);
      g_assert_cmpuint (self->n_records, ==, n_ready);
    }
  if (self->act != NULL && !self->loop->stopping)
    self->act (self);
  self->depth--;
}

static inline void
batch_notified (gpointer user_data)
{
  Batch *self = user_data;

  g_assert_cmpuint (self->depth, ==, 0);
  self->notifies++;
}

static inline void
batch_set_func (Batch *self)
{
  gaio_ready_set_set_func (self->set, batch_called, self, batch_notified);
}

/* Without its function yet. */
static inline void
batch_init (Batch *self, TestLoop *loop)
{
  *self = (Batch){ .loop = loop, .set = gaio_ready_set_new (loop->context), .takes = TRUE };
}

static inline void
batch_start (Batch *self, TestLoop *loop)
{
  batch_init (self, loop);
  batch_set_func (self);
}

static inline void
batch_stop (Batch *self)
{
  if (self->set == NULL)
    return;
  gaio_ready_set_set_func (self->set, NULL, NULL, NULL);
  test_loop_settle (self->loop);
  g_clear_object (&self->set);
  g_clear_pointer (&self->records, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Batch, batch_stop)

/* A member: an fd of its own and its handle. */
typedef struct
{
  gint fd;
  GaioHandler *handler;
} Member;

static inline void
member_start (Member *self, Batch *batch, gint fd, GIOCondition condition, guint64 token)
{
  g_autoptr (GError) error = NULL;

  self->fd = fd;
  self->handler = gaio_ready_set_add_fd (batch->set, fd, condition, token, &error);
  g_assert_no_error (error);
  g_assert_nonnull (self->handler);
}

static inline void
member_stop (Member *self)
{
  gaio_clear_handler (&self->handler);
  test_close (&self->fd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Member, member_stop)

/* clang-format off */
#define MEMBER_INIT { .fd = -1 }
/* clang-format on */
