/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all benchmarks have in common. */
#include "bench.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Left for the loops' own fds and the standard ones. */
#define SPARE_FDS 64

static int
compare_doubles (gconstpointer a, gconstpointer b)
{
  double difference = *(const double *) a - *(const double *) b;

  return (difference > 0) - (difference < 0);
}

BenchSpread
bench_spread (const double *values, guint n)
{
  g_autofree double *sorted = g_memdup2 (values, n * sizeof (double));

  qsort (sorted, n, sizeof (double), compare_doubles);
  return (BenchSpread){ sorted[n / 2], sorted[n / 4], sorted[n - 1 - n / 4] };
}

/* The ratio within each round: what disturbs a round disturbs both. */
BenchSpread
bench_paired_ratio (const double *numerators, const double *denominators, guint n)
{
  g_autofree double *ratios = g_new (double, n);

  for (guint i = 0; i < n; i++)
    ratios[i] = numerators[i] / denominators[i];
  return bench_spread (ratios, n);
}

double
bench_now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
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

guint
bench_raise_fd_limit (void)
{
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  return MIN (limit.rlim_cur, 1u << 20) - SPARE_FDS;
}

int *
bench_open_eventfds (guint n)
{
  int *fds = g_new (int, n);

  for (guint i = 0; i < n; i++)
    {
      fds[i] = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
      if (fds[i] < 0)
        g_error ("eventfd: too many");
    }
  return fds;
}

gboolean
bench_chosen (const char *option, const char *name)
{
  return option == NULL || g_str_equal (option, name);
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
