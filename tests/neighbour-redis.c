/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the glue of hiredis has to stand. test-neighbours.py runs it, with the port of a server in
 * ADDRESS. */
#include <netinet/in.h>
#include <stdlib.h>

#include "../examples/neighbours/gaio-hiredis.h"

static GMainLoop *loop;

static redisAsyncContext *
connect_to (int port)
{
  redisAsyncContext *redis = redisAsyncConnect ("127.0.0.1", port);
  g_autoptr (GError) error = NULL;

  g_assert_cmpint (redis->err, ==, 0);
  gaio_hiredis_attach (gaio_context_get_default (), redis, &error);
  g_assert_no_error (error);
  return redis;
}

static int
get_port (void)
{
  return atoi (g_getenv ("ADDRESS"));
}

static void
on_disconnect (const redisAsyncContext *redis, int status)
{
  g_main_loop_quit (loop);
}

static void
free_it (redisAsyncContext *redis, void *reply, void *user_data)
{
  if (reply != NULL)
    redisAsyncFree (redis);
}

static void
test_freed_by_a_reply (void)
{
  redisAsyncContext *redis = connect_to (get_port ());

  redisAsyncSetDisconnectCallback (redis, on_disconnect);
  for (int i = 0; i < 3; i++)
    redisAsyncCommand (redis, free_it, NULL, "PING");
  g_main_loop_run (loop);
}

static void
count (redisAsyncContext *redis, void *reply, void *n)
{
  if (reply != NULL)
    ++*(int *) n;
}

typedef struct
{
  redisAsyncContext *other;
  int n_own, n_other;
} Nested;

/* What is sent on the connection itself has to wait until this has returned. */
static void
run_main_loop (redisAsyncContext *redis, void *reply, void *user_data)
{
  Nested *nested = user_data;

  redisAsyncCommand (redis, count, &nested->n_own, "PING");
  redisAsyncCommand (nested->other, count, &nested->n_other, "PING");
  while (nested->n_other == 0)
    g_main_context_iteration (NULL, TRUE);
  g_assert_cmpint (nested->n_own, ==, 0);
}

static void
test_main_loop_in_a_reply (void)
{
  redisAsyncContext *redis = connect_to (get_port ());
  Nested nested = { connect_to (get_port ()), 0, 0 };

  redisAsyncCommand (redis, run_main_loop, &nested, "PING");
  while (nested.n_own == 0)
    g_main_context_iteration (NULL, TRUE);
  redisAsyncFree (redis);
  redisAsyncFree (nested.other);
}

/* What hiredis 0.14 has not, and does not stand itself. */
#if HIREDIS_MAJOR >= 1
static void
free_when_connected (const redisAsyncContext *redis, int status)
{
  g_assert_cmpint (status, ==, REDIS_OK);
  redisAsyncDisconnect ((redisAsyncContext *) redis);
}

static void
test_ended_when_connected (void)
{
  redisAsyncContext *redis = connect_to (get_port ());

  redisAsyncSetConnectCallback (redis, free_when_connected);
  redisAsyncSetDisconnectCallback (redis, on_disconnect);
  g_main_loop_run (loop);
}

static void
on_late_reply (redisAsyncContext *redis, void *reply, void *user_data)
{
  g_assert_null (reply);
  g_assert_cmpint (redis->err, ==, REDIS_ERR_TIMEOUT);
}

/* Nobody accepts the connection. */
static void
test_own_timeout (void)
{
  struct sockaddr_in address = { .sin_family = AF_INET };
  socklen_t length = sizeof address;
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  redisAsyncContext *redis;

  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  g_assert_no_errno (bind (fd, (struct sockaddr *) &address, length));
  g_assert_no_errno (listen (fd, 1));
  g_assert_no_errno (getsockname (fd, (struct sockaddr *) &address, &length));
  redis = connect_to (ntohs (address.sin_port));
  redisAsyncSetDisconnectCallback (redis, on_disconnect);
  redisAsyncSetTimeout (redis, (struct timeval){ .tv_usec = 20000 });
  redisAsyncCommand (redis, on_late_reply, NULL, "PING");
  g_main_loop_run (loop);
  close (fd);
}
#endif

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  loop = g_main_loop_new (NULL, FALSE);
  g_test_add_func ("/neighbours/redis/freed-by-a-reply", test_freed_by_a_reply);
  g_test_add_func ("/neighbours/redis/main-loop-in-a-reply", test_main_loop_in_a_reply);
#if HIREDIS_MAJOR >= 1
  g_test_add_func ("/neighbours/redis/ended-when-connected", test_ended_when_connected);
  g_test_add_func ("/neighbours/redis/own-timeout", test_own_timeout);
#endif
  return g_test_run ();
}
