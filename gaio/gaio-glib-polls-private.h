/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* How many polls of GLib may be asleep on the pollfd of a source, one inside the other: a poll
 * function, or whoever embeds GLib, may run an iteration between g_main_context_query() and the
 * poll. Woken is then only the innermost one; those further out have looked before, and go on to
 * sleep.
 *
 * prepare() begins a poll. That it is over GLib shows by what it writes into the GPollFD, and not
 * always by check(), which it leaves out after a source of higher priority. By the owner, with the
 * lock of the context held. */

typedef struct
{
  guint n;
  const void *outermost; /* where on the stack the outermost one was begun */
} GaioGlibPolls;

/* What GLib has not written to yet. */
#define GAIO_GLIB_POLLS_UNSEEN G_MAXUINT16

/* TRUE if GLib has polled since the innermost one was begun. */
static inline gboolean
gaio_glib_polls_end (GaioGlibPolls *self, GPollFD *pollfd)
{
  if (self->n == 0 || pollfd->revents == GAIO_GLIB_POLLS_UNSEEN)
    return FALSE;
  if (--self->n > 0)
    pollfd->revents = GAIO_GLIB_POLLS_UNSEEN;
  return TRUE;
}

/* After gaio_glib_polls_end(). @frame is that of the caller. One that is begun further out than the
 * outermost is not inside it: GLib has left that one without a word, as when its set of pollfds
 * changes meanwhile. */
static inline void
gaio_glib_polls_begin (GaioGlibPolls *self, GPollFD *pollfd, const void *frame)
{
  if (self->n > 0 && frame >= self->outermost)
    self->n = 0;
  if (self->n++ == 0)
    self->outermost = frame;
  pollfd->revents = GAIO_GLIB_POLLS_UNSEEN;
}
