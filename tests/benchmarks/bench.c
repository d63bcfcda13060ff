/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all benchmarks have in common. */
#include "bench.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Left for the loops' own fds and the standard ones. */
#define SPARE_FDS 64

static double
read_clock (clockid_t clock)
{
  struct timespec now;

  clock_gettime (clock, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
}

double
bench_now_ns (void)
{
  return read_clock (CLOCK_MONOTONIC);
}

double
bench_cpu_ns (void)
{
  return read_clock (CLOCK_THREAD_CPUTIME_ID);
}

void
bench_shuffle (GRand *rand, int *numbers, guint n)
{
  for (guint i = n; i > 1; i--)
    {
      guint j = g_rand_int_range (rand, 0, i);
      int number = numbers[i - 1];

      numbers[i - 1] = numbers[j];
      numbers[j] = number;
    }
}

void
bench_reshuffle (GRand *rand, int **numbers, guint n)
{
  *numbers = g_renew (int, *numbers, n);
  for (guint i = 0; i < n; i++)
    (*numbers)[i] = i;
  bench_shuffle (rand, *numbers, n);
}

guint
bench_raise_fd_limit (void)
{
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  return MIN (limit.rlim_cur, 1u << 20) - SPARE_FDS;
}

/* GLib searches its list of fds, sorted, from the front: downwards here and upwards below spare it
 * the O(n). It is the same to the others. */
gpointer *
bench_watch (const BenchContender *contender,
             gpointer loop,
             const int *fds,
             guint n_fds,
             GUnixFDSourceFunc func,
             gpointer user_data)
{
  gpointer *watches = g_new (gpointer, n_fds);

  for (guint i = n_fds; i-- > 0;)
    watches[i] = contender->fd_add (loop, fds[i], func, user_data);
  return watches;
}

void
bench_unwatch (const BenchContender *contender, gpointer *watches, guint n_fds)
{
  for (guint i = 0; i < n_fds; i++)
    contender->fd_remove (watches[i]);
  g_free (watches);
}

void
bench_usage_error (const char *message)
{
  g_printerr ("%s\n", message);
  exit (2);
}

void
bench_parse_options (const char *summary, const GOptionEntry *entries, int *argc, char ***argv)
{
  g_autoptr (GOptionContext) options = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;

  g_option_context_set_summary (options, summary);
  g_option_context_add_main_entries (options, entries, NULL);
  if (!g_option_context_parse (options, argc, argv, &error))
    bench_usage_error (error->message);
}

void
bench_progress (const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  if (!isatty (STDERR_FILENO))
    return;
  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  g_printerr ("\r%-60s", text);
}

void
bench_progress_end (void)
{
  if (isatty (STDERR_FILENO))
    g_printerr ("\n");
}
