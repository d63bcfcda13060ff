/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-inner-watch-private.h"

#include <gaio/gaio-error.h>

/* What an inner context waits for, as GLib says it in a query, is in the monitor between two turns.
 */

/* What poll(2) knows, and a handler may wait for. */
#define CONDITIONS (G_IO_IN | G_IO_PRI | G_IO_OUT | G_IO_ERR | G_IO_HUP)

/* What g_main_context_query() tells, and g_main_context_check() is told. */
typedef struct
{
  GPollFD *fds;
  gint n, size;
  GPollFD few[8];
} Query;

static void
query_reserve (Query *query, gint size)
{
  if (size <= query->size)
    return;
  if (query->fds != query->few)
    g_free (query->fds);
  query->fds = g_new (GPollFD, size);
  query->size = size;
}

static void
query_init (Query *query)
{
  query->fds = query->few;
  query->size = G_N_ELEMENTS (query->few);
}

static void
query_clear (Query *query)
{
  if (query->fds != query->few)
    g_free (query->fds);
}

static GaioInnerWatch *
find_watch (GaioInner *self, int fd)
{
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].fd == fd)
      return &self->watches[i];
  return NULL;
}

/* With the lock held. */
static void
remove_watch (GaioInnerWatch *watch)
{
  if (watch->handler == NULL)
    return;
  gaio_handler_destroy (watch->handler);
  gaio_handler_unref (watch->handler);
  watch->handler = NULL;
}

/* With the lock held. FALSE if it is to be tried again. */
static gboolean
add_watch (GaioInner *self, GaioInnerWatch *watch)
{
  GaioHandlerParams params = { .fd = watch->fd,
                               .condition = (watch->events | G_IO_ERR | G_IO_HUP) & CONDITIONS,
                               .inner = self };
  g_autoptr (GError) error = NULL;

  watch->handler = gaio_handler_try_add (self->entry.core, &params, &error);
  if (watch->handler != NULL)
    return TRUE;
  watch->is_bad = g_error_matches (error, GAIO_ERROR, GAIO_ERROR_BAD_FD);
  return FALSE;
}

/* What the kernel is to watch for @watch from now on. What looks the same may not be: a callback
 * may have closed the fd, and opened another file under its number. With the lock held. */
static gboolean
update_watch (GaioInner *self, GaioInnerWatch *watch, guint16 events)
{
  gboolean known = watch->handler != NULL;

  watch->is_bad = FALSE;
  if (known && watch->events != events)
    known = gaio_registration_set_condition (watch->handler,
                                             (events | G_IO_ERR | G_IO_HUP) & CONDITIONS) == 0;
  /* A change may not have asked the kernel: not for what is always ready, nor if there is a handler
   * that waits for as much. */
  if (known && watch->fd != self->wake_fd && !self->glancing)
    known = gaio_registration_confirm (watch->handler);
  watch->events = events;
  if (known)
    return TRUE;
  remove_watch (watch);
  return add_watch (self, watch);
}

/* With the lock held. TRUE if the first of the watches are those of @query. */
static gboolean
starts_with (GaioInner *self, const Query *query)
{
  if (self->n_watches < query->n)
    return FALSE;
  for (gint i = 0; i < query->n; i++)
    if (self->watches[i].fd != query->fds[i].fd || self->watches[i].events != query->fds[i].events)
      return FALSE;
  return TRUE;
}

/* Takes over what is in @watches. With the lock held. */
static void
replace_watches (GaioInner *self, const GaioInnerWatch *watches, guint n)
{
  if (self->watches != self->few)
    g_free (self->watches);
  self->watches = n <= G_N_ELEMENTS (self->few) ? self->few : g_new (GaioInnerWatch, n);
  for (guint i = 0; i < n; i++)
    self->watches[i] = watches[i];
  self->n_watches = n;
}

/* The watches of what was queried, in that order; those of the rest go if the query was @complete.
 * With the lock held. FALSE if something could not be added. */
static gboolean
rebuild_watches (GaioInner *self, const Query *query, gboolean complete)
{
  g_autofree GaioInnerWatch *watches = g_new (GaioInnerWatch, query->n + self->n_watches);
  guint n = 0;
  gboolean all = TRUE;

  for (gint i = 0; i < query->n; i++)
    {
      GPollFD *pollfd = &query->fds[i];
      GaioInnerWatch *old = find_watch (self, pollfd->fd);

      watches[n] = old != NULL ? *old : (GaioInnerWatch){ .fd = pollfd->fd };
      if (old != NULL)
        old->fd = -1;
      all &= update_watch (self, &watches[n++], pollfd->events);
    }
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].fd != -1 && complete)
      remove_watch (&self->watches[i]);
    else if (self->watches[i].fd != -1)
      watches[n++] = self->watches[i];
  replace_watches (self, watches, n);
  return all;
}

/* With the lock held. */
static gboolean
update_watches (GaioInner *self, const Query *query, gboolean complete)
{
  gboolean all = TRUE;

  self->n_polled = query->n;
  if (!starts_with (self, query) || (complete && self->n_watches != query->n))
    return rebuild_watches (self, query, complete);
  for (gint i = 0; i < query->n; i++)
    all &= update_watch (self, &self->watches[i], self->watches[i].events);
  return all;
}

/* Puts what @self waits for into the monitor. Returns in how many microseconds to try again, 0 if
 * GLib is to be told of an fd that is not open, or -1. */
static gint64
watch_pollfds (GaioInner *self, const Query *query, gboolean complete)
{
  GaioCore *core = self->entry.core;
  gboolean all = TRUE, bad = FALSE;

  if (!gaio_core_lock (core))
    return -1;
  if (!gaio_entry_is_removed (&self->entry))
    all = update_watches (self, query, complete);
  gaio_core_unlock (core);
  for (guint i = 0; !all && i < self->n_watches; i++)
    bad |= self->watches[i].is_bad;
  return all ? -1 : bad ? 0 : GAIO_MONITOR_RETRY_US;
}

/* What the kernel has told of @watch in this round, once. */
static gushort
take_revents (GaioInner *self, GaioInnerWatch *watch)
{
  gushort revents = watch->is_bad ? G_IO_NVAL : 0;

  watch->is_bad = false;
  if (watch->handler == NULL ||
      watch->handler->entry.stamp != gaio_ready_list_get_stamp (&self->entry.core->ready))
    return revents;
  revents |= watch->handler->revents;
  watch->handler->revents = 0;
  return revents;
}

/* As the query has given them. */
static void
fill_revents (GaioInner *self, Query *query)
{
  query_reserve (query, self->n_polled);
  query->n = self->n_polled;
  for (gint i = 0; i < query->n; i++)
    {
      GaioInnerWatch *watch = &self->watches[i];

      query->fds[i] = (GPollFD){ watch->fd, watch->events, 0 };
      /* GLib would read from it, which the turn does where it is needed. */
      if (watch->fd != self->wake_fd)
        query->fds[i].revents = take_revents (self, watch);
    }
}

/* The kernel was not asked since @self was prepared, as when a call came just before the turn: what
 * has a lower priority is not to be called before an fd of which nobody knows yet. */
static void
ask_now (GaioInner *self, Query *query)
{
  Query now;

  query_init (&now);
  query_reserve (&now, query->n);
  for (gint i = 0; i < query->n; i++)
    now.fds[i] = (GPollFD){ query->fds[i].fd, query->fds[i].events, 0 };
  g_poll (now.fds, query->n, 0);
  for (gint i = 0; i < query->n; i++)
    if (query->fds[i].fd != self->wake_fd)
      query->fds[i].revents |= now.fds[i].revents;
  query_clear (&now);
}

/* Returns GLib's timeout. */
static gint
query_fds (GaioInner *self, Query *query)
{
  gint timeout_ms, n;

  query_reserve (query, self->n_watches);
  while ((n = g_main_context_query (self->main_context, self->priority, &timeout_ms, query->fds,
                                    query->size)) > query->size)
    query_reserve (query, n);
  query->n = n;
  return timeout_ms;
}

/* Asks GLib what @self waits for, and has that watched; if the query is not @complete, there may be
 * more. Returns GLib's timeout, and in @retry_us in how many microseconds to try again, 0 if GLib
 * is to be told of an fd that is not open, or -1. */
gint64
gaio_inner_watch (GaioInner *self, gboolean complete, gint64 *retry_us)
{
  Query query;
  gint64 timeout_us;

  query_init (&query);
  self->prepared_in = gaio_ready_list_get_stamp (&self->entry.core->ready);
  timeout_us = query_fds (self, &query) * G_GINT64_CONSTANT (1000);
  *retry_us = watch_pollfds (self, &query, complete);
  query_clear (&query);
  return timeout_us;
}

/* TRUE if there is something to dispatch. */
gboolean
gaio_inner_check (GaioInner *self)
{
  gboolean ready;
  Query query;

  if (!self->prepared)
    return FALSE;
  self->prepared = false;
  query_init (&query);
  fill_revents (self, &query);
  if (self->prepared_in == gaio_ready_list_get_stamp (&self->entry.core->ready))
    ask_now (self, &query);
  ready = g_main_context_check (self->main_context, self->priority, query.fds, query.n);
  query_clear (&query);
  return ready;
}

/* With the lock held. */
void
gaio_inner_set_paused (GaioInner *self, gboolean paused)
{
  if (self->paused == paused || gaio_entry_is_removed (&self->entry))
    return;
  self->paused = paused;
  for (guint i = 0; i < self->n_watches; i++)
    if (self->watches[i].handler != NULL)
      gaio_registration_set_masked (self->watches[i].handler, paused);
}
