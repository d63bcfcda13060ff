/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What test-bounds-gio.py runs under strace and callgrind: `gio-driver MODE WHERE N ROUNDS` does
 * one thing, ROUNDS times, with N connections of GIO, and prints one number. WHERE is `plain`,
 * where all are in one main context, `served` by a context that is nested in GLib's loop, or by one
 * that is `alone`. The difference between two runs with other ROUNDS is free of what setting up
 * costs. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <glib-unix.h>

#include "benchmarks/bench-gio-echo.h"
#include "benchmarks/bench.h"

static const char message[] = "what an echo is asked to say\n";

typedef struct
{
  guint n;
  guint rounds;
  int first_peer;       /* a number above those of the connections */
  int *peers;           /* shuffled */
  GaioContext *context; /* NULL: plain */
  gboolean alone;
  BenchGioStart start;
} Driver;

/* --- Time, which may stand still: what comes by the clock, and not with a message, is not counted
 * with the messages --- */

static gboolean time_stands_still;

gint64
g_get_monotonic_time (void)
{
  static gint64 then;

  if (!time_stands_still || then == 0)
    then = (gint64) (bench_now_ns () / 1000);
  return then;
}

int
timerfd_settime (int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old)
{
  if (time_stands_still)
    return 0;
  return syscall (SYS_timerfd_settime, fd, flags, new_value, old);
}

/* --- Connections --- */

/* Its number is out of the way, as if it belonged to another process: what a context knows of an fd
 * has its place by the number, and the peers' would lie between. */
static int
move_away (Driver *driver, int fd)
{
  int moved = fcntl (fd, F_DUPFD_CLOEXEC, driver->first_peer);

  if (moved == -1)
    g_error ("fcntl: %s", g_strerror (errno));
  close (fd);
  return moved;
}

/* Returns the other end. */
static int
connect_one (Driver *driver)
{
  int fds[2];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    g_error ("socketpair: %s", g_strerror (errno));
  fds[1] = move_away (driver, fds[1]);
  bench_gio_accept (driver->context, fds[0], driver->start);
  return fds[1];
}

static gboolean
turn (Driver *driver, gboolean may_block)
{
  if (driver->alone)
    return gaio_context_iterate (driver->context, may_block ? -1 : 0);
  return g_main_context_iteration (NULL, may_block);
}

static void
settle (Driver *driver)
{
  while (turn (driver, FALSE))
    ;
}

static void
connect_all (Driver *driver)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  driver->peers = g_new (int, driver->n);
  for (guint i = 0; i < driver->n; i++)
    driver->peers[i] = connect_one (driver);
  bench_shuffle (rand, driver->peers, driver->n);
  settle (driver);
}

static void
say (int peer)
{
  if (write (peer, message, sizeof message) != sizeof message)
    g_error ("write: %s", g_strerror (errno));
}

static void
hear (int peer)
{
  char answer[sizeof message];

  if (read (peer, answer, sizeof answer) != sizeof answer ||
      memcmp (answer, message, sizeof answer) != 0)
    g_error ("there is no echo");
}

static void
run_until (Driver *driver, guint64 n_reads)
{
  while (bench_gio_n_reads () < n_reads)
    turn (driver, TRUE);
}

/* Until the echo waits for the next message: now the loop of a server would sleep. */
static void
exchange (Driver *driver, int peer)
{
  guint64 n_reads = bench_gio_n_reads ();

  say (peer);
  run_until (driver, n_reads + 1);
  hear (peer);
}

static void
connect_and_exchange (Driver *driver)
{
  connect_all (driver);
  for (guint i = 0; i < driver->n; i++)
    exchange (driver, driver->peers[i]);
}

static void
drop_all (Driver *driver)
{
  for (guint i = 0; i < driver->n; i++)
    close (driver->peers[i]);
  g_clear_pointer (&driver->peers, g_free);
  while (bench_gio_n_echoes () > 0)
    turn (driver, TRUE);
  /* Their main contexts go afterwards. */
  settle (driver);
}

/* --- Modes --- */

/* rounds messages, one at a time */
static guint64
run_echo (Driver *driver)
{
  time_stands_still = TRUE;
  connect_all (driver);
  for (guint i = 0; i < driver->rounds; i++)
    exchange (driver, driver->peers[i % driver->n]);
  return driver->rounds;
}

static guint64
run_echo_at_once (Driver *driver)
{
  driver->start = bench_gio_echo_at_once;
  return run_echo (driver);
}

/* rounds bursts, each of which takes the echo several reads without a wait between them */
static guint64
run_burst (Driver *driver)
{
  char burst[8 * BENCH_GIO_READ_SIZE] = { 0 };

  time_stands_still = TRUE;
  driver->start = bench_gio_echo_at_once;
  connect_all (driver);
  for (guint i = 0; i < driver->rounds; i++)
    {
      int peer = driver->peers[i % driver->n];
      guint64 n_reads = bench_gio_n_reads ();

      if (write (peer, burst, sizeof burst) != sizeof burst)
        g_error ("write: %s", g_strerror (errno));
      run_until (driver, n_reads + 8);
      if (read (peer, burst, sizeof burst) != sizeof burst)
        g_error ("there is no echo");
    }
  return driver->rounds;
}

static gsize
heap_in_use (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

/* bytes of user space for a connection, without what comes with the first ones, which are as many
 * as there are rounds, and never again */
static guint64
run_memory (Driver *driver)
{
  Driver first = *driver;
  gsize before;

  first.n = driver->rounds;
  connect_and_exchange (&first);
  before = heap_in_use ();
  connect_and_exchange (driver);
  return (heap_in_use () - before) / driver->n;
}

static gint64
resident_bytes (void)
{
  long pages = -1;
  FILE *file = fopen ("/proc/self/statm", "re");

  if (file == NULL || fscanf (file, "%*d %ld", &pages) != 1)
    g_error ("cannot read /proc/self/statm");
  fclose (file);
  return (gint64) pages * sysconf (_SC_PAGESIZE);
}

static guint
count_fds (void)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  while (g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

static guint
count_main_contexts (Driver *driver)
{
  g_autoptr (GVariant) stats = NULL;
  guint n = 0;

  if (driver->context == NULL)
    return 0;
  stats = gaio_context_dup_stats (driver->context);
  if (!g_variant_lookup (stats, "main-contexts", "u", &n))
    g_error ("nobody knows how many main contexts are served");
  return n;
}

static void
make_and_drop (Driver *driver, guint n_batches)
{
  for (guint i = 0; i < n_batches; i++)
    {
      connect_and_exchange (driver);
      drop_all (driver);
    }
}

/* by how many bytes the process grows while it makes and drops rounds connections, n at a time,
 * after a tenth of them */
static guint64
run_storm (Driver *driver)
{
  guint n_batches = driver->rounds / driver->n;
  gint64 before, growth;
  guint n_fds;

  make_and_drop (driver, MAX (n_batches / 10, 1));
  n_fds = count_fds ();
  before = resident_bytes ();
  make_and_drop (driver, n_batches);
  growth = resident_bytes () - before;
  if (count_fds () != n_fds || count_main_contexts (driver) != 0)
    g_error ("%u fds more, %u main contexts are left", count_fds () - n_fds,
             count_main_contexts (driver));
  return MAX (growth, 0);
}

/* As the peers of n connections in another process, which goes when @stop says so. */
static void
be_peers (Driver *driver, const struct sockaddr *address, socklen_t length, int stop)
{
  g_autofree int *fds = g_new (int, driver->n);
  char c;

  for (guint i = 0; i < driver->n; i++)
    {
      fds[i] = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fds[i] == -1 || connect (fds[i], address, length) != 0)
        g_error ("connect: %s", g_strerror (errno));
      say (fds[i]);
    }
  for (guint i = 0; i < driver->n; i++)
    hear (fds[i]);
  while (read (stop, &c, 1) > 0)
    ;
  _exit (0);
}

/* Each has had an echo, and the peers take no fds here. */
static void
connect_elsewhere (Driver *driver)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  socklen_t length = sizeof address;
  int listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int stop[2];

  if (listener == -1 || pipe2 (stop, O_CLOEXEC) != 0 ||
      bind (listener, (struct sockaddr *) &address, sizeof (sa_family_t)) != 0 ||
      listen (listener, SOMAXCONN) != 0 ||
      getsockname (listener, (struct sockaddr *) &address, &length) != 0)
    g_error ("no listener: %s", g_strerror (errno));
  if (fork () == 0)
    {
      close (stop[1]);
      be_peers (driver, (struct sockaddr *) &address, length, stop[0]);
    }
  for (guint i = 0; i < driver->n; i++)
    bench_gio_accept (driver->context, accept4 (listener, NULL, NULL, SOCK_CLOEXEC), driver->start);
  run_until (driver, 2 * (guint64) driver->n);
}

static gboolean
quit (gint fd, GIOCondition condition, gpointer loop)
{
  g_main_loop_quit (loop);
  return G_SOURCE_REMOVE;
}

/* n connections that do nothing, until stdin ends */
static guint64
run_idle (Driver *driver)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);

  connect_elsewhere (driver);
  g_unix_fd_add (STDIN_FILENO, G_IO_IN, quit, loop);
  g_print ("ready\n");
  g_main_loop_run (loop);
  return bench_gio_n_echoes ();
}

static const struct
{
  const char *name;
  guint64 (*run) (Driver *driver);
} modes[] = {
  { "echo", run_echo },   { "echo-at-once", run_echo_at_once },
  { "burst", run_burst }, { "memory", run_memory },
  { "storm", run_storm }, { "idle", run_idle },
};

int
main (int argc, char **argv)
{
  Driver driver = { .start = bench_gio_echo };

  if (argc != 5)
    {
      g_printerr ("usage: %s MODE plain|served|alone N ROUNDS\n", argv[0]);
      return 2;
    }
  driver.n = atoi (argv[3]);
  driver.rounds = atoi (argv[4]);
  driver.first_peer = bench_raise_fd_limit () / 3 * 2;
  driver.alone = g_str_equal (argv[2], "alone");
  if (driver.alone)
    driver.context = gaio_context_new ();
  else if (g_str_equal (argv[2], "served"))
    driver.context = gaio_context_ref_for_main_context (NULL);
  for (guint i = 0; i < G_N_ELEMENTS (modes); i++)
    if (g_str_equal (modes[i].name, argv[1]))
      {
        g_print ("%" G_GUINT64_FORMAT "\n", modes[i].run (&driver));
        return 0;
      }
  g_printerr ("no such mode: %s\n", argv[1]);
  return 2;
}
