/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the glue of libpq has to stand. test-neighbours.py runs it, with the port of a server in
 * ADDRESS. */
#include "../examples/neighbours/gaio-libpq.h"

static GMainLoop *loop;
static int n_results;

static GaioPq *
connect_with (const GaioPqFuncs *funcs, const char *port)
{
  g_autofree char *conninfo =
      g_strdup_printf ("hostaddr=127.0.0.1 port=%s user=test sslmode=disable gssencmode=disable",
                       port);

  return gaio_pq_new (gaio_context_get_default (), conninfo, -1, funcs, NULL);
}

static void
free_it (GaioPq *pq)
{
  gaio_pq_free (pq);
  g_main_loop_quit (loop);
}

static void
ask (GaioPq *pq)
{
  g_assert_cmpint (PQsendQuery (pq->connection, "SELECT 1"), ==, 1);
  gaio_pq_sent (pq);
}

static void
free_by_result (GaioPq *pq, PGresult *result)
{
  free_it (pq);
}

static void
free_by_failure (GaioPq *pq, const char *message)
{
  g_assert_cmpstr (message, !=, "");
  free_it (pq);
}

static void
never_fails (GaioPq *pq, const char *message)
{
  g_error ("%s", message);
}

static void
test_freed_when_connected (void)
{
  const GaioPqFuncs funcs = { .connected = free_it, .failed = never_fails };

  connect_with (&funcs, g_getenv ("ADDRESS"));
  g_main_loop_run (loop);
}

static void
test_freed_by_a_result (void)
{
  const GaioPqFuncs funcs = { .connected = ask, .result = free_by_result, .failed = never_fails };

  connect_with (&funcs, g_getenv ("ADDRESS"));
  g_main_loop_run (loop);
}

static void
test_freed_by_its_failure (void)
{
  const GaioPqFuncs funcs = { .failed = free_by_failure };

  connect_with (&funcs, "1");
  g_main_loop_run (loop);
}

static void
count (GaioPq *pq, PGresult *result)
{
  if (result != NULL)
    n_results++;
}

static const GaioPqFuncs count_funcs = { .connected = ask, .result = count, .failed = never_fails };

static void
run_main_loop (GaioPq *pq, PGresult *result)
{
  GaioPq *other;

  if (result == NULL)
    {
      free_it (pq);
      return;
    }
  other = connect_with (&count_funcs, g_getenv ("ADDRESS"));
  while (n_results == 0)
    g_main_context_iteration (NULL, TRUE);
  gaio_pq_free (other);
}

static void
test_main_loop_in_a_result (void)
{
  const GaioPqFuncs funcs = { .connected = ask, .result = run_main_loop, .failed = never_fails };

  connect_with (&funcs, g_getenv ("ADDRESS"));
  g_main_loop_run (loop);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  loop = g_main_loop_new (NULL, FALSE);
  g_test_add_func ("/neighbours/postgres/freed-by-a-result", test_freed_by_a_result);
  g_test_add_func ("/neighbours/postgres/freed-by-its-failure", test_freed_by_its_failure);
  g_test_add_func ("/neighbours/postgres/freed-when-connected", test_freed_when_connected);
  g_test_add_func ("/neighbours/postgres/main-loop-in-a-result", test_main_loop_in_a_result);
  return g_test_run ();
}
