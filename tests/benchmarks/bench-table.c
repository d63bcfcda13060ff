/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tasks over contenders. A round visits every task, and there every contender, in an order that is
 * new each time, so that what is compared was measured within the same second or so. */
#include "bench-table.h"

/* All rounds of one cost of one task. */
typedef struct
{
  char *name;
  double *ns[BENCH_MAX_CONTENDERS]; /* one per round */
} Row;

static const BenchTable *table;

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
    "Only this one, as the table names it", "NAME" },
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
  return bench_chosen (option_contender, table->contenders[contender]->name);
}

static Row *
row_new (const BenchTask *task, const char *cost)
{
  Row *row = g_new0 (Row, 1);

  row->name = g_strdup_printf ("%s%s%s", task->name, *cost != '\0' ? ": " : "", cost);
  for (guint c = 0; c < table->n_contenders; c++)
    if (takes_part (c))
      row->ns[c] = g_new0 (double, option_rounds);
  return row;
}

static void
row_free (gpointer user_data)
{
  Row *row = user_data;

  g_free (row->name);
  for (guint c = 0; c < table->n_contenders; c++)
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
  int turns[BENCH_MAX_CONTENDERS];
  double ns[BENCH_MAX_COSTS];

  for (guint c = 0; c < table->n_contenders; c++)
    turns[c] = c;
  bench_shuffle (rand, turns, table->n_contenders);
  for (guint i = 0; i < table->n_contenders; i++)
    if (takes_part (turns[i]))
      {
        task->measure (task, table->contenders[turns[i]], ns);
        for (guint cost = 0; cost < count_costs (task); cost++)
          rows[cost]->ns[turns[i]][round] = ns[cost];
      }
}

/* Of the tasks that were asked for, in their order. */
static GPtrArray *
make_rows (void)
{
  GPtrArray *rows = g_ptr_array_new_with_free_func (row_free);

  for (guint t = 0; t < table->n_tasks; t++)
    for (guint cost = 0; cost < count_costs (&table->tasks[t]); cost++)
      if (bench_chosen (option_task, table->tasks[t].name))
        g_ptr_array_add (rows, row_new (&table->tasks[t], table->tasks[t].costs[cost]));
  return rows;
}

static void
measure_round (GPtrArray *rows, guint round, GRand *rand)
{
  guint row = 0;

  for (guint t = 0; t < table->n_tasks; t++)
    if (bench_chosen (option_task, table->tasks[t].name))
      {
        bench_progress ("round %u of %d: %s", round + 1, option_rounds, table->tasks[t].name);
        measure_task (&table->tasks[t], (Row **) &rows->pdata[row], round, rand);
        row += count_costs (&table->tasks[t]);
      }
}

static void
print_medians (GPtrArray *rows)
{
  g_print ("\n%-35s", "ns, median");
  for (guint c = 0; c < table->n_contenders; c++)
    g_print (" %12s", table->contenders[c]->name);
  g_print ("\n");
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];

      g_print ("%-35s", row->name);
      for (guint c = 0; c < table->n_contenders; c++)
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
  for (guint rival = table->n_ours; rival < table->n_contenders; rival++)
    for (guint ours = 0; ours < table->n_ours; ours++)
      {
        g_autofree char *title = g_strdup_printf ("%s/%s", table->contenders[ours]->name,
                                                  table->contenders[rival]->name);

        g_print (" %22s", title);
      }
  g_print ("\n");
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];

      g_print ("%-35s", row->name);
      for (guint rival = table->n_ours; rival < table->n_contenders; rival++)
        for (guint ours = 0; ours < table->n_ours; ours++)
          {
            BenchSpread spread = ratio (row, ours, rival);

            g_print ("  %5.2f (%5.2f - %5.2f)", spread.median, spread.low, spread.high);
          }
      g_print ("\n");
    }
}

static void
print_verdict (const BenchBound *bound, const Row *row, BenchSpread spread, gboolean holds)
{
  const char *rival = table->contenders[bound->rival]->name;
  g_autofree char *text = bound->limit > 0
                              ? g_strdup_printf ("at most %.2fx %s", bound->limit, rival)
                              : g_strdup_printf ("never behind %-6s by more than noise", rival);

  g_print ("%-11s %s: %-35s %5.2f (%.2f-%.2f)  %s\n", table->contenders[bound->ours]->name, text,
           row->name, spread.median, spread.low, spread.high, holds ? "holds" : "DOES NOT HOLD");
}

/* Above 1 the bound does not hold. Behind is who was slower in three rounds of four. */
static double
excess (const BenchBound *bound, BenchSpread spread)
{
  return bound->limit > 0 ? spread.median / bound->limit : spread.low;
}

static void
judge (GPtrArray *rows, const BenchBound *bound)
{
  const Row *worst = NULL;
  BenchSpread worst_spread = { 0 };

  for (guint i = 0; i < rows->len; i++)
    {
      BenchSpread spread = ratio (rows->pdata[i], bound->ours, bound->rival);

      if (excess (bound, spread) > 1)
        print_verdict (bound, rows->pdata[i], spread, FALSE);
      if (excess (bound, spread) > excess (bound, worst_spread))
        {
          worst = rows->pdata[i];
          worst_spread = spread;
        }
    }
  if (worst != NULL && excess (bound, worst_spread) <= 1)
    print_verdict (bound, worst, worst_spread, TRUE);
}

static void
judge_all_pairs (GPtrArray *rows)
{
  for (guint ours = 0; ours < table->n_ours; ours++)
    for (guint rival = table->n_ours; rival < table->n_contenders; rival++)
      judge (rows, &(BenchBound){ ours, rival, 0 });
}

static void
print_verdicts (GPtrArray *rows)
{
  g_print ("\nverdict (what does not hold, or else the worst that does)\n");
  for (guint i = 0; i < table->n_bounds; i++)
    judge (rows, &table->bounds[i]);
  if (table->bounds == NULL)
    judge_all_pairs (rows);
}

static gboolean
write_csv (GPtrArray *rows, const char *path, GError **error)
{
  g_autoptr (GString) text = g_string_new ("row,round,contender,ns\n");

  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];

      for (int round = 0; round < option_rounds; round++)
        for (guint c = 0; c < table->n_contenders; c++)
          if (row->ns[c] != NULL)
            g_string_append_printf (text, "\"%s\",%d,%s,%.1f\n", row->name, round,
                                    table->contenders[c]->name, row->ns[c][round]);
    }
  return g_file_set_contents (path, text->str, text->len, error);
}

static void
check_names (void)
{
  gboolean known_contender = FALSE, known_task = FALSE;

  for (guint c = 0; c < table->n_contenders; c++)
    known_contender |= takes_part (c);
  if (!known_contender)
    bench_usage_error ("no such contender");
  for (guint t = 0; t < table->n_tasks; t++)
    known_task |= bench_chosen (option_task, table->tasks[t].name);
  if (!known_task)
    bench_usage_error ("no such task");
}

int
bench_table_main (const BenchTable *of, int argc, char **argv)
{
  g_autoptr (GPtrArray) rows = NULL;
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autoptr (GError) error = NULL;

  table = of;
  bench_parse_options (table->summary, option_entries, &argc, &argv);
  check_names ();
  if (option_rounds <= 0)
    option_rounds = option_quick ? 11 : 51;
  rows = make_rows ();
  for (int round = 0; round < option_rounds; round++)
    measure_round (rows, round, rand);
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
