/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tasks over contenders. A round visits every task, and there every contender, in an order that is
 * new each time, so that what is compared was measured within the same second or so. */
#include "bench-table.h"

#define N_OURS 2

/* Gaio's first. */
static const BenchContender *const contenders[] = {
  &bench_gaio_nested,
  &bench_gaio_alone,
  &bench_glib,
#ifdef HAVE_LIBUV
  &bench_uv,
#endif
};

#define N_CONTENDERS G_N_ELEMENTS (contenders)

/* All rounds of one cost of one task. */
typedef struct
{
  char *name;
  double *ns[N_CONTENDERS]; /* one per round */
} Row;

static gboolean option_quick;
static int option_rounds;
static char *option_task;
static char *option_contender;
static char *option_csv;

static const GOptionEntry option_entries[] = {
  { "quick", 0, 0, G_OPTION_ARG_NONE, &option_quick, "Fewer and shorter rounds", NULL },
  { "rounds", 0, 0, G_OPTION_ARG_INT, &option_rounds, "How many rounds", "R" },
  { "task", 0, 0, G_OPTION_ARG_STRING, &option_task, "Only this one, as the table names it",
    "NAME" },
  { "contender", 0, 0, G_OPTION_ARG_STRING, &option_contender,
    "Only this one: gaio-nested, gaio-alone, glib or libuv", "NAME" },
  { "csv", 0, 0, G_OPTION_ARG_FILENAME, &option_csv, "Write each measurement to a file", "FILE" },
  { NULL },
};

guint
bench_task_n (const BenchTask *task)
{
  return option_quick && task->n_quick > 0 ? task->n_quick : task->n;
}

static gboolean
takes_part (guint contender)
{
  return bench_chosen (option_contender, contenders[contender]->name);
}

static Row *
row_new (const BenchTask *task, const char *cost)
{
  Row *row = g_new0 (Row, 1);

  row->name = g_strdup_printf ("%s%s%s", task->name, *cost != '\0' ? ": " : "", cost);
  for (guint c = 0; c < N_CONTENDERS; c++)
    if (takes_part (c))
      row->ns[c] = g_new0 (double, option_rounds);
  return row;
}

static void
row_free (gpointer user_data)
{
  Row *row = user_data;

  g_free (row->name);
  for (guint c = 0; c < N_CONTENDERS; c++)
    g_free (row->ns[c]);
  g_free (row);
}

static guint
count_costs (const BenchTask *task)
{
  guint n = 0;

  while (n < BENCH_MAX_COSTS && task->costs[n] != NULL)
    n++;
  return n;
}

static void
measure_task (const BenchTask *task, Row **rows, guint round, GRand *rand)
{
  int turns[N_CONTENDERS];
  double ns[BENCH_MAX_COSTS];

  for (guint c = 0; c < N_CONTENDERS; c++)
    turns[c] = c;
  bench_shuffle (rand, turns, N_CONTENDERS);
  for (guint i = 0; i < N_CONTENDERS; i++)
    if (takes_part (turns[i]))
      {
        task->measure (task, contenders[turns[i]], ns);
        for (guint cost = 0; cost < count_costs (task); cost++)
          rows[cost]->ns[turns[i]][round] = ns[cost];
      }
}

/* Of the tasks that were asked for, in their order. */
static GPtrArray *
make_rows (const BenchTask *tasks, guint n_tasks)
{
  GPtrArray *rows = g_ptr_array_new_with_free_func (row_free);

  for (guint t = 0; t < n_tasks; t++)
    for (guint cost = 0; cost < count_costs (&tasks[t]); cost++)
      if (bench_chosen (option_task, tasks[t].name))
        g_ptr_array_add (rows, row_new (&tasks[t], tasks[t].costs[cost]));
  return rows;
}

static void
measure_round (const BenchTask *tasks, guint n_tasks, GPtrArray *rows, guint round, GRand *rand)
{
  guint row = 0;

  for (guint t = 0; t < n_tasks; t++)
    if (bench_chosen (option_task, tasks[t].name))
      {
        bench_progress ("round %u of %d: %s", round + 1, option_rounds, tasks[t].name);
        measure_task (&tasks[t], (Row **) &rows->pdata[row], round, rand);
        row += count_costs (&tasks[t]);
      }
}

static void
print_medians (GPtrArray *rows)
{
  g_print ("\n%-35s", "ns, median");
  for (guint c = 0; c < N_CONTENDERS; c++)
    g_print (" %12s", contenders[c]->name);
  g_print ("\n");
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];

      g_print ("%-35s", row->name);
      for (guint c = 0; c < N_CONTENDERS; c++)
        if (row->ns[c] != NULL)
          g_print (" %12.0f", bench_spread (row->ns[c], option_rounds).median);
        else
          g_print (" %12s", "-");
      g_print ("\n");
    }
}

static BenchSpread
ratio (const Row *row, guint ours, guint rival)
{
  return bench_paired_ratio (row->ns[ours], row->ns[rival], option_rounds);
}

static void
print_ratios (GPtrArray *rows)
{
  g_print ("\n%-35s", "ratio within a round (quartiles)");
  for (guint rival = N_OURS; rival < N_CONTENDERS; rival++)
    for (guint ours = 0; ours < N_OURS; ours++)
      {
        g_autofree char *title =
            g_strdup_printf ("%s/%s", contenders[ours]->name, contenders[rival]->name);

        g_print (" %22s", title);
      }
  g_print ("\n");
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];

      g_print ("%-35s", row->name);
      for (guint rival = N_OURS; rival < N_CONTENDERS; rival++)
        for (guint ours = 0; ours < N_OURS; ours++)
          {
            BenchSpread spread = ratio (row, ours, rival);

            g_print ("  %5.2f (%5.2f - %5.2f)", spread.median, spread.low, spread.high);
          }
      g_print ("\n");
    }
}

static void
print_verdict (guint ours, guint rival, const Row *row, BenchSpread spread, gboolean holds)
{
  g_print ("%-11s never behind %-6s by more than noise: %-35s %5.2f (%.2f-%.2f)  %s\n",
           contenders[ours]->name, contenders[rival]->name, row->name, spread.median, spread.low,
           spread.high, holds ? "holds" : "DOES NOT HOLD");
}

/* Behind is who was slower in three rounds of four. */
static void
judge (GPtrArray *rows, guint ours, guint rival)
{
  const Row *worst = NULL;
  BenchSpread worst_spread = { 0 };

  for (guint i = 0; i < rows->len; i++)
    {
      BenchSpread spread = ratio (rows->pdata[i], ours, rival);

      if (spread.low > 1)
        print_verdict (ours, rival, rows->pdata[i], spread, FALSE);
      if (spread.low > worst_spread.low)
        {
          worst = rows->pdata[i];
          worst_spread = spread;
        }
    }
  if (worst != NULL && worst_spread.low <= 1)
    print_verdict (ours, rival, worst, worst_spread, TRUE);
}

static void
print_verdicts (GPtrArray *rows)
{
  g_print ("\nverdict (what does not hold, or else the worst that does)\n");
  for (guint ours = 0; ours < N_OURS; ours++)
    for (guint rival = N_OURS; rival < N_CONTENDERS; rival++)
      judge (rows, ours, rival);
}

static gboolean
write_csv (GPtrArray *rows, const char *path, GError **error)
{
  g_autoptr (GString) text = g_string_new ("row,round,contender,ns\n");

  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];

      for (int round = 0; round < option_rounds; round++)
        for (guint c = 0; c < N_CONTENDERS; c++)
          if (row->ns[c] != NULL)
            g_string_append_printf (text, "\"%s\",%d,%s,%.1f\n", row->name, round,
                                    contenders[c]->name, row->ns[c][round]);
    }
  return g_file_set_contents (path, text->str, text->len, error);
}

static void
check_names (const BenchTask *tasks, guint n_tasks)
{
  gboolean known_contender = FALSE, known_task = FALSE;

  for (guint c = 0; c < N_CONTENDERS; c++)
    known_contender |= takes_part (c);
  if (!known_contender)
    bench_usage_error ("no such contender");
  for (guint t = 0; t < n_tasks; t++)
    known_task |= bench_chosen (option_task, tasks[t].name);
  if (!known_task)
    bench_usage_error ("no such task");
}

int
bench_table_main (const char *summary, const BenchTask *tasks, guint n_tasks, int argc, char **argv)
{
  g_autoptr (GPtrArray) rows = NULL;
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autoptr (GError) error = NULL;

  bench_parse_options (summary, option_entries, &argc, &argv);
  check_names (tasks, n_tasks);
  if (option_rounds <= 0)
    option_rounds = option_quick ? 11 : 51;
  rows = make_rows (tasks, n_tasks);
  for (int round = 0; round < option_rounds; round++)
    measure_round (tasks, n_tasks, rows, round, rand);
  bench_progress_end ();
  print_medians (rows);
  if (option_contender == NULL)
    {
      print_ratios (rows);
      print_verdicts (rows);
    }
  if (option_csv != NULL && !write_csv (rows, option_csv, &error))
    {
      g_printerr ("%s\n", error->message);
      return 1;
    }
  return 0;
}
