/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bench.h"

typedef enum
{
  BENCH_LIVE, /* an event is a write, the loop, and a read */
  BENCH_DRY,  /* the fds stay readable and the callback only counts: the loop alone */
  BENCH_N_KINDS,
} BenchKind;

/* What every contender of one round is given: the same fds in the same random order. */
typedef struct
{
  BenchKind kind;
  guint n;
  guint k;
  guint units;      /* a unit is k events */
  const int *fds;   /* ascending */
  const int *order; /* the same fds shuffled: a unit takes the next k, so k different ones */
} BenchSlice;

double bench_slice_measure (const BenchSlice *slice, const BenchContender *contender);
guint bench_slice_units (const BenchContender *contender, guint n, guint k, guint n_events);

enum
{
  BENCH_GLIB,
  BENCH_RAW_EPOLL,
  BENCH_HAND_WRITTEN,
  BENCH_GAIO_NESTED,
  BENCH_GAIO_ALONE,
  BENCH_N_CONTENDERS,
};

/* All rounds of one kind, n and k. ns[c] is NULL for a contender that did not run. */
typedef struct
{
  BenchKind kind;
  guint n;
  guint k;
  guint rounds;
  double *ns[BENCH_N_CONTENDERS]; /* nanoseconds per event, one per round */
} BenchCell;

const char *bench_kind_name (BenchKind kind);
const char *bench_contender_name (guint contender);

void bench_report_medians (GPtrArray *cells);
void bench_report_ratios (GPtrArray *cells);
void bench_report_growth (GPtrArray *cells);
void bench_report_verdict (GPtrArray *cells);
gboolean bench_report_csv (GPtrArray *cells, const char *path, GError **error);
