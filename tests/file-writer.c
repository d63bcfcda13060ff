/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file-writer FILE FIRST: writes one record after another, for test-file-crash.py, until it is
 * killed. After each fsync it says on stdout how many records there are that had been written when
 * the fsync was submitted. Other writes go on meanwhile. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <gaio.h>

#define N_WORDS 128 /* in a record, each the number of the record */
#define N_WRITES 32 /* in progress at a time */

typedef struct
{
  guint64 words[N_WORDS];
  gboolean written;
} Record;

static GaioContext *context;
static int fd;
static Record records[N_WRITES];
static guint64 next;   /* to be written */
static guint64 synced; /* all before have been said */

static void
must (gssize result, gssize expected, const GError *error)
{
  if (error != NULL)
    g_error ("%s", error->message);
  if (result != expected)
    g_error ("%" G_GSSIZE_FORMAT " instead of %" G_GSSIZE_FORMAT, result, expected);
}

static void on_written (gssize result, const GError *error, gpointer user_data);

static void
write_next (void)
{
  Record *record = &records[next % N_WRITES];
  g_autoptr (GaioIOOp) op = NULL;
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < N_WORDS; i++)
    record->words[i] = next;
  record->written = FALSE;
  op = gaio_context_submit_pwrite (context, fd, record->words, sizeof record->words,
                                   next * sizeof record->words, on_written, record, &error);
  must (op != NULL, TRUE, error);
  next++;
}

static void sync_written (void);

/* Records from @synced up to this have been written. */
static guint64
count_written (void)
{
  guint64 n = synced;

  while (n < next && records[n % N_WRITES].written)
    n++;
  return n;
}

static void
on_synced (gssize result, const GError *error, gpointer user_data)
{
  guint64 *covered = user_data;

  must (result, 0, error);
  synced = *covered;
  must (write (STDOUT_FILENO, &synced, sizeof synced), sizeof synced, NULL);
  while (next < synced + N_WRITES)
    write_next ();
  sync_written ();
}

/* There is one fsync at a time. */
static void
sync_written (void)
{
  static guint64 covered;
  g_autoptr (GaioIOOp) op = NULL;
  g_autoptr (GError) error = NULL;

  covered = count_written ();
  op = gaio_context_submit_fsync (context, fd, on_synced, &covered, &error);
  must (op != NULL, TRUE, error);
}

static void
on_written (gssize result, const GError *error, gpointer user_data)
{
  Record *record = user_data;

  must (result, sizeof record->words, error);
  record->written = TRUE;
}

int
main (int argc, char **argv)
{
  if (argc != 3)
    return 2;
  fd = open (argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  next = synced = strtoull (argv[2], NULL, 10);
  context = gaio_context_new ();
  while (next < synced + N_WRITES)
    write_next ();
  sync_written ();
  while (TRUE)
    gaio_context_iterate (context, -1);
}
