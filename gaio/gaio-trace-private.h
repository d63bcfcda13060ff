/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <glib.h>

#include "gaio-profile-private.h"

/* What can be observed from outside: USDT probes, sysprof marks, the warning of GAIO_SLOW_MS, and
 * the profile of a context. All of it is out of line, behind a test of one flag. */

/* Not 0 while somebody wants to see anything. It is also the semaphore of all our probes: a tracer
 * that attaches to one of them adds 1. */
extern unsigned short gaio_trace_wanted G_GNUC_INTERNAL;

typedef struct
{
  GaioProfile *profile; /* of the context */
  const char *kind;     /* of callback */
  gconstpointer func;
  gint fd;    /* or -1 */
  char *name; /* or NULL */
  gint64 began;
} GaioTraceCall;

/* Keeps the compiler from optimizing the callers for these. */
#define GAIO_COLD __attribute__ ((cold))

void gaio_trace_init (void);
void gaio_trace_start_profile (GaioProfile *profile);
void gaio_trace_stop_profile (GaioProfile *profile);
void gaio_trace_call_begin (GaioTraceCall *self) GAIO_COLD;
void gaio_trace_call_end (GaioTraceCall *self) GAIO_COLD;
gint64 gaio_trace_poll_begin (gconstpointer core, gint64 timeout_us) GAIO_COLD;
void gaio_trace_poll_end (gconstpointer core, gint64 began, int n) GAIO_COLD;
void gaio_trace_add (gconstpointer core, gint fd) GAIO_COLD;
void gaio_trace_remove (gconstpointer core, gint fd, const char *name) GAIO_COLD;
void gaio_trace_sleep (gconstpointer core, gint64 deadline) GAIO_COLD;

/* Not atomic, because that would cost two instructions for each event. It is enough to see a change
 * some time later, and tracers change it from outside. ThreadSanitizer need not know. */
static inline __attribute__ ((no_sanitize ("thread"))) bool
gaio_trace_read_wanted (void)
{
  return gaio_trace_wanted != 0;
}

#define gaio_trace_is_wanted() G_UNLIKELY (gaio_trace_read_wanted ())

/* Traces add, remove or sleep. The arguments are not evaluated unless somebody wants them. */
#define gaio_trace(event, ...)                                                                     \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (gaio_trace_is_wanted ())                                                                   \
      gaio_trace_##event (__VA_ARGS__);                                                            \
  }                                                                                                \
  G_STMT_END

/* Runs the statement @call, which calls the user's @what_func. Takes ownership of @what_name, a
 * copy. */
#define gaio_trace_call(what_profile, what_kind, what_func, what_fd, what_name, call)              \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (!gaio_trace_is_wanted ())                                                                  \
      call;                                                                                        \
    else                                                                                           \
      {                                                                                            \
        GaioTraceCall traced_ = { (what_profile), (what_kind), (gconstpointer) (what_func),        \
                                  (what_fd), (what_name) };                                        \
                                                                                                   \
        gaio_trace_call_begin (&traced_);                                                          \
        call;                                                                                      \
        gaio_trace_call_end (&traced_);                                                            \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END

/* Sets @n to the result of @poll, which polls the kernel. Does not change errno. */
#define gaio_trace_poll(core, timeout_us, n, poll)                                                 \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (!gaio_trace_is_wanted ())                                                                  \
      (n) = poll;                                                                                  \
    else                                                                                           \
      {                                                                                            \
        gint64 began_ = gaio_trace_poll_begin ((core), (timeout_us));                              \
                                                                                                   \
        (n) = poll;                                                                                \
        gaio_trace_poll_end ((core), began_, (n));                                                 \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END
