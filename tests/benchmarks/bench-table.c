/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tasks over contenders. A round visits every task, and there every contender, in an order that is
 * new each time, so that what is compared was measured within the same second or so, which a noisy
 * machine asks for. What the numbers say is for run-benchmarks.py to tell. */
#include "bench-table.h"

#include <math.h>

/* All rounds of one cost of one task. */
typedef struct
{
  const BenchTask *task;
  guint cost;
  GArray *values[BENCH_MAX_CONTENDERS]; /* NULL: takes no part */
} Row;

static const BenchTable *table;
static guint fd_limit;

static gboolean option_quick;
static int option_rounds;
static char *option_only;
static char *option_contender;
static char *option_json;

static const GOptionEntry option_entries[] = {
  { "quick", 0, 0, G_OPTION_ARG_NONE, &option_quick, "Fewer and shorter rounds", NULL },
  { "rounds", 0, 0, G_OPTION_ARG_INT, &option_rounds, "How many rounds", "R" },
  { "only", 0, 0, G_OPTION_ARG_STRING, &option_only, "Only the lines of the table that match",
    "REGEX" },
  { "contender", 0, 0, G_OPTION_ARG_STRING, &option_contender, "Only the contenders that match",
    "REGEX" },
  { "json", 0, 0, G_OPTION_ARG_FILENAME, &option_json, "Write the results there, not to stdout",
    "FILE" },
  { NULL },
};

guint
bench_task_n (const BenchTask *task)
{
  return option_quick && task->n_quick > 0 ? task->n_quick : task->n;
}

static gboolean
matches (const char *option, const char *name)
{
  return option == NULL || g_regex_match_simple (option, name, 0, 0);
}

static char *
row_name (const BenchTask *task, guint cost)
{
  return g_strdup_printf ("%s %s", task->name, task->costs[cost]);
}

gboolean
bench_cost_chosen (const BenchTask *task, guint cost)
{
  g_autofree char *name = row_name (task, cost);

  return matches (option_only, name);
}

static gboolean
can_be_had (const BenchContender *contender)
{
  return contender->can_be_had == NULL || contender->can_be_had ();
}

static Row *
row_new (const BenchTask *task, guint cost)
{
  Row *row = g_new0 (Row, 1);

  row->task = task;
  row->cost = cost;
  for (guint c = 0; c < table->n_contenders; c++)
    if (matches (option_contender, table->contenders[c]->name) && can_be_had (table->contenders[c]))
      row->values[c] = g_array_new (FALSE, FALSE, sizeof (double));
  return row;
}

static void
row_free (gpointer user_data)
{
  Row *row = user_data;

  for (guint c = 0; c < table->n_contenders; c++)
    g_clear_pointer (&row->values[c], g_array_unref);
  g_free (row);
}

/* Those that were asked for, in the order of the tasks. */
static GPtrArray *
make_rows (void)
{
  GPtrArray *rows = g_ptr_array_new_with_free_func (row_free);

  for (guint t = 0; t < table->n_tasks; t++)
    {
      const BenchTask *task = &table->tasks[t];

      if (task->n_fds * bench_fds_of_kind (task->fd_kind) > fd_limit)
        g_printerr ("%s: the limit of open files is too low: ulimit -n\n", task->name);
      else
        for (guint c = 0; c < BENCH_MAX_COSTS && task->costs[c] != NULL; c++)
          if (bench_cost_chosen (task, c))
            g_ptr_array_add (rows, row_new (task, c));
    }
  return rows;
}

static void
measure_task (Row **rows, guint n_rows, GRand *rand)
{
  const BenchTask *task = rows[0]->task;
  int turns[BENCH_MAX_CONTENDERS];

  if (task->prepare != NULL)
    task->prepare (task, rand);
  for (guint c = 0; c < table->n_contenders; c++)
    turns[c] = c;
  bench_shuffle (rand, turns, table->n_contenders);
  for (guint i = 0; i < table->n_contenders; i++)
    if (rows[0]->values[turns[i]] != NULL)
      {
        double costs[BENCH_MAX_COSTS];

        for (guint cost = 0; cost < BENCH_MAX_COSTS; cost++)
          costs[cost] = NAN;
        task->measure (task, table->contenders[turns[i]], costs);
        for (guint r = 0; r < n_rows; r++)
          if (!isnan (costs[rows[r]->cost]))
            g_array_append_val (rows[r]->values[turns[i]], costs[rows[r]->cost]);
      }
}

static void
measure_round (GPtrArray *rows, guint round, GRand *rand)
{
  guint next;

  for (guint i = 0; i < rows->len; i = next)
    {
      const BenchTask *task = ((Row *) rows->pdata[i])->task;

      for (next = i; next < rows->len && ((Row *) rows->pdata[next])->task == task; next++)
        ;
      if ((round + 1) % MAX (task->every, 1) != 0)
        continue;
      bench_progress ("%s: round %u of %d: %s", table->name, round + 1, option_rounds, task->name);
      measure_task ((Row **) &rows->pdata[i], next - i, rand);
    }
}

static void
append_values (GString *json, const Row *row)
{
  const char *before = "";

  for (guint c = 0; c < table->n_contenders; c++)
    if (row->values[c] != NULL && row->values[c]->len > 0)
      {
        g_string_append_printf (json, "%s\n   \"%s\": [", before, table->contenders[c]->name);
        for (guint i = 0; i < row->values[c]->len; i++)
          g_string_append_printf (json, "%s%.1f", i > 0 ? ", " : "",
                                  g_array_index (row->values[c], double, i));
        g_string_append (json, "]");
        before = ",";
      }
}

static void
append_versions (GString *json)
{
  const char *before = "";

  for (guint c = 0; c < table->n_contenders; c++)
    if (table->contenders[c]->version != NULL)
      {
        g_string_append_printf (json, "%s\"%s\": \"%s\"", before, table->contenders[c]->name,
                                table->contenders[c]->version);
        before = ", ";
      }
}

/* No name has a character that JSON would want escaped. */
static GString *
to_json (GPtrArray *rows)
{
  GString *json = g_string_new (NULL);

  g_string_append_printf (json,
                          "{\n\"benchmark\": \"%s\",\n\"summary\": \"%s\",\n\"unit\": \"%s\",\n"
                          "\"versions\": {",
                          table->name, table->summary, table->unit);
  append_versions (json);
  g_string_append (json, "},\n\"rows\": [");
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = rows->pdata[i];
      g_autofree char *name = row_name (row->task, row->cost);

      g_string_append_printf (json, "%s\n {\"name\": \"%s\", \"values\": {", i > 0 ? "," : "",
                              name);
      append_values (json, row);
      g_string_append (json, "}}");
    }
  g_string_append (json, "]\n}\n");
  return json;
}

static gboolean
write_json (GPtrArray *rows, GError **error)
{
  GString *json = to_json (rows);
  gboolean written = TRUE;

  if (option_json == NULL)
    g_print ("%s", json->str);
  else
    written = g_file_set_contents (option_json, json->str, json->len, error);
  g_string_free (json, TRUE);
  return written;
}

int
bench_table_main (const BenchTable *of, int argc, char **argv)
{
  g_autoptr (GPtrArray) rows = NULL;
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autoptr (GError) error = NULL;

  table = of;
  fd_limit = bench_raise_fd_limit ();
  bench_parse_options (table->summary, option_entries, &argc, &argv);
  if (option_rounds <= 0)
    option_rounds = option_quick ? 11 : 51;
  rows = make_rows ();
  if (rows->len == 0)
    bench_usage_error ("nothing is called that");
  for (int round = 0; round < option_rounds; round++)
    measure_round (rows, round, rand);
  bench_progress_end ();
  if (!write_json (rows, &error))
    {
      g_printerr ("%s\n", error->message);
      return 1;
    }
  return 0;
}
