/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hiredis calls the hooks below when it wants to read or to write, most often from within
 * redisAsyncHandleRead() or a command. They only take a note. What is to be written is written
 * when the call of hiredis has returned, or in the next round: most sockets take it at once, and
 * no system call tells the kernel to watch for room.
 *
 * Any call of hiredis may free @redis, and this with it. Each callback of the context therefore has
 * a reference.
 */
#include "gaio-hiredis.h"

typedef struct
{
  redisAsyncContext *redis; /* NULL once hiredis has freed it */
  GaioHandler *handler;
  GaioBottomHalf *soon;
  GaioTimer *timer;
  gboolean reading, writing, in_hiredis;
} Adapter;

/* A reply of which only a part has come, an error and a hang-up are all found by reading. */
static void
call_hiredis (Adapter *self, GIOCondition ready)
{
  self->in_hiredis = TRUE;
  if ((ready & ~G_IO_OUT) != 0)
    redisAsyncHandleRead (self->redis);
  /* Before it is connected, only the kernel knows when. */
  if (self->redis != NULL && self->writing &&
      ((ready & G_IO_OUT) != 0 || (self->redis->c.flags & REDIS_CONNECTED) != 0))
    redisAsyncHandleWrite (self->redis);
  self->in_hiredis = FALSE;
  if (self->redis != NULL)
    gaio_handler_set_condition (self->handler,
                                (self->reading ? G_IO_IN : 0) | (self->writing ? G_IO_OUT : 0),
                                NULL);
}

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  call_hiredis (user_data, condition);
  return G_SOURCE_CONTINUE;
}

/* A reply's callback may run a main loop: hiredis does not expect to be called there. */
static void
on_soon (gpointer user_data)
{
  Adapter *self = user_data;

  if (!self->in_hiredis)
    call_hiredis (self, 0);
}

static void
want (Adapter *self, gboolean *direction, gboolean wanted)
{
  if (*direction == wanted)
    return;
  *direction = wanted;
  if (!self->in_hiredis)
    gaio_bottom_half_schedule (self->soon);
}

static void
add_read (void *data)
{
  want (data, &((Adapter *) data)->reading, TRUE);
}

static void
del_read (void *data)
{
  want (data, &((Adapter *) data)->reading, FALSE);
}

static void
add_write (void *data)
{
  want (data, &((Adapter *) data)->writing, TRUE);
}

static void
del_write (void *data)
{
  want (data, &((Adapter *) data)->writing, FALSE);
}

#if HIREDIS_MAJOR >= 1
static void
on_timer (gpointer user_data)
{
  Adapter *self = user_data;

  if (!self->in_hiredis)
    redisAsyncHandleTimeout (self->redis);
}

static void
schedule_timer (void *data, struct timeval delay)
{
  Adapter *self = data;

  gaio_timer_arm (self->timer, delay.tv_sec * G_USEC_PER_SEC + delay.tv_usec);
}
#endif

/* The fd is still open. */
static void
cleanup (void *data)
{
  Adapter *self = data;

  self->redis = NULL;
  gaio_clear_handler (&self->handler);
  gaio_clear_bottom_half (&self->soon);
  gaio_clear_timer (&self->timer);
  g_rc_box_release (self);
}

gboolean
gaio_hiredis_attach (GaioContext *context, redisAsyncContext *redis, GError **error)
{
  Adapter *self = g_rc_box_new0 (Adapter);
  GDestroyNotify unref = (GDestroyNotify) g_rc_box_release;

  self->redis = redis;
  self->handler = gaio_context_add_fd (context, redis->c.fd, 0, on_ready, g_rc_box_acquire (self),
                                       unref, error);
  if (self->handler == NULL)
    {
      g_rc_box_release (self);
      return FALSE;
    }
  self->soon = gaio_context_add_bottom_half (context, on_soon, g_rc_box_acquire (self), unref);
#if HIREDIS_MAJOR >= 1
  self->timer = gaio_context_add_timer (context, on_timer, g_rc_box_acquire (self), unref);
  redis->ev.scheduleTimer = schedule_timer;
#endif
  redis->ev.addRead = add_read;
  redis->ev.delRead = del_read;
  redis->ev.addWrite = add_write;
  redis->ev.delWrite = del_write;
  redis->ev.cleanup = cleanup;
  redis->ev.data = self;
  return TRUE;
}
