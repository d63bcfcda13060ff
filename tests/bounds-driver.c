/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What test-bounds.py runs under strace and callgrind: `bounds-driver MODE N K ROUNDS` does one
 * thing, ROUNDS times, with N handlers or timers present, and prints one number. The difference
 * between two runs with other ROUNDS is free of what setting up costs. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <gaio/gaio.h>

#include "benchmarks/bench.h"

#define FILE_BLOCK 4096

static char file_block[FILE_BLOCK];

typedef struct
{
  guint n;
  guint k;
  guint rounds;
  int *fds; /* shuffled */
  GaioHandler **handlers;
  GaioContext *context;
  GMainContext *main_context;
  GMainLoop *main_loop;
  guint next; /* index into fds and handlers */
  gint served;
  guint64 random;
} Driver;

static void
die_of (GError *error)
{
  if (error != NULL)
    g_error ("%s", error->message);
}

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  Driver *driver = user_data;
  eventfd_t value;

  if (eventfd_read (fd, &value) == 0)
    g_atomic_int_inc (&driver->served);
  return G_SOURCE_CONTINUE;
}

/* A walk through the shuffled fds: random, never the same fd twice in n steps, and as cheap for
 * any n. */
static guint
step (Driver *driver)
{
  guint index = driver->next;

  driver->next = index + 1 == driver->n ? 0 : index + 1;
  return index;
}

static void
shuffle (int *numbers, guint n)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (guint i = n; i > 1; i--)
    {
      guint j = g_rand_int_range (rand, 0, i);
      int number = numbers[i - 1];

      numbers[i - 1] = numbers[j];
      numbers[j] = number;
    }
}

static void
open_fds (Driver *driver)
{
  driver->fds = g_new0 (int, driver->n);
  for (guint i = 0; i < driver->n; i++)
    {
      driver->fds[i] = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
      if (driver->fds[i] < 0)
        g_error ("eventfd: %s", g_strerror (errno));
    }
  shuffle (driver->fds, driver->n);
}

static void
add (Driver *driver, guint index)
{
  g_autoptr (GError) error = NULL;

  driver->handlers[index] = gaio_context_add_fd (driver->context, driver->fds[index], G_IO_IN,
                                                 on_ready, driver, NULL, &error);
  die_of (error);
}

static void
add_all (Driver *driver)
{
  for (guint i = 0; i < driver->n; i++)
    add (driver, i);
}

static void
attach (Driver *driver)
{
  g_autoptr (GError) error = NULL;

  gaio_context_attach (driver->context, driver->main_context, &error);
  die_of (error);
}

static void
ring (int fd)
{
  if (eventfd_write (fd, 1) != 0)
    g_error ("eventfd_write: %s", g_strerror (errno));
}

static void
ring_next (Driver *driver)
{
  for (guint i = 0; i < driver->k; i++)
    ring (driver->fds[step (driver)]);
}

/* rounds times k events on an ordinary main context */
static guint64
run_nested (Driver *driver)
{
  add_all (driver);
  attach (driver);
  for (guint round = 1; round <= driver->rounds; round++)
    {
      ring_next (driver);
      while ((guint) driver->served < round * driver->k)
        g_main_context_iteration (driver->main_context, TRUE);
    }
  return driver->served;
}

/* rounds times k events without GLib */
static guint64
run_alone (Driver *driver)
{
  add_all (driver);
  for (guint round = 1; round <= driver->rounds; round++)
    {
      ring_next (driver);
      while ((guint) driver->served < round * driver->k)
        gaio_context_iterate (driver->context, -1);
    }
  return driver->served;
}

/* rounds times k events in a loop that Gaio is measured against */
static guint64
run_rival (Driver *driver, const BenchContender *rival)
{
  gpointer loop = rival->open ();
  gpointer *watches = bench_watch (rival, loop, driver->fds, driver->n, on_ready, driver);

  for (guint round = 1; round <= driver->rounds; round++)
    {
      ring_next (driver);
      while ((guint) driver->served < round * driver->k)
        rival->turn (loop);
    }
  bench_unwatch (rival, watches, driver->n);
  rival->close (loop);
  return driver->served;
}

static guint64
run_hand_written (Driver *driver)
{
  return run_rival (driver, &bench_hand_written);
}

#ifdef BENCH_UV_VERSION
static guint64
run_libuv (Driver *driver)
{
  return run_rival (driver, &bench_uv);
}
#endif

static void
on_read (gssize result, const GError *error, gpointer user_data)
{
  Driver *driver = user_data;

  if (result != FILE_BLOCK)
    g_error ("read: %s", error != NULL ? error->message : "too short");
  driver->served++;
}

/* A file that is in the page cache. */
static int
open_file (void)
{
  g_autofree char *path = NULL;
  g_autoptr (GError) error = NULL;
  int fd = g_file_open_tmp (NULL, &path, &error);

  die_of (error);
  if (unlink (path) != 0 || write (fd, file_block, FILE_BLOCK) != FILE_BLOCK)
    g_error ("%s: %s", path, g_strerror (errno));
  return fd;
}

/* rounds times k reads at a time on an ordinary main context, beside n handlers */
static guint64
run_read (Driver *driver)
{
  int fd = open_file ();

  add_all (driver);
  attach (driver);
  for (guint round = 1; round <= driver->rounds; round++)
    {
      for (guint i = 0; i < driver->k; i++)
        {
          g_autoptr (GError) error = NULL;
          GaioIOOp *op = gaio_context_submit_pread (driver->context, fd, file_block, FILE_BLOCK, 0,
                                                    on_read, driver, &error);

          die_of (error);
          gaio_io_op_unref (op);
        }
      while ((guint) driver->served < round * driver->k)
        g_main_context_iteration (driver->main_context, TRUE);
    }
  return driver->served;
}

static gpointer
ring_sporadically (gpointer user_data)
{
  Driver *driver = user_data;

  for (guint i = 1; i <= driver->rounds; i++)
    {
      g_usleep (2000);
      ring (driver->fds[step (driver)]);
      while ((guint) g_atomic_int_get (&driver->served) < i)
        g_usleep (1000);
    }
  g_main_loop_quit (driver->main_loop);
  return NULL;
}

/* rounds events, each after a sleep and not before the one before was served */
static guint64
run_sporadic (Driver *driver)
{
  GThread *thread;

  add_all (driver);
  attach (driver);
  thread = g_thread_new ("sporadic", ring_sporadically, driver);
  g_main_loop_run (driver->main_loop);
  g_thread_join (thread);
  return driver->served;
}

static gpointer
quit_later (gpointer user_data)
{
  Driver *driver = user_data;

  g_usleep (driver->rounds * 1000);
  g_main_loop_quit (driver->main_loop);
  return NULL;
}

/* nothing happens for rounds milliseconds */
static guint64
run_idle (Driver *driver)
{
  GThread *thread;

  add_all (driver);
  attach (driver);
  thread = g_thread_new ("idle", quit_later, driver);
  g_main_loop_run (driver->main_loop);
  g_thread_join (thread);
  return driver->served;
}

/* n additions */
static guint64
run_add (Driver *driver)
{
  add_all (driver);
  return driver->n;
}

/* rounds times the removal and addition of one among n */
static guint64
run_churn (Driver *driver)
{
  add_all (driver);
  for (guint round = 0; round < driver->rounds; round++)
    {
      guint index = step (driver);

      gaio_handler_remove (driver->handlers[index]);
      gaio_clear_handler (&driver->handlers[index]);
      add (driver, index);
    }
  return driver->rounds;
}

/* rounds times another condition for one among n */
static guint64
run_modify (Driver *driver)
{
  add_all (driver);
  for (guint round = 0; round < driver->rounds; round++)
    {
      g_autoptr (GError) error = NULL;
      GaioHandler *handler = driver->handlers[step (driver)];

      gaio_handler_set_condition (handler, gaio_handler_get_condition (handler) ^ G_IO_PRI, &error);
      die_of (error);
    }
  return driver->rounds;
}

/* rounds times the condition that it has for one among n */
static guint64
run_same (Driver *driver)
{
  add_all (driver);
  for (guint round = 0; round < driver->rounds; round++)
    {
      g_autoptr (GError) error = NULL;

      gaio_handler_set_condition (driver->handlers[step (driver)], G_IO_IN, &error);
      die_of (error);
    }
  return driver->rounds;
}

static void
on_timeout (gpointer user_data)
{
}

/* Somewhere in the hour after the next. */
static void
arm_far (Driver *driver, GaioTimer *timer)
{
  driver->random = driver->random * 6364136223846793005u + 1442695040888963407u;
  gaio_timer_arm (timer, G_TIME_SPAN_HOUR + (gint64) (driver->random >> 32));
}

/* rounds times another far deadline for one of n timers */
static guint64
run_timers (Driver *driver)
{
  GaioTimer **timers = g_new0 (GaioTimer *, driver->n);

  for (guint i = 0; i < driver->n; i++)
    {
      timers[i] = gaio_context_add_timer (driver->context, on_timeout, NULL, NULL);
      arm_far (driver, timers[i]);
    }
  for (guint round = 0; round < driver->rounds; round++)
    arm_far (driver, timers[step (driver)]);
  return driver->rounds;
}

/* mallinfo2() counts large blocks, which are mapped, apart. */
static gsize
heap_in_use (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

static gint64
resident_bytes (void)
{
  FILE *file = fopen ("/proc/self/statm", "re");
  long pages;

  if (file == NULL || fscanf (file, "%*d %ld", &pages) != 1)
    g_error ("/proc/self/statm cannot be read");
  fclose (file);
  return (gint64) pages * sysconf (_SC_PAGESIZE);
}

static void
turn_nested (Driver *driver)
{
  g_main_context_iteration (driver->main_context, FALSE);
}

static void
turn_alone (Driver *driver)
{
  gaio_context_iterate (driver->context, 0);
}

/* All are watched for a round, and one is ready. */
static void
add_and_remove_all (Driver *driver, void (*turn) (Driver *driver))
{
  add_all (driver);
  ring (driver->fds[step (driver)]);
  turn (driver);
  for (guint i = 0; i < driver->n; i++)
    {
      gaio_handler_remove (driver->handlers[i]);
      gaio_clear_handler (&driver->handlers[i]);
    }
  turn (driver);
}

/* bytes of user space for each of n handlers, whose fds had others before */
static guint64
run_memory (Driver *driver)
{
  gsize before = heap_in_use ();

  add_and_remove_all (driver, turn_alone);
  add_all (driver);
  return (heap_in_use () - before) / driver->n;
}

/* by how many bytes the process grows in rounds additions and removals, n at a time, after a tenth
 * of them */
static guint64
soak (Driver *driver, void (*turn) (Driver *driver))
{
  guint n_batches = driver->rounds / driver->n;
  gint64 before, growth;

  for (guint i = 0; i < n_batches / 10; i++)
    add_and_remove_all (driver, turn);
  before = resident_bytes ();
  for (guint i = 0; i < n_batches; i++)
    add_and_remove_all (driver, turn);
  if (driver->served == 0)
    g_error ("nothing was watched");
  growth = resident_bytes () - before;
  return MAX (growth, 0);
}

static guint64
run_soak (Driver *driver)
{
  attach (driver);
  return soak (driver, turn_nested);
}

/* without GLib */
static guint64
run_soak_alone (Driver *driver)
{
  return soak (driver, turn_alone);
}

/* whether the monitor is another than the one asked for */
static guint64
run_refused (Driver *driver)
{
  g_autoptr (GVariant) stats = NULL;

  attach (driver);
  stats = gaio_context_dup_stats (driver->context);
  return g_variant_lookup (stats, "monitor-note", "&s", NULL);
}

static guint
count_pollfds (GMainContext *main_context)
{
  gint priority, timeout, n_fds;

  g_main_context_acquire (main_context);
  g_main_context_prepare (main_context, &priority);
  n_fds = g_main_context_query (main_context, G_MAXINT, &timeout, NULL, 0);
  g_main_context_release (main_context);
  return n_fds;
}

/* how many more fds GLib polls once a context with n handlers is attached */
static guint64
run_pollfds (Driver *driver)
{
  guint before = count_pollfds (driver->main_context);

  add_all (driver);
  attach (driver);
  return count_pollfds (driver->main_context) - before;
}

static const struct
{
  const char *name;
  guint64 (*run) (Driver *driver);
} modes[] = {
  { "nested", run_nested },     { "standalone", run_alone },
  { "sporadic", run_sporadic }, { "idle", run_idle },
  { "add", run_add },           { "churn", run_churn },
  { "modify", run_modify },     { "timers", run_timers },
  { "memory", run_memory },     { "pollfds", run_pollfds },
  { "soak", run_soak },         { "soak-alone", run_soak_alone },
  { "refused", run_refused },   { "same", run_same },
  { "read", run_read },         { "hand-written", run_hand_written },
#ifdef BENCH_UV_VERSION
  { "libuv", run_libuv },
#endif
};

static void
driver_init (Driver *driver, char **argv)
{
  driver->n = atoi (argv[2]);
  driver->k = atoi (argv[3]);
  driver->rounds = atoi (argv[4]);
  driver->handlers = g_new0 (GaioHandler *, driver->n);
  driver->context = gaio_context_new ();
  driver->main_context = g_main_context_new ();
  driver->main_loop = g_main_loop_new (driver->main_context, FALSE);
  open_fds (driver);
}

/* Nothing is torn down: the exit does it, and a test counts system calls up to here. */
int
main (int argc, char **argv)
{
  Driver driver = { 0 };

  if (argc != 5)
    {
      g_printerr ("usage: %s MODE N K ROUNDS\n", argv[0]);
      return 2;
    }
  driver_init (&driver, argv);
  for (guint i = 0; i < G_N_ELEMENTS (modes); i++)
    if (g_str_equal (modes[i].name, argv[1]))
      {
        g_print ("%" G_GUINT64_FORMAT "\n", modes[i].run (&driver));
        return 0;
      }
  g_printerr ("no such mode: %s\n", argv[1]);
  return 2;
}
