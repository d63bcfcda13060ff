/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>
#include <libpq-fe.h>

typedef struct _GaioPq GaioPq;

/* Each of them may call gaio_pq_free(). */
typedef struct
{
  void (*connected) (GaioPq *self);
  /* One for each result of what was sent, and then NULL: more can be sent. */
  void (*result) (GaioPq *self, PGresult *result);
  void (*notified) (GaioPq *self, PGnotify *notification);
  /* The last one to be called. What was being sent may have been done or not. */
  void (*failed) (GaioPq *self, const char *message);
} GaioPqFuncs;

/* A connection that a context, which has to outlive it, runs in its own thread. */
struct _GaioPq
{
  PGconn *connection;
  gpointer user_data;

  /*< private >*/
  GaioContext *context;
  const GaioPqFuncs *funcs;
  GaioHandler *handler; /* NULL once it has failed, or is freed */
  GaioTimer *timer;
  gint64 timeout_us;
  gboolean started, expects_result;
};

/* It fails if connecting, or any command, takes longer than @timeout_us: -1 for no limit. None of
 * @funcs is called before it has returned. Only names of hosts block: for the resolver. */
GaioPq *gaio_pq_new (GaioContext *context,
                     const char *conninfo,
                     gint64 timeout_us,
                     const GaioPqFuncs *funcs,
                     gpointer user_data);
void gaio_pq_free (GaioPq *self);

/* To be called after PQsendQuery() or another of its kind has returned 1. COPY fails. */
void gaio_pq_sent (GaioPq *self);
