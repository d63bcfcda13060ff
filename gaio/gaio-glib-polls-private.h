/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* How many polls of GLib may be asleep on the pollfd of a source, one inside the other: a poll
 * function, or whoever embeds GLib, may run an iteration between g_main_context_query() and the
 * poll. Woken is then only the innermost one; those further out have looked before, and go on to
 * sleep.
 *
 * prepare() begins a poll, unless it says that the source is ready. That the poll is over GLib
 * shows by what it writes into the GPollFD, and not always by check(), which it leaves out after a
 * source of higher priority. It writes as well where the source was ready before: then prepare()
 * and check() are left out, the dispatch is not. In doubt there is one more, which costs a write
 * for nothing; one less would cost a wake-up. By the owner, with the lock of the context held. */

typedef struct
{
  guint n;
  gboolean open;         /* begun, and neither prepare() nor check() has come since */
  const void *outermost; /* where on the stack the outermost one was begun */
  gint64 until;          /* the earliest deadline that it was told of, or -1 */
} GaioGlibPolls;

/* What GLib has not written to yet. Who has it check a poll a second time says so, too. */
#define GAIO_GLIB_POLLS_UNWRITTEN G_MAXUINT16

/* Of what it is told GLib writes what was asked for. The kernel never says these two together. */
static inline gboolean
gaio_glib_polls_is_written (const GPollFD *pollfd)
{
  return (pollfd->revents & (G_IO_IN | G_IO_NVAL)) != (G_IO_IN | G_IO_NVAL);
}

/* TRUE if GLib has polled since it was last looked. @ends is for where that has ended one that was
 * begun: in prepare() and in check(), and not in the dispatch, before which check() has done so,
 * or which follows a poll that could not sleep. */
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

/* After gaio_glib_polls_update(). @frame is that of prepare(). A poll that was begun right there is
 * over: GLib has left it without a word, as when its set of pollfds changes meanwhile. One that was
 * begun further in may not be: the function of who embeds GLib has returned. */
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

/* TRUE if @deadline is before what they have been told of. */
static inline gboolean
gaio_glib_polls_lower_deadline (GaioGlibPolls *self, gint64 deadline)
{
  if (self->until != -1 && self->until <= deadline)
    return FALSE;
  self->until = deadline;
  return TRUE;
}
