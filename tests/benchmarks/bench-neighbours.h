/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

/* A library that has Gaio or GLib watch its fds. */
typedef struct
{
  const char *version;
  /* Begins to connect, and returns what it needs for the connection: a peer. It is heard of once it
   * can be asked. It is asked only if it is @active. @context is NULL for GLib. */
  gpointer (*open) (GaioContext *context, const char *address, gboolean active);
  /* To be answered, which is heard. */
  void (*ask) (gpointer peer);
} BenchNeighbour;

/* There is one in each program. */
extern const BenchNeighbour bench_neighbour;

void bench_heard (gpointer peer);
