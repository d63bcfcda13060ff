/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tries the model of fuzz-model.c with random cases, each from a seed of its own, and makes the
 * first that fails as short as it can. Given files, it tries these, and tells the story of what
 * fails.
 *
 *   soak [--operations=N] [--seconds=N] [--seed=S] [FILE...]
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#define LONGEST_CASE 1500
#define CASES_PER_CHILD 200
#define PATIENCE_S 120 /* also where many share a processor */
#define SHRINK_S 60

/* What a child tells its parent, also if it dies. */
typedef struct
{
  guint64 operations;
  guint64 n_cases;
} Progress;

static Progress *progress;

/* --- One case in a process of its own, which may crash --- */

static void
be_quiet (void)
{
  int fd = open ("/dev/null", O_WRONLY);

  dup2 (fd, STDERR_FILENO);
  close (fd);
}

static gboolean
wait_for (pid_t pid)
{
  int status;

  while (waitpid (pid, &status, 0) == -1 && errno == EINTR)
    ;
  return WIFEXITED (status) && WEXITSTATUS (status) == 0;
}

/* TRUE if nothing is wrong. */
static gboolean
try_case (const guint8 *data, gsize size, gboolean verbose)
{
  pid_t pid = fork ();

  if (pid == 0)
    {
      alarm (PATIENCE_S);
      fuzz_verbose = verbose;
      if (!verbose)
        be_quiet ();
      LLVMFuzzerTestOneInput (data, size);
      _exit (0);
    }
  return wait_for (pid);
}

/* --- Making it shorter --- */

/* Leaves out @length bytes at a time, wherever the case fails all the same, as long as there is
 * time.
 */
static gboolean
cut (GByteArray *failing, guint length, gint64 until)
{
  gboolean shorter = FALSE;

  for (guint at = 0; at + length <= failing->len && g_get_real_time () < until;)
    {
      g_autoptr (GByteArray) candidate = g_byte_array_new ();

      g_byte_array_append (candidate, failing->data, at);
      g_byte_array_append (candidate, failing->data + at + length, failing->len - at - length);
      if (try_case (candidate->data, candidate->len, FALSE))
        {
          at += length;
          continue;
        }
      g_byte_array_remove_range (failing, at, length);
      shorter = TRUE;
    }
  return shorter;
}

static void
shrink (GByteArray *failing)
{
  guint length = failing->len / 2;
  gint64 until = g_get_real_time () + SHRINK_S * G_USEC_PER_SEC;

  while (length > 0 && g_get_real_time () < until)
    {
      fprintf (stderr, "shrinking: %u bytes, in steps of %u\n", failing->len, length);
      if (!cut (failing, length, until))
        length /= 2;
    }
}

static void
report (GByteArray *failing, guint64 seed)
{
  g_autofree char *name =
      g_strdup_printf ("%s/soak-failure-%" G_GUINT64_FORMAT, g_get_tmp_dir (), seed);

  shrink (failing);
  fprintf (stderr, "The shortest that fails:\n");
  try_case (failing->data, failing->len, TRUE);
  if (g_file_set_contents (name, (char *) failing->data, failing->len, NULL))
    fprintf (stderr, "To do it again: give me the file %s, or --seed=%" G_GUINT64_FORMAT "\n", name,
             seed);
}

/* --- Random cases --- */

static GByteArray *
random_case (guint64 seed)
{
  const guint32 seeds[2] = { seed, seed >> 32 };
  g_autoptr (GRand) rand = g_rand_new_with_seed_array (seeds, G_N_ELEMENTS (seeds));
  GByteArray *bytes = g_byte_array_new ();

  g_byte_array_set_size (bytes, g_rand_int_range (rand, 1, LONGEST_CASE));
  for (guint i = 0; i < bytes->len; i++)
    bytes->data[i] = g_rand_int (rand);
  /* What inner contexts need comes about seldom otherwise. */
  for (guint i = 0; seed % 2 == 1 && i < bytes->len; i++)
    if (g_rand_int_range (rand, 0, 4) == 0)
      bytes->data[i] = g_rand_int_range (rand, FUZZ_FIRST_INNER_BYTE, 256);
  return bytes;
}

/* Tries cases from @seed on in one process. TRUE if nothing is wrong; else progress->n_cases tells
 * which it was. */
static gboolean
try_batch (guint64 seed)
{
  pid_t pid = fork ();

  progress->n_cases = 0;
  if (pid == 0)
    {
      guint64 before = progress->operations;

      be_quiet ();
      for (; progress->n_cases < CASES_PER_CHILD; progress->n_cases++)
        {
          g_autoptr (GByteArray) bytes = random_case (seed + progress->n_cases);

          alarm (PATIENCE_S);
          LLVMFuzzerTestOneInput (bytes->data, bytes->len);
          progress->operations = before + fuzz_operations;
        }
      _exit (0);
    }
  return wait_for (pid);
}

static gboolean
try_random (guint64 seed, guint64 operations, gint64 until)
{
  guint64 n_cases = 0;
  gint64 told = g_get_real_time ();

  printf ("# seed %" G_GUINT64_FORMAT "\n", seed);
  while (progress->operations < operations || g_get_real_time () < until)
    {
      gboolean good = try_batch (seed + n_cases);

      n_cases += progress->n_cases;
      if (!good)
        {
          g_autoptr (GByteArray) failing = random_case (seed + n_cases);

          fprintf (stderr, "The case of seed %" G_GUINT64_FORMAT " fails.\n", seed + n_cases);
          report (failing, seed + n_cases);
          return FALSE;
        }
      if (g_get_real_time () - told < G_USEC_PER_SEC)
        continue;
      told = g_get_real_time ();
      fprintf (stderr, "%" G_GUINT64_FORMAT " operations, %" G_GUINT64_FORMAT " cases\n",
               progress->operations, n_cases);
    }
  printf ("# %" G_GUINT64_FORMAT " operations in %" G_GUINT64_FORMAT " cases\n",
          progress->operations, n_cases);
  return TRUE;
}

/* --- Files --- */

static gboolean
replay (const char *path)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *data = NULL;
  gsize size;

  if (!g_file_get_contents (path, &data, &size, &error))
    {
      fprintf (stderr, "%s\n", error->message);
      return FALSE;
    }
  if (try_case ((guint8 *) data, size, FALSE))
    return TRUE;
  fprintf (stderr, "%s fails:\n", path);
  try_case ((guint8 *) data, size, TRUE);
  return FALSE;
}

int
main (int argc, char **argv)
{
  g_autoptr (GOptionContext) options = g_option_context_new ("[FILE...]");
  g_autoptr (GError) error = NULL;
  gint64 operations = 0, seconds = 0, seed = g_get_real_time ();
  gboolean good = TRUE;
  GOptionEntry entries[] = {
    { "operations", 0, 0, G_OPTION_ARG_INT64, &operations, "How many at least", "N" },
    { "seconds", 0, 0, G_OPTION_ARG_INT64, &seconds, "For how long", "N" },
    { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Of the first case", "S" },
    { NULL },
  };

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error))
    {
      fprintf (stderr, "%s\n", error->message);
      return 2;
    }
  progress =
      mmap (NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int i = 1; i < argc; i++)
    good = replay (argv[i]) && good;
  if (argc == 1)
    good = try_random (seed, MAX (operations, 1), g_get_real_time () + seconds * G_USEC_PER_SEC);
  printf ("1..1\n%s 1 model\n", good ? "ok" : "not ok");
  return good ? 0 : 1;
}
