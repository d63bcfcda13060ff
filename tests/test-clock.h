/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>

#include <glib.h>

#include "test-stand-in.h"

/* The clock as the library sees it: stands in for GLib's. */

static atomic_bool clock_stands; /* where it was read last */
static atomic_llong clock_read_us;
static atomic_llong clock_leap_us; /* each time it is read */
static atomic_llong clock_ahead_us;
static atomic_uint clock_readings;

gint64
g_get_monotonic_time (void)
{
  gint64 now = clock_stands ? clock_read_us : NEXT (g_get_monotonic_time) ();
  gint64 leap = clock_leap_us;

  clock_readings++;
  clock_read_us = now;
  return now + atomic_fetch_add (&clock_ahead_us, leap) + leap;
}

/* 0 sets it right. */
static inline void
clock_leap (gint64 us)
{
  clock_leap_us = us;
  clock_ahead_us = 0;
}
