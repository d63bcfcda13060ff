/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bench.h"
#include "bench-pool.h"

/* What a loop is measured with: the first @n of a pool watched, in @order, random, the numbers of
 * those that become ready. The contenders of one round are given the same. */
typedef struct
{
  const BenchPool *pool;
  guint n;
  const int *order;
} BenchSet;

/* A loop that watches the set. */
typedef struct _BenchRun BenchRun;

BenchRun *bench_run_open (const BenchSet *set, const BenchContender *contender);
void bench_run_close (BenchRun *run);

/* Nanoseconds for each of about @n_events, @k of them ready at once. Live: an event is a write, the
 * loop, and a read. Dry: the fds stay readable and the callback only counts, the loop alone. */
double bench_run_measure (BenchRun *run, gboolean dry, guint k, guint n_events);
