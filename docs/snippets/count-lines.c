/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <gaio.h>

#define BLOCK 65536
#define N_READERS 8

typedef struct
{
  char buffer[BLOCK];
  goffset offset, end; /* of what is left of its block */
} Reader;

static GMainLoop *loop;
static int fd;
static goffset next_block;
static guint n_reading;
static guint64 n_lines;

static void on_read (gssize result, const GError *error, gpointer user_data);

static void
read_more (Reader *reader)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioIOOp) op = NULL;

  if (reader->offset == reader->end)
    {
      reader->offset = next_block;
      reader->end = next_block += BLOCK;
    }
  op = gaio_context_submit_pread (gaio_context_get_default (), fd, reader->buffer,
                                  reader->end - reader->offset, reader->offset, on_read, reader,
                                  &error);
  if (op == NULL)
    g_error ("%s", error->message);
  n_reading++;
}

static void
on_read (gssize result, const GError *error, gpointer user_data)
{
  Reader *reader = user_data;

  if (error != NULL)
    g_error ("%s", error->message);
  for (gssize i = 0; i < result; i++)
    n_lines += reader->buffer[i] == '\n';
  reader->offset += result;
  n_reading--;
  if (result > 0)
    read_more (reader);
  else if (n_reading == 0)
    g_main_loop_quit (loop);
}

int
main (int argc, char **argv)
{
  g_autofree Reader *readers = g_new0 (Reader, N_READERS);

  fd = open (argv[1], O_RDONLY | O_CLOEXEC);
  if (fd == -1)
    g_error ("cannot open %s", argv[1]);
  loop = g_main_loop_new (NULL, FALSE);
  for (guint i = 0; i < N_READERS; i++)
    read_more (&readers[i]);
  g_main_loop_run (loop);
  g_print ("%" G_GUINT64_FORMAT " lines\n", n_lines);
  g_main_loop_unref (loop);
  return 0;
}
