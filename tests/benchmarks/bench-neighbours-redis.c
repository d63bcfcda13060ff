/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With GLib by hiredis' own adapter. */
#include <stdlib.h>

#include <hiredis/adapters/glib.h>

#include "../../examples/neighbours/gaio-hiredis.h"
#include "bench-neighbours.h"

static void
on_reply (redisAsyncContext *redis, void *reply, void *user_data)
{
  if (reply == NULL)
    g_error ("redis: %s", redis->errstr);
  bench_heard (redis);
}

static void
ask (gpointer redis)
{
  redisAsyncCommand (redis, on_reply, NULL, "PING");
}

static gpointer
open_one (GaioContext *context, const char *address, gboolean active)
{
  redisAsyncContext *redis = redisAsyncConnect ("127.0.0.1", atoi (address));
  g_autoptr (GError) error = NULL;

  if (context == NULL)
    g_source_attach (redis_source_new (redis), NULL);
  else if (!gaio_hiredis_attach (context, redis, &error))
    g_error ("%s", error->message);
  ask (redis);
  return redis;
}

const BenchNeighbour bench_neighbour = {
  .version = "hiredis " BENCH_NEIGHBOUR_VERSION,
  .open = open_one,
  .ask = ask,
};
