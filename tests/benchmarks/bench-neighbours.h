/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

/* A connection. The neighbours append to it what they need. */
typedef struct
{
  guint number;
} BenchPeer;

/* A library that has Gaio or GLib watch its fds. */
typedef struct
{
  const char *version;
  gsize peer_size;

  /* Begins to connect. It has been heard of once it can be asked. It is asked only if it is
   * @active. @context is NULL for GLib. */
  void (*open) (BenchPeer *peer, GaioContext *context, const char *address, gboolean active);
  /* To be answered, which is heard. */
  void (*ask) (BenchPeer *peer);
} BenchNeighbour;

/* There is one in each program. */
extern const BenchNeighbour bench_neighbour;

void bench_heard (BenchPeer *peer);
