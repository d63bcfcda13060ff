/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-curl.h"

typedef struct
{
  GMainLoop *loop;
  GaioCurl *curl;
  int n_left;
} Downloads;

static size_t
count (char *data, size_t size, size_t n, void *user_data)
{
  return n;
}

static void
on_done (CURL *easy, CURLcode result, gpointer user_data)
{
  Downloads *self = user_data;
  curl_off_t n = 0;

  curl_easy_getinfo (easy, CURLINFO_SIZE_DOWNLOAD_T, &n);
  if (result == CURLE_OK)
    g_print ("%" CURL_FORMAT_CURL_OFF_T " bytes\n", n);
  else
    g_print ("failed: CURLcode %d\n", result);
  curl_easy_cleanup (easy);
  if (--self->n_left == 0)
    g_main_loop_quit (self->loop);
}

int
main (int argc, char **argv)
{
  Downloads self = { .loop = g_main_loop_new (NULL, FALSE), .n_left = argc - 1 };

  curl_global_init (CURL_GLOBAL_DEFAULT);
  self.curl = gaio_curl_new (gaio_context_get_default (), curl_multi_init (), on_done, &self);
  for (int i = 1; i < argc; i++)
    {
      CURL *easy = curl_easy_init ();

      curl_easy_setopt (easy, CURLOPT_URL, argv[i]);
      curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, count);
      gaio_curl_add (self.curl, easy);
    }
  if (self.n_left > 0)
    g_main_loop_run (self.loop);
  gaio_curl_free (self.curl);
  g_main_loop_unref (self.loop);
  return 0;
}
