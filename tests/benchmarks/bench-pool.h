/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

typedef enum
{
  BENCH_EVENTFD,
  BENCH_PIPE,
  BENCH_TCP,
} BenchFdKind;

/* What is watched. There is one pool, and only the contender whose turn it is watches it: an fd in
 * several epoll sets would make each write wake all of them, and one set of fds for each contender
 * does not fit under the fd limit. */
typedef struct
{
  BenchFdKind kind;
  guint n;
  int *fds; /* ascending */
  int *peers;
} BenchPool;

/* How many fds each of the pool takes. */
guint bench_fds_of_kind (BenchFdKind kind);

/* At least @n of @kind. It remains until the next call. */
const BenchPool *bench_pool_get (BenchFdKind kind, guint n);

void bench_pool_ring (const BenchPool *pool, guint index);
/* FALSE: there was nothing. */
gboolean bench_drain (int fd);
