/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* While it connects, libpq says after each step what the next one waits for. Then it is always read
 * from, for notifications and for the end, and there is to be room while something is left. */
#include "gaio-libpq.h"

static void
fail (GaioPq *self, const char *message)
{
  g_autofree char *text = g_strchomp (g_strdup (message));

  gaio_clear_handler (&self->handler);
  gaio_clear_timer (&self->timer);
  self->funcs->failed (self, text);
}

/* The next step may be that of another socket, also of the same number: hosts are tried in turn. */
static gboolean
watch_anew (GaioPq *self, GIOCondition condition, GaioFdFunc func)
{
  g_autoptr (GError) error = NULL;

  gaio_clear_handler (&self->handler);
  self->handler =
      gaio_context_add_fd (self->context, PQsocket (self->connection), condition, func,
                           g_rc_box_acquire (self), (GDestroyNotify) g_rc_box_release, &error);
  if (self->handler == NULL)
    fail (self, error->message);
  return self->handler != NULL;
}

static gboolean
flush (GaioPq *self)
{
  int left = PQflush (self->connection);

  gaio_handler_set_condition (self->handler, G_IO_IN | (left > 0 ? G_IO_OUT : 0), NULL);
  return left >= 0;
}

/* All that has come, also before the connection was lost: libpq then does not block. */
static void
tell_results (GaioPq *self)
{
  gboolean lost = PQstatus (self->connection) == CONNECTION_BAD;

  while (self->handler != NULL && self->expects_result && (lost || !PQisBusy (self->connection)))
    {
      PGresult *result = PQgetResult (self->connection);
      ExecStatusType status = PQresultStatus (result);

      self->expects_result = result != NULL;
      if (result == NULL)
        gaio_timer_disarm (self->timer);
      if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
        fail (self, "COPY is not supported");
      else if (result != NULL || !lost)
        self->funcs->result (self, result);
      PQclear (result);
    }
}

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  GaioPq *self = user_data;
  PGnotify *notification;
  gboolean alive = PQconsumeInput (self->connection) && flush (self);

  tell_results (self);
  while (self->handler != NULL && (notification = PQnotifies (self->connection)) != NULL)
    {
      self->funcs->notified (self, notification);
      PQfreemem (notification);
    }
  if (!alive && self->handler != NULL)
    fail (self, PQerrorMessage (self->connection));
  return G_SOURCE_CONTINUE;
}

static gboolean
on_connecting (gint fd, GIOCondition condition, gpointer user_data)
{
  GaioPq *self = user_data;
  PostgresPollingStatusType next = PQconnectPoll (self->connection);

  if (next == PGRES_POLLING_READING || next == PGRES_POLLING_WRITING)
    watch_anew (self, next == PGRES_POLLING_READING ? G_IO_IN : G_IO_OUT, on_connecting);
  else if (next != PGRES_POLLING_OK)
    fail (self, PQerrorMessage (self->connection));
  else if (watch_anew (self, G_IO_IN, on_ready))
    {
      gaio_timer_disarm (self->timer);
      PQsetnonblocking (self->connection, 1);
      self->funcs->connected (self);
    }
  return G_SOURCE_CONTINUE;
}

static void
on_time (gpointer user_data)
{
  GaioPq *self = user_data;

  if (PQstatus (self->connection) == CONNECTION_BAD)
    fail (self, PQerrorMessage (self->connection));
  else if (self->started)
    fail (self, "no answer in time");
  else if (watch_anew (self, G_IO_OUT, on_connecting))
    {
      self->started = TRUE;
      gaio_timer_arm (self->timer, self->timeout_us);
    }
}

/* An error is told later, in on_time(). */
void
gaio_pq_sent (GaioPq *self)
{
  self->expects_result = TRUE;
  if (self->handler != NULL)
    gaio_timer_arm (self->timer, flush (self) ? self->timeout_us : 0);
}

GaioPq *
gaio_pq_new (GaioContext *context,
             const char *conninfo,
             gint64 timeout_us,
             const GaioPqFuncs *funcs,
             gpointer user_data)
{
  GaioPq *self = g_rc_box_new (GaioPq);

  *self = (GaioPq){ PQconnectStart (conninfo), user_data, context, funcs };
  self->timeout_us = timeout_us;
  self->timer = gaio_context_add_timer (context, on_time, g_rc_box_acquire (self),
                                        (GDestroyNotify) g_rc_box_release);
  gaio_timer_arm (self->timer, 0);
  return self;
}

void
gaio_pq_free (GaioPq *self)
{
  gaio_clear_handler (&self->handler);
  gaio_clear_timer (&self->timer);
  PQfinish (self->connection);
  g_rc_box_release (self);
}
