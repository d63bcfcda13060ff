/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an event costs: GLib, a raw epoll loop, the smallest hand-written nested GSource, and Gaio,
 * over the number of fds watched (N) and of fds ready at once (K).
 *
 * A round visits every N and K, and there every contender, in an order that is new each time. What
 * is compared was thus measured within the same second or so, which a noisy machine asks for. */
#include "bench-loop.h"

static const BenchContender *const contenders[BENCH_N_CONTENDERS] = {
  [BENCH_GLIB] = &bench_glib,
  [BENCH_RAW_EPOLL] = &bench_raw_epoll,
  [BENCH_HAND_WRITTEN] = &bench_hand_written,
  [BENCH_GAIO_NESTED] = &bench_gaio_nested,
  [BENCH_GAIO_ALONE] = &bench_gaio_alone,
};

static const char *const kind_names[BENCH_N_KINDS] = { "live", "dry" };

static gboolean option_quick;
static char *option_n;
static char *option_k;
static char *option_kind;
static char *option_contender;
static char *option_csv;
static int option_rounds;

static const GOptionEntry option_entries[] = {
  { "quick", 0, 0, G_OPTION_ARG_NONE, &option_quick, "Fewer and shorter rounds", NULL },
  { "n", 0, 0, G_OPTION_ARG_STRING, &option_n, "Numbers of fds watched", "N,..." },
  { "k", 0, 0, G_OPTION_ARG_STRING, &option_k, "Numbers of fds ready at once", "K,..." },
  { "kind", 0, 0, G_OPTION_ARG_STRING, &option_kind, "Only this kind of round", "live|dry" },
  { "rounds", 0, 0, G_OPTION_ARG_INT, &option_rounds, "How many rounds", "R" },
  { "contender", 0, 0, G_OPTION_ARG_STRING, &option_contender,
    "Only this one: glib, raw-epoll, hand-written, gaio-nested or gaio-alone", "NAME" },
  { "csv", 0, 0, G_OPTION_ARG_FILENAME, &option_csv, "Write each measurement to a file", "FILE" },
  { NULL },
};

const char *
bench_kind_name (BenchKind kind)
{
  return kind_names[kind];
}

const char *
bench_contender_name (guint contender)
{
  return contenders[contender]->name;
}

static guint
parse_number (const char *text)
{
  g_autoptr (GError) error = NULL;
  guint64 number;

  if (!g_ascii_string_to_unsigned (text, 10, 1, G_MAXINT, &number, &error))
    bench_usage_error (error->message);
  return number;
}

static int
compare_ints (gconstpointer a, gconstpointer b)
{
  return *(const int *) a - *(const int *) b;
}

/* Ascending, nothing above max, nothing twice. */
static GArray *
parse_list (const char *list, guint max)
{
  g_auto (GStrv) words = g_strsplit (list, ",", -1);
  GArray *numbers = g_array_new (FALSE, FALSE, sizeof (int));

  for (guint i = 0; words[i] != NULL; i++)
    {
      int number = MIN (parse_number (words[i]), max);

      g_array_append_val (numbers, number);
    }
  g_array_sort (numbers, compare_ints);
  for (guint i = numbers->len; i-- > 1;)
    if (g_array_index (numbers, int, i) == g_array_index (numbers, int, i - 1))
      g_array_remove_index (numbers, i);
  return numbers;
}

static BenchCell *
cell_new (BenchKind kind, guint n, guint k)
{
  BenchCell *cell = g_new0 (BenchCell, 1);

  *cell = (BenchCell){ .kind = kind, .n = n, .k = k, .rounds = option_rounds };
  for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
    if (bench_chosen (option_contender, contenders[c]->name))
      cell->ns[c] = g_new0 (double, option_rounds);
  return cell;
}

static void
cell_free (gpointer user_data)
{
  BenchCell *cell = user_data;

  for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
    g_free (cell->ns[c]);
  g_free (cell);
}

static GPtrArray *
make_cells (void)
{
  guint limit = bench_raise_fd_limit ();
  g_autoptr (GArray) ns = parse_list (option_n ? option_n : "1,10,100,1000,10000,19000", limit);
  g_autoptr (GArray) ks = parse_list (option_k ? option_k : "1,16,256", limit);
  GPtrArray *cells = g_ptr_array_new_with_free_func (cell_free);

  for (BenchKind kind = 0; kind < BENCH_N_KINDS; kind++)
    for (guint i = 0; i < ns->len; i++)
      for (guint j = 0; j < ks->len; j++)
        {
          int n = g_array_index (ns, int, i);
          int k = g_array_index (ks, int, j);

          if (k <= n && bench_chosen (option_kind, kind_names[kind]))
            g_ptr_array_add (cells, cell_new (kind, n, k));
        }
  return cells;
}

static int *
open_eventfds (GPtrArray *cells)
{
  guint n = 0;

  for (guint i = 0; i < cells->len; i++)
    n = MAX (n, ((BenchCell *) cells->pdata[i])->n);
  return bench_open_eventfds (n);
}

static void
measure_cell (BenchCell *cell, guint round, GRand *rand, const int *fds)
{
  int turns[BENCH_N_CONTENDERS] = { 0, 1, 2, 3, 4 };
  g_autofree int *order = g_memdup2 (fds, cell->n * sizeof (int));

  bench_shuffle (rand, order, cell->n);
  bench_shuffle (rand, turns, BENCH_N_CONTENDERS);
  for (guint i = 0; i < BENCH_N_CONTENDERS; i++)
    if (cell->ns[turns[i]] != NULL)
      {
        const BenchContender *contender = contenders[turns[i]];
        BenchSlice slice = { .kind = cell->kind,
                             .n = cell->n,
                             .k = cell->k,
                             .units = bench_slice_units (contender, cell->n, cell->k,
                                                         option_quick ? 500 : 2000),
                             .fds = fds,
                             .order = order };

        cell->ns[turns[i]][round] = bench_slice_measure (&slice, contender);
      }
}

static void
measure (GPtrArray *cells)
{
  g_autofree int *fds = open_eventfds (cells);
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (int round = 0; round < option_rounds; round++)
    for (guint i = 0; i < cells->len; i++)
      {
        BenchCell *cell = cells->pdata[i];

        bench_progress ("round %d of %d: %s N=%u K=%u", round + 1, option_rounds,
                        kind_names[cell->kind], cell->n, cell->k);
        measure_cell (cell, round, rand, fds);
      }
  bench_progress_end ();
}

static void
check_names (void)
{
  gboolean known = FALSE;

  for (guint c = 0; c < BENCH_N_CONTENDERS; c++)
    known |= bench_chosen (option_contender, contenders[c]->name);
  if (!known)
    bench_usage_error ("no such contender");
  if (!bench_chosen (option_kind, "live") && !bench_chosen (option_kind, "dry"))
    bench_usage_error ("no such kind");
}

static void
parse_options (int *argc, char ***argv)
{
  bench_parse_options ("Nanoseconds per event of several event loops.", option_entries, argc, argv);
  check_names ();
  if (option_rounds <= 0)
    option_rounds = option_quick ? 11 : 51;
}

int
main (int argc, char **argv)
{
  g_autoptr (GPtrArray) cells = NULL;
  g_autoptr (GError) error = NULL;

  parse_options (&argc, &argv);
  cells = make_cells ();
  measure (cells);
  bench_report_medians (cells);
  if (option_contender == NULL)
    {
      bench_report_ratios (cells);
      bench_report_growth (cells);
      bench_report_verdict (cells);
    }
  if (option_csv != NULL && !bench_report_csv (cells, option_csv, &error))
    {
      g_printerr ("%s\n", error->message);
      return 1;
    }
  return 0;
}
