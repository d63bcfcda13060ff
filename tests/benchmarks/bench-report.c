/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Medians and quartiles of the rounds, and what they say about Gaio's bounds. */
#include "bench-loop.h"

/* A promise about the ratio of two contenders. n and k of 0: in every cell, so in the worst. */
typedef struct
{
  const char *text;
  BenchKind kind;
  guint numerator;
  guint denominator;
  gboolean at_most; /* else at least */
  double limit;
  guint n;
  guint k;
} Bound;

static const Bound bounds[] = {
  { "dry: nested at most 1.15x hand-written", BENCH_DRY, BENCH_GAIO_NESTED, BENCH_HAND_WRITTEN,
    TRUE, 1.15, 0, 0 },
  { "dry: stand-alone at most 1.15x raw epoll", BENCH_DRY, BENCH_GAIO_ALONE, BENCH_RAW_EPOLL, TRUE,
    1.15, 0, 0 },
  { "live: at least 200x GLib at N=10000 K=1", BENCH_LIVE, BENCH_GLIB, BENCH_GAIO_NESTED, FALSE,
    200, 10000, 1 },
  { "live: at least 20x GLib at N=10000 K=256", BENCH_LIVE, BENCH_GLIB, BENCH_GAIO_NESTED, FALSE,
    20, 10000, 256 },
  { "live: not slower than GLib from N=1 on", BENCH_LIVE, BENCH_GLIB, BENCH_GAIO_NESTED, FALSE, 1,
    0, 0 },
};

/* Growth from the smallest N of at least 10 to the largest, over that of raw epoll. */
#define GROWTH_FROM 10
#define GROWTH_LIMIT 1.05

static gboolean
has_both (const BenchCell *cell, guint a, guint b)
{
  return cell->ns[a] != NULL && cell->ns[b] != NULL;
}

static BenchSpread
paired_ratio (const BenchCell *cell, guint numerator, guint denominator)
{
  return bench_paired_ratio (cell->ns[numerator], cell->ns[denominator], cell->rounds);
}

/* How the contender's time grows from one cell to another, or, with a base, how much more than the
 * base's. */
static BenchSpread
paired_growth (const BenchCell *from, const BenchCell *to, guint contender, const guint *base)
{
  g_autofree double *ratios = g_new (double, to->rounds);

  for (guint i = 0; i < to->rounds; i++)
    {
      ratios[i] = to->ns[contender][i] / from->ns[contender][i];
      if (base != NULL)
        ratios[i] *= from->ns[*base][i] / to->ns[*base][i];
    }
  return bench_spread (ratios, to->rounds);
}

static void
print_ratio (const BenchCell *cell, guint numerator, guint denominator)
{
  g_autofree char *text = NULL;

  if (has_both (cell, numerator, denominator))
    {
      BenchSpread spread = paired_ratio (cell, numerator, denominator);

      text = g_strdup_printf ("%.2f (%.2f-%.2f)", spread.median, spread.low, spread.high);
    }
  g_print (" %24s", text != NULL ? text : "-");
}

static void
print_median (const BenchCell *cell, guint contender)
{
  if (cell->ns[contender] == NULL)
    g_print (" %12s", "-");
  else
    g_print (" %12.0f", bench_spread (cell->ns[contender], cell->rounds).median);
}

void
bench_report_medians (GPtrArray *cells)
{
  g_print ("\nns per event, median\nkind %6s %4s", "N", "K");
  for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
    g_print (" %12s", bench_contender_name (c));
  g_print ("\n");
  for (guint i = 0; i < cells->len; i++)
    {
      const BenchCell *cell = cells->pdata[i];

      g_print ("%-4s %6u %4u", bench_kind_name (cell->kind), cell->n, cell->k);
      for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
        print_median (cell, c);
      g_print ("\n");
    }
}

void
bench_report_ratios (GPtrArray *cells)
{
  g_print ("\nratio within a round, median (quartiles)\nkind %6s %4s %24s %24s %24s\n", "N", "K",
           "nested/hand-written", "alone/raw-epoll", "glib/nested");
  for (guint i = 0; i < cells->len; i++)
    {
      const BenchCell *cell = cells->pdata[i];

      g_print ("%-4s %6u %4u", bench_kind_name (cell->kind), cell->n, cell->k);
      print_ratio (cell, BENCH_GAIO_NESTED, BENCH_HAND_WRITTEN);
      print_ratio (cell, BENCH_GAIO_ALONE, BENCH_RAW_EPOLL);
      print_ratio (cell, BENCH_GLIB, BENCH_GAIO_NESTED);
      g_print ("\n");
    }
}

/* The cells of this k with the fewest fds and the most, if those differ. */
static gboolean
find_extremes (GPtrArray *cells, BenchKind kind, guint k, BenchCell **from, BenchCell **to)
{
  *from = *to = NULL;
  for (guint i = 0; i < cells->len; i++)
    {
      BenchCell *cell = cells->pdata[i];

      if (cell->kind != kind || cell->k != k || cell->n < GROWTH_FROM)
        continue;
      if (*from == NULL || cell->n < (*from)->n)
        *from = cell;
      if (*to == NULL || cell->n > (*to)->n)
        *to = cell;
    }
  return *from != *to;
}

static void
print_growth (const BenchCell *from, const BenchCell *to)
{
  const guint base = BENCH_RAW_EPOLL;

  for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
    {
      BenchSpread own, excess;

      if (c == BENCH_GLIB || !has_both (to, c, base))
        continue;
      own = paired_growth (from, to, c, NULL);
      excess = paired_growth (from, to, c, &base);
      g_print ("%-4s K=%-3u N=%4u..%u %-12s %.2f (%.2f-%.2f), over raw epoll's %.2f (%.2f-%.2f)\n",
               bench_kind_name (to->kind), to->k, from->n, to->n, bench_contender_name (c),
               own.median, own.low, own.high, excess.median, excess.low, excess.high);
    }
}

void
bench_report_growth (GPtrArray *cells)
{
  BenchCell *from, *to;

  g_print ("\ngrowth of the time per event, median (quartiles)\n");
  for (guint i = 0; i < cells->len; i++)
    {
      const BenchCell *cell = cells->pdata[i];

      if (find_extremes (cells, cell->kind, cell->k, &from, &to) && cell == to)
        print_growth (from, to);
    }
}

static void
print_verdict (const char *text, const BenchCell *cell, BenchSpread spread, gboolean holds)
{
  g_print ("%-46s N=%-5u K=%-3u %8.2f (%.2f-%.2f)  %s\n", text, cell->n, cell->k, spread.median,
           spread.low, spread.high, holds ? "holds" : "DOES NOT HOLD");
}

static gboolean
applies (const Bound *bound, const BenchCell *cell)
{
  return cell->kind == bound->kind && (bound->n == 0 || bound->n == cell->n) &&
         (bound->k == 0 || bound->k == cell->k) &&
         has_both (cell, bound->numerator, bound->denominator);
}

static void
judge_bound (GPtrArray *cells, const Bound *bound)
{
  const BenchCell *worst = NULL;
  BenchSpread spread = { 0 };

  for (guint i = 0; i < cells->len; i++)
    {
      const BenchCell *cell = cells->pdata[i];
      BenchSpread other;

      if (!applies (bound, cell))
        continue;
      other = paired_ratio (cell, bound->numerator, bound->denominator);
      if (worst == NULL || (other.median > spread.median) == bound->at_most)
        {
          worst = cell;
          spread = other;
        }
    }
  if (worst == NULL)
    g_print ("%-46s not measured\n", bound->text);
  else
    print_verdict (bound->text, worst, spread,
                   bound->at_most ? spread.median <= bound->limit : spread.median >= bound->limit);
}

static void
judge_growth (GPtrArray *cells, guint contender)
{
  const guint base = BENCH_RAW_EPOLL;
  g_autofree char *text =
      g_strdup_printf ("dry: %s grows at most 1.05x raw epoll", bench_contender_name (contender));
  BenchCell *from, *to;

  if (!find_extremes (cells, BENCH_DRY, 1, &from, &to) || !has_both (to, contender, base))
    {
      g_print ("%-46s not measured\n", text);
    }
  else
    {
      BenchSpread spread = paired_growth (from, to, contender, &base);

      print_verdict (text, to, spread, spread.median <= GROWTH_LIMIT);
    }
}

void
bench_report_verdict (GPtrArray *cells)
{
  g_print ("\nverdict (the worst N and K of each bound)\n");
  for (guint i = 0; i < G_N_ELEMENTS (bounds); i++)
    judge_bound (cells, &bounds[i]);
  judge_growth (cells, BENCH_GAIO_NESTED);
  judge_growth (cells, BENCH_GAIO_ALONE);
}

gboolean
bench_report_csv (GPtrArray *cells, const char *path, GError **error)
{
  g_autoptr (GString) text = g_string_new ("kind,n,k,round,contender,ns_per_event\n");

  for (guint i = 0; i < cells->len; i++)
    {
      const BenchCell *cell = cells->pdata[i];

      for (guint round = 0; round < cell->rounds; round++)
        for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
          if (cell->ns[c] != NULL)
            g_string_append_printf (text, "%s,%u,%u,%u,%s,%.1f\n", bench_kind_name (cell->kind),
                                    cell->n, cell->k, round, bench_contender_name (c),
                                    cell->ns[c][round]);
    }
  return g_file_set_contents (path, text->str, text->len, error);
}
