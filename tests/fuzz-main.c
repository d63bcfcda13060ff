/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stands in for a fuzzing engine: runs each file of its arguments, and each file of each directory,
 * once, as TAP. So what an engine has found stays tested. */
#include "fuzz.h"

static guint n_run;

static void
run_file (const char *path)
{
  g_autofree char *name = g_path_get_basename (path);
  g_autofree char *data = NULL;
  g_autoptr (GError) error = NULL;
  gsize size;

  if (!g_file_get_contents (path, &data, &size, &error))
    g_error ("%s", error->message);
  /* Seen if it crashes. */
  g_print ("# %s\n", name);
  LLVMFuzzerTestOneInput ((const uint8_t *) data, size);
  g_print ("ok %u %s\n", ++n_run, name);
}

static void
run_directory (const char *path)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GDir) directory = g_dir_open (path, 0, &error);
  const char *name;

  if (directory == NULL)
    g_error ("%s", error->message);
  while ((name = g_dir_read_name (directory)) != NULL)
    {
      g_autofree char *file = g_build_filename (path, name, NULL);

      run_file (file);
    }
}

int
main (int argc, char **argv)
{
  for (int i = 1; i < argc; i++)
    {
      if (g_file_test (argv[i], G_FILE_TEST_IS_DIR))
        run_directory (argv[i]);
      else
        run_file (argv[i]);
    }
  g_print ("1..%u\n", n_run);
  return 0;
}
