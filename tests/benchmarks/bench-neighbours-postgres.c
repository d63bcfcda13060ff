/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With GLib by the least that works: g_unix_fd_add(). */
#include <glib-unix.h>

#include "../../examples/neighbours/gaio-libpq.h"
#include "bench-neighbours.h"

typedef struct
{
  GaioPq *pq;         /* with Gaio */
  PGconn *connection; /* with GLib */
} PostgresPeer;

/* --- With Gaio --- */

static void
on_connected (GaioPq *pq)
{
  bench_heard (pq->user_data);
}

static void
on_result (GaioPq *pq, PGresult *result)
{
  if (result == NULL)
    bench_heard (pq->user_data);
}

static void
on_failed (GaioPq *pq, const char *message)
{
  g_error ("%s", message);
}

static const GaioPqFuncs funcs = {
  .connected = on_connected,
  .result = on_result,
  .failed = on_failed,
};

/* --- With GLib --- */

static void
watch (PostgresPeer *self, GIOCondition condition, GUnixFDSourceFunc func)
{
  g_unix_fd_add (PQsocket (self->connection), condition, func, self);
}

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  PostgresPeer *self = user_data;

  if (!PQconsumeInput (self->connection))
    g_error ("%s", PQerrorMessage (self->connection));
  while (!PQisBusy (self->connection))
    {
      PGresult *result = PQgetResult (self->connection);

      if (result == NULL)
        {
          bench_heard (self);
          break;
        }
      PQclear (result);
    }
  return G_SOURCE_CONTINUE;
}

static gboolean
on_connecting (gint fd, GIOCondition condition, gpointer user_data)
{
  PostgresPeer *self = user_data;
  PostgresPollingStatusType next = PQconnectPoll (self->connection);

  if (next == PGRES_POLLING_FAILED)
    g_error ("%s", PQerrorMessage (self->connection));
  else if (next != PGRES_POLLING_OK)
    watch (self, next == PGRES_POLLING_READING ? G_IO_IN : G_IO_OUT, on_connecting);
  else
    {
      PQsetnonblocking (self->connection, 1);
      watch (self, G_IO_IN, on_ready);
      bench_heard (self);
    }
  return G_SOURCE_REMOVE;
}

/* --- With either --- */

static void
ask (gpointer peer)
{
  PostgresPeer *self = peer;
  PGconn *connection = self->pq != NULL ? self->pq->connection : self->connection;

  if (!PQsendQuery (connection, "SELECT 1"))
    g_error ("%s", PQerrorMessage (connection));
  if (self->pq != NULL)
    gaio_pq_sent (self->pq);
  else
    PQflush (connection);
}

static gpointer
open_one (GaioContext *context, const char *address, gboolean active)
{
  PostgresPeer *self = g_new0 (PostgresPeer, 1);
  g_autofree char *conninfo =
      g_strdup_printf ("hostaddr=127.0.0.1 port=%s user=test sslmode=disable gssencmode=disable",
                       address);

  if (context != NULL)
    self->pq = gaio_pq_new (context, conninfo, -1, &funcs, self);
  else
    {
      self->connection = PQconnectStart (conninfo);
      watch (self, G_IO_OUT, on_connecting);
    }
  return self;
}

const BenchNeighbour bench_neighbour = {
  .version = "libpq " BENCH_NEIGHBOUR_VERSION,
  .open = open_one,
  .ask = ask,
};
