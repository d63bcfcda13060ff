/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench-pool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static BenchPool pool;
static int listener = -1;
static struct sockaddr_in address;

static int
check (int result)
{
  if (result < 0)
    g_error ("cannot open fds to watch: %s", g_strerror (errno));
  return result;
}

static void
open_eventfd (int *fd, int *peer)
{
  *fd = *peer = check (eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC));
}

static void
open_pipe (int *fd, int *peer)
{
  int ends[2];

  check (pipe2 (ends, O_NONBLOCK | O_CLOEXEC));
  *fd = ends[0];
  *peer = ends[1];
}

static void
listen_on_loopback (void)
{
  socklen_t length = sizeof address;

  address =
      (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  listener = check (socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check (bind (listener, (struct sockaddr *) &address, length));
  check (listen (listener, 16));
  check (getsockname (listener, (struct sockaddr *) &address, &length));
}

/* Closing resets it: else the ports of many rounds wait in TIME_WAIT. */
static void
open_tcp (int *fd, int *peer)
{
  struct linger reset = { .l_onoff = 1 };
  int one = 1;

  if (listener < 0)
    listen_on_loopback ();
  *fd = check (socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check (connect (*fd, (struct sockaddr *) &address, sizeof address));
  *peer = check (accept4 (listener, NULL, NULL, SOCK_CLOEXEC));
  check (fcntl (*fd, F_SETFL, O_NONBLOCK));
  check (setsockopt (*fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
  check (setsockopt (*peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
  check (setsockopt (*peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
}

static const struct
{
  void (*open) (int *fd, int *peer);
  guint n_fds;
} kinds[] = {
  [BENCH_EVENTFD] = { open_eventfd, 1 },
  [BENCH_PIPE] = { open_pipe, 2 },
  [BENCH_TCP] = { open_tcp, 2 },
};

guint
bench_fds_of_kind (BenchFdKind kind)
{
  return kinds[kind].n_fds;
}

static void
pool_clear (void)
{
  for (guint i = 0; i < pool.n; i++)
    {
      close (pool.fds[i]);
      if (pool.peers[i] != pool.fds[i])
        close (pool.peers[i]);
    }
  g_free (pool.fds);
  g_free (pool.peers);
}

const BenchPool *
bench_pool_get (BenchFdKind kind, guint n)
{
  if (pool.fds != NULL && pool.kind == kind && pool.n >= n)
    return &pool;
  pool_clear ();
  pool = (BenchPool){ kind, n, g_new (int, n), g_new (int, n) };
  for (guint i = 0; i < n; i++)
    kinds[kind].open (&pool.fds[i], &pool.peers[i]);
  return &pool;
}

/* Eight bytes, as an eventfd wants them, so that there is one code for all kinds. */
void
bench_pool_ring (const BenchPool *of, guint index)
{
  guint64 one = 1;

  if (write (of->peers[index], &one, sizeof one) != sizeof one)
    g_error ("write: %s", g_strerror (errno));
}

gboolean
bench_drain (int fd)
{
  guint64 value;

  return read (fd, &value, sizeof value) == sizeof value;
}
