/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * neighbour-curl: downloads the URLs on stdin, one a line, all at once, and says how it went.
 *
 *   neighbour-curl [--timeout=MS]
 *
 *   $ yes http://127.0.0.1:8080/ | head -n 3000 | neighbour-curl
 *   3000 done, 0 failed, 0 left, 7023000 bytes
 *
 * Meanwhile stderr has a line of progress. For each download that fails, also because it takes
 * longer than --timeout, stdout has a line with the reason, and the status is 1. SIGTERM and SIGINT
 * end the program; what is then not finished is left.
 */
#include <unistd.h>

#include "gaio-curl.h"
#include "lines.h"

#define PROGRESS_US (100 * 1000)

typedef struct
{
  GMainLoop *loop;
  GaioCurl *curl;
  gint64 timeout_ms;
  gboolean at_end;
  GHashTable *left; /* of CURL, which it owns */
  guint n_done, n_failed;
  guint64 n_bytes;
} Downloads;

static char *
describe (Downloads *self)
{
  return g_strdup_printf ("%u done, %u failed, %u left, %" G_GUINT64_FORMAT " bytes", self->n_done,
                          self->n_failed, g_hash_table_size (self->left), self->n_bytes);
}

static gboolean
on_progress (gpointer user_data)
{
  g_autofree char *text = describe (user_data);

  g_printerr (isatty (STDERR_FILENO) ? "\r%s" : "%s\n", text);
  return G_SOURCE_CONTINUE;
}

static size_t
on_data (char *data, size_t size, size_t n, void *user_data)
{
  Downloads *self = user_data;

  self->n_bytes += n;
  return n;
}

static void
fail (Downloads *self, CURL *easy, const char *reason)
{
  const char *url = NULL;

  curl_easy_getinfo (easy, CURLINFO_EFFECTIVE_URL, &url);
  g_print ("%s: %s\n", url, reason);
  self->n_failed++;
}

static void
end_if_done (Downloads *self)
{
  if (self->at_end && g_hash_table_size (self->left) == 0)
    g_main_loop_quit (self->loop);
}

static void
on_done (CURL *easy, CURLcode result, gpointer user_data)
{
  Downloads *self = user_data;
  char *reason = NULL;

  curl_easy_getinfo (easy, CURLINFO_PRIVATE, &reason);
  if (result == CURLE_OK)
    self->n_done++;
  else
    fail (self, easy, *reason != '\0' ? reason : curl_easy_strerror (result));
  g_hash_table_remove (self->left, easy);
  end_if_done (self);
}

static void
easy_free (gpointer easy)
{
  char *reason = NULL;

  curl_easy_getinfo (easy, CURLINFO_PRIVATE, &reason);
  curl_easy_cleanup (easy);
  g_free (reason);
}

static void
download (Downloads *self, const char *url)
{
  CURL *easy = curl_easy_init ();
  char *reason = g_malloc0 (CURL_ERROR_SIZE);
  CURLMcode code;

  curl_easy_setopt (easy, CURLOPT_URL, url);
  curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS, (long) self->timeout_ms);
  curl_easy_setopt (easy, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt (easy, CURLOPT_WRITEDATA, self);
  curl_easy_setopt (easy, CURLOPT_ERRORBUFFER, reason);
  curl_easy_setopt (easy, CURLOPT_PRIVATE, reason);
  code = gaio_curl_add (self->curl, easy);
  if (code != CURLM_OK)
    g_error ("%s", curl_multi_strerror (code));
  g_hash_table_add (self->left, easy);
}

static void
on_line (const char *line, gpointer user_data)
{
  Downloads *self = user_data;

  if (line == NULL)
    {
      self->at_end = TRUE;
      end_if_done (self);
    }
  else if (*line != '\0')
    download (self, line);
}

static void
run (Downloads *self)
{
  GaioContext *context = gaio_context_get_default ();
  GaioTimer *progress = gaio_context_add_timeout (context, PROGRESS_US, on_progress, self, NULL);
  g_autofree char *text = NULL;

  self->loop = create_main_loop ();
  self->curl = gaio_curl_new (context, curl_multi_init (), on_done, self);
  self->left = g_hash_table_new_full (NULL, NULL, easy_free, NULL);
  read_lines (context, on_line, self);
  g_main_loop_run (self->loop);
  text = describe (self);
  g_print ("%s\n", text);
  gaio_clear_timer (&progress);
  gaio_curl_free (self->curl);
  g_hash_table_unref (self->left);
  g_main_loop_unref (self->loop);
}

int
main (int argc, char **argv)
{
  Downloads downloads = { 0 };
  int timeout_ms = 60000;
  const GOptionEntry entries[] = {
    { "timeout", 0, 0, G_OPTION_ARG_INT, &timeout_ms, "How long a download may take", "MS" },
    { NULL },
  };
  g_autoptr (GOptionContext) options = g_option_context_new ("<URLS");
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, &argc, &argv, &error) || argc != 1)
    {
      g_printerr ("neighbour-curl: %s\n", error != NULL ? error->message : "URLs are on stdin");
      return 2;
    }
  downloads.timeout_ms = timeout_ms;
  curl_global_init (CURL_GLOBAL_DEFAULT);
  run (&downloads);
  curl_global_cleanup ();
  return downloads.n_failed > 0;
}
