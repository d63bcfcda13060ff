/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* Counts how many polls of GLib may be asleep on the pollfd of a source, one inside the other: a
 * poll function, or a program that embeds GLib, may run an iteration between g_main_context_query()
 * and the poll. A wake-up then ends only the innermost poll; the outer ones have checked before,
 * and go to sleep.
 *
 * prepare() begins a poll, unless it says that the source is ready. GLib shows that the poll is
 * over by what it writes into the GPollFD, and not always by check(), which it skips after a source
 * of higher priority. It also writes if the source was ready before: then it skips prepare() and
 * check(), but not the dispatch. In doubt, this counts one poll too many, which costs a needless
 * write; one too few would lose a wake-up. By the owner, with the lock of the context held. */

typedef struct
{
  guint n;
  gboolean open;         /* begun, and neither prepare() nor check() has come since */
  const void *outermost; /* where on the stack the outermost poll began */
  gint64 until;          /* the earliest deadline that the polls know of, or -1 */
} GaioGlibPolls;

/* GLib has not written yet. Also set by a caller that has GLib check a poll a second time. */
#define GAIO_GLIB_POLLS_UNWRITTEN G_MAXUINT16

/* GLib writes only those of the reported conditions that the GPollFD asks for. The kernel never
 * reports these two together. */
static inline gboolean
gaio_glib_polls_is_written (const GPollFD *pollfd)
{
  return (pollfd->revents & (G_IO_IN | G_IO_NVAL)) != (G_IO_IN | G_IO_NVAL);
}

/* TRUE if GLib has polled since the last call. @ends says whether that has ended a poll that was
 * begun: TRUE in prepare() and in check(), but not in the dispatch, because check() has come before
 * it, or because that poll could not sleep. */
static inline gboolean
gaio_glib_polls_update (GaioGlibPolls *self, GPollFD *pollfd, gboolean ends)
{
  if (ends)
    self->open = FALSE;
  if (!gaio_glib_polls_is_written (pollfd))
    return FALSE;
  if (ends && self->n > 0)
    self->n--;
  pollfd->revents = GAIO_GLIB_POLLS_UNWRITTEN;
  return TRUE;
}

/* After gaio_glib_polls_update(). @frame is that of prepare(). A poll that began at the same frame
 * is over: GLib has abandoned it without a sign, for example because its set of pollfds has changed
 * in the meantime. A poll that began deeper on the stack may not be over: a function of the program
 * that embeds GLib has returned. */
static inline void
gaio_glib_polls_drop_abandoned (GaioGlibPolls *self, const void *frame)
{
  if (self->n > 0 && frame == self->outermost)
    self->n = 0;
}

static inline void
gaio_glib_polls_begin (GaioGlibPolls *self, GPollFD *pollfd, const void *frame, gint64 until)
{
  self->open = TRUE;
  if (self->n++ == 0)
    {
      self->outermost = frame;
      self->until = until;
    }
  pollfd->revents = GAIO_GLIB_POLLS_UNWRITTEN;
}

/* TRUE if @deadline is earlier than the polls know of. */
static inline gboolean
gaio_glib_polls_lower_deadline (GaioGlibPolls *self, gint64 deadline)
{
  if (self->until != -1 && self->until <= deadline)
    return FALSE;
  self->until = deadline;
  return TRUE;
}
