/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random reads from a file in a GLib main loop, in which thousands of other handlers wait for
 * nothing. Shows how many reads a second there are, and how long each takes.
 *
 *   randread --size=1G --bs=4k --iodepth=32 --seconds=5 --handlers=3168 FILE
 *
 * FILE is created if it does not exist. With --engine=gio, threads or sync, something else reads;
 * with --watch=glib, GLib watches the handlers. */
#include <errno.h>
#include <fcntl.h>
#include <gaio.h>
#include <glib-unix.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* Histogram of latencies: each bucket is 1/16 wider than the one before. */
#define N_BUCKETS 512
#define ALIGNMENT 4096

typedef struct
{
  char *buffer;
  goffset offset;
  gint64 began;
  GFileInputStream *stream; /* with --engine=gio */
  gssize result;            /* with --engine=threads */
} Slot;

static const char *engine = "gaio", *watch = "gaio", *size_text = "1G", *bs_text = "4k";
static gint iodepth = 32, seconds = 5, n_handlers = 0;
static gboolean direct = FALSE;

static GMainLoop *loop;
static GaioContext *context;
static GThreadPool *pool;
static GRand *random_numbers;
static int fd;
static goffset size, bs;
static gint64 began, end;
static guint64 n_reads, n_bytes, latencies[N_BUCKETS];
static guint in_flight;

static const GOptionEntry options[] = {
  { "engine", 0, 0, G_OPTION_ARG_STRING, &engine, "gaio, gio, threads or sync", "NAME" },
  { "watch", 0, 0, G_OPTION_ARG_STRING, &watch, "Who watches the handlers: gaio or glib", "NAME" },
  { "size", 0, 0, G_OPTION_ARG_STRING, &size_text, "Size of the file", "BYTES" },
  { "bs", 0, 0, G_OPTION_ARG_STRING, &bs_text, "Size of a read", "BYTES" },
  { "iodepth", 0, 0, G_OPTION_ARG_INT, &iodepth, "How many reads at a time", "N" },
  { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "How long to read", "N" },
  { "handlers", 0, 0, G_OPTION_ARG_INT, &n_handlers, "How many fds to watch besides", "N" },
  { "direct", 0, 0, G_OPTION_ARG_NONE, &direct, "Read past the page cache (O_DIRECT)", NULL },
  { NULL }
};

static void read_next (Slot *slot);

static void
die (const char *what)
{
  fprintf (stderr, "%s: %s\n", what, g_strerror (errno));
  exit (1);
}

/* 4096, 4k, 1M, 1G. */
static goffset
parse_bytes (const char *text)
{
  char *unit;
  goffset n = g_ascii_strtoll (text, &unit, 10);
  const char *units = "kmgt", *found = strchr (units, g_ascii_tolower (*unit));

  if (*unit != '\0' && found != NULL)
    n <<= 10 * (found - units + 1);
  if (n <= 0 || (*unit != '\0' && (found == NULL || unit[1] != '\0')))
    {
      fprintf (stderr, "%s is not a number of bytes, such as 4096, 4k or 1G\n", text);
      exit (1);
    }
  return n;
}

static guint
bucket_of (gint64 us)
{
  return us < 2 ? 0 : MIN ((guint) (log (us) * 16 / log (2)), N_BUCKETS - 1);
}

static double
percentile (double part)
{
  guint64 seen = 0;
  guint i = 0;

  while (i < N_BUCKETS - 1 && (seen += latencies[i]) < part * n_reads)
    i++;
  return exp2 ((i + 1) / 16.0);
}

static void
on_read (Slot *slot, gssize n, const char *message)
{
  gint64 now = g_get_monotonic_time ();

  if (n <= 0)
    {
      fprintf (stderr, "%s\n", message != NULL ? message : "The file is too short");
      exit (1);
    }
  n_reads++;
  n_bytes += n;
  latencies[bucket_of (now - slot->began)]++;
  in_flight--;
  if (now < end)
    read_next (slot);
  else if (in_flight == 0)
    g_main_loop_quit (loop);
}

static void
on_gaio_read (gssize n, const GError *error, gpointer slot)
{
  on_read (slot, n, error != NULL ? error->message : NULL);
}

static void
on_gio_read (GObject *stream, GAsyncResult *result, gpointer slot)
{
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (stream), result, &error);

  on_read (slot, n, error != NULL ? error->message : NULL);
}

static gboolean
on_thread_read (gpointer user_data)
{
  Slot *slot = user_data;

  on_read (slot, slot->result, g_strerror (EIO));
  return G_SOURCE_REMOVE;
}

static void
read_in_thread (gpointer data, gpointer user_data)
{
  Slot *slot = data;

  slot->result = pread (fd, slot->buffer, bs, slot->offset);
  g_main_context_invoke (NULL, on_thread_read, slot);
}

static gboolean
on_idle (gpointer user_data)
{
  Slot *slot = user_data;

  on_read (slot, pread (fd, slot->buffer, bs, slot->offset), g_strerror (EIO));
  return G_SOURCE_REMOVE;
}

static void
read_next (Slot *slot)
{
  g_autoptr (GaioIOOp) op = NULL;

  slot->offset = bs * (goffset) (g_rand_double (random_numbers) * (size / bs));
  slot->began = g_get_monotonic_time ();
  in_flight++;
  if (strcmp (engine, "gaio") == 0)
    op = gaio_context_submit_pread (context, fd, slot->buffer, bs, slot->offset, on_gaio_read, slot,
                                    NULL);
  else if (strcmp (engine, "threads") == 0)
    g_thread_pool_push (pool, slot, NULL);
  else if (strcmp (engine, "sync") == 0)
    g_idle_add (on_idle, slot);
  else
    {
      g_seekable_seek (G_SEEKABLE (slot->stream), slot->offset, G_SEEK_SET, NULL, NULL);
      g_input_stream_read_async (G_INPUT_STREAM (slot->stream), slot->buffer, bs, 0, NULL,
                                 on_gio_read, slot);
    }
}

static void
prepare_slot (Slot *slot, const char *path)
{
  g_autoptr (GFile) file = g_file_new_for_path (path);

  slot->buffer = aligned_alloc (ALIGNMENT, (bs + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  if (strcmp (engine, "gio") == 0)
    slot->stream = g_file_read (file, NULL, NULL);
}

static gboolean
ignore (gint number, GIOCondition condition, gpointer user_data)
{
  return G_SOURCE_CONTINUE;
}

static void
add_handlers (void)
{
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  for (gint i = 0; i < n_handlers; i++)
    {
      int number = eventfd (0, EFD_CLOEXEC);

      if (number == -1)
        die ("eventfd");
      if (strcmp (watch, "glib") == 0)
        g_unix_fd_add (number, G_IO_IN, ignore, NULL);
      else
        gaio_handler_unref (
            gaio_context_add_fd (context, number, G_IO_IN, ignore, NULL, NULL, NULL));
    }
}

static void
fill_file (void)
{
  g_autofree char *block = g_malloc (1 << 20);

  for (gsize i = 0; i < 1 << 20; i++)
    block[i] = g_rand_int (random_numbers);
  for (goffset done = lseek (fd, 0, SEEK_END); done < size; done += 1 << 20)
    {
      if (pwrite (fd, block, MIN (size - done, 1 << 20), done) == -1)
        die ("Filling the file");
      if (isatty (STDERR_FILENO) && done % (64 << 20) == 0)
        fprintf (stderr, "\rfilling the file: %d %% ", (int) (100 * done / size));
    }
  if (fsync (fd) == -1)
    die ("fsync");
}

static void
open_file (const char *path)
{
  fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd == -1)
    die (path);
  if (lseek (fd, 0, SEEK_END) < size)
    fill_file ();
  if (direct && fcntl (fd, F_SETFL, O_DIRECT) == -1)
    die ("O_DIRECT");
}

static gboolean
show_progress (gpointer user_data)
{
  double elapsed = (g_get_monotonic_time () - began) / 1e6;

  fprintf (stderr, "\r%4.1f s  %.0f reads/s ", elapsed, n_reads / elapsed);
  return G_SOURCE_CONTINUE;
}

static void
show_result (void)
{
  double elapsed = (g_get_monotonic_time () - began) / 1e6;

  if (isatty (STDERR_FILENO))
    fprintf (stderr, "\r%40s\r", "");
  printf ("engine=%s handlers=%d watch=%s iodepth=%d: %.0f reads/s, %.0f MB/s, "
          "latency in us p50 %.0f p99 %.0f p99.9 %.0f\n",
          engine, n_handlers, watch, iodepth, n_reads / elapsed, n_bytes / elapsed / 1e6,
          percentile (0.5), percentile (0.99), percentile (0.999));
}

int
main (int argc, char **argv)
{
  g_autoptr (GOptionContext) parser = g_option_context_new ("FILE");
  g_autoptr (GError) error = NULL;
  g_autofree Slot *slots = NULL;

  g_option_context_add_main_entries (parser, options, NULL);
  if (!g_option_context_parse (parser, &argc, &argv, &error) || argc != 2 || iodepth < 1)
    {
      fprintf (stderr, "%s\n", error != NULL ? error->message : "Give one FILE; see --help");
      return 1;
    }
  size = parse_bytes (size_text);
  bs = parse_bytes (bs_text);
  random_numbers = g_rand_new_with_seed (1);
  loop = g_main_loop_new (NULL, FALSE);
  context = gaio_context_get_default ();
  pool = g_thread_pool_new (read_in_thread, NULL, iodepth, FALSE, NULL);
  open_file (argv[1]);
  add_handlers ();
  slots = g_new0 (Slot, iodepth);
  for (gint i = 0; i < iodepth; i++)
    prepare_slot (&slots[i], argv[1]);
  if (isatty (STDERR_FILENO))
    g_timeout_add (200, show_progress, NULL);

  began = g_get_monotonic_time ();
  end = began + seconds * G_USEC_PER_SEC;
  for (gint i = 0; i < iodepth; i++)
    read_next (&slots[i]);
  g_main_loop_run (loop);
  show_result ();
}
