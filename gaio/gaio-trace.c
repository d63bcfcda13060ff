/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-trace-private.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define USEC_PER_MSEC 1000
#define NSEC_PER_USEC 1000

#ifdef GAIO_HAVE_USDT
/* Where tracers look for semaphores. */
#  define IN_PROBES __attribute__ ((section (".probes")))
#else
#  define IN_PROBES
#endif

unsigned short gaio_trace_wanted IN_PROBES = 0;

#ifdef GAIO_HAVE_USDT
#  define SDT_USE_VARIADIC
#  define _SDT_HAS_SEMAPHORES
#  include <sys/sdt.h>

#  define SEMAPHORE(name)                                                                          \
    extern unsigned short gaio_##name##_semaphore __attribute__ ((alias ("gaio_trace_wanted")));

SEMAPHORE (add)
SEMAPHORE (remove)
SEMAPHORE (dispatch_begin)
SEMAPHORE (dispatch_end)
SEMAPHORE (poll_begin)
SEMAPHORE (poll_end)
SEMAPHORE (sleep)

#  define probe(...) STAP_PROBEV (gaio, __VA_ARGS__)
#else
#  define probe(...)                                                                               \
    G_STMT_START                                                                                   \
    {                                                                                              \
    }                                                                                              \
    G_STMT_END
#endif

#ifdef GAIO_HAVE_SYSPROF
#  include <sysprof-capture.h>

#  define is_marking() sysprof_collector_is_active ()
#  define mark(began, us, ...)                                                                     \
    sysprof_collector_mark_printf ((began) *NSEC_PER_USEC, (us) *NSEC_PER_USEC, "Gaio", __VA_ARGS__)
#else
#  define is_marking() FALSE
#  define mark(began, us, ...)                                                                     \
    G_STMT_START                                                                                   \
    {                                                                                              \
    }                                                                                              \
    G_STMT_END
#endif

/* From GAIO_SLOW_MS; G_MAXINT64 if that is not set. */
static gint64 slow_us = G_MAXINT64;

/* The warnings contain addresses, which whoever starts a setuid program must not see. */
static void
read_limit (void)
{
  const char *value = secure_getenv ("GAIO_SLOW_MS");
  guint64 ms;

  if (value == NULL)
    return;
  if (g_ascii_string_to_unsigned (value, 10, 0, G_MAXINT, &ms, NULL))
    slow_us = ms > 0 ? (gint64) ms * USEC_PER_MSEC : G_MAXINT64;
  else
    g_warning ("GAIO_SLOW_MS=%s is not a number of milliseconds", value);
}

static void
init_once (void)
{
  read_limit ();
  if (slow_us != G_MAXINT64 || is_marking ())
    __atomic_fetch_add (&gaio_trace_wanted, 1, __ATOMIC_RELAXED);
}

/* Before the first callback. */
void
gaio_trace_init (void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once (&once, init_once);
}

/* Times what is called in the context that @profile is of. */
void
gaio_trace_start_profile (GaioProfile *profile)
{
  gaio_profile_start (profile);
  __atomic_fetch_add (&gaio_trace_wanted, 1, __ATOMIC_RELAXED);
}

void
gaio_trace_stop_profile (GaioProfile *profile)
{
  __atomic_fetch_sub (&gaio_trace_wanted, 1, __ATOMIC_RELAXED);
  gaio_profile_stop (profile);
}

static inline const char *
or_empty (const char *name)
{
  return name != NULL ? name : "";
}

void
gaio_trace_call_begin (GaioTraceCall *self)
{
  probe (dispatch_begin, self->kind, self->fd, or_empty (self->name), self->func);
  gaio_profile_call_begin (self->profile);
  self->began = g_get_monotonic_time ();
}

static char *
describe (const GaioTraceCall *self)
{
  if (self->fd == -1 && self->name != NULL)
    return g_strdup (self->name);
  if (self->fd == -1)
    return g_strdup_printf ("(function %p)", self->func);
  if (self->name == NULL)
    return g_strdup_printf ("(fd %d)", self->fd);
  return g_strdup_printf ("%s (fd %d)", self->name, self->fd);
}

static void
report (const GaioTraceCall *self, gint64 us)
{
  g_autofree char *what = describe (self);

  mark (self->began, us, self->kind, "%s", what);
  if (us > slow_us)
    g_warning ("%s %s ran for %" G_GINT64_FORMAT " ms", self->kind, what, us / USEC_PER_MSEC);
}

void
gaio_trace_call_end (GaioTraceCall *self)
{
  gint64 us = g_get_monotonic_time () - self->began;

  probe (dispatch_end, self->kind, self->fd, or_empty (self->name), self->func);
  gaio_profile_call_end (self->profile, self->kind, self->name, self->fd, self->began, us);
  if (us > slow_us || is_marking ())
    report (self, us);
  g_free (self->name);
}

gint64
gaio_trace_poll_begin (gconstpointer core, gint64 timeout_us)
{
  probe (poll_begin, core, timeout_us);
  return g_get_monotonic_time ();
}

void
gaio_trace_poll_end (gconstpointer core, gint64 began, int n)
{
  int errsv = errno;

  probe (poll_end, core, n);
  mark (began, g_get_monotonic_time () - began, "poll", "%d events", n);
  errno = errsv;
}

void
gaio_trace_add (gconstpointer core, gint fd)
{
  probe (add, core, fd);
  mark (g_get_monotonic_time (), 0, "add", "fd %d", fd);
}

void
gaio_trace_remove (gconstpointer core, gint fd, const char *name)
{
  probe (remove, core, fd, or_empty (name));
  mark (g_get_monotonic_time (), 0, "remove", "%s fd %d", or_empty (name), fd);
}

void
gaio_trace_sleep (gconstpointer core, gint64 deadline)
{
  probe (sleep, core, deadline);
  mark (g_get_monotonic_time (), 0, "sleep", "until %" G_GINT64_FORMAT " us", deadline);
}
