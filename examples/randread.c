/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random reads from a file in a GLib main loop, in which thousands of other handlers wait for
 * nothing. Says how many reads a second there were, and how long each of them took.
 *
 *   randread --size=1G --bs=4k --iodepth=32 --seconds=5 --handlers=3168 FILE
 *
 * FILE is created if it does not exist. With --engine=gio, threads or sync, something else reads;
 * with --watch=glib, GLib watches the handlers. Ctrl-C ends it early. */
#include <errno.h>
#include <fcntl.h>
#include <gaio.h>
#include <gio/gfiledescriptorbased.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT 4096
#define MAX_BS (64 << 20)
#define MAX_IODEPTH 4096
#define MAX_SECONDS 1e6
#define FILL_STEP (1 << 20)
#define PROGRESS_MS 200

/* A histogram of latencies: 16 buckets for each power of two, so that each is within 1/16. */
#define N_BUCKETS 1024

/* One of the reads that are in progress at a time. */
typedef struct
{
  char *buffer;
  goffset offset;
  gint64 began;
  GInputStream *stream; /* with --engine=gio */
  gssize result;        /* with --engine=threads: the number of bytes, or a negative errno */
} Slot;

typedef struct
{
  const char *name;
  void (*read) (Slot *slot);
} Engine;

static char *engine_name = NULL, *watch = NULL, *size_text = NULL, *bs_text = NULL;
static gint iodepth = 32, n_handlers = 0;
static gdouble seconds = 5;
static gboolean direct = FALSE;

static GMainLoop *loop;
static GaioContext *context;
static GThreadPool *pool;
static GRand *random_numbers;
static const Engine *engine;
static const char *path;
static int fd;
static goffset size, bs;
static gint64 began, end;
static guint64 n_reads, n_bytes, latencies[N_BUCKETS];
static guint in_flight;

static const GOptionEntry options[] = {
  { "size", 0, 0, G_OPTION_ARG_STRING, &size_text, "Read from so much of FILE (1G)", "BYTES" },
  { "bs", 0, 0, G_OPTION_ARG_STRING, &bs_text, "Read so much at once (4k)", "BYTES" },
  { "iodepth", 0, 0, G_OPTION_ARG_INT, &iodepth, "Do so many reads at a time (32)", "N" },
  { "seconds", 0, 0, G_OPTION_ARG_DOUBLE, &seconds, "Read for so long (5)", "N" },
  { "direct", 0, 0, G_OPTION_ARG_NONE, &direct, "Read past the page cache (O_DIRECT)", NULL },
  { "engine", 0, 0, G_OPTION_ARG_STRING, &engine_name, "gaio, gio, threads or sync (gaio)",
    "NAME" },
  { "handlers", 0, 0, G_OPTION_ARG_INT, &n_handlers, "Watch so many other fds (0)", "N" },
  { "watch", 0, 0, G_OPTION_ARG_STRING, &watch, "Who watches them: gaio or glib (gaio)", "NAME" },
  { NULL }
};

G_GNUC_PRINTF (1, 2)
static void G_GNUC_NORETURN
die (const char *format, ...)
{
  va_list arguments;

  fputs ("randread: ", stderr);
  va_start (arguments, format);
  vfprintf (stderr, format, arguments);
  va_end (arguments);
  fputc ('\n', stderr);
  exit (1);
}

static gboolean
is_watched (void)
{
  return isatty (STDERR_FILENO);
}

/* Reads. */

static guint
bucket_of (guint64 us)
{
  guint shift = us < 16 ? 0 : g_bit_storage (us) - 5;

  return 16 * shift + (us >> shift);
}

/* The least latency in the bucket. */
static guint64
latency_of (guint bucket)
{
  return bucket < 16 ? bucket : (16 + (guint64) bucket % 16) << (bucket / 16 - 1);
}

static guint64
percentile (double part)
{
  guint64 seen = 0;
  guint bucket = 0;

  while (bucket < N_BUCKETS - 1 && (seen += latencies[bucket]) < part * n_reads)
    bucket++;
  return latency_of (bucket);
}

static void
start_read (Slot *slot, gint64 now)
{
  slot->offset = bs * (goffset) (g_rand_double (random_numbers) * (size / bs));
  slot->began = now;
  in_flight++;
  engine->read (slot);
}

/* @n is as read(2) returns it; @message says what is wrong if it is negative. */
static void
end_read (Slot *slot, gssize n, const char *message)
{
  gint64 now = g_get_monotonic_time ();

  if (n < 0)
    die ("%s: %s", path, message);
  if (n == 0)
    die ("%s has become shorter", path);
  n_reads++;
  n_bytes += n;
  latencies[bucket_of (now - slot->began)]++;
  in_flight--;
  if (now < end)
    start_read (slot, now);
  else if (in_flight == 0)
    g_main_loop_quit (loop);
}

static void
on_gaio_read (gssize n, const GError *error, gpointer slot)
{
  end_read (slot, n, error != NULL ? error->message : NULL);
}

static void
read_with_gaio (Slot *slot)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioIOOp) op = gaio_context_submit_pread (context, fd, slot->buffer, bs, slot->offset,
                                                       on_gaio_read, slot, &error);

  if (op == NULL)
    die ("%s: %s", path, error->message);
}

static void
on_gio_read (GObject *stream, GAsyncResult *result, gpointer slot)
{
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (stream), result, &error);

  end_read (slot, n, error != NULL ? error->message : NULL);
}

/* A stream has only one position, and reads once at a time: each slot has one. */
static void
open_stream (Slot *slot)
{
  g_autoptr (GFile) file = g_file_new_for_path (path);
  g_autoptr (GError) error = NULL;

  slot->stream = G_INPUT_STREAM (g_file_read (file, NULL, &error));
  if (slot->stream == NULL)
    die ("%s", error->message);
  if (direct && fcntl (g_file_descriptor_based_get_fd (G_FILE_DESCRIPTOR_BASED (slot->stream)),
                       F_SETFL, O_DIRECT) == -1)
    die ("%s: O_DIRECT: %s", path, g_strerror (errno));
}

static void
read_with_gio (Slot *slot)
{
  g_autoptr (GError) error = NULL;

  if (slot->stream == NULL)
    open_stream (slot);
  if (!g_seekable_seek (G_SEEKABLE (slot->stream), slot->offset, G_SEEK_SET, NULL, &error))
    die ("%s: %s", path, error->message);
  g_input_stream_read_async (slot->stream, slot->buffer, bs, G_PRIORITY_DEFAULT, NULL, on_gio_read,
                             slot);
}

static gboolean
on_thread_read (gpointer user_data)
{
  Slot *slot = user_data;

  end_read (slot, slot->result, g_strerror (-slot->result));
  return G_SOURCE_REMOVE;
}

static void
read_now (Slot *slot)
{
  slot->result = pread (fd, slot->buffer, bs, slot->offset);
  if (slot->result == -1)
    slot->result = -errno;
}

static void
read_in_thread (gpointer data, gpointer user_data)
{
  read_now (data);
  g_idle_add_full (G_PRIORITY_DEFAULT, on_thread_read, data, NULL);
}

static void
read_with_threads (Slot *slot)
{
  if (pool == NULL)
    pool = g_thread_pool_new (read_in_thread, NULL, iodepth, FALSE, NULL);
  g_thread_pool_push (pool, slot, NULL);
}

static gboolean
on_turn (gpointer slot)
{
  read_now (slot);
  return on_thread_read (slot);
}

/* The main loop stands still meanwhile. */
static void
read_with_sync (Slot *slot)
{
  g_idle_add_full (G_PRIORITY_DEFAULT, on_turn, slot, NULL);
}

static const Engine engines[] = {
  { "gaio", read_with_gaio },
  { "gio", read_with_gio },
  { "threads", read_with_threads },
  { "sync", read_with_sync },
};

/* The other handlers. */

static gboolean
ignore (gint number, GIOCondition condition, gpointer user_data)
{
  return G_SOURCE_CONTINUE;
}

static void
add_handler (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioHandler) handler = NULL;
  int number = eventfd (0, EFD_CLOEXEC);

  if (number == -1)
    die ("Cannot open %d fds: %s", n_handlers, g_strerror (errno));
  if (g_str_equal (watch, "glib"))
    {
      g_unix_fd_add (number, G_IO_IN, ignore, NULL);
      return;
    }
  handler = gaio_context_add_fd (context, number, G_IO_IN, ignore, NULL, NULL, &error);
  if (handler == NULL)
    die ("%s", error->message);
}

static void
raise_fd_limit (void)
{
  struct rlimit limit;

  if (getrlimit (RLIMIT_NOFILE, &limit) == -1)
    return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
}

/* The file. */

static void
write_block (const char *block, gsize n, goffset offset)
{
  while (n > 0)
    {
      gssize written = pwrite (fd, block, n, offset);

      if (written == -1)
        {
          int errsv = errno;

          unlink (path);
          die ("%s: Cannot write: %s", path, g_strerror (errsv));
        }
      block += written;
      n -= written;
      offset += written;
    }
}

static void
fill_file (void)
{
  g_autofree guint32 *block = g_malloc (FILL_STEP);

  for (gsize i = 0; i < FILL_STEP / sizeof *block; i++)
    block[i] = g_rand_int (random_numbers);
  for (goffset done = 0; done < size; done += FILL_STEP)
    {
      write_block ((char *) block, MIN (size - done, FILL_STEP), done);
      if (is_watched ())
        g_printerr ("\rfilling %s: %d %% ", path, (int) (100 * done / size));
    }
  /* Or the reads would compete with the writes. */
  if (fsync (fd) == -1)
    die ("%s: Cannot sync: %s", path, g_strerror (errno));
}

static void
check_file (void)
{
  struct stat st;
  goffset length;

  if (fstat (fd, &st) == -1)
    die ("%s: %s", path, g_strerror (errno));
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
    die ("%s is neither a regular file nor a block device", path);
  length = lseek (fd, 0, SEEK_END);
  if (length < size)
    die ("%s has only %" G_GOFFSET_FORMAT " bytes: delete it, or choose a smaller --size", path,
         length);
}

/* What exists is only read. */
static void
open_file (void)
{
  fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0)
    fill_file ();
  else if (errno == EEXIST)
    fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd == -1)
    die ("%s: %s", path, g_strerror (errno));
  check_file ();
  if (direct && fcntl (fd, F_SETFL, O_DIRECT) == -1)
    die ("%s: O_DIRECT: %s", path, g_strerror (errno));
}

/* The command line. */

/* 4096, 4k, 1M, 1G. */
static goffset
parse_bytes (const char *text)
{
  const char *units = "kmgt", *found;
  char *unit;
  guint64 n = g_ascii_strtoull (text, &unit, 10);
  guint shift = 0;

  found = *unit == '\0' ? NULL : strchr (units, g_ascii_tolower (*unit));
  if (found != NULL)
    {
      shift = 10 * (found - units + 1);
      unit++;
    }
  if (!g_ascii_isdigit (*text) || *unit != '\0' || n == 0 || n > (guint64) G_MAXINT64 >> shift)
    die ("%s is not a number of bytes, such as 4096, 4k or 1G", text);
  return n << shift;
}

static const Engine *
find_engine (const char *name)
{
  for (guint i = 0; i < G_N_ELEMENTS (engines); i++)
    if (g_str_equal (engines[i].name, name))
      return &engines[i];
  die ("There is no engine %s: choose gaio, gio, threads or sync", name);
}

static void
check_numbers (void)
{
  if (iodepth < 1 || iodepth > MAX_IODEPTH)
    die ("--iodepth is from 1 to %d", MAX_IODEPTH);
  if (!(seconds > 0 && seconds <= MAX_SECONDS))
    die ("--seconds is more than 0, and at most %.0f", MAX_SECONDS);
  if (n_handlers < 0)
    die ("--handlers is at least 0");
  if (bs > MAX_BS || bs > size)
    die ("--bs is at most %dM, and no more than --size", MAX_BS >> 20);
  if (direct && bs % 512 != 0)
    die ("--bs is a multiple of 512 with --direct");
}

static void
parse_arguments (int argc, char **argv)
{
  g_autoptr (GOptionContext) parser = g_option_context_new ("FILE");
  g_autoptr (GError) error = NULL;

  g_option_context_set_summary (parser, "Random reads from a file in a GLib main loop");
  g_option_context_add_main_entries (parser, options, NULL);
  if (!g_option_context_parse (parser, &argc, &argv, &error))
    die ("%s", error->message);
  if (argc != 2)
    die ("Give one FILE; see --help");
  path = argv[1];
  engine = find_engine (engine_name != NULL ? engine_name : "gaio");
  if (watch == NULL)
    watch = g_strdup ("gaio");
  if (!g_str_equal (watch, "gaio") && !g_str_equal (watch, "glib"))
    die ("--watch is gaio or glib");
  size = parse_bytes (size_text != NULL ? size_text : "1G");
  bs = parse_bytes (bs_text != NULL ? bs_text : "4k");
  check_numbers ();
}

static double
elapsed (void)
{
  return (g_get_monotonic_time () - began) / 1e6;
}

static gboolean
show_progress (gpointer user_data)
{
  g_printerr ("\r%5.1f s  %.0f reads/s ", elapsed (), n_reads / elapsed ());
  return G_SOURCE_CONTINUE;
}

static gboolean
on_interrupt (gpointer user_data)
{
  end = 0;
  return G_SOURCE_REMOVE;
}

static void
show_result (void)
{
  double total = elapsed ();

  if (is_watched ())
    g_printerr ("\r%40s\r", "");
  g_print ("engine=%s handlers=%d watch=%s iodepth=%d: %.0f reads/s, %.0f MB/s, latency in us "
           "p50 %" G_GUINT64_FORMAT " p99 %" G_GUINT64_FORMAT " p99.9 %" G_GUINT64_FORMAT "\n",
           engine->name, n_handlers, watch, iodepth, n_reads / total, n_bytes / total / 1e6,
           percentile (0.5), percentile (0.99), percentile (0.999));
}

static void
run (void)
{
  gsize length = (bs + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  Slot *slots = g_new0 (Slot, iodepth);

  began = g_get_monotonic_time ();
  end = began + seconds * G_USEC_PER_SEC;
  for (gint i = 0; i < iodepth; i++)
    {
      slots[i].buffer = aligned_alloc (ALIGNMENT, length);
      if (slots[i].buffer == NULL)
        die ("There is no memory for %d reads at a time", iodepth);
      start_read (&slots[i], began);
    }
  g_main_loop_run (loop);
  for (gint i = 0; i < iodepth; i++)
    {
      free (slots[i].buffer);
      g_clear_object (&slots[i].stream);
    }
  g_free (slots);
}

int
main (int argc, char **argv)
{
  parse_arguments (argc, argv);
  random_numbers = g_rand_new_with_seed (1);
  open_file ();
  raise_fd_limit ();
  loop = g_main_loop_new (NULL, FALSE);
  context = gaio_context_get_default ();
  for (gint i = 0; i < n_handlers; i++)
    add_handler ();
  g_unix_signal_add (SIGINT, on_interrupt, NULL);
  if (is_watched ())
    g_timeout_add (PROGRESS_MS, show_progress, NULL);
  run ();
  show_result ();
}
