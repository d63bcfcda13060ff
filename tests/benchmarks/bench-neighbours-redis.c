/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With GLib by hiredis' own adapter. */
#include <stdlib.h>

#include <hiredis/adapters/glib.h>

#include "../../examples/neighbours/gaio-hiredis.h"
#include "bench-neighbours.h"

typedef struct
{
  BenchPeer peer;
  redisAsyncContext *redis;
} RedisPeer;

static void
on_reply (redisAsyncContext *redis, void *reply, void *user_data)
{
  if (reply == NULL)
    g_error ("redis: %s", redis->errstr);
  bench_heard (user_data);
}

static void
ask (BenchPeer *peer)
{
  redisAsyncCommand (((RedisPeer *) peer)->redis, on_reply, peer, "PING");
}

static void
open_one (BenchPeer *peer, GaioContext *context, const char *address, gboolean active)
{
  RedisPeer *self = (RedisPeer *) peer;
  g_autoptr (GError) error = NULL;

  self->redis = redisAsyncConnect ("127.0.0.1", atoi (address));
  if (context == NULL)
    g_source_attach (redis_source_new (self->redis), NULL);
  else if (!gaio_hiredis_attach (context, self->redis, &error))
    g_error ("%s", error->message);
  ask (peer);
}

const BenchNeighbour bench_neighbour = {
  .version = "hiredis " BENCH_NEIGHBOUR_VERSION,
  .peer_size = sizeof (RedisPeer),
  .open = open_one,
  .ask = ask,
};
