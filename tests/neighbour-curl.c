/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the glue of libcurl has to stand. test-neighbours.py runs it, with the port of a server in
 * ADDRESS. */
#include "../examples/neighbours/gaio-curl.h"

#define N_TIMES 5

typedef struct
{
  GMainLoop *loop;
  GaioCurl *curl;
  CURL *easy; /* that is answered */
  CURL *other;
  int n_done;
  int n_written;
} Fixture;

static size_t
ignore (char *data, size_t size, size_t n, void *user_data)
{
  return n;
}

static CURL *
add (Fixture *self, const char *path)
{
  CURL *easy = curl_easy_init ();
  g_autofree char *url = g_strdup_printf ("http://127.0.0.1:%s/%s", g_getenv ("ADDRESS"), path);

  curl_easy_setopt (easy, CURLOPT_URL, url);
  curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, ignore);
  g_assert_cmpint (gaio_curl_add (self->curl, easy), ==, CURLM_OK);
  return easy;
}

static void
fixture_run (Fixture *self, GaioCurlFunc func, const char *other)
{
  self->loop = g_main_loop_new (NULL, FALSE);
  self->curl = gaio_curl_new (gaio_context_get_default (), curl_multi_init (), func, self);
  self->other = add (self, other);
  self->easy = add (self, "size/100000");
  g_main_loop_run (self->loop);
  g_clear_pointer (&self->curl, gaio_curl_free);
  curl_easy_cleanup (self->easy);
  curl_easy_cleanup (self->other);
  g_main_loop_unref (self->loop);
}

static void
free_all (CURL *easy, CURLcode result, gpointer user_data)
{
  Fixture *self = user_data;

  g_assert_cmpint (result, ==, CURLE_OK);
  g_clear_pointer (&self->curl, gaio_curl_free);
  g_main_loop_quit (self->loop);
}

static void
test_freed_by_its_function (void)
{
  Fixture fixture = { 0 };

  fixture_run (&fixture, free_all, "never");
}

static void
add_again (CURL *easy, CURLcode result, gpointer user_data)
{
  Fixture *self = user_data;

  g_assert_true (easy == self->easy);
  if (++self->n_done < N_TIMES)
    g_assert_cmpint (gaio_curl_add (self->curl, easy), ==, CURLM_OK);
  else
    g_main_loop_quit (self->loop);
}

static void
test_added_by_its_function (void)
{
  Fixture fixture = { 0 };

  fixture_run (&fixture, add_again, "never");
  g_assert_cmpint (fixture.n_done, ==, N_TIMES);
}

static void
remove_other (CURL *easy, CURLcode result, gpointer user_data)
{
  Fixture *self = user_data;

  g_assert_true (easy == self->easy);
  gaio_curl_remove (self->curl, self->other);
  g_main_loop_quit (self->loop);
}

static void
test_removed_is_not_told (void)
{
  Fixture fixture = { 0 };

  fixture_run (&fixture, remove_other, "never");
}

static gboolean
quit (gpointer nested)
{
  g_main_loop_quit (nested);
  return G_SOURCE_REMOVE;
}

/* The other transfer goes on meanwhile: libcurl cannot be called for it. */
static size_t
run_main_loop (char *data, size_t size, size_t n, void *user_data)
{
  g_autoptr (GMainLoop) nested = g_main_loop_new (NULL, FALSE);

  ((Fixture *) user_data)->n_written++;
  g_timeout_add (5, quit, nested);
  g_main_loop_run (nested);
  return n;
}

static void
run_in_write_function (CURL *easy, CURLcode result, gpointer user_data)
{
  Fixture *self = user_data;

  g_assert_cmpint (result, ==, CURLE_OK);
  if (easy == self->other)
    return;
  if (self->n_done++ > 0)
    {
      g_main_loop_quit (self->loop);
      return;
    }
  curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, run_main_loop);
  curl_easy_setopt (easy, CURLOPT_WRITEDATA, self);
  g_assert_cmpint (gaio_curl_add (self->curl, easy), ==, CURLM_OK);
}

static void
test_main_loop_in_write_function (void)
{
  Fixture fixture = { 0 };

  fixture_run (&fixture, run_in_write_function, "size/100000000");
  g_assert_cmpint (fixture.n_written, >, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  curl_global_init (CURL_GLOBAL_DEFAULT);
  g_test_add_func ("/neighbours/curl/added-by-its-function", test_added_by_its_function);
  g_test_add_func ("/neighbours/curl/freed-by-its-function", test_freed_by_its_function);
  g_test_add_func ("/neighbours/curl/main-loop-in-write-function",
                   test_main_loop_in_write_function);
  g_test_add_func ("/neighbours/curl/removed-is-not-told", test_removed_is_not_told);
  return g_test_run ();
}
